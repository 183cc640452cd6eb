"""Triton's configuration beside a model that is uploaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nbmodel.core.golden import Golden
from nbmodel.errors import FormatError, NbModelError, SignatureError
from nbmodel.local import upload_source
from nbmodel.source import Source
from nbmodel.written_config import FIELDS, config_path
from tests.conformance.test_backends import onnx_sums

DATA = Path(__file__).parent / "data" / "formats"
RIGHT = """
backend: "onnxruntime"
max_batch_size: 8
input [{ name: "a" data_type: TYPE_FP32 dims: [3] }, { name: "b" data_type: TYPE_FP32 dims: [3] }]
output [{ name: "sum" data_type: TYPE_FP32 dims: [3] }]
"""
SCRIPT = """
platform: "pytorch_libtorch"
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 3, 8, 8] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 3] }]
"""


def upload(*paths: Path) -> Source:
    source, notes = upload_source(paths, None, None, sample=None, golden=Golden())
    assert not notes
    return source


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """An ONNX model: ``sum = a + b`` and ``double = a + a``, all FP32[-1, 3]."""
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_sums())
    return path


def configured(sums: Path, text: str) -> Path:
    config = sums.with_name("config.pbtxt")
    config.write_text(text)
    return config


def test_a_right_one_is_taken_along(sums: Path) -> None:
    """Some outputs may be left out, as for Triton."""
    assert set(upload(sums, configured(sums, RIGHT)).files) == {"model.onnx", "config.pbtxt"}


#: What is changed in the right one → the error, and its words.
WRONG: dict[str, tuple[str, str, type[NbModelError], str]] = {
    "syntax": ("[3] }, {", "[3 }, {", FormatError, "line 4"),
    "shape": ("dims: [3] }]", "dims: [4] }]", SignatureError, r"FP32\[-1,4\] in the file"),
    "datatype": ("TYPE_FP32", "TYPE_INT8", SignatureError, "INT8"),
    "no datatype": ("TYPE_FP32", "TYPE_FLOAT", FormatError, "TYPE_FLOAT"),
    "name": ('"a"', '"c"', SignatureError, "input 'c' is not the model's; input 'a' is missing"),
    "field": ("max_batch_size", "max_batchsize", FormatError, "did you mean 'max_batch_size'"),
    "field of a tensor": ("dims", "dim", FormatError, "input has no field 'dim'; did you mean"),
    "platform": (
        "backend:",
        'platform: "pytorch_libtorch" #',
        SignatureError,
        "is not that of onnx",
    ),
    "backend": (
        '"onnxruntime"',
        '"tensorflow"',
        SignatureError,
        "'tensorflow' is not that of onnx",
    ),
}


@pytest.mark.parametrize(("old", "new", "error", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_one_is_refused_by_its_own_path(
    sums: Path, old: str, new: str, error: type[NbModelError], words: str
) -> None:
    config = configured(sums, RIGHT.replace(old, new, 1))
    with pytest.raises(error, match=words) as caught:
        upload(sums.parent)
    assert str(config) in f"{caught.value} {caught.value.hint}"
    assert "leave" in str(caught.value.hint) or "correct" in str(caught.value.hint)


def test_one_that_lies_elsewhere_tells_the_tensors_of_its_model(tmp_path: Path) -> None:
    model = Path(shutil.copy(DATA / "torch" / "scripted.pt", tmp_path / "net.pt"))
    (tmp_path / "one").mkdir()
    config = tmp_path / "one" / "config.pbtxt"
    config.write_text(SCRIPT)
    source = upload(model, config)
    assert [one.name for one in source.signature.inputs] == ["x"]
    assert source.signature.outputs[0].shape == (-1, 3)


def test_in_a_model_repository_it_is_a_folder_up() -> None:
    assert config_path({"config.pbtxt": b""}, "3/model.onnx") == "config.pbtxt"
    assert config_path({"config.pbtxt": b""}, "net/model.onnx") is None


def test_the_fields_are_those_of_tritons_message() -> None:
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="has the message")
    messages = {"": pb2.ModelConfig, "input": pb2.ModelInput, "output": pb2.ModelOutput}
    for name, message in messages.items():
        assert set(FIELDS[name]) == set(message.DESCRIPTOR.fields_by_name)
