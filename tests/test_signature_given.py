"""Signatures that a person gives, from the words to the card of the version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.cli import main
from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor, check_inputs, describe
from nbmodel.errors import DatatypeError, InputError, ShapeError, TensorNameError
from nbmodel.formats import ModelFacts
from nbmodel.local import observe_facts
from nbmodel.protocol.tensor import datatype_of

OUTPUTS: dict[str, Any] = {"outputs": {"y": {"dtype": "float32", "shape": [-1, 3]}}}
SERVING = """kind: Model
name: linear
runtime: python
contract:
  name: predict
  inputs:
    x: {shape: [-1, 2], type: float32, profile: numerical}
  outputs:
    y: {shape: [-1, 3], type: float32, profile: numerical}
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.fixture
def script() -> Path:
    """What torch.jit.save wrote of a module with one input ``x`` and one output."""
    return Path(__file__).parent / "data" / "formats" / "torch" / "scripted.pt"


def described(card: Any) -> list[str]:
    return [describe(one) for one in (*card.signature.inputs, *card.signature.outputs)]


def upload(client: Client, path: Path, **given: Any) -> Any:
    return client.upload(path, name="m", type="regression", **given)


def test_a_given_signature_adds_to_the_file_s(client: Client, linear_onnx: Path) -> None:
    said = {
        "inputs": {"x": {"profile": "numerical", "labels": ["p", "q"]}},
        "outputs": {"y": {"labels": ["a", "b", "c"], "description": "scores"}},
    }
    card = upload(client, linear_onnx, signature=said)
    assert described(card) == ["x FP32[-1,2]", "y FP32[-1,3]"]
    assert card.signature.inputs[0].columns == ("p", "q")
    assert card.signature.outputs[0].labels == ("a", "b", "c")
    for part in ("numerical; 2 columns", "3 labels; scores"):
        assert part in str(card)


@pytest.mark.parametrize(
    ("said", "error", "problem"),
    [
        pytest.param("int64[-1,2]", DatatypeError, "input 'x' is FP32 in the model, INT64 in", id="type"),
        pytest.param("float32[-1,3]", ShapeError, r"input 'x' has shape \(-1, 2\) in the model, \(-1, 3\)", id="shape"),
        pytest.param("float32[2]", ShapeError, "input 'x' has shape", id="rank"),
    ],
)  # fmt: skip
def test_a_contradiction_names_the_tensor(
    client: Client, linear_onnx: Path, said: str, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        upload(client, linear_onnx, signature={"inputs": {"x": said}})
    with pytest.raises(TensorNameError, match="has input 'z', the model has 'x'"):
        upload(client, linear_onnx, signature={"inputs": {"z": said}})


def test_a_file_that_tells_nothing_takes_all_of_it(client: Client, script: Path) -> None:
    said = {"inputs": {"pixels": "float32[-1,3,8,8]"}, **OUTPUTS}
    assert described(upload(client, script, signature=said)) == [
        "pixels FP32[-1,3,8,8]",
        "y FP32[-1,3]",
    ]


def test_a_sample_says_the_inputs_of_such_a_file(client: Client, script: Path) -> None:
    sample = np.zeros((1, 3, 8, 8), np.float32)
    card = upload(client, script, signature=OUTPUTS, sample=sample)
    assert described(card) == ["x FP32[-1,3,8,8]", "y FP32[-1,3]"]
    assert card.manifest.golden is None
    (note,) = card.notes
    assert note.startswith("it has no golden sample")
    assert "no backend runs 'torchscript' files right here" in note


def test_outputs_that_nobody_tells_are_asked_for(client: Client, script: Path) -> None:
    with pytest.raises(InputError, match=r"the sample tells its inputs, x FP64\[-1,2\]") as caught:
        upload(client, script, sample=[[1.0, 2.0]])
    assert '--signature \'{"outputs"' in (caught.value.hint or "")
    with pytest.raises(InputError, match="without its signature: TorchScript does not") as caught:
        upload(client, script)
    assert "--signature" in (caught.value.hint or "")
    assert client.list() == []


def test_columns_and_categories_of_a_data_frame_are_on_the_card(
    client: Client, script: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"p": [1.0], "q": [2.0]})
    card = upload(client, script, signature=OUTPUTS, sample=table)
    assert card.signature.inputs[0].columns == ("p", "q")
    assert "2 columns of x" in str(card)
    assert "p · q" in str(card)


