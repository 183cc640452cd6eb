"""TensorFlow SavedModel: a folder with a graph, its signatures, and weights beside it.

The signature that servers take by default is read; graphs are stepped over.

Source: tensorflow/core/protobuf/saved_model.proto and meta_graph.proto,
tensorflow/core/framework/types.proto and tensor_shape.proto (https://github.com/tensorflow/tensorflow).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.base import Format, ModelFacts, starts_with
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.protobuf import BYTES, VARINT, Message, signed, walk

SIGNATURE = "serving_default"
TAG = "serve"

_SAVED_MODEL = Message(
    "SavedModel", {1: ("saved_model_schema_version", VARINT), 2: ("meta_graphs", BYTES)}
)
_META_GRAPH = Message(
    "MetaGraphDef",
    {1: ("meta_info_def", BYTES), 2: ("graph_def", BYTES), 5: ("signature_def", BYTES)},
)
_META_INFO = Message("MetaInfoDef", {4: ("tags", BYTES), 5: ("tensorflow_version", BYTES)})
_ENTRY = Message("map entry", {1: ("key", BYTES), 2: ("value", BYTES)})
_SIGNATURE = Message(
    "SignatureDef", {1: ("inputs", BYTES), 2: ("outputs", BYTES), 3: ("method_name", BYTES)}
)
_TENSOR_INFO = Message(
    "TensorInfo",
    {
        2: ("dtype", VARINT),
        3: ("tensor_shape", BYTES),
        4: ("coo_sparse", BYTES),
        5: ("composite_tensor", BYTES),
    },
)
_SHAPE = Message("TensorShapeProto", {2: ("dim", BYTES), 3: ("unknown_rank", VARINT)})
_DIM = Message("Dim", {1: ("size", VARINT)})

#: ``DataType`` by number; quantised types are named by the integers that they are.
DATATYPES = (
    "UNKNOWN", "FP32", "FP64", "INT32", "UINT8", "INT16", "INT8", "BYTES", "COMPLEX64", "INT64",
    "BOOL", "INT8", "UINT8", "INT32", "BF16", "INT16", "UINT16", "UINT16", "COMPLEX128", "FP16",
    "RESOURCE", "VARIANT", "UINT32", "UINT64", "FP8E5M2", "FP8E4M3FN", "FP8E4M3FNUZ", "UNKNOWN",
    "FP8E5M2FNUZ", "INT4", "UINT4", "INT2", "UINT2", "FP4E2M1",
)  # fmt: skip
_REFERENCE = 100  # what is added to a type's number for a reference to it
_HEAD = re.compile(rb"\x08\x01\x12[\x80-\xff]{0,4}[\x00-\x7f][\x0a\x12\x1a\x22\x2a\x32\x3a]")
_FOLDERS = ("variables", "assets", "assets.extra")
_MAX_FILES = 10_000  # beside the graph
_MAX_RANK = 1024
_MAX_ITEMS = 20_000  # signatures, tags or tensors
_FROZEN = "a frozen graph does not tell its tensors; tf.saved_model.save(model, folder) does"
_INIT = "__saved_model_init_op"  # a signature that is no function of the model


class SavedModel(Format):
    """Folders with a ``saved_model.pb``."""

    name: ClassVar[str] = "savedmodel"
    suffixes: ClassVar[tuple[str, ...]] = (".pb",)
    marker: ClassVar[str] = "saved_model.pb"

    def sniff(self, head: bytes) -> bool:
        """Whether it starts with the schema's only version and a graph with its tags."""
        return _HEAD.match(head) is not None

    def _read(self, source: ByteSource) -> ModelFacts:
        try:
            graphs = list(_graphs(source))
        except FormatError as exc:
            if self.sniff(source.read(0, min(source.size, 16))):
                raise
            raise _not_saved_model(source, str(exc)) from exc
        if not graphs:
            raise _not_saved_model(source, "no meta_graphs")
        graph = next((graph for graph in graphs if TAG in graph.tags), graphs[0])
        name, (start, end) = _chosen(graph.signatures)
        signature = _read_signature(source, start, end)
        return ModelFacts(
            framework=self.name,
            signature=signature,
            model_type=model_type_of(signature),
            metadata=_metadata(graphs, graph, name),
            external=tuple(_beside(source.path)),
        )


@dataclass(slots=True)
class _Graph:
    """What a meta graph says of itself, and where its signatures are in the file."""

    tags: list[str] = field(default_factory=list)
    version: str = ""
    signatures: dict[str, tuple[int, int]] = field(default_factory=dict)


def _not_saved_model(source: ByteSource, why: str) -> FormatError:
    # A frozen graph is a GraphDef: its first field is a node. It has no signature.
    is_graph = source.read(0, 1) == b"\n"
    return FormatError(
        f"not a TensorFlow SavedModel, {starts_with(source)} ({why})",
        hint=_FROZEN if is_graph else None,
    )


