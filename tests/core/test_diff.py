"""What differs between two versions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nbmodel.core.diff import Change, diff_versions
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
X = Tensor("x", "FP32", (-1, 64))
Y = Tensor("y", "FP32", (-1, 2), labels=("ant", "bee"))
MANIFEST = Manifest(
    name="digits",
    created="2026-01-01T00:00:00Z",
    files=(FileEntry("labels.txt", 3, A), FileEntry("model.onnx", 7, A)),
    framework="onnx",
    model_type="classification",
    signature=Signature((X,), (Y,)),
    metadata={"depth": 3, "quantised": True, "gone": None},
    metrics={"acc": 0.5},
)


def version(number: int, manifest: Manifest) -> Version:
    return Version("digits", number, "2026-01-01T00-00-00", A, manifest)


def changes(new: Manifest, part: str) -> list[str]:
    return [
        str(change) for change in diff_versions(version(1, MANIFEST), version(2, new)).parts[part]
    ]


def test_a_version_does_not_differ_from_itself_or_by_its_time() -> None:
    assert diff_versions(version(1, MANIFEST), version(1, MANIFEST)).is_empty
    later = replace(MANIFEST, created="2026-02-02T00:00:00Z")
    assert diff_versions(version(1, MANIFEST), version(2, later)).is_empty


def test_files_are_added_removed_and_changed() -> None:
    files = (FileEntry("model.onnx", 9, B), FileEntry("golden.npz", 1, B))
    diff = diff_versions(version(1, MANIFEST), version(2, replace(MANIFEST, files=files)))
    assert [(change.name, change.kind) for change in diff.files] == [
        ("golden.npz", "added"),
        ("labels.txt", "removed"),
        ("model.onnx", "changed"),
    ]
    assert diff.files[2].old == {"size": 7, "digest": A}
    assert diff.files[2].new == {"size": 9, "digest": B}


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (
            Signature((replace(X, shape=(-1, 8, 8)),), (Y,)),
            ["~ input 'x' shape: [-1, 64] → [-1, 8, 8]"],
        ),
        (
            Signature((replace(X, datatype="FP16"),), (Y,)),
            ["~ input 'x' datatype: FP32 → FP16"],
        ),
        (
            Signature((replace(X, name="z"),), (Y,)),
            ["~ input name: x → z"],
        ),
        (
            Signature((replace(X, description="pixels"),), (Y,)),
            ["+ input 'x' description: pixels"],
        ),
        (Signature((X,), (replace(Y, labels=("ant", "cat")),)), []),
    ],
    ids=["shape", "datatype", "renamed", "description", "labels have a part of their own"],
)
def test_the_signature_differs_by_tensor_and_field(
    signature: Signature, expected: list[str]
) -> None:
    assert changes(replace(MANIFEST, signature=signature), "signature") == expected


def test_labels_differ_by_index() -> None:
    labels = ("ant", "wasp", "cat")
    signature = Signature((X,), (replace(Y, labels=labels),))
    assert changes(replace(MANIFEST, signature=signature), "labels") == [
        "~ y[1]: bee → wasp",
        "+ y[2]: cat",
    ]
    signature = Signature((X,), (replace(Y, labels=()),))
    assert changes(replace(MANIFEST, signature=signature), "labels") == [
        "- y[0]: ant",
        "- y[1]: bee",
    ]


def test_metadata_keeps_types_apart_and_null_from_absence() -> None:
    metadata = {"depth": 3.0, "quantised": 1, "made": None}
    assert changes(replace(MANIFEST, metadata=metadata), "metadata") == [
        "- gone: None",
        "+ made: None",
        "~ quantised: True → 1",
    ]


def test_metrics_and_facts_say_by_how_much() -> None:
    new = replace(MANIFEST, metrics={"acc": 0.75, "f1": 0.5}, framework="tflite")
    diff = diff_versions(version(1, MANIFEST), version(2, new))
    assert [(change.name, change.delta) for change in diff.metrics] == [("acc", 0.25), ("f1", None)]
    assert [str(change) for change in diff.facts] == ["~ framework: onnx → tflite"]
    assert Change("flag", "changed", old=True, new=False).delta is None
    text = json.dumps(diff.to_json())
    assert json.loads(text)["metrics"][0] == {
        "name": "acc",
        "kind": "changed",
        "old": 0.5,
        "new": 0.75,
    }


def test_a_renamed_tensor_is_one_change_and_its_labels_are_compared() -> None:
    renamed = Signature((X,), (replace(Y, name="z", labels=("ant", "wasp")),))
    diff = diff_versions(version(1, MANIFEST), version(2, replace(MANIFEST, signature=renamed)))
    assert [str(change) for change in diff.signature] == ["~ output name: y → z"]
    assert [str(change) for change in diff.labels] == ["~ y[1]: bee → wasp"]
    assert diff.label_count == 2
