"""What an upload holds, read from paths."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbmodel.core.signature import Signature, Tensor
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


def test_a_link_does_not_bring_weights_from_elsewhere(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(48))
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "big.onnx"
    onnx.save(
        onnx.load(linear), path, save_as_external_data=True, location="w.data", size_threshold=0
    )
    (folder / "w.data").unlink()
    (folder / "w.data").symlink_to(tmp_path / "secret")
    for given in (path, folder):
        with pytest.raises(InputError, match=r"w\.data: it is a link .*secret") as caught:
            read_source([given])
        assert caught.value.hint is not None
        assert "copy the file there" in caught.value.hint


@pytest.mark.parametrize("what", ["a file", "a folder", "nothing"])
def test_a_link_out_of_an_uploaded_folder_is_refused(
    linear: Path, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.move(linear, folder / "linear.onnx")
    outside = tmp_path / "outside"
    if what == "a file":
        outside.touch()
    elif what == "a folder":
        outside.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(InputError, match=r"link: it is a link .*outside"):
        read_source([folder])


def test_a_link_that_stays_in_the_folder_is_a_file(linear: Path) -> None:
    (linear.parent / "a.txt").write_text("a")
    (linear.parent / "b.txt").symlink_to("a.txt")
    assert sorted(read_source([linear.parent]).files) == ["a.txt", "b.txt", "linear.onnx"]


@pytest.mark.parametrize("form", ["a list", "a file", "a file in the folder", "a signature"])
def test_labels_are_as_many_as_the_classes(linear: Path, form: str) -> None:
    names = "names.txt" if form == "a file" else "labels.txt"
    if form.startswith("a file"):
        (linear.parent / names).write_text("cat\ndog\n")
    signature = Signature(outputs=(Tensor("y", "FP32", None, labels=("cat", "dog")),))
    read = {
        "a list": lambda: read_source([linear], ["cat", "dog"]),
        "a file": lambda: read_source([linear], linear.parent / names),
        "a file in the folder": lambda: read_source([linear.parent]),
        "a signature": lambda: read_source([linear], signature=signature),
    }[form]
    with pytest.raises(InputError, match="2 labels for output 'y' with 3 classes"):
        read()


def test_one_score_may_have_two_labels(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((4, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sigmoid",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    path = tmp_path / "sigmoid.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert read_source([path], ["no", "yes"]).signature.labels == ("no", "yes")
    with pytest.raises(InputError, match="3 labels for output 'y' with 1 classes"):
        read_source([path], ["a", "b", "c"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "has no labels", id="empty"),
        pytest.param(b"\n \n\n", "has no labels", id="blank"),
        pytest.param(b"\x89PNG\r\n", "must be utf-8 text, found 0x89", id="no UTF-8"),
        pytest.param(b"a\0b\n", "NUL at character 1", id="a NUL"),
    ],
)
def test_a_labels_file_without_labels_is_refused(
    linear: Path, content: bytes, message: str
) -> None:
    file = linear.parent / "labels.txt"
    file.write_bytes(content)
    for paths, labels in (([linear], file), ([linear.parent], None)):
        with pytest.raises(InputError, match=rf"labels\.txt.*{message}"):
            read_source(paths, labels)


def test_no_labels_at_all_are_refused(linear: Path) -> None:
    for labels in ([], {}, ["", ""]):
        with pytest.raises(InputError, match="labels given are empty"):
            read_source([linear], labels)  # type: ignore[arg-type] # each form
