"""Files of each format, made field by field with other people's writers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nbmodel.formats.bytesource import ByteSource

#: A table is {field number: value}. A value is a table, text, bytes, a list of tables or
#: texts, ("i", 3) for a number or ("i", [1, 2]) for a vector; codes are those of ``struct``.
FlatTable = Mapping[int, Any]


@pytest.fixture(scope="session")
def source_of() -> Callable[[bytes], ByteSource]:
    """Makes the source a reader is given from bytes."""
    return lambda content: ByteSource(io.BytesIO(content), len(content))


@pytest.fixture(scope="session")
def flatbuffer() -> Callable[[FlatTable, bytes], bytes]:
    """Writes a flatbuffer: its root table and its identifier."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers writes the files")

    def write(table: FlatTable, identifier: bytes) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(_write(builder, table), identifier)
        return bytes(builder.Output())

    return write


def _write(builder: Any, value: Any) -> int:
    """Write anything but a number, and return its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, bytes):
        return builder.CreateByteVector(value)
    if isinstance(value, tuple):
        code, numbers = value
        size = {"b": 1, "B": 1, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}[code]
        builder.StartVector(size, len(numbers), size)
        for number in reversed(numbers):
            _prepend(builder, code)(number)
        return builder.EndVector()
    if isinstance(value, list):
        offsets = [_write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    offsets = {
        index: _write(builder, item) for index, item in value.items() if not _is_number(item)
    }
    builder.StartObject(max(value, default=-1) + 1)
    for index, item in value.items():
        if _is_number(item):
            _prepend(builder, item[0])(item[1])
            builder.Slot(index)
        else:
            builder.PrependUOffsetTRelativeSlot(index, offsets[index], 0)
    return builder.EndObject()


def _is_number(item: Any) -> bool:
    return isinstance(item, tuple) and not isinstance(item[1], list)


def _prepend(builder: Any, code: str) -> Callable[[float], None]:
    names = {
        "b": "Int8", "B": "Uint8", "i": "Int32", "I": "Uint32", "f": "Float32", "q": "Int64",
        "Q": "Uint64",
    }  # fmt: skip
    prepend: Callable[[float], None] = getattr(builder, f"Prepend{names[code]}")
    return prepend


@pytest.fixture(scope="session")
def tflite(flatbuffer: Callable[[FlatTable, bytes], bytes]) -> Callable[..., bytes]:
    """Writes a TFLite model; see ``_tflite``."""

    def write(
        tensors: list[FlatTable],
        inputs: list[int],
        outputs: list[int],
        *,
        custom: list[str] | None = None,
        metadata: FlatTable | None = None,
        model: FlatTable | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """A model of one subgraph without operators.

        ``tensors`` are Tensor tables; ``metadata`` is a ModelMetadata table; ``files`` go
        in a ZIP behind the model; ``model`` adds fields to the Model table.
        """
        root: dict[int, Any] = {
            0: ("I", 3),
            1: [{0: ("b", 32), 1: name, 3: ("i", 32)} for name in custom or []],
            2: [{0: tensors, 1: ("i", inputs), 2: ("i", outputs)}],
            4: [{}],
        }
        if metadata is not None:
            root[4].append({0: flatbuffer(metadata, b"M001")})
            root[6] = [{0: "TFLITE_METADATA", 1: ("I", 1)}]
        content = flatbuffer(root | dict(model or {}), b"TFL3")
        if not files:
            return content
        archive = io.BytesIO(content)
        with zipfile.ZipFile(archive, "a") as behind:
            for name, data in files.items():
                behind.writestr(name, data)
        return archive.getvalue()

    return write
