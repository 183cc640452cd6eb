"""Signatures: the named tensors a model takes and gives (Hydrosphere's "contract").

Source: Open Inference Protocol v2, "Tensor Data Types"; TFLite metadata schema for
labels, normalisation and score thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from nbmodel.errors import DatatypeError, ManifestError, ShapeError, SignatureError, TensorNameError

#: Datatypes that the protocol carries, with the bytes of one element (0: variable).
DATATYPES: Mapping[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
    "BYTES": 0,
}
#: What model files have beyond the protocol. A signature may say so; nothing carries it.
FOREIGN_DATATYPES = frozenset(
    {
        "COMPLEX64",
        "COMPLEX128",
        "INT4",
        "UINT4",
        "INT2",
        "UINT2",
        "FP4E2M1",
        "FP8E4M3FN",
        "FP8E4M3FNUZ",
        "FP8E5M2",
        "FP8E5M2FNUZ",
        "FP8E8M0",
        "FP6E2M3",
        "FP6E3M2",
        "SPARSE",
        "OPAQUE",
        "UNKNOWN",
        "SEQUENCE",
        "MAP",
        "OPTIONAL",
        "RESOURCE",
        "VARIANT",
    }
)
#: What an input or output holds, in Hydrosphere's words.
PROFILES = ("categorical", "numerical", "image", "video", "audio", "text", "boxes", "")

LabelKind = Literal["axis", "value"]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How integers stand for real numbers: ``real = (q - zero_point) * scale``.

    Attributes:
        scale: Real units a step, > 0; one, or one a channel along ``axis``.
        zero_point: The integer that stands for 0; as many as ``scale``.
        axis: The channel axis, or None when the whole tensor has one scale.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Normalization:
    """What the model expects pixels to be: ``(pixel - mean) / std``, pixels in 0..255.

    Attributes:
        mean: One value, or one a channel.
        std: As many as ``mean``; not 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output.

    Attributes:
        name: As the model file has it.
        datatype: A key of ``DATATYPES``, or one of ``FOREIGN_DATATYPES``.
        shape: Row-major; −1 is a variable dimension, ``()`` a scalar, None an unknown rank.
        description: For people; may be empty.
        labels: Names of classes, in index order; empty when there are none. The names along
            the last axis of an input are those of its columns, the values of one its
            categories.
        label_kind: ``axis``: position along the last axis is the index of the label;
            ``value``: the element's value is, or a BYTES element is the label itself.
        profile: What it holds: one of ``PROFILES``.
        quantization: For tensors of a quantised model.
        normalization: For image inputs.
        score_threshold: Scores below it mean nothing, or None.

    Raises:
        DatatypeError: The datatype is neither the protocol's nor a known foreign one.
        ShapeError: A dimension is below −1.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    description: str = ""
    labels: tuple[str, ...] = ()
    label_kind: LabelKind = "axis"
    profile: str = ""
    quantization: Quantization | None = None
    normalization: Normalization | None = None
    score_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES and self.datatype not in FOREIGN_DATATYPES:
            raise DatatypeError(
                f"unknown datatype {self.datatype!r} for tensor {self.name!r}: "
                f"expected one of {', '.join(DATATYPES)}"
            )
        if self.shape is not None and any(dim < -1 for dim in self.shape):
            raise ShapeError(f"negative dimension in shape {self.shape} of tensor {self.name!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names along the last axis; empty where the labels are those of values."""
        return self.labels if self.label_kind == "axis" else ()

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a concrete shape agrees with this tensor's shape."""
        if self.shape is None:
            return True
        if len(shape) != len(self.shape):
            return False
        for mine, theirs in zip(self.shape, shape):  # noqa: B905, SIM110 - once a request
            if mine not in (-1, theirs):
                return False
        return True

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the tensor back."""
        data: dict[str, Any] = {
            "name": self.name,
            "datatype": self.datatype,
            "shape": None if self.shape is None else list(self.shape),
        }
        if self.description:
            data["description"] = self.description
        if self.labels:
            data["labels"] = list(self.labels)
            data["label_kind"] = self.label_kind
        if self.profile:
            data["profile"] = self.profile
        if self.quantization is not None:
            data["quantization"] = {
                "scale": list(self.quantization.scale),
                "zero_point": list(self.quantization.zero_point),
                "axis": self.quantization.axis,
            }
        if self.normalization is not None:
            data["normalization"] = {
                "mean": list(self.normalization.mean),
                "std": list(self.normalization.std),
            }
        if self.score_threshold is not None:
            data["score_threshold"] = self.score_threshold
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tensor:
        """The tensor that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
            DatatypeError, ShapeError: As the constructor.
        """
        try:
            shape = data.get("shape")
            quantization = data.get("quantization")
            normalization = data.get("normalization")
            kind: LabelKind = "value" if data.get("label_kind") == "value" else "axis"
            return cls(
                name=str(data["name"]),
                datatype=str(data["datatype"]),
                shape=None if shape is None else tuple(int(dim) for dim in shape),
                description=str(data.get("description", "")),
                labels=tuple(str(label) for label in data.get("labels", ())),
                label_kind=kind,
                profile=str(data.get("profile", "")),
                quantization=None
                if quantization is None
                else Quantization(
                    scale=tuple(float(scale) for scale in quantization["scale"]),
                    zero_point=tuple(int(zero) for zero in quantization["zero_point"]),
                    axis=quantization.get("axis"),
                ),
                normalization=None
                if normalization is None
                else Normalization(
                    mean=tuple(float(mean) for mean in normalization["mean"]),
                    std=tuple(float(std) for std in normalization["std"]),
                ),
                score_threshold=data.get("score_threshold"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise ManifestError(f"malformed tensor in a signature: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, each in the model's own order.

    Attributes:
        inputs: What the model takes.
        outputs: What the model gives.
    """

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the first labelled output, or nothing."""
        return next((tensor.labels for tensor in self.outputs if tensor.labels), ())

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the signature back."""
        return {
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """The signature that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
        """
        try:
            return cls(
                inputs=tuple(Tensor.from_json(tensor) for tensor in data.get("inputs", ())),
                outputs=tuple(Tensor.from_json(tensor) for tensor in data.get("outputs", ())),
            )
        except (AttributeError, TypeError) as exc:
            raise ManifestError(f"malformed signature: {exc!r}") from exc

    def with_labels(self, labels: Sequence[str]) -> Signature:
        """The same signature with ``labels`` on the output whose classes they name.

        That is, in this order: the output that has labels already; the output whose last
        axis is as long as the list; the integer output, or one named like a class, whose
        *values* are indices; the only output; the first.
        """
        if not self.outputs:
            return self
        index, kind = _labelled_output(self.outputs, len(labels))
        outputs = list(self.outputs)
        outputs[index] = replace(outputs[index], labels=tuple(labels), label_kind=kind)
        return replace(self, outputs=tuple(outputs))

    def with_columns(self, columns: Sequence[str]) -> Signature:
        """The same signature with names for what the only input has along its last axis.

        Nothing changes where there are several inputs, or not as many columns as names.
        """
        if len(self.inputs) != 1:
            return self
        (tensor,) = self.inputs
        if not tensor.shape or tensor.shape[-1] != len(columns):
            return self
        named = replace(tensor, labels=tuple(columns), label_kind="axis")
        return replace(self, inputs=(named,))

    def overridden_by(self, given: Signature) -> Signature:
        """This signature, read from a file, with what a person said about it on top.

        A given tensor may add a description, labels, profile, normalisation, and make a
        variable dimension fixed; one of UNKNOWN datatype leaves that to the file. Tensors that
        ``given`` leaves out stay as they are.

        Raises:
            TensorNameError: ``given`` has a tensor that the file does not.
            DatatypeError, ShapeError: ``given`` contradicts the file.
        """
        return Signature(
            inputs=_override("input", self.inputs, given.inputs),
            outputs=_override("output", self.outputs, given.outputs),
        )


def _labelled_output(outputs: Sequence[Tensor], count: int) -> tuple[int, LabelKind]:
    for index, tensor in enumerate(outputs):
        if tensor.labels:
            return index, tensor.label_kind
    for index, tensor in enumerate(outputs):
        if tensor.shape and tensor.shape[-1] == count and count > 1:
            return index, "axis"
    for index, tensor in enumerate(outputs):
        name = tensor.name.lower()
        if "class" in name or "label" in name or "categor" in name:
            return index, "value"
    if len(outputs) > 1:
        for index, tensor in enumerate(outputs):
            if tensor.datatype in ("INT64", "INT32"):
                return index, "value"
    return 0, "axis"


def _override(side: str, read: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    by_name = {tensor.name: tensor for tensor in read}
    for tensor in given:
        if tensor.name not in by_name:
            raise TensorNameError(
                f"the given signature has {side} {tensor.name!r}, the model has "
                f"{', '.join(map(repr, by_name)) or 'none'}"
            )
        by_name[tensor.name] = _override_tensor(side, by_name[tensor.name], tensor)
    return tuple(by_name[tensor.name] for tensor in read)


def _override_tensor(side: str, read: Tensor, given: Tensor) -> Tensor:
    is_said = given.datatype != "UNKNOWN"
    if is_said and read.datatype not in (given.datatype, "UNKNOWN"):
        raise DatatypeError(
            f"{side} {read.name!r} is {read.datatype} in the model, "
            f"{given.datatype} in the given signature"
        )
    if given.shape is not None and not read.fits(given.shape):
        raise ShapeError(
            f"{side} {read.name!r} has shape {read.shape} in the model, "
            f"{given.shape} in the given signature"
        )
    return replace(
        read,
        datatype=given.datatype if is_said else read.datatype,
        shape=read.shape if given.shape is None else given.shape,
        description=given.description or read.description,
        labels=given.labels or read.labels,
        label_kind=given.label_kind if given.labels else read.label_kind,
        profile=given.profile or read.profile,
        quantization=given.quantization or read.quantization,
        normalization=given.normalization or read.normalization,
        score_threshold=read.score_threshold
        if given.score_threshold is None
        else given.score_threshold,
    )


def describe(tensor: Tensor) -> str:
    """``name FP32[-1,64]``, for messages and tables."""
    shape = "?" if tensor.shape is None else ",".join(map(str, tensor.shape))
    return f"{tensor.name} {tensor.datatype}[{shape}]"


def check_inputs(signature: Signature, given: Mapping[str, tuple[str, Sequence[int]]]) -> None:
    """Check the names, datatypes and shapes of a request against a signature.

    Args:
        signature: What the model takes.
        given: Name → (datatype, shape) of every tensor in the request.

    Raises:
        TensorNameError, DatatypeError, ShapeError: The first kind of violation found,
            with *all* violations in the message and every input of the model listed.
    """
    known = {tensor.name for tensor in signature.inputs}
    problems: list[tuple[type[SignatureError], str]] = [
        (TensorNameError, f"unexpected input {name!r}") for name in given if name not in known
    ]
    for tensor in signature.inputs:
        if tensor.name not in given:
            problems.append((TensorNameError, f"missing input {tensor.name!r}"))
            continue
        datatype, shape = given[tensor.name]
        if datatype != tensor.datatype:
            problems.append(
                (DatatypeError, f"input {tensor.name!r} is {tensor.datatype}, found {datatype}")
            )
        if not tensor.fits(shape):
            expected = "any" if tensor.shape is None else list(tensor.shape)
            problems.append(
                (ShapeError, f"input {tensor.name!r} has shape {expected}, found {list(shape)}")
            )
    if problems:
        takes = ", ".join(describe(tensor) for tensor in signature.inputs)
        raise problems[0][0](
            "; ".join(problem for _, problem in problems), hint=f"the model takes {takes}"
        )
