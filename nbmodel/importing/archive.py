"""An archive of a model that says no more than its files do."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from nbmodel.errors import FormatError, UnknownFormatError
from nbmodel.formats import format_of
from nbmodel.importing.base import Fetched, Import, Layout, name_from
from nbmodel.importing.unpack import is_archive, unpack


class PlainArchive(Layout):
    """A ``.zip`` or ``.tar`` in any of its compressions."""

    name: ClassVar[str] = "archive"
    form: ClassVar[str] = "MODEL.zip"

    def recognises(self, path: Path) -> bool:
        """Whether it is an archive, and no model: some models are archives."""
        if not is_archive(path):
            return False
        try:
            format_of(path)
        except UnknownFormatError:
            return True
        except FormatError:
            return path.suffix.lower() == ".zip"
        return False

    def read(self, path: Path, job: Import) -> Fetched:
        """Its files, without a folder around all of them."""
        return Fetched(unpack(path, job), self.here(), name=name_from(path.name))
