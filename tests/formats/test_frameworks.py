"""Models that TensorFlow, PyTorch and OpenVINO wrote: read as they read them themselves.

``tests/tools/make_formats.py`` made them; beside each is what its framework says of it.
"""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats import format_of, read_model

DATA = Path(__file__).parents[1] / "data" / "formats"
#: What PyTorch calls types → what a signature does.
TORCH_TYPES = {
    "Tensor": "UNKNOWN",
    "List": "SEQUENCE",
    "Optional": "OPTIONAL",
    "Dict": "MAP",
}


def told(path: Path) -> dict[str, Any]:
    """What the framework says of a model."""
    said: dict[str, Any] = json.loads(path.with_name(f"{path.name}.json").read_text())
    return said


def rows(tensors: Any) -> list[list[Any]]:
    return [
        [one.name, one.datatype, None if one.shape is None else list(one.shape)] for one in tensors
    ]


def cases(*patterns: str) -> list[Any]:
    paths = sorted(path for pattern in patterns for path in DATA.glob(pattern))
    told = [path for path in paths if path.with_name(f"{path.name}.json").exists()]
    return [pytest.param(path, id=f"{path.parent.name} {path.name}") for path in told]


@pytest.mark.parametrize("path", cases("tensorflow/*", "torch/*.pt2", "openvino/*.xml"))
def test_tensors_are_those_that_the_framework_sees(path: Path) -> None:
    facts, expected = read_model(path), told(path)
    assert rows(facts.signature.inputs) == expected["inputs"]
    assert rows(facts.signature.outputs) == expected["outputs"]
    assert facts.gap == ""


@pytest.mark.parametrize("path", cases("torch/*.pt"))
def test_arguments_are_those_that_torch_sees(path: Path) -> None:
    facts, expected = read_model(path), told(path)
    tensors = [
        [name, TORCH_TYPES[kind.partition("[")[0]], None]
        for name, kind, _ in expected["inputs"]
        if kind not in ("str", "int")  # which have defaults
    ]
    assert rows(facts.signature.inputs) == tensors
    for name, kind, _ in expected["inputs"]:
        assert f"{name}: {kind}" in facts.metadata["forward"]
    assert facts.gap == "TorchScript does not tell datatypes and shapes"


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("scripted", [["OUTPUT__0", "UNKNOWN", None]]),
        ("two", [["OUTPUT__0", "UNKNOWN", None], ["OUTPUT__1", "UNKNOWN", None]]),
        ("named", [["OUTPUT__0", "UNKNOWN", None], ["OUTPUT__1", "UNKNOWN", None]]),
        ("rich", [["OUTPUT__0", "MAP", None]]),
    ],
)
def test_results_of_torchscript_are_named_as_triton_wants(
    name: str, outputs: list[list[Any]]
) -> None:
    assert rows(read_model(DATA / "torch" / f"{name}.pt").signature.outputs) == outputs


@pytest.mark.parametrize(
    ("path", "metadata"),
    [
        ("tensorflow/linear", {"tensorflow_version": "2.21.0", "signature": "serving_default"}),
        ("tensorflow/many", {"other_signatures": ["linear"], "tags": ["serve"]}),
        ("tensorflow/only_other", {"signature": "predict"}),
        ("torch/pair.pt2", {"torch_version": "2.13.0+cpu", "opset": {"aten": 10}}),
        ("torch/named.pt", {"task": "classify", "archive_version": "3"}),
        ("openvino/nested.xml", {"ir_version": 11, "graph": "nested"}),
    ],
)
def test_what_made_it_is_metadata(path: str, metadata: dict[str, Any]) -> None:
    found = read_model(DATA / path).metadata
    assert {key: found[key] for key in metadata} == metadata


@pytest.mark.parametrize(
    ("path", "external"),
    [
        ("tensorflow/linear", ["variables.data-00000-of-00001", "variables.index"]),
        ("tensorflow/tensorflow1", []),
        ("openvino/linear.xml", ["linear.bin"]),
        ("openvino/dims.xml", []),
        ("torch/pair.pt2", []),
    ],
)
def test_weights_beside_a_model_are_named(path: str, external: list[str]) -> None:
    found = read_model(DATA / path).external
    assert [name.removeprefix("variables/") for name in found] == external


def test_a_compiled_archive_says_for_which_machine() -> None:
    facts = read_model(DATA / "torch" / "compiled.pt2")
    assert facts.gap == "an archive that AOTInductor compiled does not tell its tensors"
    compiled_for = facts.metadata["compiled_for"]
    assert (compiled_for["device"], compiled_for["machine"]) == ("cpu", "x86_64")


def test_notes_in_an_archive_tell_labels_and_task() -> None:
    facts = read_model(DATA / "torch" / "named.pt")
    assert (facts.labels, facts.model_type) == (("cat", "dog"), "classification")
    assert facts.description == "A toy."


@pytest.mark.parametrize(
    ("path", "problem", "hint"),
    [
        ("torch/state_dict.pt", "torch.save wrote of a state_dict: weights without", "torch.jit.script"),
        ("torch/module.pt", "a torch.nn.modules.linear.Linear, which needs that class", "torch.export"),
        ("torch/legacy.pt", "not a TorchScript archive but a pickle of torch.save", "torch.jit.script"),
        ("tensorflow/none", "expected a signature 'serving_default', found none", "signatures="),
        ("tensorflow/two_others", "found 'a', 'b'", "signatures="),
    ],
)  # fmt: skip
def test_what_cannot_be_served_says_how_to_export_it(path: str, problem: str, hint: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_model(DATA / path)
    assert problem in str(caught.value)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["scripted.pt", "traced.pt", "pair.pt2", "compiled.pt2"])
def test_an_archive_is_told_by_its_files(name: str, tmp_path: Path) -> None:
    content = (DATA / "torch" / name).read_bytes()
    bare = tmp_path / "bare"
    bare.write_bytes(content)
    assert format_of(bare) == ("torchscript" if name.endswith(".pt") else "torch_export")
    misnamed = tmp_path / f"m.{'pt2' if name.endswith('.pt') else 'pth'}"
    misnamed.write_bytes(content)
    with pytest.raises(FormatError, match="named like") as caught:
        read_model(misnamed)
    assert caught.value.hint == f"rename it to m.{name.rpartition('.')[2]}"


@pytest.mark.parametrize("path", ["torch/pair.pt2", "torch/scripted.pt", "openvino/linear.xml"])
def test_a_file_that_is_cut_short_is_refused(path: str, tmp_path: Path) -> None:
    whole = DATA / path
    short = tmp_path / whole.name
    short.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(FormatError) as caught:
        read_model(short)
    assert str(caught.value).startswith(str(short))
    assert "unpack it" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    "path",
    [
        "tensorflow/tensorflow1/saved_model.pb",
        "tensorflow/many/saved_model.pb",
        "torch/two.pt",
        "torch/many.pt2",
        "openvino/dims.xml",
    ],
)
def test_damaged_models_are_facts_or_an_error_that_was_foreseen(path: str, tmp_path: Path) -> None:
    whole, dice = (DATA / path).read_bytes(), random.Random(0)
    damaged = tmp_path / Path(path).name
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            content[dice.randrange(len(content))] = dice.choice((0, 0xFF, dice.randrange(256)))
        cut = dice.randrange(len(content)) if dice.random() < 0.2 else len(content)
        damaged.write_bytes(content[: cut or 1])
        with suppress(FormatError):
            read_model(damaged)
            continue
        with pytest.raises(FormatError) as caught:
            read_model(damaged)
        assert "cannot be read as" not in str(caught.value)
