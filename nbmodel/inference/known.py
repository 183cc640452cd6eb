"""What a client knows of a server's models: from a person's values to a checked request.

No I/O. That a cached signature may be of a version that is gone is the caller's to see to:
it asks again when values contradict one, and forgets it when another version answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbmodel.core.signature import Signature, check_inputs
from nbmodel.errors import FormatError, InputError, NbModelError
from nbmodel.inference.forms import Answers, Outputs, Requests
from nbmodel.inference.http1 import Answer
from nbmodel.inputs import inputs_for
from nbmodel.protocol.coerce import coerce
from nbmodel.protocol.http import Body, encode_request
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput
from nbmodel.protocol.tensor import datatype_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT = 256  # models; a server with more of them is asked again


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What is known of a model.

    Attributes:
        name: Of the model.
        version: Of the path; empty: whichever the server chooses.
        signature: What it takes and gives.
        answering: The version that answers; empty until one has.
        optional: Inputs that may be left out.
        requests: Those that were checked before.
        answers: Those that were read before.
    """

    name: str
    version: str
    signature: Signature
    answering: str = ""
    optional: frozenset[str] = frozenset()
    requests: Requests = field(default_factory=Requests, repr=False, compare=False)
    answers: Answers = field(default_factory=Answers, repr=False, compare=False)

    def body(
        self,
        inputs: object,
        outputs: Outputs,
        *,
        id: str,  # noqa: A002 - the protocol's word
        parameters: Mapping[str, Any],
    ) -> Body:
        """The body of a request that the model takes.

        Args:
            inputs: As ``inputs_for`` takes them; a list of pictures or paths is a batch.
            outputs: What is wanted; None for all.
            id: Given back with the answer.
            parameters: Further ones of the protocol.

        Raises:
            InputError: A file cannot be read, or ``outputs`` is one name and no list.
            TensorNameError, DatatypeError, ShapeError: The inputs are not what the model
                takes, with the tensor, what was expected and what was found.
        """
        if isinstance(outputs, str):  # a sequence too, of its letters
            raise InputError(
                f"outputs: expected a list of names, found {outputs!r}",
                hint=f"outputs=[{outputs!r}]",
            )
        if type(inputs) is np.ndarray and len(self.signature.inputs) == 1:
            inputs = {self.signature.inputs[0].name: inputs}
        is_plain = not id and not parameters
        if is_plain and (body := self.requests.again(inputs, outputs)) is not None:
            return body
        tensors = coerce(self.signature, inputs_for(self.signature, _values(inputs)).tensors)
        self._check(tensors)
        request = InferRequest(
            self.name,
            tensors,
            version=self.version,
            id=id,
            outputs=tuple(
                RequestedOutput(output) if isinstance(output, str) else output
                for output in outputs or ()
            ),
            binary_outputs=True,
            parameters=parameters,
        )
        body = encode_request(request)
        if is_plain:
            self.requests.keep(inputs, outputs, request, body)
        return body

    def read(self, answer: Answer) -> InferResponse:
        """The tensors of an answer, which belong to the caller and may be written to.

        Raises:
            FormatError: It is not the protocol's.
        """
        try:
            return self.answers.read(answer)
        except FormatError:
            raise
        except (NbModelError, ValueError) as exc:
            raise FormatError(str(exc)) from exc

    def missing(self, inputs: object) -> frozenset[str]:
        """Inputs of the model that a mapping of them leaves out."""
        if not isinstance(inputs, Mapping):
            return frozenset()
        return frozenset(tensor.name for tensor in self.signature.inputs) - inputs.keys()

    def _check(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        given = {
            name: (datatype_of(tensor, what=f"input {name!r}"), tensor.shape)
            for name, tensor in tensors.items()
        }
        signature = self.signature
        if self.optional:
            kept = [t for t in signature.inputs if t.name in given or t.name not in self.optional]
            signature = Signature(tuple(kept))
        check_inputs(signature, given)


class KnownModels:
    """Models by name and version; for any number of threads."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], KnownModel] = {}

    def get(self, name: str, version: str) -> KnownModel | None:
        """What is known of a model, or None."""
        return self._models.get((name, version))

    def keep(self, model: KnownModel) -> KnownModel:
        """Remember a model, in place of what was known of it."""
        if len(self._models) >= _KEPT:
            self._models.clear()
        self._models[model.name, model.version] = model
        return model

    def forget(self, model: KnownModel) -> None:
        """Have the server asked again the next time."""
        self._models.pop((model.name, model.version), None)

    def answered(self, model: KnownModel, version: str) -> None:
        """Take note of the version that answered: another one may have another signature."""
        if model.answering == version:
            return
        if model.answering:
            self.forget(model)
        else:
            self.keep(replace(model, answering=version))


def model_of(name: str, version: str, signature: Signature) -> KnownModel:
    """A model by what its server says of it in the protocol's words."""
    # The protocol has no word for an unknown rank: servers write one variable dimension.
    inputs = tuple(
        replace(tensor, shape=None) if tensor.shape == (-1,) else tensor
        for tensor in signature.inputs
    )
    return KnownModel(name, version, replace(signature, inputs=inputs))


def optional_inputs(config: Mapping[str, Any]) -> frozenset[str]:
    """The inputs that a config, in Triton's words, calls optional."""
    entries = config.get("input") or ()
    return frozenset(
        str(entry.get("name"))
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("optional") is True
    )


def may_repeat(parameters: Mapping[str, Any]) -> bool:
    """Whether sending a request twice does no harm: one of a sequence changes its state."""
    return not any(key.startswith("sequence_") for key in parameters)


def _values(inputs: object) -> Sequence[object]:
    """One value, or several pictures."""
    if inputs is None:
        raise InputError("no input given")
    if isinstance(inputs, list | tuple) and inputs and all(map(_is_picture, inputs)):
        return inputs
    return [inputs]


def _is_picture(value: object) -> bool:
    return isinstance(value, Path) or (hasattr(value, "getexif") and hasattr(value, "convert"))
