"""The runtimes that this machine knows, and the verbs on them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbmodel.display import ConfigCard, LogLines, RuntimeTable
from nbmodel.errors import ConfigError, InputError, NbModelError, RuntimeNotFoundError
from nbmodel.fleet.known import Known, KnownRuntimes
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.runtime.limits import DEFAULT_LIMITS, Limits
from nbmodel.runtime.server import DEFAULT_HTTP, SERVER_NAME

ASKED_AT_ONCE = 16  # runtimes whose status is asked for side by side
LIST_TIMEOUT_S = 3.0  # one that is slower than this is shown as unreachable in a list


class Runtimes:
    """The runtimes known to one user.

    Args:
        home: The user's nbmodel folder; runtimes started here keep their state in it.
        on_up: Called with the name of a runtime that was just started or added; gives a
            line for each service that was brought up to date.
    """

    def __init__(self, home: Path, *, on_up: Callable[[str], Iterable[str]]) -> None:
        self._home = home
        self._on_up = on_up
        self._known = KnownRuntimes(home)
        self._remotes: dict[Known, RemoteRuntime] = {}

    def close(self) -> None:
        """Close the connections to all of them."""
        while self._remotes:
            self._remotes.popitem()[1].close()

    def get(self, name: str | None = None) -> RemoteRuntime:
        """The runtime of that name; without one, the only runtime known.

        Raises:
            RuntimeNotFoundError: There is none, or ``name`` is needed to tell which.
        """
        if name is None:
            name = self._only().name
        known = self._known.get(name)
        if known not in self._remotes:
            self._remotes[known] = RemoteRuntime(known.url, token=known.token, name=known.name)
        return self._remotes[known]

    def start(
        self,
        name: str,
        *,
        config: str | os.PathLike[str] | None = None,
        http: str = DEFAULT_HTTP,
        home: str | os.PathLike[str] | None = None,
        require_token: bool = False,
        grpc: str | None = None,
        allow_shared_memory: bool = False,
        workers: int = 1,
        server_name: str = SERVER_NAME,
        limits: Limits = DEFAULT_LIMITS,
    ) -> RuntimeTable:
        """Start a runtime on this machine, in a process that outlives this one.

        Started again after it ended, it goes on with the services it had.

        Args:
            name: What it is called from now on.
            config: File with the machine config to start with.
            http: ``HOST:PORT``; port 0 is a free one.
            home: Where it keeps models and state; a folder of its own when not given.
            require_token: Want a token on loopback too; off it, one is always wanted.
            grpc: ``HOST:PORT`` to speak gRPC on too; ``version`` of the runtime tells it.
            allow_shared_memory: Let clients on this machine pass tensors in shared memory.
            workers: Processes that answer inference requests over HTTP.
            server_name: What the inference protocol calls it.
            limits: What clients may use.

        Raises:
            InputError: A runtime of that name is running, or is somewhere else.
            DeployError: It did not come up, with what it said.
        """
        for known in self._known.list():
            if known.name == name:
                self._check_startable(known)
        folder = self._home / "runtimes" / name if home is None else Path(home).expanduser()
        file = None if config is None else Path(config).expanduser()
        if file is not None and not file.is_file():
            raise InputError(f"no such machine config: {file}")
        started = start_local(
            name,
            folder.absolute(),
            config=file,
            http=http,
            require_token=require_token,
            grpc=grpc,
            allow_shared_memory=allow_shared_memory,
            workers=workers,
            server_name=server_name,
            limits=limits,
        )
        self._known.add(started)
        return self._up(started)

    def stop(self, name: str) -> RuntimeTable:
        """Stop a runtime that was started here; it stays known.

        Raises:
            DeployError: It was not started here, or did not end.
        """
        known = self._known.get(name)
        stop_local(known)
        return RuntimeTable([{"name": name, "url": known.url, "state": "stopped"}])

    def add(self, name: str, url: str, *, token: str | None = None) -> RuntimeTable:
        """Make a runtime known that runs already, here or elsewhere.

        Args:
            name: What it is called from now on.
            url: ``http://host:port``.
            token: What it showed when it was first started off loopback.

        Raises:
            TargetUnreachableError, AuthenticationError: It does not answer, or wants
                another token; it is not made known then.
        """
        known = Known(name, url, token=token)
        with RemoteRuntime(known.url, token=token, name=name) as remote:
            remote.status()
        self._known.add(known)
        return self._up(known)

    def list(self) -> RuntimeTable:
        """All runtimes known, and what they say of themselves, asked side by side."""
        known = self._known.list()
        if not known:
            return RuntimeTable()
        with ThreadPoolExecutor(min(len(known), ASKED_AT_ONCE)) as pool:
            return RuntimeTable(pool.map(_asked, known))

    def remove(self, name: str) -> RuntimeTable:
        """Forget a runtime; one that was started here is stopped first.

        Raises:
            RuntimeNotFoundError: None of that name is known.
        """
        known = self._known.get(name)
        if known.is_local:
            stop_local(known)
        self._known.remove(name)
        if known in self._remotes:
            self._remotes.pop(known).close()
        return RuntimeTable([{"name": name, "url": known.url, "state": "removed"}])

    def config(self, name: str) -> ConfigCard:
        """The machine config of a runtime."""
        config, _ = self.get(name).config()
        return ConfigCard(config)

    def set_config(
        self,
        name: str,
        config: str | os.PathLike[str] | Mapping[str, Any],
        *,
        dry_run: bool = False,
    ) -> ConfigCard:
        """Put another machine config in place; an invalid one changes nothing.

        Args:
            name: The runtime.
            config: The config, or a file that holds it.
            dry_run: Check it and change nothing.

        Raises:
            ConfigError: Everything that is wrong with it is in ``problems``.
            ConfigConflictError: Somebody else changed the config meanwhile.
        """
        wanted = config if isinstance(config, Mapping) else _read_config(Path(config))
        remote = self.get(name)
        _, etag = remote.config()
        remote.put_config(wanted, if_match=etag, dry_run=dry_run)
        return ConfigCard(wanted)

    def logs(self, name: str, *, lines: int = 50) -> LogLines:
        """The last lines of a runtime's log, oldest first."""
        return LogLines(self.get(name).logs(lines))

    def reachable(self) -> dict[str, RemoteRuntime]:
        """All runtimes by name, for bringing them versions; they may be away."""
        return {known.name: self.get(known.name) for known in self._known.list()}

    def _up(self, known: Known) -> RuntimeTable:
        lines = tuple(self._on_up(known.name))
        return RuntimeTable([_row(known, self.get(known.name))]).with_notes(lines)

    def _only(self) -> Known:
        known = self._known.list()
        if len(known) == 1:
            return known[0]
        names = ", ".join(runtime.name for runtime in known)
        raise RuntimeNotFoundError(
            "no runtime is known here" if not known else f"{len(known)} runtimes are known here",
            hint=f"say which: {names}"
            if known
            else "start one with `runtime start NAME`, or add one with `runtime add NAME URL`",
        )

    def _check_startable(self, known: Known) -> None:
        if not known.is_local:
            raise InputError(
                f"runtime {known.name!r} is at {known.url}",
                hint="choose another name, or remove that one first",
            )
        if _asked(known)["state"] != "unreachable":
            raise InputError(
                f"runtime {known.name!r} is running at {known.url}",
                hint=f"runtime stop {known.name}",
            )


def _asked(known: Known) -> Mapping[str, Any]:
    """A runtime's row in the list; what went wrong in place of what it says."""
    remote = RemoteRuntime(known.url, token=known.token, name=known.name, timeout_s=LIST_TIMEOUT_S)
    with remote:
        try:
            return _row(known, remote)
        except NbModelError as exc:
            return {
                "name": known.name,
                "url": known.url,
                "state": "unreachable",
                "error": str(exc),
            }


def _row(known: Known, remote: RemoteRuntime) -> dict[str, Any]:
    status = remote.status()
    return {
        "name": known.name,
        "url": known.url,
        "state": "ready",
        "version": status.get("version"),
        "services": [service.get("name") for service in status.get("services", ())],
    }


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.expanduser().read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read the machine config {file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"machine config {file} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise ConfigError(
            f"machine config {file}: expected an object, found a {type(data).__name__}"
        )
    return data
