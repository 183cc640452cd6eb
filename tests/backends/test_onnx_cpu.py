"""What is particular to ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Session, open_session
from nbmodel.errors import DatatypeError, InferenceError

onnx = pytest.importorskip("onnx", reason="toy models are made with onnx")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def model_of(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    initializers: tuple[Any, ...] = (),
    *,
    ir_version: int = 8,
    opset: int = 17,
) -> Any:
    graph = helper.make_graph(nodes, "toy", inputs, outputs, list(initializers))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )


def value(name: str, shape: Any = (3,), kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def load(tmp_path):
    def load_model(model: Any) -> Session:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return open_session(path, "onnx")

    return load_model


def test_a_toy_answers_in_closed_form(linear_onnx):
    session = open_session(linear_onnx, "onnx")
    assert session.infer({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[15, 27, 39]]


def test_it_answers_as_the_reference_evaluator_does(load):
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"], axis=-1),
    ]
    model = model_of(nodes, [value("x", ["n", 3, 8, 8])], [value("y", ["n", 4])], (weights,))
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    # Sums of 27 products in 32 bits, in another order than the reference's.
    np.testing.assert_allclose(load(model).infer({"x": x})["y"], expected, rtol=1e-5)


def test_weights_beside_the_model_are_found(tmp_path):
    weights = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")], (weights,)
    )
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="model.bin", size_threshold=0)
    assert (path.parent / "model.bin").exists()
    session = open_session(path, "onnx")
    assert session.infer({"x": np.zeros(3, np.float32)})["y"].tolist() == [0, 1, 2]


def test_weights_that_are_missing_are_named(tmp_path):
    weights = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")], (weights,)
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.bin", size_threshold=0)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(InferenceError, match=r"onnx_cpu cannot load model\.onnx: .*model\.bin"):
        open_session(path, "onnx")


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
def test_an_input_of_unknown_rank_takes_any(load, shape):
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", None)], [value("y", None)]
    )
    x = np.full(shape, 2, np.float32)
    answer = load(model).infer({"x": x})["y"]
    assert answer.shape == shape
    assert np.array_equal(answer, x)


def test_a_scalar_stays_a_scalar(load):
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [value("x", [])], [value("y", [])])
    answer = load(model).infer({"x": np.array(2, np.float32)})["y"]
    assert answer.shape == ()
    assert answer == -2


def test_a_scalar_of_text_stays_a_scalar(load):
    kind = TensorProto.STRING
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", [], kind)],
        [value("y", [], kind)],
    )
    answer = load(model).infer({"x": np.array("é")})["y"]
    assert answer.shape == ()
    assert answer.item() == "é".encode()


def test_bytes_that_are_not_utf_8_are_pointed_at(load):
    kind = TensorProto.STRING
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", [2], kind)],
        [value("y", [2], kind)],
    )
    with pytest.raises(DatatypeError, match=r"input 'x' at \[1\] is not UTF-8"):
        load(model).infer({"x": np.array([b"fine", b"\xff"], object)})


def test_an_output_that_no_protocol_carries_can_be_left_out(load):
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model = model_of(
        [
            helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
            helper.make_node("Neg", ["x"], ["y"]),
        ],
        [value("x")],
        [sequence, value("y")],
    )
    session = load(model)
    assert [tensor.datatype for tensor in session.signature.outputs] == ["SEQUENCE", "FP32"]
    x = np.ones(3, np.float32)
    with pytest.raises(DatatypeError, match="output 's' is SEQUENCE") as caught:
        session.infer({"x": x})
    assert caught.value.hint == "ask for y alone"
    assert session.infer({"x": x}, ["y"])["y"].tolist() == [-1, -1, -1]


def test_initializers_that_are_listed_as_inputs_need_not_be_given(load):
    weights = numpy_helper.from_array(np.ones(3, np.float32), "w")
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x"), value("w")],
        [value("y")],
        (weights,),
        ir_version=3,
        opset=9,
    )
    session = load(model)
    assert [tensor.name for tensor in session.signature.inputs] == ["x"]
    assert session.infer({"x": np.zeros(3, np.float32)})["y"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("ir_version", "opset"), [(99, 17), (8, 99)], ids=["IR version", "operator set"]
)
def test_a_model_newer_than_the_engine_says_what_to_do(load, ir_version, opset):
    node = helper.make_node("Neg", ["x"], ["y"])
    model = model_of([node], [value("x")], [value("y")], ir_version=ir_version, opset=opset)
    with pytest.raises(InferenceError, match=r"model\.onnx is written for a newer ONNX") as caught:
        load(model)
    assert caught.value.hint == "export it again with an older opset, or upgrade onnxruntime"


def test_an_operator_that_nobody_has_is_named(load):
    model = model_of(
        [helper.make_node("FlyToTheMoon", ["x"], ["y"], domain="space")], [value("x")], [value("y")]
    )
    model.opset_import.append(helper.make_opsetid("space", 1))
    with pytest.raises(InferenceError, match="FlyToTheMoon"):
        load(model)


def test_an_error_while_running_names_the_node_and_stays_off_stderr(tmp_path: Path):
    model = model_of(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="fold")],
        [value("x"), value("s", [1], TensorProto.INT64)],
        [value("y", None)],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from nbmodel.backends import open_session; from nbmodel.errors import InferenceError\n"
        "session = open_session(Path(sys.argv[1]), 'onnx')\n"
        "try: session.infer({'x': np.ones(3, 'f4'), 's': np.array([7])})\n"
        "except InferenceError as exc: print(exc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "model.onnx cannot be run" in done.stdout
    assert "fold" in done.stdout
    assert done.stderr == ""


def test_a_category_that_is_new_to_the_model_says_what_to_do(load):
    encode = helper.make_node(
        "OneHotEncoder", ["x"], ["y"], domain="ai.onnx.ml", cats_strings=["red"], zeros=0
    )
    model = model_of([encode], [value("x", (1,), TensorProto.STRING)], [value("y", None)])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    with pytest.raises(InferenceError, match="category that it was not trained with") as caught:
        load(model).infer({"x": np.array(["blue"], object)})
    assert 'OneHotEncoder(handle_unknown="ignore")' in str(caught.value.hint)
