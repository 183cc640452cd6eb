"""From scikit-learn to ONNX, by skl2onnx.

What the converted model takes and gives, whatever skl2onnx calls it:

- Without a data frame: one input ``input``, FP32[-1, features]; whole numbers in the sample
  make it INT64, texts make it BYTES[-1].
- With a data frame as sample: one input a column, [-1, 1], under the column's own name; FP32,
  INT64 or BYTES.
- A classifier gives ``label`` (INT64 or BYTES) and ``probabilities`` FP32[-1, classes], or
  ``scores`` where it has a decision function only. With two classes these scores are left
  out, as skl2onnx gives them with either sign; left out, too, are the probabilities of
  several targets where they are no tensor.
- A regressor gives ``prediction`` [-1, targets].
- An outlier detector gives ``label`` (1 or −1) and ``scores``, its decision function.
- A clusterer gives ``label`` and ``scores``, the distances to the centres; a mixture ``label``
  and ``probabilities``.
- A transformer gives ``output``.

An output whose name is that of a column has ``_out`` behind it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.convert.base import Converted, Converter, first_words, type_name
from nbmodel.convert.onnx_graph import (
    output_datatypes,
    present_outputs,
    rename_inputs,
    set_locale,
    split_input,
)
from nbmodel.convert.sklearn_boosting import boosting_conversions
from nbmodel.convert.sklearn_sample import (
    INPUT,
    Rows,
    given_rows,
    has_column_transformer,
    made_rows,
)
from nbmodel.errors import ConversionError, PluginError
from nbmodel.golden import GoldenSample

#: Operator sets that ONNX Runtime 1.14 and everything after it reads: JetPack 5 and later.
_OPSETS = {"": 18, "ai.onnx.ml": 3}
#: Every glibc since 2.35 has it, and Debian's and Ubuntu's long before. The default,
#: en_US.UTF-8, is on no Raspberry Pi and in no slim container unless someone put it there.
_LOCALE = "C.UTF-8"
_ONNX_FILE = "model.onnx"


class SklearnToOnnx(Converter):
    """Takes every fitted estimator and pipeline that skl2onnx knows."""

    source = "sklearn"
    target = "onnx"

    def matches(self, model: object) -> bool:
        """Whether it is a scikit-learn estimator."""
        base = sys.modules.get("sklearn.base")
        return base is not None and isinstance(model, base.BaseEstimator)

    def _convert(self, model: Any, sample: Any) -> Converted:
        import sklearn

        skl2onnx = _skl2onnx()
        _check_usable(model)
        rows = made_rows(model) if sample is None else given_rows(sample)
        answers = _answers(model, rows, is_given=sample is not None)
        onnx_model = _to_onnx(model, rows)
        golden = _golden(onnx_model, rows, answers)
        present_outputs(onnx_model, golden.outputs)
        if sys.platform != "win32":
            set_locale(onnx_model, _LOCALE)
        return Converted(
            files={_ONNX_FILE: onnx_model.SerializeToString(deterministic=True)},
            framework="onnx",
            model_type=_model_type(model, golden.outputs),
            labels=_labels(model),
            golden=golden,
            source=type_name(model),
            tool=f"skl2onnx {skl2onnx.__version__}",
            metadata={
                "estimator": type_name(_last_step(model)),
                "scikit-learn": sklearn.__version__,
            },
            columns=() if rows.is_frame else _columns(model),
        )


def _skl2onnx() -> Any:
    try:
        import skl2onnx
    except ImportError as exc:
        raise PluginError(
            f"converting scikit-learn estimators needs {exc.name}, which is not installed",
            hint="pip install 'nbmodel[convert]'",
        ) from exc
    return skl2onnx


def _check_usable(model: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as exc:
        raise ConversionError(
            f"{type_name(model)} is not fitted", hint="call its fit method before logging it"
        ) from exc
    if not hasattr(model, "predict") and not hasattr(model, "transform"):
        raise ConversionError(
            f"{type_name(model)} has neither predict nor transform: it says nothing about "
            f"rows other than those it was fitted on"
        )


def _last_step(model: Any) -> Any:
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


def _answers(model: Any, rows: Rows, *, is_given: bool) -> dict[str, NDArray[Any]]:
    with warnings.catch_warnings():
        # Rows without column names, or with values never seen in training, are meant here.
        warnings.simplefilter("ignore")
        try:
            return _ask(model, rows.original)
        except Exception as exc:
            hint = (
                "give rows as the estimator's predict or transform takes them"
                if is_given
                else "these rows were made up; give some of its input: sample=X[:16]"
            )
            raise ConversionError(
                f"{type_name(model)} cannot answer the sample rows: {first_words(exc)}", hint=hint
            ) from exc


def _ask(model: Any, rows: Any) -> dict[str, NDArray[Any]]:
    """What the estimator says, in the order of skl2onnx's outputs and by our names."""
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

    if not hasattr(model, "predict"):
        output = model.transform(rows)
        return {"output": np.asarray(output.toarray() if hasattr(output, "toarray") else output)}
    predicted = np.asarray(model.predict(rows))
    if is_regressor(model):
        return {"prediction": predicted.reshape(len(predicted), -1)}
    answers = {"label": predicted}
    if hasattr(model, "predict_proba"):
        answers["probabilities"] = np.asarray(model.predict_proba(rows))
    elif is_clusterer(model) and hasattr(model, "transform"):
        answers["scores"] = np.asarray(model.transform(rows))
    elif hasattr(model, "decision_function"):
        scores = np.asarray(model.decision_function(rows))
        if is_outlier_detector(model) or (is_classifier(model) and scores.ndim > 1):
            answers["scores"] = scores
    return answers


