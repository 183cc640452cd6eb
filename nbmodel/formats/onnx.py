"""ONNX: a model as one protobuf message, sometimes with its weights in files beside it.

The graph's inputs, outputs and properties are read; weights are stepped over, and nodes
are only searched for tensors that lie in other files.

Source: onnx/onnx.proto (https://github.com/onnx/onnx), docs/IR.md and
docs/ExternalData.md of the same repository.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from nbmodel.core.labels import labels_by_index, labels_from_map
from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, InputError
from nbmodel.formats.base import Format, ModelFacts, starts_with
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.onnx_external import GRAPH, ExternalData, entry
from nbmodel.formats.protobuf import BYTES, VARINT, Message, signed, walk
from nbmodel.formats.ultralytics import TASKS

_MODEL = Message(
    "ModelProto",
    {
        1: ("ir_version", VARINT),
        2: ("producer_name", BYTES),
        3: ("producer_version", BYTES),
        4: ("domain", BYTES),
        5: ("model_version", VARINT),
        6: ("doc_string", BYTES),
        7: ("graph", BYTES),
        8: ("opset_import", BYTES),
        14: ("metadata_props", BYTES),
        20: ("training_info", BYTES),
        25: ("functions", BYTES),
    },
)
_OPSET = Message("OperatorSetIdProto", {1: ("domain", BYTES), 2: ("version", VARINT)})
_VALUE = Message(
    "ValueInfoProto", {1: ("name", BYTES), 2: ("type", BYTES), 3: ("doc_string", BYTES)}
)
_TYPE = Message(
    "TypeProto",
    {
        1: ("tensor_type", BYTES),
        4: ("SEQUENCE", BYTES),
        5: ("MAP", BYTES),
        6: ("denotation", BYTES),
        7: ("OPAQUE", BYTES),
        8: ("SPARSE", BYTES),
        9: ("OPTIONAL", BYTES),
    },
)
_TENSOR_TYPE = Message("TypeProto.Tensor", {1: ("elem_type", VARINT), 2: ("shape", BYTES)})
_SHAPE = Message("TensorShapeProto", {1: ("dim", BYTES)})
_DIM = Message("Dimension", {1: ("dim_value", VARINT), 2: ("dim_param", BYTES)})

#: ``TensorProto.DataType`` by number.
DATATYPES = (
    "UNKNOWN", "FP32", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BYTES", "BOOL",
    "FP16", "FP64", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BF16", "FP8E4M3FN",
    "FP8E4M3FNUZ", "FP8E5M2", "FP8E5M2FNUZ", "UINT4", "INT4", "FP4E2M1", "FP8E8M0", "UINT2",
    "INT2", "FP6E2M3", "FP6E3M2",
)  # fmt: skip
_PROFILES = {"IMAGE": "image", "AUDIO": "audio", "TEXT": "text"}  # type denotations
#: Keys of metadata_props under which exporters write class names.
_LABEL_KEYS = ("names", "labels", "classes", "class_names", "label_names", "id2label")
_MAX_RANK = 1024
_MAX_TENSORS = 20_000  # inputs or outputs; old files list every weight as an input
_MAX_PROPERTY = 4096  # bytes of a property's value that are worth keeping beside the model
_MAX_NAMES = 1 << 20  # characters of a property that may be class names
_STRING = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_SCALAR = rf"(?:\d{{1,9}}|{_STRING})"
_PAIR = rf"{_SCALAR}\s*:\s*{_SCALAR}"
#: A flat Python dict or list of strings: what may be given to ``ast.literal_eval``. No two
#: neighbours in it match the same character, so that it is linear on any text.
_FLAT_LITERAL = re.compile(
    rf"\{{\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*(?:,\s*)?\}}"
    rf"|\[\s*{_STRING}(?:\s*,\s*{_STRING})*\s*(?:,\s*)?\]"
)


class Onnx(Format):
    """``.onnx`` files."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def sniff(self, head: bytes) -> bool:
        """Whether it starts with a format version, short texts, and then a graph.

        ONNX has no magic number. A file with its fields in an uncommon order is told by
        its suffix instead.
        """
        if head[:1] != b"\x08" or not head[1:2] or not 0 < head[1] < 0x80:
            return False
        position = 2
        while match := _HEAD_FIELD.match(head, position):
            if match["graph"] is not None or match["doc"] is not None:
                return True
            length = match["text"]
            position = match.end() + (length[0] if length else 0)
            if length and not head[match.end() : position].isascii():
                return False
        return False

    def _read(self, source: ByteSource) -> ModelFacts:
        model = _Model(ExternalData(source))
        try:
            _read_model(source, model)
        except FormatError as exc:
            # Any text is a few protobuf fields: what the file is at all comes first.
            if model.ir_version is None:
                raise _not_onnx(source, str(exc)) from exc
            raise
        if model.graphs == 0 or model.ir_version is None:
            missing = "graph" if model.graphs == 0 else "ir_version"
            raise _not_onnx(source, f"no {missing}")
        return _facts(model)


