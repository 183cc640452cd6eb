"""What a request says in JSON, read into values; its tensors' elements are not looked at.

Source: Open Inference Protocol v2 (REST) and Triton's extensions; ``http_server.cc`` for the
order of checks and the texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from nbmodel.core.document import MAX_DEPTH, is_too_deep, unique_keys
from nbmodel.errors import FormatError, ShapeError, TensorNameError
from nbmodel.protocol.inference import Region, RequestedOutput, SharedTensor
from nbmodel.protocol.json_tensor import json_kind
from nbmodel.protocol.tensor import MAX_RANK

_SMALL = 4096  # bytes of JSON that are worth remembering
_MAX_INT64 = 2**63 - 1
_MAX_UINT64 = 2**64 - 1
_loads = json.JSONDecoder(object_pairs_hook=unique_keys).decode


@dataclass(frozen=True, slots=True)
class Entry:
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
class Head:
    """All that a request says in JSON; equal texts have equal heads, so it is read-only."""

    id: str
    parameters: Mapping[str, Any]
    binary_outputs: bool
    outputs: tuple[RequestedOutput, ...]
    tensors: tuple[Entry, ...]
    shared: Mapping[str, SharedTensor]


def _read(text: bytes) -> Head:
    data = parse_object(text, "request")
    id_ = read_string(data, "id", "the request")
    parameters = _request_parameters(data)
    binary_outputs = parameters.pop("binary_data_output", False)
    if "inputs" not in data:
        raise FormatError("Unable to parse 'inputs': the request has none")
    tensors, shared = read_tensors("input", read_objects(data, "inputs"), text)
    return Head(
        id=id_,
        parameters=MappingProxyType(parameters),
        binary_outputs=binary_outputs,
        outputs=tuple(_decode_output(output) for output in read_objects(data, "outputs")),
        tensors=tensors,
        shared=MappingProxyType(shared),
    )


_read_small = lru_cache(maxsize=256)(_read)


def read_head(text: bytes) -> Head:
    """The JSON of a request.

    Clients say the same again and again, only with other tensors, and reading it would be
    most of the time of a small request: what is short is remembered.

    Raises:
        FormatError: It is not the JSON that the protocol says, or nests deeper than
            ``MAX_DEPTH``.
        TensorNameError, ShapeError: A tensor contradicts itself.
    """
    return _read_small(text) if len(text) <= _SMALL else _read(text)


def parse_object(head: bytes, what: str) -> dict[str, Any]:
    """The JSON object that ``head`` is.

    Raises:
        FormatError: It is none, gives a key twice, or nests deeper than ``MAX_DEPTH``.
    """
    prefix = f"failed to parse the {what} JSON buffer"
    try:
        text = head.decode()
        data = _loads(text)
    except RecursionError as exc:
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels") from exc
    except ValueError as exc:
        raise FormatError(f"{prefix}: {exc}") from exc
    if not isinstance(data, dict):
        raise FormatError(f"{prefix}: expected an object, found {json_kind(data)}")
    if text.count("[") + text.count("{") > MAX_DEPTH and is_too_deep(data):
        raise FormatError(f"{prefix}: nested deeper than {MAX_DEPTH} levels")
    return data


def read_string(data: Mapping[str, Any], key: str, owner: str) -> str:
    """The text under a key; empty when there is none. FormatError when it is no text."""
    value = data.get(key, "")
    if not isinstance(value, str):
        raise FormatError(
            f"Unable to parse {key!r} of {owner}: expected a string, found {json_kind(value)}"
        )
    return value


def read_objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects under a key; none when it is missing. FormatError when it is no list."""
    values = data.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise FormatError(f"Unable to parse {key!r}: expected an array of objects")
    return values


def read_parameters(data: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The parameters of a request, tensor or answer, each a string, number or boolean.

    Raises:
        FormatError: They are not.
    """
    parameters = data.get("parameters", {})
    if not isinstance(parameters, dict):
        raise FormatError(
            f"Unable to parse 'parameters' of {owner}: expected an object, "
            f"found {json_kind(parameters)}"
        )
    for key, value in parameters.items():
        if not isinstance(value, (str, bool, int, float)):
            raise FormatError(
                f"Unable to parse parameter {key!r} of {owner}: expected a string, number "
                f"or boolean, found {json_kind(value)}"
            )
    return dict(parameters)


def _request_parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    parameters = read_parameters(data, "the request")
    for key, value in parameters.items():
        if key.startswith("triton_"):
            raise FormatError(
                "parameter keys starting with 'triton_' are reserved for Triton usage and "
                f"should not be specified: {key!r}"
            )
        kind = _RESERVED.get(key)
        if kind is not None and not kind.allows(value):
            raise FormatError(
                f"Unable to parse {key!r}: expected {kind.expected}, found {json_kind(value)}"
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
            f"found {json_kind(name)}"
        )
    return Region(
        name,
        byte_size=_unsigned(parameters, "shared_memory_byte_size", what),
        offset=_unsigned(parameters, "shared_memory_offset", what),
    )


def _decode_output(data: Mapping[str, Any]) -> RequestedOutput:
    parameters = read_parameters(data, "an output") if "parameters" in data else {}
    is_shared = "shared_memory_region" in parameters
    if is_shared and "classification" in parameters:
        raise FormatError("Output can't set both 'shared_memory_region' and 'classification'")
    binary = parameters.get("binary_data")
    if binary is not None and not isinstance(binary, bool):
        raise FormatError(f"Unable to parse 'binary_data': expected a boolean, found {binary!r}")
    if is_shared and binary:
        raise FormatError("Output can't set both 'shared_memory_region' and 'binary_data'")
    name = read_string(data, "name", "an output")
    if not name:
        raise FormatError("Unable to parse 'outputs': an output has no name")
    what = f"output {name!r}"
    return RequestedOutput(
        name,
        binary,
        classification=_unsigned(parameters, "classification", what),
        region=_region(parameters, what) if is_shared else None,
    )


def read_tensors(
    kind: str, entries: Sequence[Mapping[str, Any]], text: bytes
) -> tuple[tuple[Entry, ...], dict[str, SharedTensor]]:
    """The tensors of a request or an answer, in their order.

    Args:
        kind: ``input`` or ``output``.
        entries: As parsed.
        text: The JSON that they are from.

    Returns:
        Those whose elements come with the body, and those in shared memory by name.

    Raises:
        FormatError, TensorNameError, ShapeError: An entry is not what the protocol says.
    """
    tensors: dict[str, Entry] = {}
    shared: dict[str, SharedTensor] = {}
    may_be_infinite = b"Infinity" in text
    for entry in entries:
        parameters = read_parameters(entry, f"an {kind}")
        if kind == "input":
            _check_source(entry, parameters)
        name = read_string(entry, "name", f"an {kind}")
        if not name:
            raise FormatError(f"Unable to parse '{kind}s': an {kind} has no name")
        what = f"{kind} {name!r}"
        datatype, shape = read_string(entry, "datatype", what), _shape(entry, what)
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
        tensors[name] = Entry(name, datatype, shape, size, entry.get("data"), may_be_infinite)
    return tuple(tensors.values()), shared


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
            f"found {json_kind(shape)}"
        )
    if len(shape) > MAX_RANK:
        raise ShapeError(f"{what} has {len(shape)} dimensions, expected at most {MAX_RANK}")
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
