"""A request for inference and its answer, as values; how they travel is not here.

Every front end (HTTP, gRPC, Viam's gRPC) decodes to :class:`InferRequest` and encodes an
:class:`InferResponse`, so there is one path through a runtime for all of them.

Source: Open Inference Protocol v2; Triton's classification, shared memory and parameters
extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a shared memory region that was registered with the runtime.

    Attributes:
        name: Of the region, as registered.
        byte_size: Bytes of the part, ≥ 0.
        offset: Where it begins in the region, bytes, ≥ 0.
    """

    name: str
    byte_size: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SharedTensor:
    """A tensor whose bytes are in shared memory.

    Attributes:
        datatype: OIP datatype.
        shape: Row-major.
        region: Where its bytes are.
    """

    datatype: str
    shape: tuple[int, ...]
    region: Region


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a request asks for by name.

    Attributes:
        name: Of the output.
        binary: Whether it is to come as bytes; None: as the request says for all.
        classification: Number of classes to give instead of the tensor, best first, as
            BYTES ``value:index[:label]``; 0: the tensor itself.
        region: Where to write it instead of sending it, or None.
    """

    name: str
    binary: bool | None = None
    classification: int = 0
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request for inference.

    Attributes:
        model: Name of the model.
        inputs: Name → array; BYTES are object arrays of ``bytes``.
        version: Of the model; empty: the server's choice.
        id: Given back in the answer; may be empty.
        outputs: What is wanted, in this order; empty: everything.
        binary_outputs: Whether outputs come as bytes where they do not say themselves.
        parameters: Further parameters, ``binary_data_output`` left out.
        shared_inputs: Inputs whose bytes are in shared memory, by name.
        form: Requests with the same one have the same names, datatypes and shapes of inputs
            and ask for the same outputs, so that what was checked once is known; or None.
    """

    model: str
    inputs: Mapping[str, NDArray[Any]]
    version: str = ""
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    binary_outputs: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shared_inputs: Mapping[str, SharedTensor] = field(default_factory=dict)
    form: object = field(default=None, compare=False)

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The outputs wanted, in order; None for all of the model's."""
        return tuple(output.name for output in self.outputs) or None

    def wants_binary(self, output: str) -> bool:
        """Whether ``output`` is to be sent as bytes."""
        for wanted in self.outputs:
            if wanted.name == output and wanted.binary is not None:
                return wanted.binary
        return self.binary_outputs


@dataclass(frozen=True, slots=True)
class InferResponse:
    """One answer to an inference request.

    Attributes:
        model: Name of the model.
        version: The version that answered.
        outputs: Name → array, in the order asked for; BYTES are object arrays of ``bytes``.
        id: The request's, or empty.
        parameters: Parameters of the answer.
        shared_outputs: Outputs that were written to shared memory instead, by name.
    """

    model: str
    version: str
    outputs: Mapping[str, NDArray[Any]]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shared_outputs: Mapping[str, SharedTensor] = field(default_factory=dict)
