"""OpenVINO IR: a graph as XML, its weights in a ``.bin`` file of the same name.

Parameters and results of the outermost graph are read as the text streams by; entities and
document types, by which a small text becomes a large one, are refused.

Source: OpenVINO "OpenVINO IR format" and "Operation Sets", Parameter and Result
(https://docs.openvino.ai).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn
from xml.parsers import expat

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.base import Format, ModelFacts, distinct_names, starts_with
from nbmodel.formats.bytesource import ByteSource

MAX_SIZE = 256 << 20  # bytes of XML; a graph of a million operations stays below
_CHUNK = 1 << 16  # bytes
_MAX_DEPTH = 256
_MAX_TENSORS = 20_000  # inputs or outputs
_MAX_RANK = 1024
_NAMED_TENSORS = 11  # the version of the IR that has names of tensors apart from layers

#: Element types, as attributes have them in lower case and ports in upper case.
DATATYPES = {
    "f32": "FP32", "fp32": "FP32", "f16": "FP16", "fp16": "FP16", "f64": "FP64", "fp64": "FP64",
    "bf16": "BF16", "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64", "u8": "UINT8",
    "u16": "UINT16", "u32": "UINT32", "u64": "UINT64", "boolean": "BOOL", "bool": "BOOL",
    "string": "BYTES", "i4": "INT4", "u4": "UINT4", "u2": "UINT2", "f8e4m3": "FP8E4M3FN",
    "f8e5m2": "FP8E5M2", "f8e8m0": "FP8E8M0", "f4e2m1": "FP4E2M1",
}  # fmt: skip
_HEAD = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:[^-]|-[^-])*-->\s*)*<net[\s>]"
)
_LAYER = ("net", "layers", "layer")


class OpenVino(Format):
    """``.xml`` files with their ``.bin``."""

    name: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)

    def sniff(self, head: bytes) -> bool:
        """Whether it is XML that begins with a ``net``."""
        return _HEAD.match(head) is not None

    def _read(self, source: ByteSource) -> ModelFacts:
        if source.size > MAX_SIZE:
            raise FormatError(f"XML of {source.size:,} bytes, expected at most {MAX_SIZE:,}")
        graph = _Reader(source).graph()
        signature = _signature(graph)
        path = source.path
        return ModelFacts(
            framework=self.name,
            signature=signature,
            model_type=model_type_of(signature),
            metadata={key: value for key, value in graph.about.items() if value},
            external=(path.with_suffix(".bin").name,) if graph.has_weights and path else (),
        )


@dataclass(slots=True)
class _Port:
    """Where a tensor leaves a layer, or enters a result."""

    names: str = ""
    precision: str = ""
    dims: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _End:
    """A parameter or result of the graph."""

    id: str
    name: str
    output_names: str
    shape: str | None = None
    element_type: str = ""
    ports: list[_Port] = field(default_factory=list)


@dataclass(slots=True)
class _Graph:
    """What is gathered while the text streams by."""

    about: dict[str, Any] = field(default_factory=dict)
    parameters: list[_End] = field(default_factory=list)
    results: list[_End] = field(default_factory=list)
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (layer, port) → names
    friendly: dict[str, str] = field(default_factory=dict)  # layer → its name
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)  # result → (layer, port)
    has_weights: bool = False


class _Reader:
    """Feeds a file to a parser that keeps the ends of the graph."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._graph = _Graph()
        self._path: list[str] = []
        self._layer = ""
        self._results: set[str] = set()
        self._end: _End | None = None
        self._text: list[str] | None = None

    def graph(self) -> _Graph:
        """The graph of the whole file."""
        parser = expat.ParserCreate()
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._stop
        parser.CharacterDataHandler = self._characters
        parser.buffer_text = True
        source, position = self._source, 0
        try:
            while position < source.size:
                length = min(_CHUNK, source.size - position)
                position += length
                parser.Parse(source.read(position - length, length), position == source.size)
        except (expat.ExpatError, ValueError, LookupError) as exc:  # unknown encodings
            raise FormatError(f"not an OpenVINO IR, {starts_with(source)} ({exc})") from exc
        if not self._graph.about:
            raise FormatError(f"not an OpenVINO IR, {starts_with(source)} (no net)")
        if not self._results:
            raise FormatError("the net has no Result")
        return self._graph

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._source.spend_steps(1, "elements")
        path = self._path
        path.append(tag)
        if len(path) > _MAX_DEPTH:
            raise FormatError(f"elements are nested more than {_MAX_DEPTH} deep")
        if path[0] != "net":
            raise FormatError(
                f"not an OpenVINO IR, {starts_with(self._source)} (expected a net, found "
                f"{path[0][:40]!r})"
            )
        depth = len(path)
        if depth == 1:
            self._net(attributes)
        elif tuple(path[:3]) == _LAYER:
            self._in_layer(depth, tag, attributes)
        elif depth == 3 and path[1] == "edges" and tag == "edge":
            self._edge(attributes)
        elif depth >= 3 and path[1] == "rt_info" and tag.lower() in ("info", "runtime_version"):
            self._runtime(attributes)

    def _net(self, attributes: dict[str, str]) -> None:
        self._graph.about = {
            "ir_version": _number(attributes.get("version", ""), "the net's version"),
            "graph": self._keep(attributes.get("name", "")),
        }

    def _in_layer(self, depth: int, tag: str, attributes: dict[str, str]) -> None:
        if depth == 3:
            self._open_layer(attributes)
        elif depth == 4 and tag == "data" and self._end is not None:
            self._end.shape = attributes.get("shape")
            self._end.element_type = attributes.get("element_type", "")
        elif depth == 5 and tag == "port":
            self._port(attributes)
        elif depth == 6 and tag == "dim" and self._end is not None:
            self._text = []

    def _open_layer(self, attributes: dict[str, str]) -> None:
        kind = attributes.get("type", "")
        self._layer = attributes.get("id", "")
        self._end = None
        self._graph.has_weights |= kind == "Const"
        if kind not in ("Parameter", "Result"):
            self._graph.friendly[self._layer] = self._keep(attributes.get("name", ""))
            return
        self._end = _End(
            self._layer,
            self._keep(attributes.get("name", "")),
            self._keep(attributes.get("output_names", "")),
        )
        ends = self._graph.parameters if kind == "Parameter" else self._graph.results
        ends.append(self._end)
        if kind == "Result":
            self._results.add(self._layer)
        if len(ends) > _MAX_TENSORS:
            raise FormatError(f"more than {_MAX_TENSORS:,} layers of type {kind}")

    def _port(self, attributes: dict[str, str]) -> None:
        names = attributes.get("names", "")
        if names and self._path[3] == "output":
            self._graph.names[self._layer, attributes.get("id", "")] = self._keep(names)
        if self._end is not None:
            self._end.ports.append(_Port(names, attributes.get("precision", "")))

    def _edge(self, attributes: dict[str, str]) -> None:
        to = attributes.get("to-layer", "")
        if to in self._results:
            source = attributes.get("from-layer", ""), attributes.get("from-port", "")
            self._graph.sources[to] = source

    def _runtime(self, attributes: dict[str, str]) -> None:
        name, value = attributes.get("name", "Runtime_version"), attributes.get("value", "")
        if name in ("OpenVINO Runtime", "Runtime_version") and len(value) < 200:
            self._graph.about["openvino_version"] = value

    def _stop(self, _tag: str) -> None:
        if self._text is not None and self._end is not None and self._end.ports:
            dims = self._end.ports[-1].dims
            dims.append(_number("".join(self._text).strip(), f"a dim of {self._end.name!r}"))
            if len(dims) > _MAX_RANK:
                raise FormatError(f"{self._end.name!r} has more than {_MAX_RANK} dimensions")
        self._text = None
        self._path.pop()

    def _characters(self, text: str) -> None:
        if self._text is not None and len(self._text) < 8:
            self._text.append(text[:40])

    def _keep(self, text: str) -> str:
        self._source.spend_text(len(text), "names")
        return text


