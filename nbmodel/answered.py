"""Samples that come with the answers to them: arrays named as the model's outputs.

Such a sample is a golden sample as it stands, also where nothing here runs the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import DatatypeError, ShapeError, TensorNameError
from nbmodel.inputs import read_value
from nbmodel.protocol.coerce import coerce_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAPPINGS = frozenset({".json", ".npz"})  # files of arrays by name


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample in its parts.

    Attributes:
        inputs: As ``inputs_for`` takes a value.
        answers: Output → array, in the signature's datatypes; empty: it has none.
    """

    inputs: object
    answers: Mapping[str, NDArray[Any]]


def part_sample(signature: Signature, sample: object) -> Sample:
    """A sample's inputs, and the answers among its arrays.

    An array counts as an answer where an output, and no input, has its name.

    Args:
        signature: What the model takes and gives.
        sample: As ``inputs_for`` takes a value.

    Raises:
        InputError: Its file cannot be read.
        TensorNameError: It answers some outputs and not all.
        ShapeError, DatatypeError: An answer is not what the signature says.
    """
    is_file = isinstance(sample, str | Path) and Path(sample).suffix.lower() in _MAPPINGS
    value = read_value(sample) if is_file else sample
    if not isinstance(value, Mapping):
        return Sample(sample, {})
    inputs = {tensor.name for tensor in signature.inputs}
    outputs = {one.name: one for one in signature.outputs if one.name not in inputs}
    given = {str(name): item for name, item in value.items() if name in outputs}
    if not given:
        return Sample(value, {})
    missing = [describe(one) for name, one in outputs.items() if name not in given]
    if missing:
        raise TensorNameError(
            f"the sample has the answer {next(iter(given))!r} and not {', '.join(missing)}",
            hint="give the answers of all outputs, or of none",
        )
    rest = {name: item for name, item in value.items() if name not in given}
    return Sample(rest, {name: _answer(outputs[name], item) for name, item in given.items()})


def _answer(tensor: Tensor, value: object) -> NDArray[Any]:
    what = f"answer {tensor.name!r}"
    try:
        array = np.asarray(read_value(value) if isinstance(value, Path) else value)
    except ValueError as exc:  # rows of different lengths
        raise ShapeError(f"{what} is not a regular array: {exc}") from exc
    if array.dtype.kind == "O" and not all(isinstance(one, str | bytes) for one in array.flat):
        raise DatatypeError(f"{what} has other things than numbers and text in it")
    found = coerce_tensor(tensor, array, what=what)
    if tensor.shape is not None and not tensor.fits(found.shape):
        if not tensor.fits((1, *found.shape)):
            raise ShapeError(
                f"{what} of the sample should be {describe(tensor)}, found {list(found.shape)}"
            )
        found = found[np.newaxis]
    return found
