"""A version as Viam packs it: ``PackageInfo``, and the ``.tar.gz`` of its files.

Equal versions give equal bytes: no time, user or level of the day is in them.

Source: viamrobotics/api ``app/packages/v1/packages.proto``; rdk ``cli/packages.go`` for the
metadata of a model.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from nbmodel.core.version import Version
from nbmodel.exporting.base import Export
from nbmodel.exporting.files import CheckedFile
from nbmodel.fleet.plan import local_name
from nbmodel.protocol.wire import key_of, varint

CHUNK = 32 * 1024  # bytes of contents in one message, as Viam's own command line sends them
ML_MODEL = 2  # PACKAGE_TYPE_ML_MODEL
_LEVEL = 1  # weights hardly shrink; a higher one takes ten times as long for a percent
#: Our formats in Viam's words.
FRAMEWORKS: Mapping[str, str] = {
    "onnx": "onnx",
    "tflite": "tflite",
    "savedmodel": "tensorflow",
    "torchscript": "pytorch",
    "torch_export": "pytorch",
}
_MODEL_TYPES: Mapping[str, str] = {
    "classification": "single_label_classification",
    "multi_label_classification": "multi_label_classification",
    "detection": "object_detection",
}


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """What Viam knows of a package.

    Attributes:
        organization_id: Whose it is; may be empty.
        name: Letters, digits, ``-`` and ``_``.
        version: The version's stamp.
        files: Path → bytes.
        metadata: ``model_framework`` and ``model_type``.
        platform: May be empty.
    """

    organization_id: str
    name: str
    version: str
    files: Mapping[str, int]
    metadata: Mapping[str, str]
    platform: str = ""

    @classmethod
    def of(cls, version: Version, *, organization: str = "", platform: str = "") -> PackageInfo:
        """The package of a version."""
        return cls(
            organization,
            local_name(version.model),
            version.stamp,
            {entry.path: entry.size for entry in version.files},
            {
                "model_framework": FRAMEWORKS.get(version.framework, "unspecified"),
                "model_type": _MODEL_TYPES.get(version.model_type, "unspecified"),
            },
            platform,
        )

    def to_json(self) -> dict[str, Any]:
        """The message as JSON, in the names of the protocol's file."""
        data: dict[str, Any] = {
            "organization_id": self.organization_id,
            "name": self.name,
            "version": self.version,
            "type": "ml_model",
            "files": [
                {"name": name, "size": size, "is_directory": False}
                for name, size in self.files.items()
            ],
            "metadata": dict(self.metadata),
        }
        return data | ({"platform": self.platform} if self.platform else {})

    def to_bytes(self) -> bytes:
        """The protobuf message."""
        fields = _text(1, self.organization_id) + _text(2, self.name) + _text(3, self.version)
        fields += varint(4 << 3) + varint(ML_MODEL)
        for name, size in self.files.items():
            # Optional, so that it is there though it says no.
            fields += _field(5, _text(1, name) + varint(2 << 3) + varint(size) + b"\x18\x00")
        struct = b"".join(
            _field(1, _text(1, key) + _field(2, _field(3, value.encode())))
            for key, value in self.metadata.items()
        )
        return fields + _field(6, struct) + _text(7, self.platform)


def create_requests(info: PackageInfo, contents: Iterator[bytes]) -> Iterator[bytes]:
    """The messages of ``CreatePackage``: the info, then the archive in pieces.

    Args:
        info: Of the package.
        contents: The ``.tar.gz``, in pieces of any length.
    """
    yield _field(1, info.to_bytes())
    held = bytearray()
    for piece in contents:
        held += piece
        while len(held) >= CHUNK:
            yield _field(2, bytes(held[:CHUNK]))
            del held[:CHUNK]
    if held:
        yield _field(2, bytes(held))


def archive(job: Export) -> Iterator[bytes]:
    """The ``.tar.gz`` of the version's files, in pieces, as they are read and checked.

    Raises:
        DigestMismatchError: A file of the storage is damaged.
    """
    outlet = _Outlet()
    with gzip.GzipFile("", "wb", _LEVEL, outlet, mtime=0) as packed:
        for entry in sorted(job.version.files):
            info = tarfile.TarInfo(entry.path)
            info.size, info.mode = entry.size, 0o644
            packed.write(info.tobuf(tarfile.PAX_FORMAT))
            with CheckedFile(job, entry) as file:
                left = entry.size
                while left:
                    piece = file.read(min(left, 1 << 20))
                    if not piece:
                        break
                    left -= len(piece)
                    packed.write(piece)
                    yield outlet.take()
                if not entry.size:
                    file.read()
            packed.write(bytes(-entry.size % tarfile.BLOCKSIZE))
        packed.write(bytes(2 * tarfile.BLOCKSIZE))
    yield outlet.take()


def write_archive(job: Export, file: IO[bytes]) -> None:
    """Write the ``.tar.gz`` of the version's files."""
    for piece in archive(job):
        file.write(piece)


class _Outlet(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        """What was written since."""
        taken = bytes(self._held)
        self._held.clear()
        return taken


def _field(number: int, content: bytes) -> bytes:
    return key_of(number, len(content)) + content


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode()) if value else b""