#: A model's fields as they are before the graph: texts of up to 127 bytes, model_version.
_HEAD_FIELD = re.compile(
    rb"(?P<graph>\x3a)|(?P<doc>\x32)|[\x12\x1a\x22](?P<text>[\x00-\x7f])"
    rb"|\x28[\x80-\xff]{0,9}[\x00-\x7f]"
)


@dataclass(slots=True)
class _Model:
    """What is gathered while the file is walked."""

    external: ExternalData
    ir_version: int | None = None
    graphs: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    model_version: int = 0
    opset: dict[str, int] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)


def _not_onnx(source: ByteSource, why: str) -> FormatError:
    return FormatError(f"not an ONNX model, {starts_with(source)} ({why})")


def _read_model(source: ByteSource, model: _Model) -> None:
    for name, start, end in walk(source, 0, source.size, _MODEL):
        if name == "ir_version":
            model.ir_version = start
        elif name == "model_version":
            model.model_version = signed(start)
        elif name == "graph":
            model.graphs += 1
            _read_graph(source, start, end, model)
        elif name == "opset_import":
            _read_opset(source, start, end, model)
        elif name == "metadata_props":
            key, value = entry(source, start, end)
            model.properties[key] = value
        elif name in ("training_info", "functions"):
            model.external.search(name, start, end)
        else:
            model.texts[name] = source.text(start, end - start, f"ModelProto.{name}")


def _read_opset(source: ByteSource, start: int, end: int, model: _Model) -> None:
    domain, version = "", 0
    for name, begin, after in walk(source, start, end, _OPSET):
        if name == "domain":
            domain = source.text(begin, after - begin, "OperatorSetIdProto.domain")
        else:
            version = signed(begin)
    model.opset[domain or "ai.onnx"] = version


def _read_graph(source: ByteSource, start: int, end: int, model: _Model) -> None:
    for name, begin, after in walk(source, start, end, GRAPH):
        if name == "node":
            model.external.search(name, begin, after)
        elif name == "initializer":
            model.initializers.add(model.external.tensor(begin, after))
        elif name == "sparse_initializer":
            model.initializers.add(model.external.sparse(begin, after))
        elif name in ("input", "output"):
            tensors = model.inputs if name == "input" else model.outputs
            tensors.append(_read_value(source, begin, after, name))
            if len(tensors) > _MAX_TENSORS:
                raise FormatError(f"more than {_MAX_TENSORS:,} {name}s")
        else:
            text = source.text(begin, after - begin, f"GraphProto.{name}")
            model.texts[f"graph.{name}"] = text


def _read_value(source: ByteSource, start: int, end: int, side: str) -> Tensor:
    tensor = Tensor("", "UNKNOWN", None)
    for name, begin, after in walk(source, start, end, _VALUE):
        if name == "type":
            tensor = _read_type(source, begin, after, tensor)
        elif name == "name":
            tensor = replace(tensor, name=source.text(begin, after - begin, f"{side}.name"))
        else:
            doc = source.text(begin, after - begin, f"{side}.doc_string")
            tensor = replace(tensor, description=doc)
    return tensor


def _read_type(source: ByteSource, start: int, end: int, tensor: Tensor) -> Tensor:
    for name, begin, after in walk(source, start, end, _TYPE):
        if name == "denotation":
            profile = _PROFILES.get(source.text(begin, after - begin, "denotation"), "")
            tensor = replace(tensor, profile=profile)
        elif name == "tensor_type":
            datatype, shape = _read_tensor_type(source, begin, after)
            tensor = replace(tensor, datatype=datatype, shape=shape)
        else:
            tensor = replace(tensor, datatype=name, shape=None)
    return tensor


