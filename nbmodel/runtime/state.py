"""What a runtime remembers over a restart: its config, and how its services came to run.

Each file is written as a whole and is on disk before what it says is done. What the state
means after a start, and what becomes of a version, is ``trial``'s to say.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import MachineConfig
from nbmodel.errors import ConfigError, StorageUnavailableError
from nbmodel.runtime.reserve import Reserve
from nbmodel.runtime.resolve import reference_of
from nbmodel.storage.atomic import write_atomically

MAX_FAILED = 8  # versions of one service that are remembered as failed
_MAX_STATE = 16 * 1024 * 1024  # bytes; what is longer is none of ours
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Record:
    """A version that a service ran, and all it takes to run it again.

    Attributes:
        package: Local name of its package.
        repository: The model's name.
        digest: Of its manifest.
        number: Its integer, or None.
        stamp: Its timestamp id, or None.
        key: Of the wish that it was loaded for.
        model: The service's backend, as configured then.
        attributes: The service's attributes, as configured then.
    """

    package: str
    repository: str
    digest: str
    number: int | None
    stamp: str | None
    key: str
    model: str
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What to call it: the timestamp id, else the number, else a piece of its digest."""
        if self.stamp is not None:
            return self.stamp
        return str(self.number) if self.number is not None else short_digest(self.digest)

    @property
    def reference(self) -> str:
        """What to call it where other models are spoken of, too."""
        return reference_of(self.repository, self.number, self.label)


