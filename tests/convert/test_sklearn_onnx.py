"""scikit-learn to ONNX: real estimators, converted, run and compared with themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skl2onnx", reason="pip install 'nbmodel[convert]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
import pandas as pd
from sklearn import (
    calibration,
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from nbmodel.backends import open_session
from nbmodel.convert import Converted, check_conversion, convert
from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion
from nbmodel.errors import ConversionError, PluginError

pytestmark = pytest.mark.unhurried

X, Y = datasets.load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
TWO = (Y > 0).astype(int)
BOTH = np.stack([Y > 0, Y > 1], axis=1).astype(int)
TEXTS = ["a good film", "a bad film", "so good", "bad, BAD", "good É", "bad é"] * 3


def steps(*parts: Any) -> pipeline.Pipeline:
    return pipeline.make_pipeline(*parts)


def forest(count: int = 5) -> ensemble.RandomForestClassifier:
    return ensemble.RandomForestClassifier(count, random_state=0)


def check(converted: Converted, golden: Golden = Golden()) -> Conversion:  # noqa: B008
    return check_conversion(converted, golden, open_session=open_session)


def signature(converted: Converted, tmp_path: Any) -> dict[str, tuple[str, Any]]:
    from nbmodel.formats import read_model

    path = tmp_path / "model.onnx"
    path.write_bytes(converted.files["model.onnx"])
    read = read_model(path).signature
    return {
        tensor.name: (tensor.datatype, tensor.shape) for tensor in (*read.inputs, *read.outputs)
    }


IN = {"input": ("FP32", (-1, 4))}
LABEL = {"label": ("INT64", (-1,))}
THREE = {"probabilities": ("FP32", (-1, 3))}
SCORES = {"scores": ("FP32", (-1, 3))}
NUMBER = {"prediction": ("FP32", (-1, 1))}

#: What it is → estimator, target, model type, outputs.
ESTIMATORS: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "logistic regression": (
        linear_model.LogisticRegression(max_iter=500), Y, "classification", LABEL | THREE,
    ),
    "logistic regression on names": (
        linear_model.LogisticRegression(max_iter=500), NAMES, "classification",
        {"label": ("BYTES", (-1,))} | THREE,
    ),
    "logistic regression on truths": (
        linear_model.LogisticRegression(), TWO.astype(bool), "classification",
        LABEL | {"probabilities": ("FP32", (-1, 2))},
    ),
    "logistic regression on floats": (
        linear_model.LogisticRegression(), TWO.astype(float), "classification",
        LABEL | {"probabilities": ("FP32", (-1, 2))},
    ),
    "scaled logistic regression": (
        steps(preprocessing.StandardScaler(), linear_model.LogisticRegression()), Y,
        "classification", LABEL | THREE,
    ),
    "a decision tree": (tree.DecisionTreeClassifier(random_state=0), Y, "classification", LABEL | THREE),
    "a random forest": (forest(20), Y, "classification", LABEL | THREE),
    "extra trees": (
        ensemble.ExtraTreesClassifier(20, random_state=0), Y, "classification", LABEL | THREE,
    ),
    "gradient boosting": (
        ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), Y,
        "classification", LABEL | THREE,
    ),
    "histogram gradient boosting": (
        ensemble.HistGradientBoostingClassifier(max_iter=5), Y, "classification", LABEL | THREE,
    ),
    "histogram gradient boosting in a pipeline": (
        steps(preprocessing.StandardScaler(), ensemble.HistGradientBoostingRegressor(max_iter=5)),
        Y, "regression", NUMBER,
    ),
    "AdaBoost": (ensemble.AdaBoostClassifier(random_state=0), Y, "classification", LABEL | THREE),
    "bagging": (
        ensemble.BaggingClassifier(n_estimators=3, random_state=0), Y, "classification", LABEL | THREE,
    ),
    "nearest neighbours": (neighbors.KNeighborsClassifier(), Y, "classification", LABEL | THREE),
    "a multi-layer perceptron": (
        neural_network.MLPClassifier((8,), max_iter=2000, random_state=0), Y, "classification", LABEL | THREE,
    ),
    "Gaussian naive Bayes": (naive_bayes.GaussianNB(), Y, "classification", LABEL | THREE),
    "quadratic discriminants, whose labels skl2onnx lays down": (
        discriminant_analysis.QuadraticDiscriminantAnalysis(), Y, "classification", LABEL | THREE,
    ),
    "a calibrated classifier": (
        calibration.CalibratedClassifierCV(naive_bayes.GaussianNB()), Y, "classification", LABEL | THREE,
    ),
    "stacking": (
        ensemble.StackingClassifier([("tree", tree.DecisionTreeClassifier(max_depth=2))]), Y,
        "classification", LABEL | THREE,
    ),
    "a grid search": (
        model_selection.GridSearchCV(
            steps(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
            {"logisticregression__C": [1.0]},
        ),
        Y, "classification", LABEL | THREE,
    ),
    "one against the rest": (
        multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), Y, "classification", LABEL | THREE,
    ),
    "support vectors, which give scores": (svm.SVC(), Y, "classification", LABEL | SCORES),
    "linear support vectors": (svm.LinearSVC(), Y, "classification", LABEL | SCORES),
    "two classes of support vectors, whose scores have either sign": (
        svm.SVC(), TWO, "classification", LABEL,
    ),
    "a ridge classifier of two classes": (linear_model.RidgeClassifier(), TWO, "classification", LABEL),
    "several targets of neighbours": (
        neighbors.KNeighborsClassifier(), BOTH, "multi_label_classification",
        {"label": ("INT64", (-1, 2)), "probabilities": ("FP32", (2, -1, 2))},
    ),
    "several targets, whose probabilities are no tensor": (
        multioutput.MultiOutputClassifier(linear_model.LogisticRegression()), BOTH,
        "multi_label_classification", {"label": ("INT64", (-1, 2))},
    ),
    "linear regression": (linear_model.LinearRegression(), X[:, 0], "regression", NUMBER),
    "linear regression of two targets": (
        linear_model.LinearRegression(), X[:, :2], "regression", {"prediction": ("FP32", (-1, 2))},
    ),
    "a forest of regressors": (
        ensemble.RandomForestRegressor(10, random_state=0), X[:, 0], "regression", NUMBER,
    ),
    "support vector regression": (svm.SVR(), X[:, 0], "regression", NUMBER),
    "k-means": (cluster.KMeans(3, n_init=1, random_state=0), None, "other", LABEL | SCORES),
    "a Gaussian mixture": (
        mixture.GaussianMixture(3, random_state=0), None, "other", LABEL | THREE,
    ),
    "an isolation forest": (
        ensemble.IsolationForest(n_estimators=20, random_state=0), None, "anomaly",
        LABEL | {"scores": ("FP32", (-1,))},
    ),
    "a scaler": (preprocessing.StandardScaler(), None, "other", {"output": ("FP32", (-1, 4))}),
    "principal components": (
        decomposition.PCA(2), None, "other", {"output": ("FP32", (-1, 2))},
    ),
    "a chain of transformers": (
        steps(
            impute.SimpleImputer(), preprocessing.PolynomialFeatures(2, include_bias=False),
            feature_selection.SelectKBest(k=5),
        ),
        Y, "other", {"output": ("FP32", (-1, 5))},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "with_sample",
    [
        # Seven seconds together, and rarely what breaks alone.
        pytest.param(False, id="made-up rows", marks=pytest.mark.slow),
        pytest.param(True, id="given rows"),
    ],
)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_answers_as_the_original(name, with_sample, tmp_path):
    estimator, target, model_type, outputs = ESTIMATORS[name]
    estimator.fit(X, target)
    # A tenth of a millimetre past the measured values, which trees like to split between.
    sample = X + 0.01 if with_sample else None
    converted = convert(estimator, sample)
    conversion = check(converted)
    # Rounding to 32 bits; distances to centres are square roots of small differences.
    assert conversion.max_abs < 1e-4
    assert conversion.samples == 16
    assert converted.model_type == model_type
    assert signature(converted, tmp_path) == IN | outputs


class TestGolden:
    def test_the_answers_are_those_of_the_original(self):
        model = forest().fit(X, NAMES)
        golden = convert(model, X[::10]).golden
        rows = golden.inputs["input"].astype(np.float64)
        assert golden.outputs["label"].tolist() == [name.encode() for name in model.predict(rows)]
        np.testing.assert_array_equal(
            golden.outputs["probabilities"], model.predict_proba(rows).astype(np.float32)
        )

    def test_rows_are_spread_over_the_sample(self):
        model = forest().fit(X, Y)
        # The 150 rows are sorted by class: the first 16 would be all of one.
        assert set(convert(model, X).golden.outputs["label"].tolist()) == {0, 1, 2}

    def test_few_rows_are_taken_as_they_are(self):
        golden = convert(forest().fit(X, Y), X[:3]).golden
        np.testing.assert_array_equal(golden.inputs["input"], X[:3].astype(np.float32))

    def test_made_up_rows_are_where_the_training_rows_were(self):
        shifted = X * 10 + 1000
        model = steps(preprocessing.StandardScaler(), linear_model.LogisticRegression())
        rows = convert(model.fit(shifted, Y)).golden.inputs["input"]
        assert rows.shape == (16, 4)
        assert np.all(np.abs(rows.mean(axis=0) - shifted.mean(axis=0)) < 2 * shifted.std(axis=0))

    @pytest.mark.parametrize(
        "model",
        [
            forest(), naive_bayes.GaussianNB(), preprocessing.MinMaxScaler(), svm.SVC(),
            preprocessing.RobustScaler(), neighbors.KNeighborsClassifier(), impute.SimpleImputer(),
        ],
        ids=lambda model: type(model).__name__,
    )  # fmt: skip
    def test_what_an_estimator_remembers_is_used(self, model):
        shifted = X + 1000
        rows = convert(model.fit(shifted, Y)).golden.inputs["input"]
        assert np.all(np.abs(rows.mean(axis=0) - 1000) < 1000)
        assert rows.mean() > 500  # standard normal rows would be at 0

    def test_made_up_rows_are_the_same_each_time(self):
        model = forest().fit(X, Y)
        assert convert(model).golden.to_bytes() == convert(model).golden.to_bytes()

    def test_the_same_model_gives_the_same_bytes(self):
        model = steps(preprocessing.StandardScaler(), forest()).fit(X, Y)
        assert convert(model, X).files == convert(model, X).files


class TestInputs:
    @pytest.mark.parametrize(
        ("dtype", "datatype"),
        [
            ("f8", "FP32"),
            ("f4", "FP32"),
            ("f2", "FP32"),
            ("i8", "INT64"),
            ("i4", "INT64"),
            ("u1", "INT64"),
        ],
    )
    def test_the_samples_dtype_decides(self, dtype, datatype, tmp_path):
        rows = np.round(X * 10).astype(dtype)
        model = steps(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(
            rows, Y
        )
        converted = convert(model, rows)
        check(converted)
        assert signature(converted, tmp_path)["input"] == (datatype, (-1, 4))

    def test_a_list_of_rows_will_do(self):
        check(convert(forest().fit(X, Y), X[:5].tolist()))

    def test_texts_are_one_vector(self, tmp_path):
        model = steps(
            feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression()
        ).fit(TEXTS, [1, 0, 1, 0, 1, 0] * 3)
        converted = convert(model, TEXTS)
        check(converted)
        assert signature(converted, tmp_path)["input"] == ("BYTES", (-1,))

    def test_a_data_frame_of_numbers_is_one_input_a_column(self, tmp_path):
        frame = datasets.load_iris(as_frame=True).data
        frame["petal width (cm)"] = (frame["petal width (cm)"] * 10).round().astype(int)
        converted = convert(linear_model.LogisticRegression(max_iter=999).fit(frame, Y), frame)
        check(converted)
        assert signature(converted, tmp_path) == {
            "sepal length (cm)": ("FP32", (-1, 1)),
            "sepal width (cm)": ("FP32", (-1, 1)),
            "petal length (cm)": ("FP32", (-1, 1)),
            "petal width (cm)": ("INT64", (-1, 1)),
            **LABEL,
            **THREE,
        }

    def test_names_of_a_data_frame_are_known_without_a_sample(self):
        frame = datasets.load_iris(as_frame=True).data
        check(convert(forest().fit(frame, Y)))

    def test_columns_may_be_called_like_outputs(self, tmp_path):
        frame = pd.DataFrame(X, columns=["label", "probabilities", "input", "variable"])
        converted = convert(forest().fit(frame, Y), frame + 0.01)
        assert set(signature(converted, tmp_path)) == {
            *frame.columns,
            "label_out",
            "probabilities_out",
        }
        check(converted)


def mixed_frame() -> pd.DataFrame:
    frame = datasets.load_iris(as_frame=True).data
    frame["colour"] = np.where(Y == 0, "blue", np.where(X[:, 0] > 6, "violet", "lilac é"))
    frame["petals"] = np.arange(150) % 4
    frame.loc[3, "sepal length (cm)"] = np.nan
    return frame


def mixed_model(*last: Any) -> pipeline.Pipeline:
    numbers = [*datasets.load_iris().feature_names, "petals"]
    columns = compose.ColumnTransformer(
        [
            ("numbers", steps(impute.SimpleImputer(), preprocessing.StandardScaler()), numbers),
            ("names", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        ]
    )
    return steps(columns, *last)


class TestColumnTransformers:
    @pytest.mark.parametrize(
        "last",
        [
            (linear_model.LogisticRegression(),),
            (ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),),
            (),
        ],
        ids=["a classifier behind", "boosting behind", "nothing behind"],
    )
    def test_each_column_keeps_its_name_and_kind(self, last, tmp_path):
        frame = mixed_frame()
        converted = convert(mixed_model(*last).fit(frame, Y), frame)
        check(converted)
        read = signature(converted, tmp_path)
        assert read["sepal length (cm)"] == ("FP32", (-1, 1))
        assert read["colour"] == ("BYTES", (-1, 1))
        assert read["petals"] == ("INT64", (-1, 1))

    def test_categories_of_pandas_are_text(self):
        frame = mixed_frame()
        frame["colour"] = frame["colour"].astype("category")
        check(convert(mixed_model(linear_model.LogisticRegression()).fit(frame, Y), frame))

    def test_without_a_sample_the_columns_are_asked_for(self):
        model = mixed_model(linear_model.LogisticRegression()).fit(mixed_frame(), Y)
        with pytest.raises(ConversionError, match="cannot be told from the estimator") as caught:
            convert(model)
        assert caught.value.hint == "give some rows of it: sample=X[:16]"

    def test_missing_text_is_pointed_at(self):
        frame = mixed_frame()
        model = mixed_model(linear_model.LogisticRegression()).fit(frame, Y)
        frame.loc[0, "colour"] = None
        with pytest.raises(ConversionError, match="column 'colour' of the sample mixes text"):
            convert(model, frame)


class TestFacts:
    @pytest.mark.parametrize(
        ("target", "labels"),
        [
            (NAMES, ("setosa", "versicolor", "virginica")),
            (Y, ("0", "1", "2")),
            (TWO.astype(bool), ("False", "True")),
        ],
        ids=["names", "numbers", "truths"],
    )
    def test_classes_become_labels(self, target, labels):
        assert convert(forest().fit(X, target)).labels == labels

    def test_a_regressor_has_no_labels(self):
        assert convert(linear_model.LinearRegression().fit(X, X[:, 0])).labels == ()

    def test_where_it_comes_from_is_told(self):
        import skl2onnx
        import sklearn

        converted = convert(steps(preprocessing.StandardScaler(), forest()).fit(X, Y), X + 0.01)
        assert converted.source == "sklearn.pipeline.Pipeline"
        assert converted.tool == f"skl2onnx {skl2onnx.__version__}"
        assert converted.framework == "onnx"
        assert converted.metadata == {
            "estimator": "sklearn.ensemble.RandomForestClassifier",
            "scikit-learn": sklearn.__version__,
        }

    def test_older_engines_read_it(self):
        onnx = pytest.importorskip("onnx")
        model = onnx.load_from_string(convert(forest().fit(X, Y)).files["model.onnx"])
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
        assert model.ir_version <= 8
        onnx.checker.check_model(model)


def zeroed(content: bytes) -> bytes:
    """The same model with one coefficient set to nothing."""
    import onnx

    model = onnx.load_from_string(content)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coefficients":
                attribute.floats[0] = 0.0
    return model.SerializeToString()


class TestRefusals:
    def test_a_tampered_conversion_is_refused(self):
        converted = convert(linear_model.LogisticRegression(max_iter=500).fit(X, Y), X)
        broken = replace(converted, files={"model.onnx": zeroed(converted.files["model.onnx"])})
        with pytest.raises(
            ConversionError, match=r"disagree: output '\w+' differs at \[\d+"
        ) as caught:
            check(broken)
        assert caught.value.hint is not None
        assert "a wider atol or rtol" in caught.value.hint
        check(broken, Golden(rtol=100, atol=100))  # ... by a tolerance that allows anything

    def test_a_conversion_that_skl2onnx_gets_wrong_is_refused(self):
        # skl2onnx 1.20 interpolates other quantiles than scikit-learn.
        model = preprocessing.QuantileTransformer(n_quantiles=50).fit(X)
        with pytest.raises(ConversionError, match="output 'output' differs at"):
            check(convert(model, X))

    def test_a_conversion_that_cannot_be_run_is_refused(self):
        converted = convert(forest().fit(X, Y))
        broken = replace(converted, files={"model.onnx": b"nothing"})
        with pytest.raises(ConversionError, match="that cannot be run: onnx_cpu cannot load"):
            check(broken)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (
                linear_model.LogisticRegression(),
                "sklearn.linear_model.LogisticRegression is not fitted",
            ),
            (
                steps(preprocessing.StandardScaler(), svm.SVC()),
                "sklearn.pipeline.Pipeline is not fitted",
            ),
        ],
        ids=["an estimator", "a pipeline"],
    )
    def test_what_is_not_fitted_is_named(self, model, message):
        with pytest.raises(ConversionError, match=message) as caught:
            convert(model)
        assert caught.value.hint == "call its fit method before logging it"

    def test_what_skl2onnx_does_not_know_is_named(self):
        model = decomposition.FactorAnalysis(2).fit(X)
        with pytest.raises(
            ConversionError, match=r"cannot convert sklearn\.decomposition\.FactorAnalysis"
        ):
            convert(model)

    def test_what_answers_nothing_is_named(self):
        with pytest.raises(
            ConversionError, match=r"sklearn\.cluster\.DBSCAN has neither predict nor"
        ):
            convert(cluster.DBSCAN().fit(X))

    @pytest.mark.parametrize(
        ("sample", "message"),
        [
            (X[0], r"expected sample rows \[rows, features\], found shape \[4\]"),
            (X[:0], "the sample has no rows"),
            (X[:, :3], "cannot answer the sample rows: X has 3 features"),
            ([["a", 1.0, 2.0, None]], "the sample mixes text with other values"),
            (np.zeros((2, 4), "M8[s]"), r"the sample holds datetime64\[s\]"),
            (pd.DataFrame({1: [1.0]}), "column 1 of the sample needs a name"),
        ],
        ids=["one row", "no rows", "too few features", "mixed", "dates", "columns without names"],
    )
    def test_a_sample_that_does_not_fit_says_why(self, sample, message):
        with pytest.raises(ConversionError, match=message):
            convert(forest().fit(X, Y), sample)

    def test_made_up_rows_that_the_estimator_refuses_ask_for_real_ones(self):
        model = naive_bayes.CategoricalNB().fit(np.round(X).astype(int), Y)
        with pytest.raises(ConversionError, match="CategoricalNB cannot answer") as caught:
            convert(model)
        assert caught.value.hint == "these rows were made up; give some of its input: sample=X[:16]"

    @pytest.mark.parametrize(
        "thing",
        [object(), print, 3, "model.onnx"],
        ids=["an object", "a builtin", "a number", "a path"],
    )
    def test_what_no_converter_takes_is_named(self, thing: Any):
        with pytest.raises(PluginError, match="no converter takes a "):
            convert(thing)


def test_nothing_is_imported_to_find_out_that_nothing_matches():
    code = (
        "import sys; from nbmodel.convert import convert\n"
        "from nbmodel.errors import PluginError\n"
        "try: convert(object())\n"
        "except PluginError: print([m for m in ('sklearn', 'skl2onnx', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_warnings_of_the_tools_do_not_reach_the_user(recwarn: Any):
    frame = datasets.load_iris(as_frame=True).data
    convert(forest().fit(frame, Y), X)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("kind", ["alone", "in a pipeline", "with an array as sample"])
def test_names_of_columns_come_along_where_the_input_is_one(kind):
    frame = pd.DataFrame({"b": [1.0, 2.0, 3.0, 4.0], "a": [4.0, 3.0, 1.0, 2.0]})
    model = tree.DecisionTreeClassifier(random_state=0)
    if kind == "in a pipeline":
        model = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
    model.fit(frame, [0, 0, 1, 1])
    array = frame.to_numpy()
    assert convert(model, array if "array" in kind else None).columns == ("b", "a")
    assert convert(model, frame).columns == ()  # an input a column says it already
    assert convert(model.fit(array, [0, 0, 1, 1])).columns == ()
