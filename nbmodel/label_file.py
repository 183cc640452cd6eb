"""Label files on disk: read in one way, whoever asks.

What their text means is in ``nbmodel.core.labels``.
"""

from __future__ import annotations

from pathlib import Path

from nbmodel.core.labels import parse_labels
from nbmodel.errors import InputError

MAX_SIZE = 16 * 1024 * 1024  # bytes


def read_label_file(path: Path) -> tuple[str, ...]:
    """The labels in a file, each at its index; see ``parse_labels``.

    Raises:
        InputError: It cannot be read, is larger than ``MAX_SIZE``, or is no label file. The
            message says why and leaves the file's name to the caller, who knows what asked
            for it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as exc:
        raise InputError(exc.strerror or str(exc)) from exc
    if len(data) > MAX_SIZE:
        raise InputError(f"it is larger than {MAX_SIZE} bytes")
    return parse_labels(data)