def _to_onnx(model: Any, rows: Rows) -> Any:
    # What picks columns by name gets them as they are; everything else takes one matrix,
    # which is put together from the columns afterwards.
    tensors = rows.tensors
    is_matrix = not rows.is_frame or not has_column_transformer(model)
    if rows.is_frame and is_matrix:
        tensors = {INPUT: _joined(rows.tensors)}
    onnx_model = _call_skl2onnx(model, tensors)
    if rows.is_frame and is_matrix:
        split_input(onnx_model, rows.tensors)
    else:
        rename_inputs(onnx_model, list(tensors))
    return onnx_model


def _joined(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    texts = [name for name, column in columns.items() if column.dtype == object]
    if texts and len(texts) < len(columns):
        raise ConversionError(
            f"columns of text ({', '.join(texts)}) beside columns of numbers need a "
            f"ColumnTransformer, or the conversion cannot tell them apart",
        )
    kind = np.result_type(*(column.dtype for column in columns.values()))
    joined = np.concatenate(list(columns.values()), axis=1)
    return joined.astype(np.float32) if kind.kind == "f" else joined


def _call_skl2onnx(model: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common import data_types

    kinds = {
        np.dtype(np.float32): data_types.FloatTensorType,
        np.dtype(np.int64): data_types.Int64TensorType,
        np.dtype(object): data_types.StringTensorType,
    }
    arguments = {
        "name": type(model).__name__,
        "initial_types": [
            (name, kinds[tensor.dtype]([None, *tensor.shape[1:]]))
            for name, tensor in tensors.items()
        ],
        "target_opset": _OPSETS,
        "custom_conversion_functions": boosting_conversions(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about itself: deprecated numpy, unused options
        try:
            return convert_sklearn(model, options={id(model): {"zipmap": False}}, **arguments)
        except NameError:  # not a classifier, or one that never makes a ZipMap
            return convert_sklearn(model, **arguments)


def _golden(onnx_model: Any, rows: Rows, answers: Mapping[str, NDArray[Any]]) -> GoldenSample:
    """The original's answers in the datatypes of the converted model."""
    outputs = {}
    pairs = zip(answers.items(), output_datatypes(onnx_model), strict=False)
    for (name, answer), dtype in pairs:
        if dtype is None:  # a sequence of tensors, one a target: the protocol carries none
            break
        while name in rows.tensors:  # an ONNX graph has each name once
            name += "_out"
        outputs[name] = _cast(answer, dtype, name)
    return GoldenSample(inputs=rows.tensors, outputs=outputs)


def _cast(answer: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if dtype.kind == "O":
        return np.asarray([str(item) for item in answer.flat], object).reshape(answer.shape)
    if answer.dtype.kind in "OUST":
        raise ConversionError(f"output {name!r} is text, and {dtype} in the converted model")
    result = answer.astype(dtype)
    # Whole numbers may change their type, but not their value; real ones are rounded.
    if dtype.kind in "biu" and not np.array_equal(result, answer):
        raise ConversionError(f"output {name!r} has fractions, and is {dtype} when converted")
    return result


def _labels(model: Any) -> tuple[str, ...]:
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return ()
    return tuple(str(name) for name in classes.tolist())


def _columns(model: Any) -> tuple[str, ...]:
    """What it was fitted on, where that had names: it takes columns in that order only."""
    return tuple(str(name) for name in getattr(model, "feature_names_in_", ()))


def _model_type(model: Any, outputs: Mapping[str, NDArray[Any]]) -> str:
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    if is_classifier(model):
        label = next(iter(outputs.values()))
        return "multi_label_classification" if label.ndim > 1 else "classification"
    if is_regressor(model):
        return "regression"
    return "anomaly" if is_outlier_detector(model) else "other"
