"""Vision services in a whole runtime: real engines, real models, real pictures."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import (
    ConfigError,
    InferenceError,
    InputError,
    TargetError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.app import make_app
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.vision_service import Served, VisionService
from nbmodel.vision.viam.picture import read_picture

SETTLE_S = 60.0
SSD = "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite"
MOBILENET = "mobilenet_v2_1.0_224_quant.tflite"
SEGMENTER = "deeplabv3_mnv2_dm05_pascal_quant.tflite"
ZERO = "input_image_std_dev is not allowed to have 0 values, will cause division by 0"
GREY = Image.new("RGB", (8, 8), (128, 128, 128))


def model(*nodes: Any, inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any) -> bytes:
    """An ONNX model; inputs and outputs are FP32, or UINT8 when called ``image``."""

    def values(shapes: dict[str, Any]) -> list[Any]:
        return [
            helper.make_tensor_value_info(
                name, TensorProto.UINT8 if name == "image" else TensorProto.FLOAT, shape
            )
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(
        list(nodes),
        "toy",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


def mean_classifier(*weights: float, name: str = "x", size: int = 4) -> bytes:
    """Scores: the mean of channel-first floats, times each of the weights."""
    return model(
        helper.make_node("ReduceMean", [name], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "row"], ["column"]),
        helper.make_node("Mul", ["column", "weights"], ["y"]),
        inputs={name: [1, 3, size, size]},
        outputs={"y": [1, len(weights)]},
        weights=np.array([weights], np.float32),
        row=np.array([1, 1], np.int64),
    )


def fixed_detector(scores: list[list[float]]) -> bytes:
    """Two boxes wherever it looks: ``location`` and ``score``, one score a class."""
    boxes = np.array([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]], np.float32)
    return model(
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["levels"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["boxes", "zero"], ["location"]),
        helper.make_node("Add", ["scores", "zero"], ["score"]),
        inputs={"image": [1, 4, 4, 3]},
        outputs={"location": [1, 2, 4], "score": [1, 2, len(scores[0])]},
        nothing=np.zeros((), np.float32),
        boxes=boxes,
        scores=np.array([scores], np.float32),
    )


def ml_service(name: str, path: Path | str) -> dict[str, Any]:
    backend = "tflite_cpu" if str(path).endswith(".tflite") else "onnx_cpu"
    return {
        "name": name,
        "api": "rdk:service:mlmodel",
        "model": backend,
        "attributes": {"model_path": str(path)},
    }


def vision(name: str = "eye", model: str = "mlmodel", **attributes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "api": "rdk:service:vision",
        "model": model,
        "attributes": {"mlmodel_name": "toy", **attributes},
    }


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path / "home", name="here", environment={})
    yield runtime
    runtime.close()


def follow(runtime: EdgeRuntime, *services: dict[str, Any], **more: Any) -> None:
    runtime.set_config({"services": list(services), **more}, if_match=None)
    assert runtime.wait_settled(SETTLE_S)


def push(
    runtime: EdgeRuntime,
    number: int,
    content: bytes,
    labels: tuple[str, ...],
    *,
    classes: int | None = None,
) -> None:
    """Put a version of ``toy`` on the disk of a runtime, as a push does."""
    storage = runtime.storage
    output = Tensor("y", "FP32", (1, classes or len(labels)), labels=labels)
    size = 4 * number
    manifest = Manifest(
        name="toy",
        created=f"2026-02-28T00:00:{number:02d}.000000Z",
        files=(FileEntry("model.onnx", len(content), storage.add_bytes(content)),),
        framework="onnx",
        model_type="other",
        signature=Signature((Tensor("x", "FP32", (1, 3, size, size)),), (output,)),
    )
    storage.add_bytes(manifest.config_bytes())
    digest = storage.add_bytes(manifest.manifest_bytes())
    for tag in (str(number), "latest"):
        runtime.tags.set("toy", tag, digest)
    runtime.tags_changed("toy")
    assert runtime.wait_settled(SETTLE_S)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A model that any picture makes ``[0.25, 0.5]`` times its mean of −1 to 1."""
    path = tmp_path / "toy.onnx"
    path.write_bytes(mean_classifier(0.25, 0.5))
    return path


# Real models


