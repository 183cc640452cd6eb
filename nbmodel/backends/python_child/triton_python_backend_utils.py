"""The module that models of Triton's Python backend import, as they find it here.

It has what a model needs that answers each request once. What belongs to others (decoupled
models, calls of other models, metrics of one's own) says so when it is used.

Source: "Triton Inference Server Python Backend" (README of triton-inference-server/python_backend).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from .wire import decode_bytes, encode_bytes

#: ``TYPE_…`` of a configuration → dtype; texts are object arrays of ``bytes``.
_TYPES: Mapping[str, type[Any]] = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
#: Numbers of the same, from 1, as Triton's ``inference.DataType`` has them.
_NUMBERED = tuple(_TYPES.values())
_ELSEWHERE = {
    "MetricFamily": "metrics of a model's own",
    "Metric": "metrics of a model's own",
    "PreferredMemory": "a choice of memory",
    "InferenceResponseSender": "several answers to one request (decoupled models)",
    "load_model": "control of other models",
    "unload_model": "control of other models",
    "is_model_ready": "control of other models",
}


class TritonModelException(Exception):  # noqa: N818 # Triton calls it so
    """What a model raises when it cannot go on."""


def __getattr__(name: str) -> NoReturn:
    if name in _ELSEWHERE:
        raise AttributeError(
            f"pb_utils.{name}: {_ELSEWHERE[name]} is not part of the 'python' backend; "
            f"run this model on a Triton server (backend 'triton')"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _lacking(what: str) -> NoReturn:
    raise TritonModelException(
        f"{what} is not part of the 'python' backend; run this model on a Triton server "
        f"(backend 'triton')"
    )


class TritonError:
    """An error that is the answer to one request.

    Args:
        message: What went wrong.
        code: One of the constants of this class.
    """

    UNKNOWN: ClassVar[int] = 0
    INTERNAL: ClassVar[int] = 1
    NOT_FOUND: ClassVar[int] = 2
    INVALID_ARG: ClassVar[int] = 3
    UNAVAILABLE: ClassVar[int] = 4
    UNSUPPORTED: ClassVar[int] = 5
    ALREADY_EXISTS: ClassVar[int] = 6
    CANCELLED: ClassVar[int] = 7

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = str(message)
        self._code = code

    def message(self) -> str:
        """What went wrong."""
        return self._message

    def code(self) -> int:
        """One of the constants of this class."""
        return self._code

    def __str__(self) -> str:
        return self._message


class Tensor:
    """A named array.

    Args:
        name: As the configuration has it.
        array: Of a dtype that the protocol carries; texts as an object array.
    """

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException(
                f"tensor {name!r} must be a numpy array, found a {type(array).__name__}"
            )
        self._name = str(name)
        self._array = array

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> Tensor:
        """A tensor of what another library has in the memory of the CPU."""
        return Tensor(name, np.from_dlpack(tensor))

    def to_dlpack(self) -> Any:
        """A capsule for ``from_dlpack`` of another library."""
        return self._array.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    def name(self) -> str:
        """What it is called."""
        return self._name

    def as_numpy(self) -> NDArray[Any]:
        """The array."""
        return self._array

    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """The number of its type in Triton's ``inference.DataType``."""
        return numpy_to_triton_type(self._array.dtype)

    def is_cpu(self) -> bool:
        """Whether it is in the memory of the CPU: here always."""
        return True


