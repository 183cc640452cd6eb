"""What is written, read by the parser of protocol buffers with Triton's own message."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.runtime.pbtxt import config_pbtxt

pytest.importorskip("tritonclient.grpc", reason="Triton's message is tritonclient's")
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2


def parsed(
    signature: Signature,
    *,
    framework: str = "onnx",
    files: tuple[str, ...] = ("model.onnx",),
    name: str = "digits",
    label_files: dict[str, str] | None = None,
) -> dict[str, Any]:
    entries = tuple(FileEntry(path, 1, "sha256:" + "1" * 64) for path in files)
    manifest = Manifest("m", "2026", entries, framework, "other", signature)
    text = config_pbtxt(name, manifest, number=3, label_files=label_files or {})
    message = text_format.Parse(text.encode(), model_config_pb2.ModelConfig())
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


@pytest.mark.parametrize(
    ("framework", "files", "expected"),
    [
        pytest.param(
            "onnx",
            ("nets/net.onnx", "golden.npz"),
            {
                "platform": "onnxruntime_onnx",
                "backend": "onnxruntime",
                "default_model_filename": "nets/net.onnx",
            },
            id="onnx",
        ),
        pytest.param(
            "tflite",
            ("detect.tflite", "labels.txt"),
            {
                "platform": "tensorflow_tflite",
                "backend": "tflite",
                "default_model_filename": "detect.tflite",
            },
            id="tflite",
        ),
        pytest.param(
            "onnx",
            ("labels.txt",),
            {
                "platform": "onnxruntime_onnx",
                "backend": "onnxruntime",
                "default_model_filename": "model.onnx",
            },
            id="no file of the format",
        ),
        pytest.param(
            "savedmodel",
            ("saved_model.pb", "variables/variables.index"),
            # Triton's backend joins the folder of the version and this, and loads that folder.
            {
                "platform": "tensorflow_savedmodel",
                "backend": "tensorflow",
                "default_model_filename": ".",
            },
            id="savedmodel at the root",
        ),
        pytest.param(
            "savedmodel",
            ("net/saved_model.pb", "golden.npz"),
            {
                "platform": "tensorflow_savedmodel",
                "backend": "tensorflow",
                "default_model_filename": "net",
            },
            id="savedmodel in a folder",
        ),
        pytest.param(
            "torchscript",
            ("net.pt",),
            {
                "platform": "pytorch_libtorch",
                "backend": "pytorch",
                "default_model_filename": "net.pt",
            },
            id="torchscript",
        ),
        pytest.param(
            "torch_export",
            ("net.pt2",),
            {"platform": "torch_aoti", "backend": "pytorch", "default_model_filename": "net.pt2"},
            id="torch_export",
        ),
        pytest.param(
            "tensorrt",
            ("net.engine",),
            {
                "platform": "tensorrt_plan",
                "backend": "tensorrt",
                "default_model_filename": "net.engine",
            },
            id="tensorrt",
        ),
        pytest.param(
            "openvino",
            ("net.bin", "net.xml"),
            {"backend": "openvino", "default_model_filename": "net.xml"},
            id="openvino",
        ),
        pytest.param(
            "python",
            ("own/model.py", "own/words.txt"),
            {"backend": "python", "default_model_filename": "own/model.py"},
            id="python",
        ),
        pytest.param("pytorch", ("model.pt",), {"backend": "pytorch"}, id="unknown here"),
    ],
)
def test_the_engine_and_the_file(
    framework: str, files: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert parsed(Signature(), framework=framework, files=files) == {
        "name": "digits",
        "version_policy": {"specific": {"versions": ["3"]}},
        **expected,
    }


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        pytest.param((-1, 224, 224, 3), ["-1", "224", "224", "3"], id="a variable dimension"),
        pytest.param((1, 10), ["1", "10"], id="fixed"),
        pytest.param((), ["1"], id="a scalar"),
        pytest.param(None, ["-1"], id="an unknown rank"),
        pytest.param((0, 2), ["-1", "2"], id="an empty dimension"),
    ],
)
def test_every_dimension_is_there_the_batch_included(
    shape: tuple[int, ...] | None, dims: list[str]
) -> None:
    config = parsed(Signature((Tensor("x", "FP32", shape),), (Tensor("y", "INT64", shape),)))
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": dims}]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_INT64", "dims": dims}]
    assert "max_batch_size" not in config  # 0


def test_every_datatype_has_triton_s_name() -> None:
    config = parsed(Signature(tuple(Tensor(name, name, (1,)) for name in DATATYPES)))
    triton_s = {"BYTES": "TYPE_STRING"}
    assert {tensor["name"]: tensor["data_type"] for tensor in config["input"]} == {
        name: triton_s.get(name, f"TYPE_{name}") for name in DATATYPES
    }


@pytest.mark.parametrize(
    "name",
    [
        '"quoted"',
        "back\\slash",
        "new\nline",
        "\x00\x1f\x7f",
        "tab\t\r",
        "ünïcödé 模型 🐱",
        "'",
        "a#b}",
    ],
)
def test_names_are_what_they_were(name: str) -> None:
    config = parsed(Signature((Tensor(name, "FP32", (1,)),), (Tensor(name, "FP32", (1,)),)))
    assert config["input"][0]["name"] == config["output"][0]["name"] == name


def test_labels_are_in_a_file_beside_it() -> None:
    outputs = (Tensor("y", "FP32", (1, 2), labels=("a", "b")), Tensor("z", "FP32", (1,)))
    config = parsed(Signature((), outputs), label_files={"y": "labels-3-0.txt"})
    assert [output.get("label_filename") for output in config["output"]] == ["labels-3-0.txt", None]