def test_a_real_detector_finds_the_cat(runtime: EdgeRuntime, test_models: Path) -> None:
    follow(
        runtime,
        ml_service("toy", test_models / SSD),
        vision(default_minimum_confidence=0.5),
    )
    eye = runtime.vision("eye")
    properties = eye.properties()
    assert (properties.detections_supported, properties.classifications_supported) == (True, False)
    picture = read_picture((test_models / "cat_720p.jpg").read_bytes())
    (cat,) = eye.detections(picture)
    assert cat.class_name == "cat"
    assert 0.6 < cat.confidence < 0.9
    # The cat's ears and paws, by eye, on a picture of 1280 by 720.
    expected = (100, 95, 920, 700)
    assert np.allclose((cat.x_min, cat.y_min, cat.x_max, cat.y_max), expected, atol=25)
    assert cat.x_min == int(cat.x_min_normalized * 1279)
    with pytest.raises(UnsupportedError, match='vision model "eye" does not implement a Class'):
        eye.classifications(picture, 1)


def test_a_real_classifier_names_the_parrot(runtime: EdgeRuntime, test_models: Path) -> None:
    labels = test_models / "imagenet_labels.txt"
    follow(
        runtime,
        ml_service("toy", test_models / MOBILENET),
        vision(label_path=str(labels)),
        vision("plain"),
        vision(
            "strict",
            "rdk:builtin:mlmodel",
            label_path=str(labels),
            label_confidences={"MACAW": 0.5},
        ),
    )
    picture = read_picture((test_models / "parrot.jpg").read_bytes())
    (best,) = runtime.vision("eye").classifications(picture, 1)
    assert (best.class_name, best.confidence > 0.9) == ("macaw", True)
    (own,) = runtime.vision("plain").classifications(picture, 1)
    assert own.class_name == "macaw"  # the file itself has labels
    assert len(runtime.vision("plain").classifications(picture, 0)) == 1001
    assert [one.class_name for one in runtime.vision("strict").classifications(picture, 0)] == [
        "macaw"
    ]
    with pytest.raises(UnsupportedError, match='vision model "eye" does not implement a Detector'):
        runtime.vision("eye").detections(picture)


def test_a_model_that_is_neither_is_told_when_it_is_configured(
    runtime: EdgeRuntime, test_models: Path
) -> None:
    follow(runtime, ml_service("toy", test_models / SEGMENTER), vision())
    (entry,) = runtime.status()["vision"]
    assert entry["state"] == "failed"
    for part in (
        'model "toy" does not fulfill any method of the vision service',
        "cannot use model as a classifier: output 'ArgMax' of shape [1, 513, 513] is no list",
        "cannot use model as a detector: no output holds boxes",
        "takes MobilenetV2/MobilenetV2/input UINT8[1,513,513,3] and gives ArgMax INT64[1,513,513]",
    ):
        assert part in entry["error"]
    for ask in (runtime.vision("eye").properties, lambda: runtime.vision("eye").detections(GREY)):
        with pytest.raises(InferenceError, match="does not fulfill any method"):
            ask()


# Toy models


def test_pictures_go_in_as_configured(runtime: EdgeRuntime, toy: Path) -> None:
    follow(
        runtime, ml_service("toy", toy), vision(), vision("light", input_image_mean_value=[0, 0, 0])
    )
    # 128 / 255 = 0.50196; half of it off and doubled: 0.00392.
    plain = runtime.vision("eye").classifications(GREY, 0)
    assert [one.confidence for one in plain] == pytest.approx([0.00392 / 4, 0.00392 / 2], rel=1e-3)
    light = runtime.vision("light").classifications(GREY, 1)
    assert light[0].confidence == pytest.approx(0.50196, rel=1e-4)


