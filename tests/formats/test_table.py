"""Telling what a file is, and refusing what is none of it."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest

from nbmodel.errors import FormatError, InputError, UnknownFormatError
from nbmodel.formats import distinct_names, format_of, read_model


def test_content_tells_a_file_without_a_suffix(linear_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(linear_onnx.read_bytes())
    assert format_of(path) == "onnx"
    assert [tensor.name for tensor in read_model(path).signature.inputs] == ["x"]


@pytest.mark.parametrize("suffix", [".onnx", ".ONNX"])
def test_a_suffix_tells_a_file_whose_content_does_not(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x3a\x00\x08\x08")  # the graph before the version, as nobody writes it
    assert format_of(path) == "onnx"


def test_a_name_that_promises_another_format_is_refused(linear_onnx: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(linear_onnx.read_bytes())
    with pytest.raises(FormatError, match="named like tflite, but its content is onnx") as caught:
        read_model(path)
    assert caught.value.hint == "rename it to digits.onnx"


@pytest.mark.parametrize(
    ("name", "content", "error", "problem"),
    [
        pytest.param("m.onnx", b"", FormatError, "is empty", id="an empty file"),
        pytest.param("m.onnx", b"hello world", FormatError, "not an ONNX model, starts with b'hello world'", id="a text called .onnx"),
        pytest.param("m.tflite", b"hello world", FormatError, "expected b'TFL3' at offset 4, starts with b'hello world'", id="a text called .tflite"),
        pytest.param("m.txt", b"hello world", UnknownFormatError, "not a known model format, it starts with b'hello world'", id="a text called .txt"),
        pytest.param("m", b"\x80\x04\x95", UnknownFormatError, r"starts with b'\\x80\\x04\\x95'", id="a pickle"),
        pytest.param("m.keras", b"PK\x03\x04" + b"\0" * 30, UnknownFormatError, "a ZIP archive", id="a ZIP archive"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=problem) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_a_git_lfs_pointer_comes_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(FormatError, match="a Git LFS pointer") as caught:
        read_model(path)
    assert caught.value.hint == "fetch the file itself: git lfs pull"


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        pytest.param(b"\x89HDF\r\n\x1a\n", "an HDF5 file", "model.export(folder)", id="HDF5"),
        pytest.param(pickle.dumps([1], 4), "a Python pickle", "log the object itself", id="a pickle"),
        pytest.param(b"\x1f\x8b\x08", "gzip-compressed", "gunzip", id="gzip"),
        pytest.param(None, "it is a Keras model", "model.export(folder)", id="Keras"),
    ],
)  # fmt: skip
def test_what_can_be_exported_says_how(
    tmp_path: Path, content: bytes | None, what: str, hint: str
) -> None:
    path = tmp_path / "m"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("metadata.json", "config.json", "model.weights.h5"):
                archive.writestr(name, "{}")
    else:
        path.write_bytes(content)
    with pytest.raises(UnknownFormatError) as caught:
        read_model(path)
    assert what in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert "known formats: .onnx" in (caught.value.hint or "")


def test_a_frozen_graph_is_no_saved_model(tmp_path: Path) -> None:
    path = tmp_path / "frozen.pb"
    path.write_bytes(b"\n;\n\x01x\x12\x0bPlaceholder")
    with pytest.raises(FormatError, match="not a TensorFlow SavedModel") as caught:
        read_model(path)
    assert "a frozen graph" in (caught.value.hint or "")


def test_known_formats_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(b"something")
    with pytest.raises(UnknownFormatError) as caught:
        format_of(path)
    assert caught.value.hint == (
        "known formats: .onnx, .tflite, .pb, .pt, .pth, .pt2, .plan, .engine, .xml, .py"
    )


@pytest.mark.parametrize("suffix", ["", ".onnx"])
def test_a_folder_is_no_model(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / f"model{suffix}"
    folder.mkdir()
    with pytest.raises(FormatError, match="is a folder, expected a model file"):
        read_model(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(FormatError, match="is not a regular file"):
        read_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["missing.onnx", "mis\0sing.onnx", "m" * 10_000 + ".onnx"])
def test_a_path_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot read "):
        read_model(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "distinct"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["", ""], ["input_0", "input_1"]),
        (["a", "a", "a"], ["a", "a:1", "a:2"]),
        (["a", "a", "a:1"], ["a", "a:2", "a:1"]),
        (["", "input_0"], ["input_0", "input_0:1"]),
    ],
)
def test_names_are_made_distinct(names: list[str], distinct: list[str]) -> None:
    assert list(distinct_names(names, "input")) == distinct
