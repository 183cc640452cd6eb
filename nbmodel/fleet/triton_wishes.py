"""What services of a bare Triton were asked for from here, besides their versions.

Triton itself knows it while it runs them. This is for the day after: a Triton that was started
again has forgotten everything, and gets it back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbmodel.errors import ConfigError
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.lock import file_lock


class TritonWishes:
    """Attributes of the services of one Triton, in a small file.

    Args:
        file: Made with the first wish; None: nothing is kept.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def of(self, service: str) -> dict[str, Any]:
        """The attributes that a service was last asked for; none where nobody knows."""
        found = self._read().get(service)
        return dict(found) if isinstance(found, Mapping) else {}

    def keep(self, service: str, attributes: Mapping[str, Any] | None) -> None:
        """Remember the attributes of a service, or with None, forget them.

        Raises:
            ConfigError: The file cannot be written.
        """
        file, wanted = self._file, dict(attributes or {})
        if file is None or self.of(service) == wanted:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(file.with_suffix(".lock"), wait=True):
                known = {**self._read(), service: wanted}
                known = {name: given for name, given in known.items() if given}
                write_atomically(file, json.dumps(known, indent=2).encode() + b"\n")
        except OSError as exc:
            raise ConfigError(f"cannot write {file}: {exc.strerror or exc}") from exc

    def _read(self) -> dict[str, Any]:
        if self._file is not None:
            with suppress(OSError, ValueError, RecursionError):
                found = json.loads(self._file.read_bytes())
                if isinstance(found, dict):
                    return found
        return {}