@dataclass(frozen=True, slots=True)
class Provisional:
    """A version that has not proven itself yet.

    Attributes:
        record: Which one.
        attempts: How often in a row it was begun with, ≥ 1: more than once when the runtime
            died of it, or beside it, and there is nothing to go back to.
        since: When, for people; UTC.
    """

    record: Record
    attempts: int
    since: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A version that is not tried again, with the settings it was tried with.

    Attributes:
        digest: Of its manifest.
        key: Of the wish that it was tried for.
        version: Its label.
        cause: In one word, for conditions.
        reason: Why, for people.
        at: When; UTC.
        hint: What to do about it, or None.
        number: Its integer, or None.
    """

    digest: str
    key: str
    version: str
    cause: str
    reason: str
    at: str
    hint: str | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """How a service came to run what it runs.

    Attributes:
        current: The version that was committed last.
        provisional: The one that is being tried.
        rollback: The one that was committed before ``current``.
        failed: Those that are not tried again, newest first.
    """

    current: Record | None = None
    provisional: Provisional | None = None
    rollback: Record | None = None
    failed: tuple[Failed, ...] = ()

    @property
    def records(self) -> tuple[Record, ...]:
        """Every version whose files must stay."""
        tried = None if self.provisional is None else self.provisional.record
        return tuple(one for one in (self.current, tried, self.rollback) if one is not None)

    def tried(self, record: Record, at: str, *, attempts: int = 1, serves: bool = False) -> History:
        """A version is begun with.

        Args:
            record: Which one.
            at: When.
            attempts: How often in a row, this time included.
            serves: Whether the version that was provisional until now serves. With nothing
                committed it becomes current: nothing better is known to go back to.
        """
        before = self.promoted() if serves else self
        return replace(before, provisional=Provisional(record, attempts, at))

    def promoted(self) -> History:
        """Without a provisional version; where nothing is committed, it becomes current."""
        tried = None if self.provisional is None else self.provisional.record
        return replace(self, current=self.current or tried, provisional=None)

    def committed(self, record: Record) -> History:
        """A version has proven itself, or is a known one under another name."""
        failed = tuple(one for one in self.failed if one.digest != record.digest)
        before = self.current
        is_move = before is not None and before.digest != record.digest
        return History(record, None, before if is_move else self.rollback, failed)

    def relabelled(self, record: Record) -> History:
        """What runs is called another version from now on."""
        tried = self.provisional
        if tried is not None and tried.record.key == record.key:
            return replace(self, provisional=replace(tried, record=record))
        return self.committed(record)

    def refused(self, failed: Failed) -> History:
        """A version must not run: what is to go back to is what ran before it."""
        others = [
            one for one in self.failed if (one.digest, one.key) != (failed.digest, failed.key)
        ]
        after = replace(self, failed=(failed, *others)[:MAX_FAILED])
        tried = after.provisional
        if tried is not None and _is(tried.record, failed):
            after = replace(after, provisional=None)
        if _is(after.current, failed):
            after = replace(after, current=after.rollback, rollback=None)
        if _is(after.rollback, failed):
            after = replace(after, rollback=None)
        return after

    def forgotten(self) -> History:
        """Without the version that was being tried; nobody blames it."""
        return replace(self, provisional=None)

    def forgiven(self) -> History:
        """With nothing that is not tried again."""
        return replace(self, failed=())

    def failure(self, digest: str | None, key: str) -> Failed | None:
        """Why a version is not tried again, or None."""
        return next((one for one in self.failed if (one.digest, one.key) == (digest, key)), None)


@dataclass(frozen=True, slots=True)
class State:
    """Everything a runtime remembers besides its config.

    Attributes:
        given: Etag of the config file it was last started with, or None.
        running: Whether it runs, or ended without saying so.
        unclean: How many times in a row it ended without saying so.
        services: Service → its history.
    """

    given: str | None = None
    running: bool = False
    unclean: int = 0
    services: Mapping[str, History] = field(default_factory=dict)

    def with_service(self, name: str, history: History) -> State:
        """The same with another history of one service."""
        return replace(self, services={**self.services, name: history})


class StateFolder:
    """The files of a runtime's home that say what it wants and ran.

    ``config.json`` is what was set last, ``config.good.json`` the last one that all services
    could follow, ``state.json`` how they came to run what they run.

    Args:
        home: The folder.
        reserve: Room that is given up for a config that finds none; None: there is none.
    """

    def __init__(self, home: Path, reserve: Reserve | None = None) -> None:
        self._reserve = reserve
        self._config = home / "config.json"
        self._good = home / "config.good.json"
        self._state = home / "state.json"

    def config(self) -> MachineConfig | None:
        """The machine config that was set last; None before there was one.

        Raises:
            ConfigError: The file cannot be read, or is no machine config.
        """
        return _read_config(self._config)

    def good_config(self) -> MachineConfig | None:
        """The last machine config that all services could follow; None without one.

        Raises:
            ConfigError: As of ``config``.
        """
        return _read_config(self._good)

    def save_config(self, config: MachineConfig) -> None:
        """Keep a machine config; on disk when this returns.

        A full disk takes it, too, in the place of the reserve: what frees a device is a config.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        try:
            self._write(self._config, config.to_json())
        except StorageUnavailableError as exc:
            if not _is_full(exc) or self._reserve is None or not self._reserve.release():
                raise
            self._write(self._config, config.to_json())

    def save_good_config(self, config: MachineConfig) -> None:
        """Keep a machine config as one that all services could follow.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        self._write(self._good, config.to_json())

    def state(self, damaged: Callable[[str], None] = lambda _: None) -> State:
        """What was saved last; nothing when it cannot be read.

        A damaged file must not keep models from running; without it, each of them has to
        prove itself again. It is kept beside, as ``state.json.damaged``.

        Args:
            damaged: Told, where there is a file that cannot be read.
        """
        try:
            with self._state.open("rb") as file:
                return _state(json.loads(file.read(_MAX_STATE)))
        except FileNotFoundError:
            return State()
        except OSError as exc:
            why = exc.strerror or type(exc).__name__
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            why = f"it is no state of a runtime ({type(exc).__name__}: {exc})"
        aside = self._state.with_name("state.json.damaged")
        try:
            self._state.replace(aside)
            kept = f"it is kept as {aside.name}"
        except OSError as exc:
            kept = f"it cannot be kept beside: {exc.strerror}"
        damaged(
            f"cannot read {self._state}: {why}; {kept}. What ran, what failed and what to go "
            "back to is forgotten: each version has to prove itself again"
        )
        return State()

    def save_state(self, state: State) -> None:
        """Keep the state; on disk when this returns.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        self._write(self._state, asdict(state))

    def _write(self, file: Path, data: Mapping[str, Any]) -> None:
        try:
            write_atomically(file, json.dumps(data, indent=2, ensure_ascii=False).encode())
        except OSError as exc:
            hint = "undeploy what is not needed there, or free some space on the disk"
            raise StorageUnavailableError(
                f"cannot write {file}: {exc.strerror}", hint=hint if exc.errno in _FULL else None
            ) from exc


def _is_full(error: StorageUnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def _is(record: Record | None, failed: Failed) -> bool:
    return record is not None and (record.digest, record.key) == (failed.digest, failed.key)


def _read_config(path: Path) -> MachineConfig | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    try:
        return MachineConfig.from_json(json.loads(raw))
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{path} is not JSON: {exc}") from exc


def _state(data: Any) -> State:
    return State(
        given=data["given"],
        running=data["running"] is True,
        unclean=int(data["unclean"]),
        services={name: _history(entry) for name, entry in data["services"].items()},
    )


def _history(data: Mapping[str, Any]) -> History:
    tried = data["provisional"]
    return History(
        current=_record(data["current"]),
        provisional=None if tried is None else Provisional(**{**tried, "record": _tried(tried)}),
        rollback=_record(data["rollback"]),
        failed=tuple(Failed(**one) for one in data["failed"]),
    )


def _tried(data: Mapping[str, Any]) -> Record:
    return Record(**data["record"])


def _record(data: Mapping[str, Any] | None) -> Record | None:
    return None if data is None else Record(**data)
