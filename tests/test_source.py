"""What an upload holds, read from paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbmodel.errors import FormatError, InputError, NbModelError
from nbmodel.source import read_source


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """An ONNX model of three classes: ``y = x @ w``."""
    weights = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [weights],
    )
    path = tmp_path / "linear.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_one_file_is_itself(linear: Path) -> None:
    source = read_source([linear])
    assert source.files == {"linear.onnx": linear}
    assert source.model_path == "linear.onnx"
    assert source.framework == "onnx"
    assert [tensor.shape for tensor in source.signature.outputs] == [(-1, 3)]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["a", "b", "c"], id="a list"),
        pytest.param({"c": 2, "a": 0, "b": 1}, id="a mapping in any order"),
    ],
)
def test_labels_come_as_a_file_and_on_the_output(linear: Path, labels: object) -> None:
    source = read_source([linear], labels)  # type: ignore[arg-type] # both forms are given
    assert source.files["labels.txt"] == b"a\nb\nc\n"
    assert source.signature.outputs[0].labels == ("a", "b", "c")


def test_a_labels_file_is_read(linear: Path) -> None:
    file = linear.parent / "names.txt"
    file.write_text("cat\ndog\nbird\n")
    assert read_source([linear], file).signature.labels == ("cat", "dog", "bird")


def test_a_folder_is_taken_whole_without_hidden_files(linear: Path) -> None:
    root = linear.parent
    (root / "labels.txt").write_text("a\nb\nc\n")
    (root / "docs").mkdir()
    (root / "docs" / "card.md").write_text("# linear")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_bytes(b"x")
    source = read_source([root])
    assert sorted(source.files) == ["docs/card.md", "labels.txt", "linear.onnx"]
    assert source.signature.labels == ("a", "b", "c")


def test_external_weights_come_along(linear: Path) -> None:
    path = linear.parent / "big.onnx"
    model = onnx.load(linear)
    onnx.save(model, path, save_as_external_data=True, location="big.bin", size_threshold=0)
    assert sorted(read_source([path]).files) == ["big.bin", "big.onnx"]
    (path.parent / "big.bin").unlink()
    with pytest.raises(InputError, match=r"keeps weights in 'big\.bin', which is not beside it"):
        read_source([path])


def test_weights_outside_of_the_folder_are_refused(linear: Path) -> None:
    model = onnx.load(linear)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")
    path = linear.parent / "escape.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError, match=r"etc/passwd"):
        read_source([path])


def _missing(folder: Path, linear: Path) -> list[Path]:
    return [folder / "linaer.onnx"]


def _empty_folder(folder: Path, linear: Path) -> list[Path]:
    (folder / "empty").mkdir()
    return [folder / "empty"]


def _two_models(folder: Path, linear: Path) -> list[Path]:
    return [linear, Path(shutil.copy(linear, folder / "second.onnx"))]


def _no_model(folder: Path, linear: Path) -> list[Path]:
    (folder / "a.md").write_text("a")
    (folder / "b.md").write_text("b")
    return [folder / "a.md", folder / "b.md"]


def _same_name(folder: Path, linear: Path) -> list[Path]:
    (folder / "other").mkdir()
    return [linear, Path(shutil.copy(linear, folder / "other" / "linear.onnx"))]


def _empty_file(folder: Path, linear: Path) -> list[Path]:
    (folder / "empty.onnx").touch()
    return [folder / "empty.onnx"]


def _text_file(folder: Path, linear: Path) -> list[Path]:
    (folder / "text.onnx").write_text("this is no model")
    return [folder / "text.onnx"]


def _folder_with_others(folder: Path, linear: Path) -> list[Path]:
    return [linear, folder]


def _colon(folder: Path, linear: Path) -> list[Path]:
    return [Path(shutil.copy(linear, folder / "a:b.onnx"))]


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        pytest.param(_missing, r"no such file: .*linaer\.onnx", id="a file that is not there"),
        pytest.param(_empty_folder, "is empty", id="an empty folder"),
        pytest.param(_two_models, "exactly one model among 2 files", id="two models"),
        pytest.param(_no_model, "exactly one model among 2 files, found none", id="no model"),
        pytest.param(_same_name, r"two files are called 'linear\.onnx'", id="one name twice"),
        pytest.param(_empty_file, r"empty\.onnx", id="an empty file"),
        pytest.param(_text_file, r"text\.onnx", id="a text file called .onnx"),
        pytest.param(_folder_with_others, "is a folder", id="a folder among files"),
        pytest.param(_colon, "not portable", id="a name that Windows cannot have"),
    ],
)
def test_what_cannot_be_uploaded_is_named(
    linear: Path, tmp_path: Path, arrange: object, message: str
) -> None:
    with pytest.raises(NbModelError, match=message):
        read_source(arrange(tmp_path, linear))  # type: ignore[operator] # the row's function


def test_a_misspelt_path_gets_the_nearest_one(linear: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_source([linear.parent / "linaer.onnx"])
    assert caught.value.hint == f"did you mean {linear}?"
