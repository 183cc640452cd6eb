"""What a runtime remembers over a restart: its config, and what its services ran."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import ConfigError, StorageUnavailableError
from nbmodel.storage.atomic import write_atomically


@dataclass(frozen=True, slots=True)
class Record:
    """A version that a service ran.

    Attributes:
        package: Local name of its package.
        repository: The model's name.
        digest: Of its manifest.
        number: Its integer, or None.
        stamp: Its timestamp id, or None.
    """

    package: str
    repository: str
    digest: str
    number: int | None
    stamp: str | None


@dataclass(frozen=True, slots=True)
class History:
    """What a service runs and ran.

    Attributes:
        live: The version it runs, or ran last.
        previous: The one before, to which it can be rolled back.
    """

    live: Record | None = None
    previous: Record | None = None

    def moved(self, record: Record) -> History:
        """The history after a switch to ``record``."""
        if self.live is None or self.live.digest == record.digest:
            return replace(self, live=record)
        return History(live=record, previous=self.live)


@dataclass(frozen=True, slots=True)
class State:
    """Everything a runtime remembers besides its config.

    Attributes:
        given: Etag of the config file it was last started with, or None.
        services: Service → its history.
    """

    given: str | None = None
    services: Mapping[str, History] = field(default_factory=dict)

    def with_service(self, name: str, history: History) -> State:
        """The same with another history of one service."""
        return replace(self, services={**self.services, name: history})


class StateFolder:
    """``config.json`` and ``state.json`` in a runtime's home, each written as a whole.

    Args:
        home: The folder.
    """

    def __init__(self, home: Path) -> None:
        self._config = home / "config.json"
        self._state = home / "state.json"

    def config(self) -> MachineConfig | None:
        """The machine config that was set last; None before there was one.

        Raises:
            ConfigError: The file was changed by hand, and cannot be read.
        """
        try:
            raw = self._config.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ConfigError(f"cannot read {self._config}: {exc.strerror}") from exc
        try:
            return MachineConfig.from_json(json.loads(raw))
        except ValueError as exc:
            raise ConfigError(f"{self._config} is not JSON: {exc}") from exc

    def save_config(self, config: MachineConfig) -> None:
        """Keep a machine config; on disk when this returns.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        self._write(self._config, config.to_json())

    def state(self) -> State:
        """What was saved last; nothing when it cannot be read.

        It is of use for rollback only, so a damaged file must not keep models from
        running.
        """
        try:
            data = json.loads(self._state.read_bytes())
            return State(
                given=data.get("given"),
                services={
                    name: History(_record(entry.get("live")), _record(entry.get("previous")))
                    for name, entry in data["services"].items()
                },
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
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
            raise StorageUnavailableError(f"cannot write {file}: {exc.strerror}") from exc


def _record(data: Mapping[str, Any] | None) -> Record | None:
    return None if data is None else Record(**data)
