"""Verifying, collecting, extracting, and index.json."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import DigestMismatchError, InputError, StorageError
from nbmodel.registry import Registry

Add = Callable[..., Version]


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_sound_registry_is_clean_and_every_byte_was_read(registry: Registry, add: Add) -> None:
    add(content=b"a" * 1000)
    add(content=b"a" * 1000)
    told: list[int] = []
    report = registry.verify(progress=told.append)
    assert report.is_clean
    assert (report.versions, report.blobs) == (2, 5)
    stored = sum(size for _, size, _ in registry.storage.digests())
    assert report.bytes == stored == sum(told)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"WEIGHTS", "is damaged"), (b"short", "has 5 bytes, expected 7"), (None, "is missing")],
)
def test_what_is_wrong_is_named_with_version_and_file(
    registry: Registry, add: Add, content: bytes | None, what: str
) -> None:
    first = add(content=b"weights")
    add("copy", content=b"weights")
    add("other", content=b"others")
    digest = first.files[0].digest
    if content is None:
        registry.storage.delete(digest)
    else:
        overwrite(registry.storage.path(digest), content)
    (problem,) = registry.verify().problems
    assert what in problem.what
    assert problem.digest == digest
    assert problem.versions == ("copy:1", "digits:1")
    assert problem.paths == ("model.onnx",)
    assert registry.verify("other:1").is_clean
    assert not registry.verify("digits:1").is_clean
    assert not registry.verify("digits").is_clean


def test_a_damaged_manifest_is_named(registry: Registry, add: Add) -> None:
    made = add()
    overwrite(registry.storage.path(made.digest), b"x" * made_size(registry, made))
    with Registry(registry.root) as fresh:
        (problem,) = fresh.verify().problems
    assert problem.versions == ("digits:1",)
    assert problem.digest == made.digest


def made_size(registry: Registry, version: Version) -> int:
    return registry.storage.size(version.digest)


def test_a_changed_index_is_named(registry: Registry, add: Add) -> None:
    add()
    (registry.root / "index.json").write_text('{"manifests": []}')
    assert [problem.what for problem in registry.verify().problems] == [
        "index.json does not list the versions of the registry"
    ]
    add()
    assert registry.verify().is_clean


def test_the_index_lists_versions_by_name_and_number(registry: Registry, add: Add) -> None:
    first = add(content=b"a")
    add(content=b"b")
    add("team/fruits", content=b"c")
    registry.rename("digits", "numbers")
    registry.delete("numbers:2")
    listed = json.loads((registry.root / "index.json").read_bytes())["manifests"]
    assert [entry["annotations"] for entry in listed] == [
        {"org.opencontainers.image.ref.name": "numbers:1"},
        {"org.opencontainers.image.ref.name": "team/fruits:1"},
    ]
    assert listed[0]["digest"] == first.digest
    assert listed[0]["size"] == made_size(registry, first)
    assert listed[0]["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert listed[0]["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"


def test_collecting_frees_what_no_version_needs(registry: Registry, add: Add) -> None:
    add(content=b"a" * 1000)
    kept = add("fruits", content=b"b" * 1000)
    registry.delete("digits")
    young = registry.gc()
    assert young.count == 0  # within the grace period
    assert young.waiting > 0
    assert 0 < young.wait_s <= 3600
    planned = registry.gc(grace_s=0, dry_run=True)
    assert (planned.blobs, planned.uploads, planned.dry_run) == (3, 0, True)
    done = registry.gc(grace_s=0)
    assert (done.blobs, done.freed) == (planned.blobs, planned.freed)
    assert done.freed > 1000
    assert registry.gc(grace_s=0).count == 0
    assert registry.verify().is_clean
    assert registry.storage.read(kept.files[0].digest, limit=1000) == b"b" * 1000


def test_collecting_frees_abandoned_uploads_and_spares_those_under_way(
    registry: Registry, add: Add
) -> None:
    add()
    with registry.storage.receive(name="abandoned") as upload:
        upload.write(b"x" * 100)
    with registry.storage.receive(name="under-way") as upload:
        upload.write(b"x" * 100)
        report = registry.gc(grace_s=0)
        assert (report.uploads, report.freed) == (1, 100)
        upload.write(b"y")
        upload.commit(upload.digest)


def test_a_reused_blob_is_young_again(registry: Registry, add: Add, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    time.sleep(0.08)
    made = add(content=source)
    registry.delete("digits")
    blob = registry.storage.path(made.files[0].digest)
    os.utime(blob, (1, 1))
    # What an upload in flight does before its commit: it reuses the blob.
    assert registry.storage.keep(made.files[0].digest)
    registry.gc(grace_s=60)
    assert blob.exists()


def test_collecting_refuses_to_work_without_its_index(registry: Registry, add: Add) -> None:
    add()
    registry.close()
    (registry.root / "registry.sqlite").unlink()
    with pytest.raises(StorageError, match="lists 1 version"):
        registry.gc(grace_s=0)
    with pytest.raises(InputError, match="expected 0 or more"):
        registry.gc(grace_s=-1)


def test_files_are_extracted_into_folders(registry: Registry, tmp_path: Path) -> None:
    registry.add(
        "saved",
        {"model.pb": b"graph", "variables/data": b"weights"},
        framework="savedmodel",
        model_type="other",
        signature=Signature(),
    )
    target = tmp_path / "deep" / "target"
    paths = registry.extract("saved", target)
    assert paths == (target / "model.pb", target / "variables" / "data")
    assert [path.read_bytes() for path in paths] == [b"graph", b"weights"]
    assert sorted(path.name for path in target.iterdir()) == ["model.pb", "variables"]
    assert registry.extract("saved", target) == paths  # equal files are kept
    with paths[0].open("ab") as file:
        file.write(b"mine")
    with pytest.raises(InputError, match=r"'model\.pb'"):
        registry.extract("saved", target)
    assert paths[0].read_bytes() == b"graphmine"


def test_a_damaged_file_is_not_extracted(registry: Registry, add: Add, tmp_path: Path) -> None:
    made = add()
    overwrite(registry.storage.path(made.files[0].digest), b"WEIGHTS")
    with pytest.raises(DigestMismatchError):
        registry.extract("digits", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_extracting_does_not_leave_the_folder_through_a_link(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add("m", {"sub/file": b"x"}, framework="x", model_type="other", signature=Signature())
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="is a link"):
        registry.extract("m", tmp_path / "target")
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder"):
        registry.extract("m", tmp_path / "file")
