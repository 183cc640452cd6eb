"""The sizes that TensorRT builds an engine for, of a model whose inputs vary. Rules only.

Without them ONNX Runtime builds a new engine when a request has a size that it has not met,
which takes minutes while the request waits.

Source: ONNX Runtime, "TensorRT Execution Provider", "Explicit shape range".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError, ShapeError

#: Rows of the largest request, where a service does not say: what a batch is found to be.
ROWS = 4
NAMES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
_HINT = (
    "give the version a golden sample; or set trt_profile_min_shapes, …_opt_shapes and "
    "…_max_shapes in the options of tensorrt"
)


@dataclass(frozen=True, slots=True)
class Range:
    """The sizes of one input.

    Attributes:
        name: Of the input.
        least: Smallest size of each axis.
        most: Largest size of each axis.
    """

    name: str
    least: tuple[int, ...]
    most: tuple[int, ...]

    def has(self, shape: Sequence[int]) -> bool:
        """Whether a shape is within."""
        return len(shape) == len(self.least) and all(
            low <= size <= high
            for low, size, high in zip(self.least, shape, self.most, strict=True)
        )

    def __str__(self) -> str:
        axes = (
            str(low) if low == high else f"{low}–{high}"
            for low, high in zip(self.least, self.most, strict=True)
        )
        return f"[{', '.join(axes)}]"


@dataclass(frozen=True, slots=True)
class Profile:
    """The sizes of all inputs that vary.

    Attributes:
        ranges: One of each such input.
    """

    ranges: tuple[Range, ...] = ()

    def options(self) -> dict[str, str]:
        """As the TensorRT provider takes them; none when nothing varies.

        Engines are tuned to the largest size: that of a full batch.
        """
        if not self.ranges:
            return {}
        least = ",".join(f"{one.name}:{_written(one.least)}" for one in self.ranges)
        most = ",".join(f"{one.name}:{_written(one.most)}" for one in self.ranges)
        return dict(zip(NAMES, (least, most, most), strict=True))

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse a request that the engine was not built for.

        Args:
            shapes: Of all inputs.

        Raises:
            ShapeError: An input is smaller or larger than the engine takes.
        """
        for one in self.ranges:
            if not one.has(shapes[one.name]):
                raise ShapeError(
                    f"input {one.name!r} is {list(shapes[one.name])}, which the TensorRT engine "
                    f"was not built for: expected {one}",
                    hint='rows: set "max_batch_size" of the service; other sizes: '
                    "trt_profile_min_shapes and …_max_shapes in the options of tensorrt",
                )


def profile_of(
    signature: Signature, sample: Mapping[str, Sequence[int]], *, rows: int = ROWS
) -> Profile:
    """The sizes to build for: as many rows as a batch may have, all else as in the sample.

    Args:
        signature: What the model takes.
        sample: Name → shape of inputs that it is known to take; may be empty.
        rows: Of the largest request, ≥ 1.

    Raises:
        InferenceError: A size cannot be known.
    """
    return Profile(
        tuple(
            _range(one, sample.get(one.name), rows)
            for one in signature.inputs
            if one.datatype != "BYTES" and (one.shape is None or -1 in one.shape)
        )
    )


def has_shapes(options: Mapping[str, str]) -> bool:
    """Whether options say already what to build for."""
    return any(name in options for name in NAMES)


def _range(tensor: Tensor, sample: Sequence[int] | None, rows: int) -> Range:
    what = f"TensorRT has to know the sizes of input {tensor.name!r}"
    if re.search(r"[:,]", tensor.name):
        raise InferenceError(
            f"{what}, and ONNX Runtime cannot be told them: its name has a colon or a comma",
            hint="name it otherwise when the model is exported",
        )
    shape = tensor.shape if tensor.shape is not None else sample and (-1,) * len(sample)
    if shape is None:
        raise InferenceError(f"{what}, which has no known rank", hint=_HINT)
    given = tuple(sample) if sample is not None and len(sample) == len(shape) else None
    least, most = [], []
    for axis, size in enumerate(shape):
        if size != -1:
            low = high = size
        elif axis == 0:
            low, high = 1, max(rows, given[0] if given else 1)
        elif given is not None:
            low = high = given[axis]
        else:
            raise InferenceError(f"{what}, which is {list(shape)}", hint=_HINT)
        least.append(low)
        most.append(high)
    return Range(tensor.name, tuple(least), tuple(most))


def _written(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
