"""Files in a ZIP archive behind another file, as TFLite keeps its labels.

A ZIP is read from its end, so one may follow a model in the same file.
"""

from __future__ import annotations

from nbmodel.formats.archive import open_archive
from nbmodel.formats.bytesource import ByteSource

MAX_FILE = 4 << 20  # bytes of one unpacked file
_MAX_DIRECTORY = 1 << 20  # bytes; some ten thousand files


class Attachments:
    """The files behind a model.

    Raises:
        FormatError: There is an archive, and it is damaged or far larger than labels are.
    """

    def __init__(self, source: ByteSource) -> None:
        self._archive = open_archive(
            source,
            "the ZIP archive behind the model",
            max_directory=_MAX_DIRECTORY,
            is_plain=True,
        )

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none of that name.

        Raises:
            FormatError: It is damaged, encrypted, packed in an uncommon way, or longer
                than ``MAX_FILE``.
        """
        return None if self._archive is None else self._archive.read(name, MAX_FILE)
