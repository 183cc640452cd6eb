"""Making versions, finding them, and what a version says."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.manifest import DATASET_TYPE, Manifest
from nbmodel.core.reference import Reference
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InputError,
    ManifestError,
    ModelNotFoundError,
    RefError,
    RegistryError,
    VersionNotFoundError,
)
from nbmodel.registry import Registry

Add = Callable[..., Version]


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_an_empty_home_reads_as_empty_and_is_not_made(registry: Registry) -> None:
    assert registry.models() == []
    assert registry.versions() == []
    assert registry.pins() == []
    assert registry.deployments() == []
    assert registry.verify().is_clean
    assert registry.gc().count == 0
    with pytest.raises(ModelNotFoundError) as caught:
        registry.resolve("digits")
    assert caught.value.hint == "the registry is empty: upload a model first"
    assert not registry.root.exists()


def test_a_version_says_what_was_given(registry: Registry, add: Add) -> None:
    made = registry.add(
        "team/digits",
        {"model.onnx": b"weights", "labels.txt": b"ant\n", "golden.npz": b"npz"},
        framework="onnx",
        model_type="classification",
        signature=Signature(),
        metadata={"depth": 3, "note": "ö", "nested": {"a": [1, None, True]}},
        metrics={"acc": 0.5, "n": 3},
        lineage=Lineage(notebook="a.ipynb", cell=3, git_dirty=False),
        golden=Golden(rtol=0.1),
        conversion=Conversion("sklearn.svm.SVC", "skl2onnx 1", 0.1, 0.2, 5),
        description="first",
        tags={"fruit": "apple"},
        media_types={"golden.npz": DATASET_TYPE},
    )
    found = registry.resolve("team/digits:1")
    assert found == made
    assert [entry.path for entry in found.files] == ["golden.npz", "labels.txt", "model.onnx"]
    assert found.files[0].media_type == DATASET_TYPE
    assert found.files[2].digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert found.size == len(b"weights" + b"ant\n" + b"npz")
    assert found.metadata == {"depth": 3, "note": "ö", "nested": {"a": [1, None, True]}}
    assert found.metrics == {"acc": 0.5, "n": 3.0}
    assert found.manifest.lineage.cell == 3
    assert found.manifest.lineage.git_dirty is False
    assert found.manifest.golden == Golden(rtol=0.1)
    assert found.manifest.conversion is not None
    assert found.description == "first"
    assert found.tags == {"fruit": "apple"}
    assert found.aliases == ("latest",)
    assert (found.published, found.archived, found.pinned) == (False, False, False)
    raw = registry.storage.read(found.digest, limit=10_000)
    assert json.loads(raw)["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"


def test_numbers_count_up_and_equal_uploads_are_versions_of_equal_content(
    registry: Registry, add: Add
) -> None:
    first, second = add(), add()
    assert (first.number, second.number) == (1, 2)
    assert first.digest != second.digest
    assert first.manifest.content == second.manifest.content
    assert first.stamp < second.stamp
    assert len(list(registry.storage.digests())) == 5  # the file, and two of each manifest


def test_stamps_are_unique_within_a_second(add: Add) -> None:
    stamps = [add().stamp for _ in range(10)]
    assert len(set(stamps)) == 10
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(
    ("ref", "number"),
    [
        ("digits", 3),
        ("digits:latest", 3),
        ("digits:1", 1),
        ("digits:champion", 2),
        (Reference("digits", number=2), 2),
    ],
)
def test_references_of_every_kind_resolve(
    registry: Registry, add: Add, ref: str | Reference, number: int
) -> None:
    for content in (b"a", b"b", b"c"):
        add(content=content)
    registry.set_alias("digits:2", "champion")
    assert registry.resolve(ref).number == number


def test_stamps_and_digests_resolve(registry: Registry, add: Add) -> None:
    first, second = add(), add()
    assert registry.resolve(f"digits:{first.stamp}").number == 1
    assert registry.resolve(f"digits:{first.stamp.replace('-', '').replace('T', '')}").number == 1
    assert registry.resolve(f"digits@{second.digest}").number == 2


@pytest.mark.parametrize(
    ("ref", "error", "hint"),
    [
        ("digts", ModelNotFoundError, "did you mean 'digits'?"),
        ("zebra", ModelNotFoundError, "models: digits"),
        ("digits:7", VersionNotFoundError, "newest versions: 1"),
        ("digits:2020-01-01T00-00-00", VersionNotFoundError, "newest versions: 1"),
        ("digits:champoin", VersionNotFoundError, "did you mean 'champion'?"),
        ("digits@sha256:" + "0" * 64, VersionNotFoundError, "newest versions: 1"),
        ("registry.example/digits:1", RefError, "leave out registry.example/ for the local one"),
        ("Digits", RefError, None),
        ("x" * 10_000, RefError, "choose a shorter name"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(
    registry: Registry, add: Add, ref: str, error: type[Exception], hint: str | None
) -> None:
    add()
    registry.set_alias("digits", "champion")
    with pytest.raises(error) as caught:
        registry.resolve(ref)
    if hint is not None:
        assert caught.value.hint == hint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"files": {}}, "expected at least one"),
        ({"files": {"../model.onnx": b"x"}}, "unsafe path"),
        ({"files": {"a": b"x", "a/b": b"y"}}, "'a' is both a file and the folder"),
        ({"files": {"m": Path("/nowhere/m")}}, "cannot read"),
        ({"metrics": {"acc": float("nan")}}, "'acc' is nan"),
        ({"metrics": {"acc": "high"}}, "'acc' is not a number"),
        ({"metadata": {"when": object()}}, "'when' is not a JSON value"),
        ({"metadata": {"big": float("inf")}}, "'big' is not a JSON value"),
        ({"tags": {"a b": "c"}}, "not a tag: 'a b'"),
        ({"tags": {"a": 3}}, "value of tag 'a'"),
        ({"model_type": "wizardry"}, "unknown model type 'wizardry'"),
        ({"framework": ""}, "needs a framework"),
        ({"golden": Golden()}, "'golden.npz' is not one of the files"),
        ({"media_types": {"x": DATASET_TYPE}}, "'x' is not one of the files"),
        ({"lineage": Lineage(parents=("digits:1",))}, "is no digest"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_made(
    registry: Registry, options: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {
        "files": {"m": b"x"},
        "framework": "onnx",
        "model_type": "other",
        "signature": Signature(),
    }
    given.update(options)
    with pytest.raises(InputError, match=words):
        registry.add("digits", **given)
    assert registry.models() == []
    assert list(registry.storage.digests()) == []


def test_an_unchanged_file_is_not_read_again(registry: Registry, add: Add, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    os.utime(source, (1, 1))
    _age_change_time()
    first = add(content=source)
    # Bytes that the digest no longer fits, under the same stat: nobody looks at them.
    blob = registry.storage.path(first.files[0].digest)
    damage(blob, b"WEIGHTS")
    assert add(content=source).files == first.files
    assert blob.read_bytes() == b"WEIGHTS"


def test_a_file_that_changed_is_read_again(registry: Registry, add: Add, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    _age_change_time()
    first = add(content=source)
    kept = source.stat()
    source.write_bytes(b"WEIGHTS")  # same length, and the same time of change:
    os.utime(source, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    second = add(content=source)
    assert second.files[0].digest != first.files[0].digest


def test_a_file_written_just_now_is_read_again(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    first = add(content=source)
    damage(registry.storage.path(first.files[0].digest), b"WEIGHTS")
    add(content=source)  # its time could hide a change, so it was not remembered
    assert registry.storage.read(first.files[0].digest, limit=100) == b"weights"


def test_an_unchanged_file_whose_blob_is_gone_is_stored_again(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    _age_change_time()
    add(content=source)
    registry.delete("digits")
    registry.gc(grace_s=0)
    assert list(registry.storage.digests()) == []
    add(content=source)
    assert registry.verify().is_clean


def test_progress_counts_every_byte_once(registry: Registry, add: Add, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(3_000_000))
    _age_change_time()
    for _ in range(2):  # read, then recognised
        told: list[int] = []
        registry.add(
            "digits",
            {"a": source, "b": b"abc"},
            framework="onnx",
            model_type="other",
            signature=Signature(),
            progress=told.append,
        )
        assert sum(told) == 3_000_003


def test_a_manifest_is_read_only_when_asked_for(registry: Registry, add: Add) -> None:
    made = add(metrics={"acc": 0.5}, metadata={"k": 1})
    damage(registry.storage.path(made.digest), b"{}")
    with Registry(registry.root) as fresh:
        (listed,) = fresh.versions()
        assert (listed.framework, listed.model_type, listed.size) == ("onnx", "classification", 7)
        assert (listed.metrics, listed.metadata) == ({"acc": 0.5}, {"k": 1})
        assert listed.created == made.created
        with pytest.raises(DigestMismatchError):
            _ = listed.files
        with pytest.raises(DigestMismatchError):
            fresh.resolve("digits")


def test_a_version_is_a_plain_value(registry: Registry, add: Add) -> None:
    made = add(tags={"a": "b"}, metrics={"acc": 0.5})
    listed = registry.versions()[0]
    whole = Manifest.from_bytes(
        registry.storage.read(made.digest, limit=10_000),
        registry.storage.read(
            json.loads(registry.storage.read(made.digest, limit=10_000))["config"]["digest"],
            limit=10_000,
        ),
    )
    assert listed == made
    assert listed.manifest == whole
    assert whole == listed.manifest
    assert pickle.loads(pickle.dumps(listed)) == listed
    assert copy.deepcopy(listed) == listed
    assert replace(listed, number=7).number == 7
    assert replace(listed.manifest, name="other").size == listed.size
    assert listed != "digits:1"
    assert "digits" in repr(listed)
    with pytest.raises(AttributeError):
        _ = listed.weights  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        listed.number = 2  # type: ignore[misc]


def test_an_archived_model_takes_no_versions(registry: Registry, add: Add) -> None:
    add()
    registry.archive("digits")
    with pytest.raises(RegistryError, match="is archived"):
        add()


def test_a_pulled_manifest_becomes_a_version_once(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    made = add(metrics={"acc": 0.5})
    raw = registry.storage.read(made.digest, limit=10_000)
    with Registry(tmp_path / "other") as other:
        for digest, _, _ in registry.storage.digests():
            if digest != made.digest:
                other.storage.add_file(registry.storage.path(digest))
        adopted = other.adopt(raw, "copy")
        assert adopted.digest == made.digest
        assert (adopted.model, adopted.number) == ("copy", 1)
        assert adopted.stamp == made.stamp
        assert adopted.metrics == {"acc": 0.5}
        assert other.adopt(raw, "copy") == adopted
        assert len(other.versions()) == 1
        assert other.verify().is_clean


def test_a_manifest_without_its_blobs_is_not_adopted(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    made = add()
    raw = registry.storage.read(made.digest, limit=10_000)
    config = json.loads(raw)["config"]["digest"]
    with Registry(tmp_path / "other") as other:
        with pytest.raises(BlobNotFoundError):
            other.adopt(raw, "copy")
        other.storage.add_file(registry.storage.path(config))
        with pytest.raises(BlobNotFoundError, match=made.files[0].digest):
            other.adopt(raw, "copy")
        with pytest.raises(ManifestError):
            other.adopt(b"no manifest", "copy")
        assert other.models() == []


def _age_change_time() -> None:
    """Wait until a file written before is older than what is trusted (50 ms)."""
    time.sleep(0.08)
