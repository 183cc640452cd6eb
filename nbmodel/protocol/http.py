"""Inference requests and answers ⇄ the bytes of an HTTP body: JSON and Triton's binary tensors.

Server and client use the same functions. What lives elsewhere: routes and statuses
(``nbmodel.runtime.oip``), sockets, compression, and whether a model takes the tensors
(``nbmodel.core.signature.check_inputs``).

A body is a JSON object, followed by the bytes of its binary tensors in their order; the
header ``Inference-Header-Content-Length`` says where the JSON ends. Tensors are
little-endian and row-major, as numpy has them on every platform nbmodel runs on. JSON
before binary tensors is padded with spaces to a multiple of eight bytes, so that the
receiver can use most tensors where they lie.

Source: Open Inference Protocol v2 (REST) and Triton's "Binary Tensor Data Extension";
messages follow Triton's ``http_server.cc`` where it has one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.document import MAX_DEPTH, is_too_deep, unique_keys
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, FormatError, ShapeError, TensorNameError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.inference import (
    InferRequest,
    InferResponse,
    Region,
    RequestedOutput,
    SharedTensor,
)
from nbmodel.protocol.raw import decode_raw, encode_raw, reshape
from nbmodel.protocol.tensor import with_datatype

HEADER_LENGTH = "Inference-Header-Content-Length"
_ALIGNMENT = 8  # bytes; the size of the largest element
_MAX_RANK = 32  # numpy's limit before 2.0
_SMALL = 4096  # bytes of JSON that are worth remembering
_MAX_INT64 = 2**63 - 1
_MAX_UINT64 = 2**64 - 1
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_loads = json.JSONDecoder(object_pairs_hook=unique_keys).decode
_JSON_TYPES: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}


@dataclass(frozen=True, slots=True)
class Body:
    """What to send.

    Attributes:
        parts: The bytes, in order; they may be views of the arrays that were encoded.
        header_length: Bytes of JSON before the binary tensors; None when all is JSON.
    """

    parts: tuple[bytes | memoryview, ...]
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """Content type, and the length of the JSON where binary tensors follow it."""
        if self.header_length is None:
            return {"Content-Type": "application/json"}
        return {
            "Content-Type": "application/octet-stream",
            HEADER_LENGTH: str(self.header_length),
        }

    def join(self) -> bytes:
        """All parts in one."""
        return b"".join(self.parts)


def encode_request(request: InferRequest) -> Body:
    """The body of a request, every input as binary.

    Raises:
        DatatypeError: An array holds what the protocol cannot carry.
    """
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    parameters = dict(request.parameters)
    if request.binary_outputs:
        parameters["binary_data_output"] = True
    if parameters:
        head["parameters"] = parameters
    entries, parts = _encode_inputs(request.inputs)
    entries += [_encode_shared(name, tensor) for name, tensor in request.shared_inputs.items()]
    head["inputs"] = entries
    if request.outputs:
        head["outputs"] = [_encode_requested(output) for output in request.outputs]
    return _body(_dumps(head), parts)


def encode_response(response: InferResponse, request: InferRequest) -> Body:
    """The body of an answer, each output as the request wants it.

    NaN and infinities in JSON are written as Triton does: ``NaN``, ``Infinity``.

    Raises:
        DatatypeError: An output cannot be JSON and was not asked for as binary.
    """
    head = f'{{"id":{_dumps(response.id)},' if response.id else "{"
    head += f'"model_name":{_quoted(response.model)},"model_version":{_quoted(response.version)},'
    if response.parameters:
        head += f'"parameters":{_dumps(dict(response.parameters))},'
    entries, parts = [], []
    for name in _order(response, request):
        if name in response.shared_outputs:
            shared = response.shared_outputs[name]
            entries.append(_opened(name, shared.datatype, shared.shape) + "}")
            continue
        entry, part = _encode_output_tensor(
            name, response.outputs[name], as_bytes=request.wants_binary(name)
        )
        entries.append(entry)
        if part is not None:
            parts.append(part)
    return _body(f'{head}"outputs":[{",".join(entries)}]}}', parts)


def decode_request(
    body: bytes | bytearray | memoryview,
    header_length: int | None,
    *,
    model: str,
    version: str = "",
) -> InferRequest:
    """Read the body of an inference request.

    Args:
        body: All of it.
        header_length: The value of ``Inference-Header-Content-Length``; None without one.
        model: Name from the path.
        version: Version from the path, or empty.

    Returns:
        The request. Binary tensors are views of ``body`` where their alignment allows.

    Raises:
        FormatError: The body is not the JSON the protocol says, nests deeper than
            ``MAX_DEPTH``, or is longer or shorter than its tensors.
        TensorNameError, DatatypeError, ShapeError: A tensor contradicts itself.
    """
    text, tail = _split(body, header_length)
    head = _small_request(text) if len(text) <= _SMALL else _read_request(text)
    return InferRequest(
        model=model,
        version=version,
        id=head.id,
        inputs=_arrays("input", head.tensors, tail, model),
        outputs=head.outputs,
        binary_outputs=head.binary_outputs,
        parameters=head.parameters,
        shared_inputs=head.shared,
    )


def decode_raw_request(
    body: bytes | bytearray | memoryview, signature: Signature, *, model: str, version: str = ""
) -> InferRequest:
    """Read a raw binary request: the whole body is the model's only input.

    An input of BYTES is one element, the body itself without a length before it. A variable
    leading dimension is 1 when another is variable too; the one dimension
    that is left variable follows from the size. All outputs are answered as binary.

    Raises:
        FormatError: The model does not have exactly one input, or the size of the body
            leaves its shape open.
        ShapeError: The body is not as long as the shape says.
    """
    if len(signature.inputs) != 1:
        raise FormatError(
            "Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(signature.inputs)} inputs in {model!r} model configuration"
        )
    tensor = signature.inputs[0]
    view = memoryview(body)
    shape = _raw_shape(tensor, view.nbytes)
    if tensor.datatype == "BYTES":
        array = np.empty(shape, dtype=np.object_)
        array.fill(view.tobytes())
    else:
        array = decode_raw(tensor.name, tensor.datatype, shape, view)
    return InferRequest(model, {tensor.name: array}, version=version, binary_outputs=True)


def decode_response(
    body: bytes | bytearray | memoryview, header_length: int | None
) -> InferResponse:
    """Read the body of an answer.

    Args:
        body: All of it; outputs are views of it where alignment allows, and writable
            where it is (hand over a ``bytearray`` to get writable arrays).
        header_length: The value of ``Inference-Header-Content-Length``; None without one.

    Raises:
        FormatError, TensorNameError, DatatypeError, ShapeError: The server does not
            answer as the protocol says.
    """
    text, tail = _split(body, header_length)
    data = _parse(text, "response")
    model = _string(data, "model_name", "the response")
    tensors, shared = _read_tensors("output", _objects(data, "outputs"), text)
    return InferResponse(
        model=model,
        version=_string(data, "model_version", "the response"),
        outputs=_arrays("output", tensors, tail, model),
        id=_string(data, "id", "the response"),
        parameters=_parameters(data, "the response"),
        shared_outputs=shared,
    )


# --- writing ------------------------------------------------------------------------


def _body(head: str, parts: Sequence[bytes | memoryview]) -> Body:
    text = head.encode()
    if not any(map(len, parts)):
        return Body((text,), None)
    text += b" " * (-len(text) % _ALIGNMENT)
    return Body((text, *parts), len(text))


def _encode_inputs(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    entries: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for name, given in arrays.items():
        array, datatype = with_datatype(given, what=f"input {name!r}")
        part = encode_raw(array)
        entries.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(part)},
            }
        )
        parts.append(part)
    return entries, parts


def _encode_shared(name: str, tensor: SharedTensor) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "parameters": _encode_region(tensor.region),
    }


def _encode_requested(output: RequestedOutput) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if output.binary is not None:
        parameters["binary_data"] = output.binary
    if output.classification:
        parameters["classification"] = output.classification
    if output.region is not None:
        parameters |= _encode_region(output.region)
    return {"name": output.name, **({"parameters": parameters} if parameters else {})}


def _encode_region(region: Region) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shared_memory_region": region.name,
        "shared_memory_byte_size": region.byte_size,
    }
    if region.offset:
        parameters["shared_memory_offset"] = region.offset
    return parameters


def _order(response: InferResponse, request: InferRequest) -> Iterable[str]:
    """Outputs as they were asked for; else as the model gives them."""
    if not response.shared_outputs:
        return response.outputs
    there = {**response.outputs, **response.shared_outputs}
    wanted = [output.name for output in request.outputs if output.name in there]
    return wanted or there


def _encode_output_tensor(
    name: str, given: NDArray[Any], *, as_bytes: bool
) -> tuple[str, bytes | memoryview | None]:
    what = f"output {name!r}"
    array, datatype = with_datatype(given, what=what)
    if as_bytes:
        part = encode_raw(array)
        return _binary_entry(name, datatype, array.shape, len(part)), part
    data = _dumps(_to_json(what, datatype, array))
    return f'{_opened(name, datatype, array.shape)},"data":{data}}}', None


@lru_cache(maxsize=1024)  # most answers are like the one before
def _binary_entry(name: str, datatype: str, shape: tuple[int, ...], size: int) -> str:
    return f'{_opened(name, datatype, shape)},"parameters":{{"binary_data_size":{size}}}}}'


def _opened(name: str, datatype: str, shape: tuple[int, ...]) -> str:
    """The JSON of an output up to its data, its object still open."""
    dims = ",".join(map(str, shape))
    return f'{{"name":{_quoted(name)},"datatype":"{datatype}","shape":[{dims}]'


@lru_cache(maxsize=1024)  # names and versions: few, and in every answer
def _quoted(text: str) -> str:
    return _dumps(text)


def _to_json(what: str, datatype: str, array: NDArray[Any]) -> list[Any]:
    _check_json_carries(what, datatype)
    flat: list[Any] = array.reshape(-1).tolist()
    if datatype != "BYTES":
        return flat
    try:
        return [item.decode() for item in flat]
    except UnicodeDecodeError as exc:
        raise DatatypeError(
            f"{what} holds bytes that are not UTF-8, which JSON cannot carry",
            hint="ask for it as binary data",
        ) from exc


# --- reading ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor as the JSON describes it, before its elements are looked at.

    Attributes:
        name: Of the tensor.
        datatype: As given.
        shape: Unsigned integers.
        size: Bytes among the binary data; None when the elements are in the JSON.
        data: The elements in the JSON, whatever they are.
        may_be_infinite: Whether the JSON says ``Infinity``; without it an infinite element
            is a number that no float can hold.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int | None
    data: object
    may_be_infinite: bool


@dataclass(frozen=True, slots=True)
class _Head:
    """All that a request says in JSON; equal texts have equal heads, so it is read-only."""

    id: str
    parameters: Mapping[str, Any]
    binary_outputs: bool
    outputs: tuple[RequestedOutput, ...]
    tensors: tuple[_Entry, ...]
    shared: Mapping[str, SharedTensor]


def _read_request(text: bytes) -> _Head:
    data = _parse(text, "request")
    id_ = _string(data, "id", "the request")
    parameters = _request_parameters(data)
    binary_outputs = parameters.pop("binary_data_output", False)
    if "inputs" not in data:
        raise FormatError("Unable to parse 'inputs': the request has none")
    tensors, shared = _read_tensors("input", _objects(data, "inputs"), text)
    return _Head(
        id=id_,
        parameters=MappingProxyType(parameters),
        binary_outputs=binary_outputs,
        outputs=tuple(_decode_output(output) for output in _objects(data, "outputs")),
        tensors=tensors,
        shared=MappingProxyType(shared),
    )


#: Clients say the same again and again, only with other tensors: two thirds of the time of
#: a small request would go into reading it anew.
_small_request = lru_cache(maxsize=256)(_read_request)


def _split(
    body: bytes | bytearray | memoryview, header_length: int | None
) -> tuple[bytes, memoryview]:
    view = memoryview(body)
    if header_length is None:
        header_length = view.nbytes
    if not 0 <= header_length <= view.nbytes:
        raise FormatError(
            f"inference header size should be in range (0, {view.nbytes}), got: {header_length}"
        )
    return bytes(view[:header_length]), view[header_length:]


def _parse(head: bytes, what: str) -> dict[str, Any]:
    prefix = f"failed to parse the {what} JSON buffer"
    try:
        text = head.decode()
        data = _loads(text)
    except RecursionError as exc:
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise FormatError(f"{prefix}: {exc}") from exc
    if not isinstance(data, dict):
        raise FormatError(f"{prefix}: expected an object, found {_kind(data)}")
    if text.count("[") + text.count("{") > MAX_DEPTH and is_too_deep(data):
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels")
    return data


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _string(data: Mapping[str, Any], key: str, owner: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise FormatError(
            f"Unable to parse {key!r} of {owner}: expected a string, found {_kind(value)}"
        )
    return value


def _objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = data.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise FormatError(f"Unable to parse {key!r}: expected an array of objects")
    return values


def _parameters(data: Mapping[str, Any], owner: str) -> dict[str, Any]:
    parameters = data.get("parameters", {})
    if not isinstance(parameters, dict):
        raise FormatError(
            f"Unable to parse 'parameters' of {owner}: expected an object, "
            f"found {_kind(parameters)}"
        )
    for key, value in parameters.items():
        if not isinstance(value, (str, bool, int, float)):
            raise FormatError(
                f"Unable to parse parameter {key!r} of {owner}: expected a string, number "
                f"or boolean, found {_kind(value)}"
            )
    return dict(parameters)


def _request_parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _parameters(data, "the request")
    for key, value in parameters.items():
        if key.startswith("triton_"):
            raise FormatError(
                "parameter keys starting with 'triton_' are reserved for Triton usage and "
                f"should not be specified: {key!r}"
            )
        kind = _RESERVED.get(key)
        if kind is not None and not kind.allows(value):
            raise FormatError(
                f"Unable to parse {key!r}: expected {kind.expected}, found {_kind(value)}"
            )
    return parameters


def _is_unsigned(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_UINT64


@dataclass(frozen=True, slots=True)
class _Reserved:
    """What a parameter with a meaning in the protocol may be."""

    expected: str
    allows: Callable[[object], bool]


_FLAG = _Reserved("a boolean", lambda value: isinstance(value, bool))
_UNSIGNED = _Reserved("an unsigned integer", _is_unsigned)
#: Source: Triton's sequence, schedule policy and binary data extensions.
_RESERVED: Mapping[str, _Reserved] = {
    "sequence_id": _Reserved(
        "an unsigned integer or a string",
        lambda value: isinstance(value, str) or _is_unsigned(value),
    ),
    "sequence_start": _FLAG,
    "sequence_end": _FLAG,
    "priority": _UNSIGNED,
    "timeout": _UNSIGNED,
    "binary_data_output": _FLAG,
}


def _unsigned(parameters: Mapping[str, Any], key: str, what: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is int and 0 <= value <= _MAX_UINT64:
        return value
    raise FormatError(
        f"Unable to parse {key!r} of {what}: expected an unsigned integer, found {value!r}"
    )


def _region(parameters: Mapping[str, Any], what: str) -> Region:
    name = parameters["shared_memory_region"]
    if not isinstance(name, str):
        raise FormatError(
            f"Unable to parse 'shared_memory_region' of {what}: expected a string, "
            f"found {_kind(name)}"
        )
    return Region(
        name,
        byte_size=_unsigned(parameters, "shared_memory_byte_size", what),
        offset=_unsigned(parameters, "shared_memory_offset", what),
    )


def _decode_output(data: Mapping[str, Any]) -> RequestedOutput:
    parameters = _parameters(data, "an output") if "parameters" in data else {}
    is_shared = "shared_memory_region" in parameters
    if is_shared and "classification" in parameters:
        raise FormatError("Output can't set both 'shared_memory_region' and 'classification'")
    binary = parameters.get("binary_data")
    if binary is not None and not isinstance(binary, bool):
        raise FormatError(f"Unable to parse 'binary_data': expected a boolean, found {binary!r}")
    if is_shared and binary:
        raise FormatError("Output can't set both 'shared_memory_region' and 'binary_data'")
    name = _string(data, "name", "an output")
    if not name:
        raise FormatError("Unable to parse 'outputs': an output has no name")
    what = f"output {name!r}"
    return RequestedOutput(
        name,
        binary,
        classification=_unsigned(parameters, "classification", what),
        region=_region(parameters, what) if is_shared else None,
    )


def _read_tensors(
    kind: str, entries: Sequence[Mapping[str, Any]], text: bytes
) -> tuple[tuple[_Entry, ...], dict[str, SharedTensor]]:
    tensors: dict[str, _Entry] = {}
    shared: dict[str, SharedTensor] = {}
    may_be_infinite = b"Infinity" in text
    for entry in entries:
        parameters = _parameters(entry, f"an {kind}")
        if kind == "input":
            _check_source(entry, parameters)
        name = _string(entry, "name", f"an {kind}")
        if not name:
            raise FormatError(f"Unable to parse '{kind}s': an {kind} has no name")
        what = f"{kind} {name!r}"
        datatype, shape = _string(entry, "datatype", what), _shape(entry, what)
        if name in tensors or name in shared:
            raise TensorNameError(f"{what} already exists in request")
        if "shared_memory_region" in parameters:
            shared[name] = SharedTensor(datatype, shape, _region(parameters, what))
            continue
        is_binary = "binary_data_size" in parameters
        if kind == "output" and not is_binary and "data" not in entry:
            # Triton does not repeat where a shared output was asked to be written.
            shared[name] = SharedTensor(datatype, shape, Region("", 0))
            continue
        size = _unsigned(parameters, "binary_data_size", what) if is_binary else None
        tensors[name] = _Entry(name, datatype, shape, size, entry.get("data"), may_be_infinite)
    return tuple(tensors.values()), shared


def _arrays(
    kind: str, tensors: Iterable[_Entry], tail: memoryview, model: str
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    start, end = 0, tail.nbytes
    for entry in tensors:
        size = entry.size
        if size is None:
            arrays[entry.name] = _from_json(f"{kind} {entry.name!r}", entry)
            continue
        if size > end - start:
            raise FormatError(
                f"unexpected size for {kind} {entry.name!r}, expecting {size - end + start} "
                f"additional bytes for model {model!r}"
            )
        arrays[entry.name] = decode_raw(
            entry.name, entry.datatype, entry.shape, tail[start : start + size]
        )
        start += size
    if start != end:
        raise FormatError(
            f"unexpected additional {kind} data for model {model!r}: {end - start} bytes"
        )
    return arrays


_SOURCES = ("'data'", "'binary_data_size'", "'shared_memory_region'")


def _check_source(entry: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    there = (
        "data" in entry,
        "binary_data_size" in parameters,
        "shared_memory_region" in parameters,
    )
    if sum(there) != 1:
        found = [source for source, is_there in zip(_SOURCES, there, strict=True) if is_there]
        raise FormatError(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in "
            "'parameters', 'shared_memory_region' in 'parameters'. But "
            + (f"set {' '.join(found)}" if found else "no field is set")
        )


def _shape(entry: Mapping[str, Any], what: str) -> tuple[int, ...]:
    shape = entry.get("shape")
    if not isinstance(shape, list):
        raise FormatError(
            f"Unable to parse 'shape' of {what}: expected an array of integers, "
            f"found {_kind(shape)}"
        )
    if len(shape) > _MAX_RANK:
        raise ShapeError(f"{what} has {len(shape)} dimensions, expected at most {_MAX_RANK}")
    for dim in shape:
        if type(dim) is not int:
            raise FormatError(
                f"Unable to parse 'shape' of {what}: expected unsigned integers, found {dim!r}"
            )
        if not 0 <= dim <= _MAX_INT64:
            raise ShapeError(
                f"Unable to parse 'shape' of {what}: expected unsigned integers up to "
                f"{_MAX_INT64}, found {dim}"
            )
    return tuple(shape)


def _count(what: str, datatype: str, shape: tuple[int, ...], itemsize: int) -> int:
    count = math.prod(shape)
    if count > _MAX_INT64:
        raise ShapeError(
            f"invalid shape for {what}: shape {list(shape)} causes total element count to "
            f"exceed maximum size of {_MAX_INT64}"
        )
    if count * itemsize > _MAX_INT64:
        raise ShapeError(
            f"byte size overflow for {what}: element count ({count}) * data type size "
            f"({itemsize}) exceeds maximum allowed size ({_MAX_INT64}), datatype {datatype}"
        )
    return count


def _from_json(what: str, entry: _Entry) -> NDArray[Any]:
    datatype, shape, data = entry.datatype, entry.shape, entry.data
    _check_json_carries(what, datatype)
    dtype = to_numpy(datatype)
    count = _count(what, datatype, shape, dtype.itemsize)
    if not isinstance(data, list):
        raise FormatError(
            f"Unable to parse 'data' of {what}: expected an array, found {_kind(data)}"
        )
    flat = _flat(data, what)
    if len(flat) != count:
        raise ShapeError(
            f"Unable to parse 'data' of {what}: shape {list(shape)} has {count} "
            f"elements, found {len(flat)}"
        )
    allowed = _JSON_TYPES[dtype.kind]
    if not allowed.issuperset(map(type, flat)):
        wrong = next(item for item in flat if type(item) not in allowed)
        raise DatatypeError(
            f"Unable to parse 'data' of {what}: expected {datatype}, found {_kind(wrong)}"
        )
    array = _array(what, datatype, dtype, flat)
    if dtype.kind == "f" and not entry.may_be_infinite and np.isinf(array).any():
        _check_finite(what, flat)
    return reshape(array, shape, what)


def _check_finite(what: str, flat: list[float]) -> None:
    if any(map(math.isinf, flat)):  # 1e300 may become infinite in FP32; 1e400 is no number
        raise DatatypeError(
            f"Unable to parse 'data' of {what}: number too big to be stored in double"
        )


def _array(what: str, datatype: str, dtype: np.dtype[Any], flat: list[Any]) -> NDArray[Any]:
    if dtype.kind == "O":
        return _texts(what, flat)
    if dtype.kind in "iu" and flat:
        limits = np.iinfo(dtype)
        for value in (min(flat), max(flat)):
            if not limits.min <= value <= limits.max:
                raise DatatypeError(f"Unable to parse 'data' of {what}: {value} is no {datatype}")
    try:
        with np.errstate(over="ignore"):  # 1e300 is infinity in FP32, as everywhere
            return np.array(flat, dtype=dtype)
    except OverflowError as exc:
        raise DatatypeError(f"Unable to parse 'data' of {what}: {exc}") from exc


def _texts(what: str, texts: list[str]) -> NDArray[Any]:
    made = np.empty(len(texts), dtype=np.object_)
    try:
        made[:] = [text.encode() for text in texts]
    except UnicodeEncodeError as exc:  # JSON can escape half of a surrogate pair
        raise DatatypeError(f"Unable to parse 'data' of {what}: not Unicode text: {exc}") from exc
    return made


def _flat(data: list[Any], what: str) -> list[Any]:
    while data and type(data[0]) is list:
        if any(type(item) is not list for item in data):
            raise FormatError(f"Unable to parse 'data' of {what}: rows and values are mixed")
        data = list(chain.from_iterable(data))
    return data


def _raw_shape(tensor: Tensor, size: int) -> tuple[int, ...]:
    if tensor.shape is None:
        raise FormatError(
            f"The shape of the raw input {tensor.name!r} can not be deduced because its number "
            "of dimensions is not known"
        )
    shape = list(tensor.shape)
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    if tensor.datatype == "BYTES":
        shape = [1 if dim == -1 else dim for dim in shape]
        if math.prod(shape) != 1:
            raise FormatError(
                f"For BYTE datatype raw input {tensor.name!r}, the model must have input shape "
                f"[1], found {list(tensor.shape)}"
            )
        return tuple(shape)
    if shape.count(-1) > 1:
        raise FormatError(
            f"The shape of the raw input {tensor.name!r} can not be deduced because there are "
            f"more than one variable-sized dimension: {list(tensor.shape)}"
        )
    if size == 0 and 0 not in shape:
        raise ShapeError(f"raw input {tensor.name!r} is empty, expected {list(tensor.shape)}")
    if -1 in shape:
        row = math.prod(dim for dim in shape if dim != -1) * to_numpy(tensor.datatype).itemsize
        shape[shape.index(-1)] = size // row if row else 0
    return tuple(shape)


def _check_json_carries(what: str, datatype: str) -> None:
    if datatype in ("FP16", "BF16"):
        raise DatatypeError(
            f"sending {datatype} data via JSON is not supported: {what}",
            hint="use the binary data format",
        )
