"""Signatures seen in samples: what inputs are by a sample of them, outputs by their answers.

A first axis is taken for rows, of which there may be any number. A data frame is one input
with named columns where the model takes one, else one input [-1, 1] a column; categories of a
column are kept as its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import InputError, TensorNameError
from nbmodel.inputs import columns_of, is_picture, read_value
from nbmodel.protocol.tensor import with_datatype
from nbmodel.vision.image import load_image

NAME = "input"  # of the only input, where neither the model nor the sample has a name for it


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Inputs as a sample shows them.

    Attributes:
        tensors: What they are.
        arrays: The sample itself, by name.
    """

    tensors: tuple[Tensor, ...]
    arrays: Mapping[str, NDArray[Any]]


def observe_inputs(sample: object, known: Sequence[Tensor] = ()) -> Observed:
    """What a model takes, by a sample of it.

    Args:
        sample: An array, list, data frame, picture, file, or a mapping of those by input
            name; several pictures in a list are a batch.
        known: The model's inputs as far as its file tells them: names, and no datatypes.

    Raises:
        InputError: The sample is nothing that a model takes, or has no rows.
        TensorNameError: It has other inputs than the model.
        DatatypeError: The protocol cannot carry its values.
    """
    value = read_value(sample)
    columns = columns_of(value)
    if isinstance(value, Mapping):
        named = {str(name): _one(str(name), item) for name, item in value.items()}
    elif columns is not None and len(known) != 1:
        named = {
            name: _column(name, column, getattr(value, "__getitem__", columns.get)(name))
            for name, column in columns.items()
        }
    else:
        if len(known) > 1:
            raise TensorNameError(
                f"one unnamed input given, the model takes {len(known)}: {_listed(known)}",
                hint="give a mapping by name",
            )
        name = known[0].name if known else NAME
        named = {name: _one(name, value)}
    if not named:
        raise InputError("the sample is empty", hint="give some rows, such as X[:1]")
    if known:
        named = _matched(named, known)
    return Observed(
        tuple(tensor for tensor, _ in named.values()),
        {name: array for name, (_, array) in named.items()},
    )


def observe_outputs(answers: Mapping[str, NDArray[Any]], rows: int | None) -> tuple[Tensor, ...]:
    """What a model gives, by its answers.

    Args:
        answers: By name, in the model's order.
        rows: How many rows were asked of it; an output with as many has one a row.

    Raises:
        DatatypeError: The protocol cannot carry one of them.
    """
    tensors = []
    for name, answer in answers.items():
        array, datatype = with_datatype(answer, what=f"output {name!r}")
        shape = array.shape
        if shape and shape[0] == rows:
            shape = (-1, *shape[1:])
        tensors.append(Tensor(name, datatype, shape))
    return tuple(tensors)


def with_columns_of(signature: Signature, sample: object) -> Signature:
    """The same signature with what a data frame tells of its inputs; without one, as it is.

    That is the names of the columns that one input has side by side, or, of inputs that are
    columns, their categories and whether they are numbers or text. What is known stays.
    """
    columns = None if isinstance(sample, str | Path | Mapping) else columns_of(sample)
    if columns is None:
        return signature
    (only,) = signature.inputs if len(signature.inputs) == 1 else (None,)
    if only is not None and only.name not in columns:
        return signature if only.labels else signature.with_columns(tuple(columns))
    inputs = []
    for tensor in signature.inputs:
        if tensor.name in columns:
            seen, _ = _column(tensor.name, columns[tensor.name], sample[tensor.name])  # type: ignore[index] # a table
            if not tensor.labels and not tensor.profile:
                tensor = replace(
                    tensor,
                    labels=seen.labels,
                    label_kind=seen.label_kind,
                    profile=seen.profile,
                )
        inputs.append(tensor)
    return replace(signature, inputs=tuple(inputs))


def categories_of(sample: object) -> dict[str, tuple[str, ...]]:
    """The categories of those columns of a data frame that have some; of nothing else any."""
    columns = None if isinstance(sample, str | Path | Mapping) else columns_of(sample)
    found = {name: _categories(sample[name]) for name in columns or ()}  # type: ignore[index] # a table
    return {name: categories for name, categories in found.items() if categories}


def _categories(series: Any) -> tuple[str, ...]:
    """What pandas and polars know of a column whose values are some of a few."""
    categories = getattr(getattr(series, "dtype", None), "categories", None)
    return () if categories is None else tuple(str(one) for one in categories)


def _one(name: str, value: object) -> tuple[Tensor, NDArray[Any]]:
    value = read_value(value) if isinstance(value, Path) else value
    if isinstance(value, list | tuple) and value and all(map(is_picture, value)):
        pictures = [np.asarray(load_image(one)) for one in value]
        return _tensor(name, np.stack(pictures), profile="image")
    if is_picture(value):
        return _tensor(name, np.asarray(load_image(value))[np.newaxis], profile="image")  # type: ignore[arg-type] # any PIL image
    columns = columns_of(value)
    if columns is None:
        return _tensor(name, np.asarray(value))
    table = np.column_stack([np.asarray(column) for column in columns.values()])
    tensor, array = _tensor(name, table)
    return replace(tensor, labels=tuple(columns)), array


def _column(name: str, column: NDArray[Any], series: Any) -> tuple[Tensor, NDArray[Any]]:
    tensor, array = _tensor(name, np.asarray(column).reshape(-1, 1))
    labels = _categories(series)
    if labels:
        return replace(tensor, labels=labels, label_kind="value", profile="categorical"), array
    profile = "text" if tensor.datatype == "BYTES" else "numerical"
    return replace(tensor, profile="" if tensor.datatype == "BOOL" else profile), array


def _tensor(name: str, array: NDArray[Any], profile: str = "") -> tuple[Tensor, NDArray[Any]]:
    array, datatype = with_datatype(array, what=f"input {name!r} of the sample")
    if array.ndim and not array.shape[0]:
        raise InputError(
            f"input {name!r} of the sample has no rows", hint="give some, such as X[:1]"
        )
    shape = (-1, *array.shape[1:]) if array.ndim else ()
    return Tensor(name, datatype, shape, profile=profile), array


def _matched(
    named: Mapping[str, tuple[Tensor, NDArray[Any]]], known: Sequence[Tensor]
) -> dict[str, tuple[Tensor, NDArray[Any]]]:
    """In the model's order, with what its file tells of some inputs."""
    names = [tensor.name for tensor in known]
    for name in named:
        if name not in names:
            raise TensorNameError(
                f"the sample has input {name!r}, the model takes {_listed(known)}"
            )
    for tensor in known:
        if tensor.name not in named:
            raise TensorNameError(
                f"the sample has no input {tensor.name!r}; the model takes {_listed(known)}"
            )
    return {
        tensor.name: named[tensor.name]
        if tensor.datatype == "UNKNOWN"
        else (tensor, named[tensor.name][1])
        for tensor in known
    }


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(describe, tensors))
