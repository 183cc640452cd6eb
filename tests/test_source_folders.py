"""Uploads of folders that are one model, and of models that do not tell their tensors."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, InputError, NbModelError, TensorNameError
from nbmodel.formats import model_file
from nbmodel.registry import Registry
from nbmodel.source import read_source

DATA = Path(__file__).parent / "data" / "formats"
MODEL_PY = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [2]})
        return config
"""
CONFIG = """
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] }
"""
SIGNATURE = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("OUTPUT__0", "FP32", (-1, 3)),))


def put(root: Path, *names: str) -> Path:
    """A folder with files by their names: samples, code, configuration, or a few bytes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sample = next(DATA.glob(f"*/{path.name}"), None)
        if sample is not None and sample.is_dir():
            shutil.copytree(sample, path)
        elif sample is not None:
            shutil.copy(sample, path)
        else:
            texts = {"model.py": MODEL_PY, "config.pbtxt": CONFIG}
            path.write_text(texts.get(path.name, "something"))
    return root


def test_a_saved_model_is_uploaded_whole(tmp_path: Path) -> None:
    folder = put(tmp_path, "linear") / "linear"
    source = read_source([folder], labels=["a", "b", "c"])
    assert (source.framework, source.model_path) == ("savedmodel", "saved_model.pb")
    assert sorted(source.files) == [
        "fingerprint.pb",
        "labels.txt",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert source.signature.labels == ("a", "b", "c")


def test_its_weights_come_with_the_graph_alone(tmp_path: Path) -> None:
    folder = put(tmp_path, "linear") / "linear"
    source = read_source([folder / "saved_model.pb"])
    assert {"variables/variables.index", "saved_model.pb"} <= set(source.files)


@pytest.mark.parametrize(
    ("files", "framework", "model"),
    [
        pytest.param(["linear.xml", "linear.bin", "card.md"], "openvino", "linear.xml", id="OpenVINO"),
        pytest.param(["model.py", "helper.py", "data.bin"], "python", ".", id="Python"),
        pytest.param(["model.py", "weights/pair.pt2"], "python", ".", id="Python with a model in it"),
        pytest.param(["model.py", "w/linear"], "python", ".", id="Python with a folder in it"),
        pytest.param(["config.pbtxt", "1/model.py", "1/x.bin"], "python", "1", id="a repository's"),
        pytest.param(["config.pbtxt", "1/scripted.pt"], "torchscript", "1/scripted.pt", id="TorchScript"),
        pytest.param(["pair.pt2", "train.py", "state_dict.pt"], "torch_export", "pair.pt2", id="weights beside"),
        pytest.param(["config.pbtxt", "1/linear"], "savedmodel", "1/linear", id="a repository's folder"),
    ],
)  # fmt: skip
def test_a_folder_has_one_model(
    tmp_path: Path, files: list[str], framework: str, model: str
) -> None:
    source = read_source([put(tmp_path / "m", *files)])
    assert source.framework == framework
    with closing(Registry(tmp_path / "registry")) as registry:
        version = registry.add(
            "m",
            source.files,
            framework=source.framework,
            model_type="other",
            signature=source.signature,
            metadata=source.metadata,
        )
        assert model_file(version.manifest) == model


@pytest.mark.parametrize(
    ("files", "error", "problem"),
    [
        pytest.param(["a/model.py", "b/model.py"], InputError, "found a/model.py, b/model.py", id="two"),
        pytest.param(["linear.xml", "pair.pt2"], InputError, "found linear.xml, pair.pt2", id="two files"),
        pytest.param(["helper.py", "notes.py"], InputError, "found none", id="code alone"),
        pytest.param(["state_dict.pt", "notes.md"], FormatError, "a state_dict", id="weights alone"),
        pytest.param(["none", "notes.md"], FormatError, "expected a signature", id="no signature"),
        pytest.param(["linear.xml"], InputError, "keeps weights in 'linear.bin'", id="no weights"),
    ],
)  # fmt: skip
def test_what_is_not_one_model_is_refused(
    tmp_path: Path, files: list[str], error: type[NbModelError], problem: str
) -> None:
    with pytest.raises(error) as caught:
        read_source([put(tmp_path, *files)])
    assert problem in str(caught.value)


def test_code_of_that_name_may_be_something_else(tmp_path: Path) -> None:
    put(tmp_path, "pair.pt2")
    (tmp_path / "model.py").write_text("import torch\n")
    assert read_source([tmp_path]).framework == "torch_export"


@pytest.mark.parametrize("name", ["scripted.pt", "compiled.pt2", "m.plan"])
def test_without_a_signature_it_says_what_to_do(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    if name == "m.plan":
        (tmp_path / name).write_bytes(b"ftrt" + bytes(60))
    with pytest.raises(InputError, match=r"without its signature: .* not tell") as caught:
        read_source([tmp_path / name])
    assert "config.pbtxt" in (caught.value.hint or "")
    assert "--signature" in (caught.value.hint or "")
    assert read_source([tmp_path / name], signature=SIGNATURE).signature == SIGNATURE
    put(tmp_path, "config.pbtxt")
    (x,) = read_source([tmp_path / name]).signature.inputs
    assert x == Tensor("x", "FP32", (2,))


def test_what_the_file_tells_is_in_the_refusal(tmp_path: Path) -> None:
    path = put(tmp_path, "two.pt") / "two.pt"
    with pytest.raises(InputError, match=r"it has image UNKNOWN\[\?\], mask UNKNOWN\[\?\], OUTPUT"):
        read_source([path])
    only_inputs = Signature(inputs=(Tensor("image", "FP32", (2,)), Tensor("mask", "BOOL", (2,))))
    with pytest.raises(InputError, match=r"it has image FP32\[2\], mask BOOL\[2\], OUTPUT__0 UNK"):
        read_source([path], signature=only_inputs)


def test_a_signature_has_as_many_tensors_as_the_model(tmp_path: Path) -> None:
    path = put(tmp_path, "two.pt") / "two.pt"
    with pytest.raises(TensorNameError, match=r"expected 2 inputs .* image, mask; found x"):
        read_source([path], signature=SIGNATURE)
    put(tmp_path, "config.pbtxt")
    with pytest.raises(FormatError, match=r"config\.pbtxt beside it: expected 2 inputs"):
        read_source([path])


def test_labels_that_the_file_tells_go_to_the_outputs_that_it_does_not(tmp_path: Path) -> None:
    path = put(tmp_path, "named.pt") / "named.pt"
    outputs = (Tensor("OUTPUT__0", "FP32", (-1, 2)), Tensor("OUTPUT__1", "FP32", (-1, 4)))
    source = read_source([path], signature=Signature(SIGNATURE.inputs, outputs))
    assert source.signature.outputs[0].labels == ("cat", "dog")
    assert source.model_type == "classification"