def test_categories_of_columns_side_by_side_are_kept_beside(
    client: Client, script: Path, linear_onnx: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"p": [1.0], "q": pandas.Categorical([2.0], categories=[1.0, 2.0])})
    for card in (
        upload(client, script, signature=OUTPUTS, sample=table),
        upload(client, linear_onnx, sample=table),
    ):
        assert card.signature.inputs[0].columns == ("p", "q")
        assert card.metadata["categories"] == {"q": ["1.0", "2.0"]}


def test_an_object_is_logged_with_what_the_sample_and_the_person_say(client: Client) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("skl2onnx")
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pandas.DataFrame(
        {
            "size": [1.0, 2.0, 3.0, 4.0],
            "colour": pandas.Categorical(["red", "blue", "red", "green"]),
        }
    )
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"),
        LogisticRegression(),
    ).fit(table, [0, 1, 0, 1])
    card = client.log(
        "m", model, sample=table, signature={"inputs": {"size": {"description": "cm"}}}
    )
    by_name = {one.name: one for one in card.signature.inputs}
    assert by_name["colour"].labels == ("blue", "green", "red")
    assert by_name["colour"].profile == "categorical"
    assert by_name["size"].description == "cm"
    assert "categorical; 3 known values (blue · green · red)" in str(card)
    assert client.infer("m", table[:1])["label"].shape == (1,)
    colours = {client.dummy_inputs("m", seed=seed)["colour"][0, 0] for seed in range(20)}
    assert colours == {b"blue", b"green", b"red"}
    assert client.infer("m", client.dummy_inputs("m"))["label"].shape == (1,)
    with pytest.raises(TensorNameError, match="has input 'width', the model has"):
        client.log("m", model, sample=table, signature={"inputs": {"width": "float32"}})


@pytest.mark.unhurried
def test_what_is_given_goes_to_the_background_with_the_rest(
    client: Client, linear_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "serving.yaml").write_text(SERVING)
    with pytest.raises(InputError, match="unknown type"):
        upload(client, linear_onnx, signature={"inputs": {"x": "flaot"}}, background=True)
    transfer = upload(client, linear_onnx, signature=tmp_path / "serving.yaml", background=True)
    assert transfer.result().signature.inputs[0].profile == "numerical"


