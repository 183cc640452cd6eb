"""Reading the small files that signing is about: keys, certificates, signatures, policies."""

from __future__ import annotations

from pathlib import Path

from nbmodel.errors import InputError


def read_small_file(file: Path, limit: int) -> bytes:
    """All of a file.

    Args:
        file: Which one.
        limit: Bytes that it may have.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(limit + 1)
    except OSError as exc:
        raise InputError(f"cannot read {file}: {exc.strerror}") from exc
    if len(content) > limit:
        raise InputError(f"{file} has more than {limit} bytes")
    return content
