"""Signatures from Triton's configuration beside a model file."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.sidecar import config_beside, datatype_of, signature_beside

CONFIG = """
name: "m"
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
output [ { name: "words" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@pytest.mark.parametrize(
    ("batch", "x"),
    [("", (3, -1)), ("max_batch_size: 0", (3, -1)), ("max_batch_size: 4", (-1, 3, -1))],
)
def test_batches_come_before_dimensions(tmp_path: Path, batch: str, x: tuple[int, ...]) -> None:
    (tmp_path / "config.pbtxt").write_text(CONFIG + batch)
    one = () if len(x) == 2 else (-1,)
    assert signature_beside(tmp_path / "model.plan") == Signature(
        (Tensor("x", "FP32", x),), (Tensor("words", "BYTES", (*one, 1)),)
    )


def test_in_a_repository_it_is_a_folder_up(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(CONFIG)
    assert config_beside(tmp_path / "12" / "model.plan") == tmp_path / "config.pbtxt"
    assert config_beside(tmp_path / "other" / "model.plan") is None


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("", id="empty"),
        pytest.param('input [ { name: "x" data_type: TYPE_FP32 dims: 1 } ]', id="no output"),
        pytest.param(CONFIG.replace("data_type: TYPE_STRING", ""), id="a type left to Triton"),
        pytest.param(CONFIG.replace("dims: [ 1 ]", ""), id="dimensions left to Triton"),
    ],
)
def test_what_is_left_to_triton_is_not_told(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.pbtxt").write_text(config)
    assert signature_beside(tmp_path / "model.plan") is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        pytest.param(CONFIG.replace('"words"', "{"), "line 4", id="no configuration"),
        pytest.param(CONFIG.replace("TYPE_STRING", "TYPE_FLOAT"), "found 'TYPE_FLOAT'", id="type"),
        pytest.param(CONFIG.replace("FP32", "BYTES"), "found 'TYPE_BYTES'", id="our own type"),
        pytest.param(CONFIG.replace("[ 1 ]", "[ -2 ]"), "negative dimension", id="dimension"),
        pytest.param(CONFIG.replace('name: "words"', ""), "a tensor has no name", id="no name"),
        pytest.param(
            CONFIG.replace("input [", 'input [ { name: "x" data_type: TYPE_FP32 dims: 1 },'),
            "two tensors are named 'x'",
            id="a name twice",
        ),
        pytest.param(b"\xff\xfe", "can't decode byte", id="no UTF-8"),
    ],
)
def test_a_wrong_one_is_named(tmp_path: Path, config: str | bytes, problem: str) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(config if isinstance(config, bytes) else config.encode())
    with pytest.raises(FormatError, match=r"cannot read config\.pbtxt beside it") as caught:
        signature_beside(tmp_path / "model.plan")
    assert problem in str(caught.value)
    assert caught.value.hint == f"correct {path}"


def test_types_are_tritons() -> None:
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="has the message")
    names = [name for name in pb2.DataType.keys() if name != "TYPE_INVALID"]  # noqa: SIM118
    assert {datatype_of(name) for name in names} == set(DATATYPES)
