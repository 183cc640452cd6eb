"""Sample rows for scikit-learn estimators: the user's own, or some made up.

A row exists twice: as the tensors the converted model gets, and as what the estimator
gets. Both hold the same values: where the tensors are FP32, the estimator sees numbers
that fit into 32 bits too, so that rounding the input is never mistaken for a bad conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import ConversionError

MAX_ROWS = 16
INPUT = "input"
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows of input.

    Attributes:
        tensors: What the converted model gets: ``input`` alone, [rows, features] or, for
            text, [rows]; or one [rows, 1] a column of a data frame.
        original: The same rows as the estimator takes them.
        is_frame: Whether the tensors are the columns of a data frame.
    """

    tensors: Mapping[str, NDArray[Any]]
    original: Any
    is_frame: bool = False


def given_rows(sample: Any) -> Rows:
    """Rows of what the user gave: at most ``MAX_ROWS``, spread evenly over the sample.

    Args:
        sample: A pandas data frame or series, an array [rows, features], a sparse matrix,
            or a list of rows or texts.

    Raises:
        ConversionError: It has no rows, or values that no tensor holds.
    """
    if hasattr(sample, "iloc") and hasattr(sample, "columns"):
        return _frame_rows(sample)
    array = np.asarray(sample.toarray() if hasattr(sample, "toarray") else sample)
    if array.ndim == 0 or array.shape[0] == 0:
        raise ConversionError("the sample has no rows", hint="give sample=X[:16]")
    array = array[_spread(array.shape[0])]
    tensor = _to_tensor(array, "the sample")
    if tensor.ndim == 1 and tensor.dtype != object:
        raise ConversionError(
            f"expected sample rows [rows, features], found shape {list(tensor.shape)}",
            hint="give sample=X[:16]",
        )
    return Rows({INPUT: tensor}, _back(tensor, array))


def made_rows(estimator: Any) -> Rows:
    """Rows made up from what the estimator remembers of its training data.

    Features are drawn from a normal distribution with the mean and spread that the
    estimator, or the first step of a pipeline, knows: means, ranges, centres, thresholds or
    training rows. Where it knows none, they are standard normal. The same estimator always
    gets the same rows.

    Raises:
        ConversionError: The estimator does not tell how many features there are, or picks
            columns by name, whose kinds it does not tell.
    """
    count = getattr(estimator, "n_features_in_", None)
    if count is None or has_column_transformer(estimator):
        raise ConversionError(
            f"the input of {type(estimator).__name__} cannot be told from the estimator alone",
            hint="give some rows of it: sample=X[:16]",
        )
    rng = np.random.default_rng(_SEED)
    rows = rng.standard_normal((MAX_ROWS, int(count)))
    for step in _first_steps(estimator):
        known = _statistics(step, int(count))
        if known is not None:
            rows = known[0] + rows * known[1]
            break
    tensor = rows.astype(np.float32)
    return Rows({INPUT: tensor}, tensor.astype(np.float64))


def has_column_transformer(estimator: Any) -> bool:
    """Whether a ColumnTransformer is in it, at any depth."""
    parts = (estimator, *estimator.get_params(deep=True).values())
    return any(type(part).__name__ == "ColumnTransformer" for part in parts)


def _spread(count: int) -> NDArray[np.intp]:
    # The first rows of sorted data are often all of one class.
    return np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(np.intp))


def _frame_rows(sample: Any) -> Rows:
    if len(sample) == 0:
        raise ConversionError("the sample has no rows", hint="give sample=X[:16]")
    frame = sample.iloc[_spread(len(sample))].copy()
    tensors: dict[str, NDArray[Any]] = {}
    for name in frame.columns:
        if not isinstance(name, str) or name in tensors:
            raise ConversionError(f"column {name!r} of the sample needs a name of its own, as text")
        column = frame[name]
        tensor = _to_tensor(np.asarray(column), f"column {name!r} of the sample")
        if tensor.dtype == np.float32 and column.dtype != np.float32:
            frame[name] = tensor.astype(np.float64)
        tensors[name] = tensor.reshape(-1, 1)
    return Rows(tensors, frame, is_frame=True)


def _to_tensor(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Real numbers as FP32, whole ones and truths as INT64, text as an object array."""
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(np.float32)
    if kind in "iub":
        return array.astype(np.int64)
    if kind in "UT":
        return array.astype(object)
    if kind == "O":
        if all(isinstance(item, str) for item in array.flat):
            return array
        if not any(isinstance(item, str) for item in array.flat):
            try:
                return array.astype(np.float32)
            except (TypeError, ValueError):
                pass
        raise ConversionError(
            f"{what} mixes text with other values",
            hint="give a data frame, each column all text or all numbers, with no text missing",
        )
    raise ConversionError(f"{what} holds {array.dtype}, which no ONNX input of an estimator takes")


def _back(tensor: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    """The tensor as the estimator takes it; it would compute in 16 bits if it were given them."""
    keeps_type = tensor.dtype.kind != "f" or array.dtype == np.float32
    return tensor if keeps_type else tensor.astype(np.float64)


def _first_steps(estimator: Any) -> Iterator[Any]:
    """The estimator that sees the raw features first, and what it is made of."""
    yield estimator
    for name in ("steps", "estimators_", "calibrated_classifiers_"):
        inner = getattr(estimator, name, None)
        if inner is not None and len(inner):
            first = inner[0] if isinstance(inner, list) else np.ravel(inner)[0]
            yield from _first_steps(first[1] if isinstance(first, tuple) else first)
    best = getattr(estimator, "best_estimator_", None)
    if best is not None:
        yield from _first_steps(best)


def _statistics(step: Any, count: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Mean and spread of each feature as ``step`` remembers them, or None."""
    for rows in _remembered_rows(step, count):
        spread = rows.std(axis=0)
        # A feature that never changed still has to be told from a wrong one.
        return rows.mean(axis=0), np.where(spread > 0, spread, 1.0)
    for mean, spread in (("mean_", "scale_"), ("center_", "scale_")):
        if _is_vector(step, mean, count) and _is_vector(step, spread, count):
            return getattr(step, mean), getattr(step, spread)
    if _is_vector(step, "data_min_", count) and _is_vector(step, "data_max_", count):
        middle = (step.data_min_ + step.data_max_) / 2
        return middle, np.maximum(step.data_max_ - step.data_min_, 1e-6) / 4
    for mean in ("mean_", "statistics_"):
        if _is_vector(step, mean, count):
            center = np.nan_to_num(np.asarray(getattr(step, mean), np.float64))
            return center, np.maximum(np.abs(center), 1.0)
    return _thresholds(step, count)


def _remembered_rows(step: Any, count: int) -> Iterator[NDArray[Any]]:
    for name in ("theta_", "cluster_centers_", "means_", "_fit_X", "support_vectors_", "X_train_"):
        rows = getattr(step, name, None)
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == count and len(rows):
            yield rows.astype(np.float64)


def _is_vector(step: Any, name: str, count: int) -> bool:
    value = getattr(step, name, None)
    return isinstance(value, np.ndarray) and value.shape == (count,) and value.dtype.kind in "fiu"


def _thresholds(step: Any, count: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    tree = getattr(step, "tree_", None)
    if tree is None or not hasattr(tree, "threshold"):  # the KDTree of a density has none
        return None
    mean, spread = np.zeros(count), np.ones(count)
    for feature in range(count):
        splits = tree.threshold[tree.feature == feature]
        if len(splits):
            mean[feature] = splits.mean()
            spread[feature] = max(splits.std(), abs(mean[feature]) / 4, 1e-6)
    return mean, spread