@pytest.fixture
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("_home")
def test_a_shell_gives_a_file_or_json(
    linear_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serving.yaml").write_text(SERVING)
    words = ["upload", str(linear_onnx), "--name", "m", "--type", "regression", "--json"]
    given = (str(tmp_path / "serving.yaml"), '{"inputs": {"x": {"profile": "numerical"}}}')
    for said in given:
        assert main([*words, "--signature", said]) == 0
        version = json.loads(capsys.readouterr().out)
        assert version["signature"]["inputs"][0]["profile"] == "numerical"
    assert main([*words, "--signature", '{"inputs": {"x": "flaot"}}']) != 0
    assert "inputs.x: tensor 'x': unknown type 'flaot'" in capsys.readouterr().err


@pytest.mark.usefixtures("_home")
def test_a_shell_tries_a_model_out_with_made_up_inputs(
    linear_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upload", str(linear_onnx), "--name", "m", "--type", "regression"]) == 0
    for words, rows in (([], 1), (["--shape", "x:5,2", "--seed", "3"], 5)):
        capsys.readouterr()
        assert main(["infer", "m", "--dummy", *words, "--json"]) == 0
        (output,) = json.loads(capsys.readouterr().out)["outputs"]
        assert output["shape"] == [rows, 3]
    assert main(["infer", "m", "--dummy"]) == 0
    assert "the inputs are made up from what the model takes (seed 0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param([], "no input is given", id="neither"),
        pytest.param(["rows.csv", "--dummy"], "both --dummy and inputs", id="both"),
        pytest.param(["rows.csv", "--seed", "1"], "for made-up inputs", id="a seed"),
        pytest.param(["--dummy", "--shape", "x"], "expected NAME:N,N", id="a name alone"),
        pytest.param(["--dummy", "--shape", "x:1,a"], "expected NAME:N,N", id="a letter"),
        pytest.param(["--dummy", "--shape", "z:1,2"], "no input 'z' to give a shape to", id="a name"),
        pytest.param(["--dummy", "--shape", "x:1,4"], r"expected a shape of x FP32[-1,2], found [1, 4]", id="a shape"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_home")
def test_wrong_words_about_made_up_inputs_are_told(
    linear_onnx: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert main(["upload", str(linear_onnx), "--name", "m", "--type", "regression"]) == 0
    assert main(["infer", "m", *words]) != 0
    assert problem in capsys.readouterr().err


def test_a_notebook_gives_an_object(
    tmp_path: Path, linear_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))
    shell = interactive.InteractiveShell()
    mapping = '{"inputs": {"x": {"profile": "numerical"}}}'
    for cell in (
        "%load_ext nbmodel",
        "said = {'inputs': {'x': {'profile': 'numerical'}}}",
        f"a = %mlmodel upload {linear_onnx} --name m --type regression --signature said",
        f"b = %mlmodel upload {linear_onnx} --name m --type regression --signature {mapping}",
        "c = %mlmodel infer m --dummy",
    ):
        shell.run_cell(cell).raise_error()
    for name in "ab":
        assert shell.user_ns[name].signature.inputs[0].profile == "numerical"
    assert shell.user_ns["c"]["y"].shape == (1, 3)


def test_made_up_inputs_run_through_every_real_model(client: Client, test_models: Path) -> None:
    for path in sorted(test_models.glob("*.tflite")):
        if path.stat().st_size > 5_000_000 or "error" in path.name:
            continue
        name = path.stem.lower().replace("_", "-")
        card = client.upload(path, name=name, type="other")
        made = client.dummy_inputs(card.reference)
        check_inputs(
            card.signature,
            {key: (datatype_of(one, what=key), one.shape) for key, one in made.items()},
        )
        answers = client.infer(card.reference, made)
        assert set(answers) == {one.name for one in card.signature.outputs}


def test_outputs_are_what_the_model_answers_to_the_sample(linear_onnx: Path) -> None:
    untold = ModelFacts("onnx", Signature((Tensor("x", "UNKNOWN", None),)), gap="nothing is told")
    sample = np.ones((2, 2), np.float32)
    facts, observed = observe_facts(linear_onnx, untold, sample, {})
    tensors = (*facts.signature.inputs, *facts.signature.outputs)
    assert list(map(describe, tensors)) == ["x FP32[-1,2]", "y FP32[-1,3]"]
    assert facts.gap == ""
    assert observed.arrays["x"].shape == (2, 2)


def test_answers_in_the_sample_tell_the_outputs(client: Client, script: Path) -> None:
    sample = {"x": np.ones((2, 4), np.float32), "OUTPUT__0": np.ones((2, 3), np.float32)}
    card = upload(client, script, sample=sample)
    assert described(card) == ["x FP32[-1,4]", "OUTPUT__0 FP32[-1,3]"]
    assert card.manifest.golden is not None


def double(size: Any, colour: Any) -> Any:
    return {"twice": size * 2, "same": colour}


def test_a_function_takes_a_column_of_a_data_frame_for_each_parameter(client: Client) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"size": [1.0, 2.0], "colour": ["red", "blue"], "rest": [0, 0]})
    table = table.astype({"colour": "category", "rest": "category"})
    card = client.log("m", double, type="other", sample=table)
    assert described(card) == [
        "size FP64[-1,1]", "colour BYTES[-1,1]", "twice FP64[-1,1]", "same BYTES[-1,1]",
    ]  # fmt: skip
    size, colour = card.signature.inputs
    assert (size.profile, colour.profile, colour.labels) == (
        "numerical", "categorical", ("blue", "red"),
    )  # fmt: skip
    assert card.metadata == {}