def test_a_detector_of_two_outputs_works_as_it_is(runtime: EdgeRuntime, tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(fixed_detector([[0.1, 0.9, 0.2], [0.7, 0.3, 0.6]]))
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n\neel\n")
    follow(
        runtime,
        ml_service("toy", path),
        vision(label_path=str(labels), xmin_ymin_xmax_ymax_order=[0, 1, 2, 3]),
    )
    found = runtime.vision("eye").detections(Image.new("RGB", (101, 51)))
    assert [(one.class_name, round(one.confidence, 3), one.x_min, one.y_max) for one in found] == [
        ("1", 0.9, 0, 25),  # the blank line keeps its index
        ("cat", 0.7, 50, 50),
    ]


def test_two_labels_too_few_are_told_when_they_are_configured(
    runtime: EdgeRuntime, toy: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    follow(runtime, ml_service("toy", toy), vision(label_path=str(labels)))
    (entry,) = runtime.status()["vision"]
    assert "length of output (2) expected to be length of label list (3)" in entry["error"]
    assert "the model takes x FP32[1,3,4,4] and gives y FP32[1,2]" in entry["error"]


def test_a_label_file_that_is_not_there_is_told(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision(label_path="/nowhere/labels.txt"))
    (entry,) = runtime.status()["vision"]
    says = "failed to read file /nowhere/labels.txt: No such file or directory"
    assert (entry["state"], entry["error"]) == ("failed", says)
    with pytest.raises(UnavailableError, match=says):
        runtime.vision("eye")


def test_a_model_service_that_runs_nothing_is_told(runtime: EdgeRuntime, tmp_path: Path) -> None:
    follow(runtime, ml_service("toy", tmp_path / "gone.onnx"), vision())
    (entry,) = runtime.status()["vision"]
    assert entry["error"].startswith("model service 'toy' is not ready: model_path is not a file")
    with pytest.raises(UnavailableError, match="model service 'toy' is not ready"):
        runtime.vision("eye").classifications(GREY, 1)


# Versions


@pytest.fixture
def versions(runtime: EdgeRuntime) -> EdgeRuntime:
    """A runtime whose vision service follows the versions of package ``toy``."""
    package = {"name": "toy", "package": "local/toy", "version": "latest", "type": "ml_model"}
    path = "${packages.ml_model.toy}/model.onnx"
    follow(
        runtime,
        ml_service("toy", path),
        vision(input_image_mean_value=[0, 0, 0], input_image_std_dev=[1, 1, 1]),
        packages=[package],
    )
    return runtime


def test_it_follows_the_versions_of_its_model(versions: EdgeRuntime) -> None:
    assert versions.status()["vision"][0]["state"] == "failed"
    push(versions, 1, mean_classifier(0.25, 0.5), ("cat", "dog"))
    eye = versions.vision("eye")
    white = Image.new("L", (3, 3), 255)
    assert [(one.class_name, one.confidence) for one in eye.classifications(white, 2)] == [
        ("dog", 0.5),
        ("cat", 0.25),
    ]
    push(versions, 2, mean_classifier(0.25, 0.5, 0.75, size=8), ("cat", "dog", "eel"))
    assert eye.classifications(white, 1)[0].class_name == "eel"
    assert versions.vision("eye") is eye
    (entry,) = versions.status()["vision"]
    assert (entry["state"], entry["inferences"], entry["classifications"]) == ("ready", 2, True)


def test_a_version_that_does_not_fit_is_told_and_the_next_one_serves(versions: EdgeRuntime) -> None:
    push(versions, 1, mean_classifier(0.25, 0.5), ("cat", "dog"))
    push(versions, 2, mean_classifier(0.25, 0.5, size=8), ("cat", "dog", "eel"), classes=2)
    (entry,) = versions.status()["vision"]
    assert entry["state"] == "failed"
    assert "length of output (2) expected to be length of label list (3)" in entry["error"]
    push(versions, 3, mean_classifier(0.25, 0.5, size=12), ("cat", "dog"))
    assert versions.status()["vision"][0]["state"] == "ready"
    assert len(versions.vision("eye").classifications(GREY, 0)) == 2


def test_no_answer_is_wrong_while_versions_change(versions: EdgeRuntime) -> None:
    push(versions, 1, mean_classifier(1.0, 0.5), ("one", "half"))
    eye, stop, wrong = versions.vision("eye"), threading.Event(), []
    white = Image.new("L", (3, 3), 255)

    def look() -> None:
        while not stop.is_set():
            found = {one.class_name: one.confidence for one in eye.classifications(white, 0)}
            if found not in ({"one": 1.0, "half": 0.5}, {"half": 0.5, "one": 1.0, "none": 0.0}):
                wrong.append(found)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(2, 8):
        if number % 2:
            push(versions, number, mean_classifier(1.0, 0.5, size=4 * number), ("one", "half"))
        else:
            content = mean_classifier(0.5, 1.0, 0.0, size=4 * number)
            push(versions, number, content, ("half", "one", "none"))
    stop.set()
    thread.join()
    assert not wrong


def test_a_call_waits_for_the_trial_of_a_version_no_longer_than_it_may() -> None:
    tried, go_on = threading.Event(), threading.Event()
    signature = Signature((Tensor("image", "UINT8", (1, 4, 4, 3)),), (Tensor("y", "FP32", (1, 2)),))

    def infer(request: InferRequest, deadline: float | None) -> InferResponse:
        tried.set()
        assert go_on.wait(60)
        return InferResponse("toy", "1", {"y": np.array([[0.25, 0.75]], np.float32)})

    eye = VisionService(
        "eye",
        VisionConfig("toy"),
        (),
        infer=infer,
        try_out=lambda request: infer(request, None).outputs,
        served=lambda: Served(1, signature, {}),
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(eye.classifications, GREY, 1)
        try:
            assert tried.wait(60)
            with pytest.raises(UnavailableError, match="'toy' is still being tried"):
                eye.classifications(GREY, 1, deadline=time.monotonic())
        finally:
            go_on.set()
        assert [one.class_name for one in first.result()] == ["1"]


def test_it_goes_when_the_config_no_longer_has_it(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision())
    follow(runtime, ml_service("toy", toy))
    assert runtime.status()["vision"] == []
    with pytest.raises(TargetError, match="no vision service 'eye' on runtime 'here'") as info:
        runtime.vision("eye")
    assert info.value.hint == "it has none"
    assert any(line.endswith("INFO eye: stopped") for line in runtime.logs(5))


def test_other_attributes_are_followed(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision(input_image_mean_value=[0, 0, 0]))
    before = runtime.vision("eye")
    assert len(before.classifications(GREY, 0)) == 2
    follow(
        runtime,
        ml_service("toy", toy),
        vision(input_image_mean_value=[0, 0, 0], default_minimum_confidence=0.4),
    )
    assert [one.class_name for one in runtime.vision("eye").classifications(GREY, 0)] == ["1"]


# The config


def test_everything_wrong_is_told_when_the_config_is_set(runtime: EdgeRuntime, toy: Path) -> None:
    services = [
        ml_service("toy", toy),
        vision("a", mlmodel_name="tay"),
        vision("b", mlmodel_name="", camera_name="front"),
        vision("c", input_image_std_dev=[0, 1, 1], label_path="${packages.gone}/labels.txt"),
    ]
    with pytest.raises(ConfigError) as info:
        runtime.set_config({"services": services}, if_match=None)
    assert info.value.problems == (
        "service 'a': mlmodel_name: no model service is called 'tay'; did you mean 'toy'?",
        "service 'b': mlmodel_name cannot be empty",
        "service 'b': could not find camera \"front\"",
        'service \'c\': failed to find a package named "gone" for placeholder "packages.gone"',
        f"service 'c': {ZERO}",
    )


def test_a_dry_run_says_what_would_happen(runtime: EdgeRuntime, toy: Path) -> None:
    def steps(*services: dict[str, Any]) -> list[tuple[str, str]]:
        config = {"services": [ml_service("toy", toy), *services]}
        plan = runtime.set_config(config, if_match=None, dry_run=True)
        return [(step.action, step.service) for step in plan.steps if step.service != "toy"]

    assert steps(vision()) == [("start", "eye")]
    follow(runtime, ml_service("toy", toy), vision())
    assert steps(vision()) == [("keep", "eye")]
    assert steps(vision(input_image_bgr=True)) == [("replace", "eye")]
    assert steps(vision("ear")) == [("stop", "eye"), ("start", "ear")]


def test_trying_a_model_out_does_not_count(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision())
    (before,) = runtime.statistics("toy")
    assert (before.inference_count, before.success.count) == (0, 0)
    runtime.vision("eye").classifications(GREY, 1)
    (after,) = runtime.statistics("toy")
    assert (after.inference_count, after.success.count) == (1, 1)


def test_a_camera_of_the_config_is_the_default_one(runtime: EdgeRuntime, toy: Path) -> None:
    follow(
        runtime,
        ml_service("toy", toy),
        vision(camera_name="front"),
        components=[{"name": "front", "api": "rdk:component:camera"}],
    )
    assert runtime.vision("eye").properties().default_camera == "front"


def test_every_verb_knows_a_vision_service(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision())
    assert runtime.do("eye", {"command": "stats"})["inferences"] == 0
    with pytest.raises(InputError, match="what was sent to service 'eye' has no \"command\""):
        runtime.do("eye", {"x": 1})
    with pytest.raises(InputError, match="unknown command 'y' for service 'eye'"):
        runtime.do("eye", {"command": "y"})
    with pytest.raises(TargetError, match="'eye' is a vision service over 'toy'") as info:
        runtime.service("eye")
    assert info.value.hint is not None
    assert info.value.hint.startswith("use toy, or POST a picture to")
    with pytest.raises(TargetError) as info:
        runtime.service("nose")
    assert info.value.hint == "services: toy; vision services: eye"


# Over HTTP


@contextmanager
def client(runtime: EdgeRuntime) -> Iterator[httpx.Client]:
    app = make_app(runtime, Gate(None, frozenset()))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://localhost:{listener.getsockname()[1]}/nbmodel/services/eye"
        with httpx.Client(base_url=url, trust_env=False) as client:
            yield client
        server.should_exit = True
        thread.join()


def test_pictures_are_looked_at_over_http(runtime: EdgeRuntime, toy: Path, tmp_path: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision(input_image_mean_value=[0, 0, 0]))
    GREY.save(tmp_path / "grey.png")
    picture = (tmp_path / "grey.png").read_bytes()
    with client(runtime) as http:
        answer = http.post("/classifications", content=picture, params={"count": 1})
        assert answer.status_code == 200
        (best,) = answer.json()["classifications"]
        assert (best["class_name"], round(best["confidence"], 4)) == ("1", 0.502)
        assert len(http.post("/classifications", content=picture).json()["classifications"]) == 2
        assert http.get("/../eye").json() == {
            "name": "eye",
            "kind": "vision",
            "ready": True,
            "state": "ready",
            "mlmodel_name": "toy",
            "properties": {"classifications_supported": True, "detections_supported": False},
            "error": None,
        }
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        damaged = http.post("/classifications", content=b"no picture", headers=form)
        assert "--data-binary @FILE" in damaged.json()["hint"]
        refusals = [
            (http.post("/detections", content=picture), 501, "does not implement a Detector"),
            (http.post("/classifications", content=b"no picture"), 400, "not a picture"),
            (http.post("/classifications", params={"count": "-1"}), 400, "count must be a number"),
            (http.post("/classifications", params={"count": "0"}), 400, "must be 1 or more"),
            (http.post("/classifications", params={"n": "1"}), 400, "unknown parameter 'n'"),
            (http.post("/detections"), 400, "the body is empty"),
            (http.post("/detections", files={"file": picture}), 400, "form of type multipart"),
            (http.post("/../ear/detections"), 404, "no vision service 'ear'"),
        ]
    for answer, status, says in refusals:
        assert (answer.status_code, says in answer.json()["error"]) == (status, True), answer.text


def test_boxes_come_over_http(runtime: EdgeRuntime, tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(fixed_detector([[0.5], [0.25]]))
    follow(runtime, ml_service("toy", path), vision(default_minimum_confidence=0.4))
    GREY.save(tmp_path / "grey.jpg")
    with client(runtime) as http:
        answer = http.post("/detections", content=(tmp_path / "grey.jpg").read_bytes())
    assert answer.json() == {
        "detections": [
            {
                "x_min": 0,
                "y_min": 0,
                "x_max": 3,
                "y_max": 3,
                "x_min_normalized": 0.0,
                "y_min_normalized": 0.0,
                "x_max_normalized": 0.5,
                "y_max_normalized": 0.5,
                "confidence": 0.5,
                "class_name": "0",
            }
        ]
    }


def test_a_body_that_is_too_large_is_refused(runtime: EdgeRuntime, toy: Path) -> None:
    follow(runtime, ml_service("toy", toy), vision())
    with client(runtime) as http:
        answer = http.post("/detections", content=bytes(33 * 1024 * 1024))
    assert (answer.status_code, answer.json()["type"]) == (400, InputError.__name__)
    assert answer.json()["error"] == "the body is larger than 33554432 bytes"
