"""The runtimes that this machine knows: a small file, private because it holds tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nbmodel.errors import ConfigError, InputError, RuntimeNotFoundError
from nbmodel.fleet.options import StartOptions
from nbmodel.fleet.triton_address import check_triton_url, is_triton
from nbmodel.inference.server import check_url
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.lock import file_lock

FILE = "runtimes.json"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,58}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Known:
    """One runtime, and how to reach it.

    Attributes:
        name: What it is called here, as in ``service@name``.
        url: ``http://host:port``, without a slash at the end; of a bare Triton server,
            ``triton+grpc://host:port`` or ``triton+http://host:port``.
        token: What it wants to be shown, or None.
        pid: Its process, when it was started here.
        home: Its home folder, when it was started here.
        options: What it was started with, when it was started here.
        grpc: ``host:port`` where it took gRPC when it was started here, or None.

    Raises:
        InputError: The name or the address cannot be used.
    """

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    pid: int | None = None
    home: Path | None = None
    options: StartOptions | None = None
    grpc: str | None = None

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InputError(
                f"not a name for a runtime: {self.name!r}",
                hint="letters and digits, with '.', '_' and '-' between them, at most 60; "
                "for example 'pi-4'",
            )
        is_ours = not is_triton(self.url)
        url = check_url(self.url, "runtime") if is_ours else check_triton_url(self.url)
        object.__setattr__(self, "url", url)

    @property
    def is_local(self) -> bool:
        """Whether it was started here, and may be stopped from here."""
        return self.pid is not None


class KnownRuntimes:
    """The list of known runtimes of one user. Several processes may change it at once.

    Args:
        home: The user's nbmodel folder; made when something is first written.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / FILE

    def list(self) -> tuple[Known, ...]:
        """All of them, by name.

        Raises:
            ConfigError: The file cannot be read.
        """
        return tuple(runtime for _, runtime in sorted(self._read().items()))

    def get(self, name: str) -> Known:
        """The runtime of that name.

        Raises:
            RuntimeNotFoundError: There is none, with the nearest name or all as a hint.
            ConfigError: The file cannot be read.
        """
        known = self._read()
        if name in known:
            return known[name]
        raise RuntimeNotFoundError(f"no runtime {name!r} is known here", hint=_hint(name, known))

    def add(self, runtime: Known) -> None:
        """Make a runtime known, in place of one of the same name.

        Raises:
            ConfigError: The file cannot be read or written.
        """
        self._change(lambda known: known.update({runtime.name: runtime}))

    def remove(self, name: str) -> Known:
        """Forget a runtime, and give what was known of it.

        Raises:
            RuntimeNotFoundError: There is none of that name.
            ConfigError: The file cannot be read or written.
        """
        removed = self.get(name)
        self._change(lambda known: known.pop(name, None))
        return removed

    def _read(self) -> dict[str, Known]:
        try:
            entries = json.loads(self._file.read_bytes())["runtimes"]
            return {entry["name"]: _from_json(entry) for entry in entries}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, InputError) as exc:
            raise ConfigError(
                f"cannot read the known runtimes from {self._file}: {exc}",
                hint="repair or remove the file",
            ) from exc

    def _change(self, change: Callable[[dict[str, Known]], object]) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Beside the file, which every change replaces by another.
            with file_lock(self._file.with_suffix(".lock"), wait=True):
                known = self._read()
                change(known)
                entries = [_to_json(known[name]) for name in sorted(known)]
                content = json.dumps({"runtimes": entries}, indent=2).encode() + b"\n"
                write_atomically(self._file, content, mode=0o600)
        except OSError as exc:
            raise ConfigError(f"cannot write the known runtimes to {self._file}: {exc}") from exc


def _hint(name: str, known: dict[str, Known]) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if known:
        return f"known: {', '.join(sorted(known))}"
    return "start one with `runtime start NAME`, or add one with `runtime add NAME URL`"


def _to_json(runtime: Known) -> dict[str, Any]:
    return {
        "name": runtime.name,
        "url": runtime.url,
        "token": runtime.token,
        "pid": runtime.pid,
        "home": None if runtime.home is None else str(runtime.home),
        "options": None if runtime.options is None else runtime.options.to_json(),
        "grpc": runtime.grpc,
    }


def _from_json(data: dict[str, Any]) -> Known:
    home, options = data.get("home"), data.get("options")
    return Known(
        name=data["name"],
        url=data["url"],
        token=data.get("token"),
        pid=data.get("pid"),
        home=None if home is None else Path(home),
        options=None if options is None else StartOptions.from_json(options),
        grpc=data.get("grpc"),
    )
