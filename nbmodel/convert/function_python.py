"""From a plain Python function to a ``model.py`` of Triton's Python backend.

The function takes an array for each of its parameters and returns an array, several in a tuple,
or arrays by name in a dictionary. Inputs are called as its parameters; outputs ``output``,
``output_0`` and so on, or as the dictionary says. A first axis that inputs and outputs share
becomes −1. Texts come as ``bytes``, as from every client.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.convert.base import Converted, Converter, first_words
from nbmodel.convert.function_code import FunctionCode, read_function
from nbmodel.errors import ConversionError
from nbmodel.golden import GoldenSample
from nbmodel.protocol.tensor import datatype_of, to_tensor

MODEL_FILE = "model.py"
REQUIREMENTS_FILE = "requirements.txt"
_MAX_ROWS = 16  # of a sample that are kept

_MODEL = '''\
"""{name}, a function, as a model of Triton's Python backend. Made by nbmodel."""

from __future__ import annotations

import numpy as _numpy
import triton_python_backend_utils as _pb_utils
{imports}

{text}

_function = {name}


class TritonPythonModel:
    """Calls the function once for each request."""

    @staticmethod
    def auto_complete_config(config):
        """Say what the function takes and gives."""
        inputs = {inputs}
        outputs = {outputs}
        known = config.as_dict()
        names = []
        for one in known["input"] + known["output"]:
            names.append(one["name"])
        for tensor in inputs:
            if tensor["name"] not in names:
                config.add_input(tensor)
        for tensor in outputs:
            if tensor["name"] not in names:
                config.add_output(tensor)
        return config

    def execute(self, requests):
        """Answer each request by itself."""
        return [_answer(request) for request in requests]


def _answer(request):
    given = {{tensor.name(): tensor.as_numpy() for tensor in request.inputs()}}
    try:
        outputs = _named(_function(**given))
    except Exception as exc:
        error = _pb_utils.TritonError(f"{{type(exc).__name__}}: {{exc}}")
        return _pb_utils.InferenceResponse(output_tensors=[], error=error)
    tensors = [_pb_utils.Tensor(name, _array(value)) for name, value in outputs.items()]
    return _pb_utils.InferenceResponse(output_tensors=tensors)


def _named(answer):
    if isinstance(answer, dict):
        return answer
    if isinstance(answer, tuple):
        return {{f"output_{{number}}": one for number, one in enumerate(answer)}}
    return {{"output": answer}}


def _array(value):
    array = _numpy.atleast_1d(_numpy.asarray(value))
    if array.dtype.kind not in "OSU":
        return array
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.flat]
    texts = _numpy.empty(len(items), dtype=object)
    texts[:] = items
    return texts.reshape(array.shape)
'''


class FunctionToPython(Converter):
    """Takes functions that are made with ``def`` and need nothing around them."""

    source = "function"
    target = "python"

    def matches(self, model: object) -> bool:
        """Whether it is a function of Python."""
        return isinstance(model, FunctionType)

    def _convert(self, model: Any, sample: Any) -> Converted:
        code = read_function(model)
        inputs = _inputs(code, sample)
        outputs = _answers(model, inputs)
        has_batch = _has_batch(model, inputs, outputs)
        files = {MODEL_FILE: _text(code, inputs, outputs, has_batch=has_batch).encode()}
        if code.requirements:
            files[REQUIREMENTS_FILE] = "".join(f"{one}\n" for one in code.requirements).encode()
        return Converted(
            files=files,
            framework=self.target,
            model_type=None,
            labels=(),
            golden=GoldenSample(inputs, outputs),
            source=f"function {code.name}",
            tool=f"nbmodel, Python {platform.python_version()}",
            metadata={},
        )


def _inputs(code: FunctionCode, sample: Any) -> dict[str, NDArray[Any]]:
    """The sample as named tensors, of at most ``_MAX_ROWS`` rows where all have as many."""
    names = code.parameters
    if sample is None:
        raise ConversionError(
            f"a function does not tell what arrays it takes: {code.name}({', '.join(names)})",
            hint="give sample=X[:16], or sample={'name': array, …} for several",
        )
    if isinstance(sample, Mapping):
        given = {str(name): value for name, value in sample.items()}
    elif names and set(names) <= set(getattr(sample, "columns", ())):  # of a data frame
        given = {name: np.asarray(sample[name]).reshape(-1, 1) for name in names}
    elif len(names) > 1 and isinstance(sample, tuple) and len(sample) == len(names):
        given = dict(zip(names, sample, strict=True))
    elif len(names) == 1:
        given = {names[0]: sample}
    else:
        given = {}
    if not given or not set(names) <= given.keys():
        raise ConversionError(
            f"expected an array for each of {', '.join(names) or 'its parameters'}, found a "
            f"sample of {', '.join(given) or type(sample).__name__}",
            hint="give sample={'name': array, …}",
        )
    tensors = {name: to_tensor(np.asarray(value), what=name) for name, value in given.items()}
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            raise ConversionError(
                f"{name} is a single value, which Triton has no tensor of",
                hint="give an array of one element",
            )
    if len({tensor.shape[0] for tensor in tensors.values()}) > 1:
        return tensors
    return {name: tensor[:_MAX_ROWS] for name, tensor in tensors.items()}


def _answers(function: FunctionType, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    try:
        # Copies: what it does to them must not reach the sample.
        answer = function(**{name: array.copy() for name, array in inputs.items()})
    except Exception as exc:
        raise ConversionError(
            f"{function.__name__} cannot answer the sample as arrays: "
            f"{type(exc).__name__}: {first_words(exc)}"
        ) from exc
    if isinstance(answer, Mapping):
        named = {str(name): value for name, value in answer.items()}
    elif isinstance(answer, tuple):
        named = {f"output_{number}": value for number, value in enumerate(answer)}
    else:
        named = {"output": answer}
    if not named or any(value is None for value in named.values()):
        raise ConversionError(
            f"{function.__name__} returns nothing, expected an array or a dictionary of arrays"
        )
    return {
        name: to_tensor(np.atleast_1d(np.asarray(value)), what=f"output {name!r}")
        for name, value in named.items()
    }


def _has_batch(
    function: FunctionType,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
) -> bool:
    """Whether the first axis of all tensors is that of rows: it follows when there are more."""
    rows = {array.shape[0] for array in (*inputs.values(), *outputs.values())}
    if len(rows) != 1 or 0 in rows:
        return False
    try:
        more = _answers(
            function, {name: np.concatenate([one, one[:1]]) for name, one in inputs.items()}
        )
    except ConversionError:
        return False  # as many rows as in the sample, and no other number
    (count,) = rows
    return {array.shape[0] for array in more.values()} == {count + 1}


def _text(
    code: FunctionCode,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    *,
    has_batch: bool,
) -> str:
    def told(tensors: Mapping[str, NDArray[Any]]) -> str:
        found: Sequence[dict[str, Any]] = [
            {
                "name": name,
                "data_type": _data_type(name, array),
                "dims": _dims(array, has_batch=has_batch),
            }
            for name, array in tensors.items()
        ]
        return repr(found)

    return _MODEL.format(
        name=code.name,
        imports="".join(f"{line}\n" for line in code.imports),
        text=code.text.strip("\n"),
        inputs=told(inputs),
        outputs=told(outputs),
    )


def _data_type(name: str, array: NDArray[Any]) -> str:
    datatype = datatype_of(array, what=name)
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _dims(array: NDArray[Any], *, has_batch: bool) -> list[int]:
    return [-1, *array.shape[1:]] if has_batch else list(array.shape)