def _read_tensor_type(
    source: ByteSource, start: int, end: int
) -> tuple[str, tuple[int, ...] | None]:
    datatype, shape = DATATYPES[0], None
    for name, begin, after in walk(source, start, end, _TENSOR_TYPE):
        if name == "shape":
            shape = _read_shape(source, begin, after)
        elif begin < len(DATATYPES):
            datatype = DATATYPES[begin]
        else:
            raise FormatError(
                f"unknown element type {begin} before offset {after:,}, "
                f"expected at most {len(DATATYPES) - 1}"
            )
    return datatype, shape


def _read_shape(source: ByteSource, start: int, end: int) -> tuple[int, ...]:
    shape = []
    for _, begin, after in walk(source, start, end, _SHAPE):
        dim = -1  # nothing is known about it
        for name, value, _ in walk(source, begin, after, _DIM):
            # Exporters write -1 and the like where they mean a variable dimension.
            dim = max(signed(value), -1) if name == "dim_value" else -1
        shape.append(dim)
        if len(shape) > _MAX_RANK:
            raise FormatError(f"a shape at offset {start:,} has more than {_MAX_RANK} dimensions")
    return tuple(shape)


def _facts(model: _Model) -> ModelFacts:
    signature = Signature(
        inputs=_inputs(model), outputs=tuple({out.name: out for out in model.outputs}.values())
    )
    properties = dict(model.properties)
    labels = _labels(properties)
    if labels:
        signature = signature.with_labels(labels)
    description = model.texts.get("doc_string") or model.texts.get("graph.doc_string", "")
    return ModelFacts(
        framework=Onnx.name,
        signature=signature,
        model_type=TASKS.get(properties.get("task", "")) or model_type_of(signature),
        description=description or properties.get("description", ""),
        metadata=_metadata(model, properties),
        external=tuple(model.external.locations),
    )


def _inputs(model: _Model) -> tuple[Tensor, ...]:
    """What a caller gives: until IR version 4, weights were listed as inputs too."""
    inputs = tuple(tensor for tensor in model.inputs if tensor.name not in model.initializers)
    names = set()
    for tensor in inputs:
        if tensor.datatype == "UNKNOWN":
            raise FormatError(f"input {tensor.name!r} has no type")
        if tensor.name in names:
            raise FormatError(f"two inputs are named {tensor.name!r}")
        names.add(tensor.name)
    return inputs


def _metadata(model: _Model, properties: Mapping[str, str]) -> dict[str, Any]:
    texts = model.texts
    producer = f"{texts.get('producer_name', '')} {texts.get('producer_version', '')}".strip()
    found: dict[str, Any] = {
        "ir_version": model.ir_version,
        "opset": dict(model.opset),
        "producer": producer,
        "domain": texts.get("domain", ""),
        "model_version": model.model_version,
        "graph": texts.get("graph.name", ""),
        "properties": {
            key: value
            if len(value) <= _MAX_PROPERTY
            else f"({len(value):,} characters, left in the file)"
            for key, value in properties.items()
        },
    }
    return {key: value for key, value in found.items() if value}


def _labels(properties: dict[str, str]) -> tuple[str, ...]:
    """Class names from the properties; the property that has them is taken out."""
    for key in _LABEL_KEYS:
        labels = _named(_parse(properties.get(key, "")))
        if labels and _is_text(labels):
            del properties[key]
            return labels
    return ()


def _is_text(labels: tuple[str, ...]) -> bool:
    """Whether labels can be written: escapes may stand for halves of characters."""
    try:
        "".join(labels).encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse(text: str) -> object:
    """A property as JSON or, as Ultralytics writes it, a Python literal; else None."""
    text = text.strip()
    if not text or len(text) > _MAX_NAMES:
        return None
    with suppress(ValueError, RecursionError):
        return cast("object", json.loads(text))
    # Nested literals can crash Python's parser; flat ones are all that is wanted.
    if _FLAT_LITERAL.fullmatch(text):
        with suppress(ValueError, SyntaxError):  # an escape that Python does not have
            return cast("object", ast.literal_eval(text))
    return None


def _named(value: object) -> tuple[str, ...]:
    """Labels of ``["cat", "dog"]``, ``{0: "cat"}``, ``{"0": "cat"}`` or ``{"cat": 0}``."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if not isinstance(value, dict):
        return ()
    with suppress(ValueError, InputError):  # a map of something else stays a property
        if all(isinstance(name, str) for name in value.values()):
            return labels_by_index({int(index): name for index, name in value.items()})
        if all(isinstance(name, str) for name in value):
            return labels_from_map(value)
    return ()
