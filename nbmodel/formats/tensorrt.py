"""TensorRT plans: engines built for one GPU, in a form that NVIDIA keeps to itself.

The header says which TensorRT built it; tensors and the GPU are not in what is documented.
Ultralytics puts a JSON object before the plan, with which TensorRT itself does not take it.

Source: ``printPlanVersion`` in samples/common/sampleEngines.cpp
(https://github.com/NVIDIA/TensorRT); ultralytics/engine/exporter.py for what is put before.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError
from nbmodel.formats.base import Format, ModelFacts, starts_with
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.ultralytics import MAX_NOTES, TASKS, labels_of, metadata_of, read_notes

TAGS = (b"ftrt", b"ptrt")
_VERSION_AT = 24  # offset of major, minor, patch and build, a byte each
_HEADER_SIZE = _VERSION_AT + 4


class TensorRt(Format):
    """``.plan`` and ``.engine`` files."""

    name: ClassVar[str] = "tensorrt"
    suffixes: ClassVar[tuple[str, ...]] = (".plan", ".engine")

    def sniff(self, head: bytes) -> bool:
        """Whether it starts with a plan's tag, or with a length and a JSON object."""
        return head.startswith(TAGS) or (
            len(head) > 6 and head[3] == 0 and head[4:6] == b'{"' and _notes_size(head) > 2
        )

    def _read(self, source: ByteSource) -> ModelFacts:
        head = source.read(0, min(source.size, 16))
        notes: dict[str, Any] = {}
        start = 0
        if not head.startswith(TAGS):
            if not self.sniff(head):
                raise FormatError(
                    f"not a TensorRT plan: expected {TAGS[0]!r}, {starts_with(source)}"
                )
            start = 4 + _notes_size(head)
            notes = _notes(source, start)
        header = source.read(start, min(source.size - start, _HEADER_SIZE))
        if not header.startswith(TAGS):
            raise FormatError(
                f"expected a TensorRT plan at offset {start:,}, found {header[:16]!r}"
            )
        if len(header) < _HEADER_SIZE:
            raise FormatError(f"the plan is cut short after {len(header)} bytes of its header")
        return ModelFacts(
            framework=self.name,
            signature=Signature(),
            model_type=TASKS.get(str(notes.get("task", ""))),
            description=str(notes.get("description", "")),
            metadata=metadata_of(notes) | _metadata(header, start),
            gap="a TensorRT plan does not tell its tensors",
            labels=labels_of(notes),
        )


def _notes_size(head: bytes) -> int:
    """Bytes of the JSON object before a plan, as its length says."""
    return int.from_bytes(head[:4], "little")


def _notes(source: ByteSource, end: int) -> dict[str, Any]:
    """The object between its length and the plan."""
    if end > min(source.size, MAX_NOTES):
        raise FormatError(
            f"not a TensorRT plan: {end - 4:,} bytes of JSON before it, {starts_with(source)}"
        )
    notes = read_notes(source.read(4, end - 4))
    if notes is None:
        raise FormatError(f"not a TensorRT plan, {starts_with(source)} (no JSON before it)")
    return notes


def _metadata(header: bytes, start: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Where the version is depends on the form of the header; only that of number 0 is public.
    if int.from_bytes(header[4:8], "little") == 0:
        found["tensorrt_version"] = ".".join(map(str, header[_VERSION_AT:_HEADER_SIZE]))
    if start:
        found["plan_offset"] = start
    return found
