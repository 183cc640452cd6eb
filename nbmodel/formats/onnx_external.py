"""Where an ONNX model keeps tensors that are not in the file itself.

A tensor may name a file beside the model. That can be an initialiser, or a tensor deep in
the attributes of nodes, subgraphs, functions and training graphs. A location that leads
out of the model's folder would have an engine read any file of the machine, so it is
refused here, before anything else looks at it.

Source: docs/ExternalData.md and onnx/onnx.proto (https://github.com/onnx/onnx).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from nbmodel.core.manifest import check_path
from nbmodel.errors import FormatError, ManifestError
from nbmodel.formats.bytesource import WINDOW, ByteSource
from nbmodel.formats.protobuf import ANY, BYTES, VARINT, Message, walk

GRAPH = Message(
    "GraphProto",
    {
        1: ("node", BYTES),
        2: ("name", BYTES),
        5: ("initializer", BYTES),
        10: ("doc_string", BYTES),
        11: ("input", BYTES),
        12: ("output", BYTES),
        15: ("sparse_initializer", BYTES),
    },
)
_NODE = Message("NodeProto", {5: ("attribute", BYTES)})
_ATTRIBUTE = Message(
    "AttributeProto",
    {
        5: ("t", BYTES),
        6: ("g", BYTES),
        7: ("floats", ANY),
        8: ("ints", ANY),
        9: ("strings", ANY),
        10: ("tensors", BYTES),
        11: ("graphs", BYTES),
        22: ("sparse_tensor", BYTES),
        23: ("sparse_tensors", BYTES),
    },
)
_TENSOR = Message(
    "TensorProto", {8: ("name", BYTES), 13: ("external_data", BYTES), 14: ("location", VARINT)}
)
_SPARSE = Message("SparseTensorProto", {1: ("values", BYTES), 2: ("indices", BYTES)})
_ENTRY = Message("StringStringEntryProto", {1: ("key", BYTES), 2: ("value", BYTES)})
_FUNCTION = Message("FunctionProto", {7: ("node", BYTES), 11: ("attribute_proto", BYTES)})
_TRAINING = Message("TrainingInfoProto", {1: ("initialization", BYTES), 2: ("algorithm", BYTES)})

#: Fields that may have tensors somewhere inside, and what they hold.
_HOLDERS: Mapping[str, Message] = {
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "attribute_proto": _ATTRIBUTE,
    "g": GRAPH,
    "graphs": GRAPH,
    "initialization": GRAPH,
    "algorithm": GRAPH,
    "functions": _FUNCTION,
    "training_info": _TRAINING,
}
_TENSORS = frozenset({"t", "tensors", "initializer"})
_SPARSES = frozenset({"sparse_tensor", "sparse_tensors", "sparse_initializer"})
_BULK = frozenset({"floats", "ints", "strings"})
_KEY = b"location"
_EXTERNAL = 1  # TensorProto.DataLocation
_MAX_DEPTH = 100  # messages inside messages; what protobuf's own parsers stop at
# ONNX Runtime marks weights that it holds in memory so. In a file it would be an address.
_IN_MEMORY = "*/_ORT_MEM_ADDR_/"


class ExternalData:
    """The files that the tensors met so far lie in.

    Attributes:
        locations: POSIX paths relative to the model's folder, each once, in the order met.

    Methods raise ``FormatError`` for a malformed tensor, and for a location that leads
    out of the folder, naming tensor and location.
    """

    def __init__(self, source: ByteSource) -> None:
        self.locations: dict[str, None] = {}
        self._source = source

    def tensor(self, start: int, end: int) -> str:
        """Look at the tensor between two offsets, and return its name."""
        name, entries, is_external = "", {}, False
        for field, begin, after in walk(self._source, start, end, _TENSOR):
            if field == "name":
                name = self._source.text(begin, after - begin, "TensorProto.name")
            elif field == "location":
                is_external = begin == _EXTERNAL
            else:
                key, value = entry(self._source, begin, after)
                entries[key] = value
        if is_external:
            self.locations[_check(entries.get("location", ""), name)] = None
        return name

    def sparse(self, start: int, end: int) -> str:
        """Look at both parts of a sparse tensor, and return its name."""
        name = ""
        for field, begin, after in walk(self._source, start, end, _SPARSE):
            found = self.tensor(begin, after)
            name = found if field == "values" else name
        return name

    def search(self, field: str, start: int, end: int) -> None:
        """Look at all tensors anywhere inside a node, function or training graph.

        Args:
            field: The protobuf field it is the value of: ``node``, ``functions`` …
            start: Where it begins.
            end: Where it ends.
        """
        if self._has_none(start, end):
            return
        # A stack of iterators: neither depth nor width of a hostile graph costs memory.
        stack = [self._open(field, start, end)]
        while stack:
            holder = stack[-1]
            child = next(holder.fields, None)
            if child is None:
                stack.pop()
                continue
            name, begin, after = child
            if name in _TENSORS:
                self.tensor(begin, after)
            elif name in _SPARSES:
                self.sparse(begin, after)
            elif name in _BULK:
                # The thresholds of a tree ensemble: millions of fields, none of them a tensor.
                if not holder.is_searched and not self._source.contains(_KEY, begin, holder.end):
                    stack.pop()
                holder.is_searched = True
            elif name in _HOLDERS and not self._has_none(begin, after):
                if len(stack) == _MAX_DEPTH:
                    raise FormatError(f"graphs nested deeper than {_MAX_DEPTH} messages")
                stack.append(self._open(name, begin, after))

    def _open(self, field: str, start: int, end: int) -> _Holder:
        return _Holder(walk(self._source, start, end, _HOLDERS[field]), end)

    def _has_none(self, start: int, end: int) -> bool:
        # Nearly every node is small and names no file; searching its bytes for the word is
        # far cheaper than walking it.
        return end - start <= WINDOW and not self._source.contains(_KEY, start, end)


@dataclass(slots=True)
class _Holder:
    """A message on the way down: what is left of it."""

    fields: Iterator[tuple[str, int, int]]
    end: int
    is_searched: bool = False


def entry(source: ByteSource, start: int, end: int) -> tuple[str, str]:
    """Key and value of a ``StringStringEntryProto``."""
    found = {"key": "", "value": ""}
    for field, begin, after in walk(source, start, end, _ENTRY):
        found[field] = source.text(begin, after - begin, f"StringStringEntryProto.{field}")
    return found["key"], found["value"]


def _check(location: str, tensor: str) -> str:
    """The location as a clean relative path."""
    path = "/".join(part for part in location.split("/") if part not in ("", "."))
    if not location.startswith(("/", _IN_MEMORY)):
        with suppress(ManifestError):
            return check_path(path)
    raise FormatError(
        f"tensor {tensor!r} has external data at {location[:200]!r}, expected a relative path "
        "inside the model's folder",
        hint="do not load this model unless you know who made it",
    )