def _refuse_doctype(*_: object) -> NoReturn:
    raise FormatError("expected no document type declaration: entities are not read")


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise FormatError(f"{what}: expected an integer, found {text[:40]!r}")
    return int(text)


def _signature(graph: _Graph) -> Signature:
    version = graph.about["ir_version"]
    inputs = [_parameter(end, version) for end in graph.parameters]
    outputs = [_result(end, graph, version) for end in graph.results]
    return Signature(_named(inputs, "input"), _named(outputs, "output"))


def _named(tensors: list[Tensor], side: str) -> tuple[Tensor, ...]:
    names = distinct_names([tensor.name for tensor in tensors], side)
    return tuple(
        Tensor(name, tensor.datatype, tensor.shape)
        for name, tensor in zip(names, tensors, strict=True)
    )


def _parameter(end: _End, version: int) -> Tensor:
    port = end.ports[0] if end.ports else _Port()
    datatype = _datatype(end.element_type or port.precision, end.name)
    shape: tuple[int, ...] | None = tuple(max(dim, -1) for dim in port.dims)
    if end.shape is not None:
        shape = _shape(end.shape, end.name)
    return Tensor(_name(port.names, end.name, end.name, version), datatype, shape)


def _result(end: _End, graph: _Graph, version: int) -> Tensor:
    """An output has the names of the tensor that it takes."""
    layer, port_id = graph.sources.get(end.id, ("", ""))
    names = end.output_names or graph.names.get((layer, port_id), "")
    port = end.ports[0] if end.ports else _Port()
    # A scalar's port has no dims, nor has one of unknown rank.
    shape = tuple(max(dim, -1) for dim in port.dims) or None
    datatype = _datatype(port.precision, end.name) if port.precision else "UNKNOWN"
    made_by = graph.friendly.get(layer, "")
    return Tensor(_name(names, made_by, end.name, version), datatype, shape)


def _name(names: str, made_by: str, end: str, version: int) -> str:
    """The name of several by which OpenVINO finds a tensor: the first in order.

    Args:
        names: Of the tensor, behind each other.
        made_by: The layer that makes it, which was a name of it before version 11.
        end: The parameter or result, for tensors without names.
        version: Of the IR.
    """
    known = _split(names)
    if version < _NAMED_TENSORS and made_by:
        known.append(made_by)
    return min(known, default=end)


def _split(names: str) -> list[str]:
    """Names behind each other; a comma in one has a backslash before it."""
    return [
        re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL)
        for name in re.findall(r"(?:[^,\\]|\\.)+", names, re.DOTALL)
    ]


def _datatype(text: str, name: str) -> str:
    datatype = DATATYPES.get(text.lower())
    if datatype is None and text.lower() not in ("dynamic", "undefined"):
        raise FormatError(f"unknown element type {text[:40]!r} of {name!r}")
    return datatype or "UNKNOWN"


def _shape(text: str, name: str) -> tuple[int, ...] | None:
    """The shape of ``1..8,3,?``; None for ``...``, which is any rank."""
    if "..." in text:
        return None
    dims = [dim.strip() for dim in text.split(",")] if text.strip() else []
    if len(dims) > _MAX_RANK:
        raise FormatError(f"{name!r} has more than {_MAX_RANK} dimensions")
    return tuple(
        -1 if dim == "?" or ".." in dim else max(_number(dim, f"the shape of {name!r}"), -1)
        for dim in dims
    )
