"""A model that a Triton server has, asked over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import Session
from nbmodel.backends.triton_client import Client
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError, NbModelError


class WireSession(Session):
    """A model of a Triton server; closing it leaves the model where it is.

    Args:
        client: Of the server.
        model: Its name there.
        signature: What it takes and gives.
    """

    runs_together = True

    def __init__(self, client: Client, model: str, signature: Signature) -> None:
        super().__init__(signature, name=model)
        self._client = client
        self._datatypes = {tensor.name: tensor.datatype for tensor in signature.inputs}

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        if not outputs:
            return {}  # no name means all of them to Triton
        given = {
            name: (self._datatypes[name], np.ascontiguousarray(array).reshape(array.shape))
            for name, array in inputs.items()
        }
        answer = self._client.infer(self._name, "", given, outputs, {}, {})
        return {name: answer.array(name) for name in outputs}

    def _close(self) -> None:
        """Nothing is held."""


def signature_in(metadata: Mapping[str, Any]) -> Signature:
    """The signature in a model's metadata.

    Raises:
        InferenceError: It is none.
    """
    try:
        return Signature(
            tuple(_tensor(entry) for entry in metadata.get("inputs", ())),
            tuple(_tensor(entry) for entry in metadata.get("outputs", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, NbModelError) as exc:
        raise InferenceError(f"Triton's metadata of a model cannot be read: {exc}") from exc


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    shape = tuple(int(dim) for dim in entry.get("shape", ()))
    return Tensor(str(entry["name"]), str(entry["datatype"]), shape)