class InferenceRequest:
    """One request; a model is given these, and makes none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._inputs: list[Tensor] = []
        self._outputs: list[str] = []
        self._model = ("", "1")

    @classmethod
    def _of(
        cls, inputs: Iterable[Tensor], outputs: Iterable[str], model: tuple[str, str]
    ) -> InferenceRequest:
        request = cls()
        request._inputs, request._outputs, request._model = list(inputs), list(outputs), model
        return request

    def inputs(self) -> list[Tensor]:
        """Its tensors."""
        return self._inputs

    def requested_output_names(self) -> list[str]:
        """Names of the outputs that are wanted."""
        return self._outputs

    def model_name(self) -> str:
        """Of the model that is asked."""
        return self._model[0]

    def model_version(self) -> int:
        """Of the model that is asked."""
        return int(self._model[1])

    def request_id(self) -> str:
        """What the client calls it: not told here."""
        return ""

    def correlation_id(self) -> int:
        """Of its sequence: there are none here."""
        return 0

    def flags(self) -> int:
        """Of its sequence: none."""
        return 0

    def timeout(self) -> int:
        """Microseconds that the client waits: 0, not told here."""
        return 0

    def parameters(self) -> str:
        """Its parameters as JSON: none are told here."""
        return "{}"

    def is_cancelled(self) -> bool:
        """Whether nobody waits any more: not told here."""
        return False

    def get_response_sender(self) -> NoReturn:
        """Of decoupled models alone."""
        _lacking("several answers to one request (decoupled models)")

    def exec(self, *_: Any, **__: Any) -> NoReturn:
        """Of models that call others alone."""
        _lacking("calling other models from a model (BLS)")

    def async_exec(self, *_: Any, **__: Any) -> NoReturn:
        """Of models that call others alone."""
        _lacking("calling other models from a model (BLS)")


class InferenceResponse:
    """The answer to one request.

    Args:
        output_tensors: The outputs.
        error: In their place, what went wrong.
        parameters: Passed over here.
    """

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._outputs = list(output_tensors)
        self._error = TritonError(error) if isinstance(error, str) else error
        self._parameters = dict(parameters or {})

    def output_tensors(self) -> list[Tensor]:
        """The outputs."""
        return self._outputs

    def has_error(self) -> bool:
        """Whether there is an error in place of outputs."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """What went wrong, or None."""
        return self._error

    def parameters(self) -> str:
        """Its parameters as JSON."""
        return json.dumps(self._parameters)


class ModelConfig:
    """The configuration that ``auto_complete_config`` is given, and fills in.

    Args:
        config: What is there already.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)

    def as_dict(self) -> dict[str, Any]:
        """All of it."""
        return self._config

    def add_input(self, tensor: Mapping[str, Any]) -> None:
        """Add an input, ``{"name": …, "data_type": …, "dims": …}``; one that is there must agree."""
        self._add("input", tensor)

    def add_output(self, tensor: Mapping[str, Any]) -> None:
        """Add an output; one that is there must agree."""
        self._add("output", tensor)

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Say how many rows a request may have; 0: tensors have no batch axis."""
        given = self._config.get("max_batch_size", 0)
        if given > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {given}, but in auto_complete_config "
                f"it is {max_batch_size}"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Say that requests may share a batch; the runtime finds that out by itself."""
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, policy: Mapping[str, Any]) -> None:
        """Say whether it is decoupled, which none here is."""
        if policy.get("decoupled"):
            _lacking("a decoupled transaction policy")
        self._config["model_transaction_policy"] = dict(policy)

    def _add(self, side: str, tensor: Mapping[str, Any]) -> None:
        unknown = sorted(tensor.keys() - {"name", "data_type", "dims", "optional", "reshape"})
        lacking = [key for key in ("name", "data_type", "dims") if key not in tensor]
        if unknown or lacking:
            raise ValueError(
                f"an {side} must have 'name', 'data_type' and 'dims', found {dict(tensor)}"
            )
        known = self._config.setdefault(side, [])
        for one in known:
            if one["name"] == tensor["name"]:
                for key in ("data_type", "dims"):
                    if one.get(key) not in (None, [], tensor[key]):
                        raise ValueError(
                            f"configuration specified {key} {one[key]} for {side} "
                            f"{tensor['name']!r}, but in auto_complete_config it is {tensor[key]}"
                        )
                one.update(tensor)
                return
        known.append(dict(tensor))


class Logger:
    """Writes lines, which the runtime keeps the last of."""

    INFO: ClassVar[str] = "INFO"
    WARNING: ClassVar[str] = "WARNING"
    ERROR: ClassVar[str] = "ERROR"
    VERBOSE: ClassVar[str] = "VERBOSE"

    @classmethod
    def log(cls, message: str, level: str = INFO) -> None:
        """Write a line."""
        sys.stderr.write(f"{level}: {message}\n")
        sys.stderr.flush()

    @classmethod
    def log_info(cls, message: str) -> None:
        """Write a line."""
        cls.log(message, cls.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        """Write a line."""
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        """Write a line."""
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        """Write a line."""
        cls.log(message, cls.VERBOSE)


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """The input of that name; None: the request has none."""
    return next((one for one in request.inputs() if one.name() == name), None)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    """The output of that name; None: the answer has none."""
    return next((one for one in response.output_tensors() if one.name() == name), None)


def get_input_config_by_name(
    model_config: Mapping[str, Any], name: str
) -> Mapping[str, Any] | None:
    """What the configuration says of an input; None: nothing."""
    return _named(model_config, "input", name)


def get_output_config_by_name(
    model_config: Mapping[str, Any], name: str
) -> Mapping[str, Any] | None:
    """What the configuration says of an output; None: nothing."""
    return _named(model_config, "output", name)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether the configuration says that the model is decoupled."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(data_type: str) -> type[Any]:
    """The dtype of ``TYPE_FP32`` and its like."""
    if data_type not in _TYPES:
        raise TritonModelException(f"numpy has no type for {data_type!r}")
    return _TYPES[data_type]


def triton_to_numpy_type(number: int) -> type[Any]:
    """The dtype of a number of Triton's ``inference.DataType``."""
    if not 1 <= number <= len(_NUMBERED):
        raise TritonModelException(f"numpy has no type for number {number} of Triton's types")
    return _NUMBERED[number - 1]


def numpy_to_triton_type(dtype: Any) -> int:
    """The number in Triton's ``inference.DataType`` of a dtype."""
    kind = np.dtype(dtype)
    wanted = np.object_ if kind.kind in "OSU" else kind.type
    if wanted not in _NUMBERED:
        raise TritonModelException(f"Triton has no type for {kind}")
    return _NUMBERED.index(wanted) + 1


def serialize_byte_tensor(array: NDArray[Any]) -> NDArray[Any]:
    """Texts with their lengths before them, in one object."""
    return np.asarray(encode_bytes(array), dtype=object)


def deserialize_bytes_tensor(data: bytes) -> NDArray[Any]:
    """What ``serialize_byte_tensor`` was given, as a flat array of ``bytes``."""
    return decode_bytes(data)


def _named(config: Mapping[str, Any], side: str, name: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = next(
        (one for one in config.get(side, ()) if one["name"] == name), None
    )
    return found
