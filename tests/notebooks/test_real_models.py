"""Real models, from the command line and from a notebook, with the answers they are known for.

Each goes through upload, show, deploy and infer, as a person would do it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.cli import main

pytestmark = pytest.mark.unhurried

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient")
nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
pytest.importorskip("ai_edge_litert", reason="needs nbmodel[runtime]")

PRINT = "import json\nprint(json.dumps(r.to_json()))\nr"
Check = Callable[[dict[str, Any]], None]


def _outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output for output in answer["outputs"]}


def _is_a_macaw(answer: dict[str, Any]) -> None:
    best = answer["classes"][0][0]
    assert (best["label"], best["index"]) == ("macaw", 89)


def _has_a_cat(answer: dict[str, Any]) -> None:
    cats = [box for box in answer["boxes"] if box["label"] == "cat"]
    assert len(cats) == 1
    left, top, right, bottom = cats[0]["xyxy"]
    assert right - left > 400  # it fills most of the 1,280 x 720 picture
    assert bottom - top > 400
    assert cats[0]["score"] > 0.6


def _has_kites(answer: dict[str, Any]) -> None:
    assert {"kite", "person"} & {box["label"] for box in answer["boxes"]}


def _shape(*shape: int) -> Check:
    def check(answer: dict[str, Any]) -> None:
        (output,) = _outputs(answer).values()
        assert output["shape"] == list(shape)

    return check


def _is_a_nine(answer: dict[str, Any]) -> None:
    assert answer["classes"][0][0]["index"] == 9


MODELS = [
    pytest.param(
        "mobilenet_v2_1.0_224_quant.tflite",
        ["--labels", "imagenet_labels.txt"],
        "parrot.jpg",
        _is_a_macaw,
        id="MobileNet v2 sees a macaw",
    ),
    pytest.param(
        "mobilenet_v1_0.25_224_quant_with_metadata.tflite",
        [],
        "parrot.jpg",
        _shape(1, 1001),
        id="MobileNet v1 with labels inside",
    ),
    pytest.param(
        "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite",
        [],
        "cat_720p.jpg",
        _has_a_cat,
        id="the COCO detector sees a cat",
    ),
    pytest.param(
        "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite",
        [],
        "kite_and_cold.jpg",
        _has_kites,
        id="the COCO detector sees kites",
    ),
    pytest.param(
        "deeplabv3_mnv2_dm05_pascal_quant.tflite",
        ["--type", "segmentation"],
        "cat_720p.jpg",
        _shape(1, 513, 513),
        id="DeepLab gives a class a pixel",
    ),
    pytest.param(
        "movenet_single_pose_lightning_ptq.tflite",
        ["--type", "keypoints"],
        "kite_and_cold.jpg",
        _shape(1, 1, 17, 3),
        id="MoveNet gives 17 points",
    ),
    pytest.param(
        "keras_lstm_mnist_ptq.tflite",
        ["--type", "classification"],
        "mnist_nine.bmp",
        _is_a_nine,
        id="the digit is a nine",
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "home"


@pytest.fixture(scope="module", autouse=True)
def runtime(home: Path) -> Iterator[str]:
    """A runtime, ``edge``, that the command line and the notebooks know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBMODEL_HOME", str(home))
        assert main(["runtime", "start", "edge"]) == 0
        yield "edge"
        assert main(["runtime", "remove", "edge"]) == 0


def _words(model: str, options: list[str], models: Path) -> list[str]:
    return [str(models / word) if word.endswith((".tflite", ".txt")) else word for word in options]


@pytest.mark.parametrize(("model", "options", "picture", "check"), MODELS)
def test_from_the_command_line(
    model: str,
    options: list[str],
    picture: str,
    check: Check,
    test_models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*words: str) -> Any:
        assert main([*words, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    name = model.split("_", maxsplit=1)[0]
    options = _words(model, options, test_models)
    uploaded = run("upload", str(test_models / model), "--name", name, *options)
    assert run("show", uploaded["reference"])["digest"] == uploaded["digest"]
    run("deploy", uploaded["reference"], "--on", "edge")
    answer = run("infer", f"{name}@edge", str(test_models / picture))
    check(answer)
    here = run("infer", uploaded["reference"], str(test_models / picture))
    check(here)


@pytest.mark.slow
def test_from_a_notebook(test_models: Path, home: Path, tmp_path: Path) -> None:
    cells = ["%load_ext nbmodel"]
    wanted: list[Check] = []
    for index, parameters in enumerate(MODELS):
        model, options, picture, check = parameters.values
        words = " ".join(repr(word) for word in _words(model, options, test_models))
        cells += [
            f"v = %mlmodel upload '{test_models / model}' --name nb{index} {words}\nv",
            f"%mlmodel deploy nb{index} --on edge",
            f"r = %mlmodel infer nb{index}@edge '{test_models / picture}'\n{PRINT}",
        ]
        wanted.append(check)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": tmp_path}}
    ).execute()
    answers = [cell for cell in notebook.cells if "json.dumps" in cell.source]
    for cell, check in zip(answers, wanted, strict=True):
        printed = "".join(out["text"] for out in cell.outputs if out.get("name") == "stdout")
        check(json.loads(printed.strip().splitlines()[-1]))
        (shown,) = [out for out in cell.outputs if out.output_type == "execute_result"]
        assert len(shown["data"]["text/html"]) < 250_000
    nbformat.validate(notebook)


def test_a_model_that_no_engine_can_run_takes_nothing_down(
    test_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = test_models / "mobilenet_v2_1.0_224_quant.tflite"
    labels = test_models / "imagenet_labels.txt"
    assert main(["upload", str(model), "--name", "steady", "--labels", str(labels)]) == 0
    assert main(["deploy", "steady", "--on", "edge"]) == 0
    broken = test_models / "model_invoking_error.tflite"
    assert main(["upload", str(broken), "--name", "broken", "--type", "other"]) == 0
    capsys.readouterr()
    assert main(["deploy", "broken", "--on", "edge"]) != 0
    refused = capsys.readouterr().err
    assert "custom op" in refused.lower() or "operator" in refused.lower(), refused
    assert main(["infer", "steady@edge", str(test_models / "parrot.jpg")]) == 0
    assert "macaw" in capsys.readouterr().out
