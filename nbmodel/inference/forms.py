"""What was said before need not be said again: JSON of requests and answers by their form.

A model is mostly run on inputs of one form. The JSON of such requests is the same each
time, that of their answers too; checking, writing and reading it costs more than sending
it. No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nbmodel.inference.http1 import Answer
from nbmodel.protocol.http import HEADER_LENGTH, Body, decode_response
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput

_KEPT = 64  # forms of a model's requests, and of its answers
_LONGEST = 4096  # bytes of JSON; what is longer has its data in it

Outputs: TypeAlias = "Sequence[str | RequestedOutput] | None"
_Form: TypeAlias = "tuple[tuple[str | RequestedOutput, ...], tuple[Any, ...]]"


class Requests:
    """Bodies of requests to one model that were checked before. For any number of threads."""

    def __init__(self) -> None:
        self._heads: dict[_Form, bytes] = {}

    def again(self, inputs: object, outputs: Outputs) -> Body | None:
        """The body of a request of a known form; None when it must be checked."""
        if not self._heads or not isinstance(inputs, dict):
            return None
        head = self._heads.get(_form(inputs, outputs))
        if head is None or not all(array.flags.c_contiguous for array in inputs.values()):
            return None
        return Body(
            (head, *(array.reshape(-1).view(np.uint8).data for array in inputs.values())),
            len(head),
        )

    def keep(self, inputs: object, outputs: Outputs, request: InferRequest, body: Body) -> None:
        """Remember a checked request, if its form says all about its JSON.

        Args:
            inputs: What the caller gave.
            outputs: What the caller wants.
            request: What became of it; without id and parameters.
            body: The request as it is sent.
        """
        if not isinstance(inputs, dict) or request.shared_inputs or body.header_length is None:
            return
        given = zip(inputs.items(), request.inputs.items(), strict=False)
        as_given = len(inputs) == len(request.inputs) and all(
            name == sent and array is tensor and tensor.dtype.kind != "O"
            for (name, array), (sent, tensor) in given
        )
        if not as_given or body.header_length > _LONGEST:
            return
        if len(self._heads) >= _KEPT:
            self._heads.clear()
        self._heads[_form(inputs, outputs)] = bytes(body.parts[0])


@dataclass(frozen=True, slots=True)
class _Layout:
    response: InferResponse  # without its arrays
    tensors: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]  # the last: elements
    size: int  # bytes of all of them


class Answers:
    """Answers of one model, by their JSON. For any number of threads."""

    def __init__(self) -> None:
        self._layouts: dict[bytes, _Layout] = {}

    def read(self, answer: Answer) -> InferResponse:
        """The tensors of an answer: views of its body where alignment allows.

        Raises:
            FormatError, TensorNameError, DatatypeError, ShapeError, ValueError: It is not
                the protocol's.
        """
        text = answer.headers.get(HEADER_LENGTH.lower())
        if text is None:
            return decode_response(answer.body, None)
        length = int(text)
        if not 0 < length <= _LONGEST:
            return decode_response(answer.body, length)
        head = bytes(answer.body[:length])
        layout = self._layouts.get(head)
        if layout is not None and length + layout.size == answer.body.nbytes:
            return _read(layout, answer.body, length)
        response = decode_response(answer.body, length)
        self._keep(head, response, answer.body.nbytes - length)
        return response

    def _keep(self, head: bytes, response: InferResponse, size: int) -> None:
        arrays = response.outputs
        # Booleans and strings are not what lies on the wire; the size tells of data in JSON.
        if (
            response.id
            or response.shared_outputs
            or any(array.dtype.kind in "bO" for array in arrays.values())
            or sum(array.nbytes for array in arrays.values()) != size
        ):
            return
        if len(self._layouts) >= _KEPT:
            self._layouts.clear()
        self._layouts[head] = _Layout(
            InferResponse(response.model, response.version, {}, parameters=response.parameters),
            tuple((name, array.dtype, array.shape, array.size) for name, array in arrays.items()),
            size,
        )


def _read(layout: _Layout, body: memoryview, offset: int) -> InferResponse:
    outputs: dict[str, NDArray[Any]] = {}
    for name, dtype, shape, count in layout.tensors:
        array = np.frombuffer(body, dtype, count, offset) if count else np.empty(0, dtype)
        offset += array.nbytes
        outputs[name] = (array if array.flags.aligned else array.copy()).reshape(shape)
    known = layout.response
    return InferResponse(known.model, known.version, outputs, parameters=dict(known.parameters))


def _form(inputs: Mapping[Any, Any], outputs: Outputs) -> _Form:
    """All that the JSON of a request depends on; of another kind for what is no array."""
    return tuple(outputs or ()), tuple(
        (name, array.dtype, array.shape) if type(array) is np.ndarray else None
        for name, array in inputs.items()
    )