def _graphs(source: ByteSource) -> Iterator[_Graph]:
    version = None
    for name, start, end in walk(source, 0, source.size, _SAVED_MODEL):
        if name == "meta_graphs":
            yield _read_graph(source, start, end)
        elif start != 1:
            raise FormatError(f"saved_model_schema_version {start}, expected 1")
        else:
            version = start
    if version is None:
        raise FormatError("no saved_model_schema_version")


def _read_graph(source: ByteSource, start: int, end: int) -> _Graph:
    graph = _Graph()
    for name, begin, after in walk(source, start, end, _META_GRAPH):
        if name == "meta_info_def":
            _read_info(source, begin, after, graph)
        elif name == "signature_def":
            key, value = _entry(source, begin, after)
            graph.signatures[key] = value
            if len(graph.signatures) > _MAX_ITEMS:
                raise FormatError(f"more than {_MAX_ITEMS:,} signatures")
    return graph


def _read_info(source: ByteSource, start: int, end: int, graph: _Graph) -> None:
    for name, begin, after in walk(source, start, end, _META_INFO):
        text = source.text(begin, after - begin, f"MetaInfoDef.{name}")
        if name == "tensorflow_version":
            graph.version = text
        else:
            graph.tags.append(text)
            if len(graph.tags) > _MAX_ITEMS:
                raise FormatError(f"more than {_MAX_ITEMS:,} tags")


def _entry(source: ByteSource, start: int, end: int) -> tuple[str, tuple[int, int]]:
    """The key of a map's entry, and where its value is."""
    key, value = "", (end, end)
    for name, begin, after in walk(source, start, end, _ENTRY):
        if name == "key":
            key = source.text(begin, after - begin, "a name")
        else:
            value = (begin, after)
    return key, value


def _chosen(signatures: Mapping[str, tuple[int, int]]) -> tuple[str, tuple[int, int]]:
    """The signature that is served: the usual one, or the only one."""
    public = {name: span for name, span in signatures.items() if name != _INIT}
    if SIGNATURE in public:
        return SIGNATURE, public[SIGNATURE]
    if len(public) == 1:
        return next(iter(public.items()))
    found = ", ".join(map(repr, sorted(public)[:20])) or "none"
    raise FormatError(
        f"expected a signature {SIGNATURE!r}, found {found}",
        hint=f"save it with tf.saved_model.save(model, folder, signatures={{{SIGNATURE!r}: …}})",
    )


def _read_signature(source: ByteSource, start: int, end: int) -> Signature:
    tensors: dict[str, dict[str, Tensor]] = {"inputs": {}, "outputs": {}}
    for name, begin, after in walk(source, start, end, _SIGNATURE):
        if name == "method_name":
            continue
        key, value = _entry(source, begin, after)
        tensors[name][key] = _read_tensor(source, *value, key)
        if len(tensors[name]) > _MAX_ITEMS:
            raise FormatError(f"more than {_MAX_ITEMS:,} {name}")
    # A map has no order; TensorFlow writes it in any.
    return Signature(
        *(tuple(side[name] for name in sorted(side)) for side in tensors.values()),
    )


def _read_tensor(source: ByteSource, start: int, end: int, name: str) -> Tensor:
    datatype, shape = DATATYPES[0], None
    for found, begin, after in walk(source, start, end, _TENSOR_INFO):
        if found == "dtype":
            datatype = _datatype(begin, name)
        elif found == "tensor_shape":
            shape = _read_shape(source, begin, after)
        else:
            datatype = "SPARSE" if found == "coo_sparse" else "VARIANT"
    return Tensor(name, datatype, shape)


def _datatype(number: int, name: str) -> str:
    number -= _REFERENCE if number > _REFERENCE else 0
    if number >= len(DATATYPES):
        raise FormatError(
            f"unknown type {number} of {name!r}, expected at most {len(DATATYPES) - 1}"
        )
    return DATATYPES[number]


def _read_shape(source: ByteSource, start: int, end: int) -> tuple[int, ...] | None:
    shape = []
    is_ranked = True
    for name, begin, after in walk(source, start, end, _SHAPE):
        if name == "unknown_rank":
            is_ranked = not begin
            continue
        dim = 0  # proto3 leaves it out
        for _, value, _ in walk(source, begin, after, _DIM):
            dim = max(signed(value), -1)
        shape.append(dim)
        if len(shape) > _MAX_RANK:
            raise FormatError(f"a shape at offset {start:,} has more than {_MAX_RANK} dimensions")
    return tuple(shape) if is_ranked else None


def _metadata(graphs: list[_Graph], graph: _Graph, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tensorflow_version": graph.version,
        "tags": graph.tags,
        "signature": name,
        "other_signatures": sorted(graph.signatures.keys() - {name, _INIT}),
        "graphs": len(graphs) if len(graphs) > 1 else 0,
    }
    return {key: value for key, value in found.items() if value}


def _beside(path: Path | None) -> Iterator[str]:
    """The files of the folder that belong to the graph."""
    if path is None:
        return
    for name in _FOLDERS:
        found = (file for file in (path.parent / name).rglob("*") if file.is_file())
        for file in sorted(islice(found, _MAX_FILES)):
            yield file.relative_to(path.parent).as_posix()
