"""TensorRT plans, by their header: there is no TensorRT without a GPU to write one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats import read_model
from nbmodel.formats.tensorrt import TensorRt

CONFIG = """
input [ { name: "images" data_type: TYPE_FP32 dims: [ 1, 3, 640, 640 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ 1, 2 ] } ]
"""
NOTES = {
    "description": "Ultralytics YOLO11n-cls model",
    "task": "classify",
    "batch": 1,
    "imgsz": [640, 640],
    "names": {"0": "cat", "1": "dog"},
}


def plan(version: tuple[int, int, int, int] = (10, 3, 0, 26), form: int = 0) -> bytes:
    """A header as ``trtexec --getPlanVersionOnly`` reads it: 28 bytes."""
    return b"ftrt" + form.to_bytes(4, "little") + bytes(16) + bytes(version) + bytes(100)


def noted(notes: Any, plan: bytes) -> bytes:
    text = notes if isinstance(notes, bytes) else json.dumps(notes).encode()
    return len(text).to_bytes(4, "little") + text + plan


@pytest.mark.parametrize("name", ["model.plan", "yolo.engine", "bare"])
def test_the_header_tells_who_built_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(plan())
    facts = read_model(tmp_path / name)
    assert (facts.framework, facts.signature) == ("tensorrt", Signature())
    assert facts.metadata == {"tensorrt_version": "10.3.0.26"}
    assert facts.gap == "a TensorRT plan does not tell its tensors"


def test_a_header_of_another_form_tells_no_version(tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(plan(form=0x60))
    assert read_model(tmp_path / "m.plan").metadata == {}


def test_tensors_come_from_the_configuration_beside_it(tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(plan())
    (tmp_path / "config.pbtxt").write_text(CONFIG)
    facts = read_model(tmp_path / "m.plan")
    assert facts.gap == ""
    assert facts.signature.inputs == (Tensor("images", "FP32", (1, 3, 640, 640)),)


def test_what_ultralytics_puts_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "yolo.engine"
    path.write_bytes(noted(NOTES, plan()))
    facts = read_model(path)
    assert (facts.labels, facts.model_type) == (("cat", "dog"), "classification")
    assert facts.description == "Ultralytics YOLO11n-cls model"
    start = len(json.dumps(NOTES)) + 4
    assert facts.metadata["plan_offset"] == start
    assert facts.metadata["tensorrt_version"] == "10.3.0.26"
    assert facts.metadata["imgsz"] == [640, 640]
    (tmp_path / "config.pbtxt").write_text(CONFIG)
    assert read_model(path).signature.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"hello world", "expected b'ftrt', starts with b'hello world'", id="text"),
        pytest.param(plan()[:20], "cut short after 20 bytes", id="cut short"),
        pytest.param(noted(NOTES, b"onnx"), "expected a TensorRT plan at offset", id="no plan"),
        pytest.param(noted(b'{"a": 1' + b" " * 300, plan()), "no JSON before it", id="no JSON"),
        pytest.param(b"\xff\xff\xff\0" + b'{"a": 1}' * 9, "16,777,215 bytes of JSON", id="length"),
        pytest.param(noted(b'{"a' + b"[" * 300_000, plan()), "no JSON before it", id="nested"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        TensorRt().read(path)
    assert problem in str(caught.value)
