"""Chunk tables of versions: made with them, never listed among their files, kept and freed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.core.manifest import FileEntry
from nbmodel.core.version import Version
from nbmodel.registry import Registry
from nbmodel.storage.assembly import read_table
from nbmodel.storage.chunking import chunk_table
from nbmodel.storage.manifests import blobs_of

Add = Callable[..., Version]

MIB = 1024 * 1024
LARGE = random.Random(0).randbytes(2 * MIB + 5)


@pytest.fixture(params=[bytes, Path])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> bytes | Path:
    """A large file, in memory and on disk."""
    if request.param is bytes:
        return LARGE
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE)
    return path


def layer_of(version: Version) -> FileEntry:
    (layer,) = version.manifest.chunks.values()
    return layer


def blobs(registry: Registry) -> set[str]:
    return {digest for digest, _, _ in registry.storage.digests()}


def test_a_large_file_gets_a_table(registry: Registry, add: Add, large: bytes | Path) -> None:
    version = add(content=large)
    assert list(version.manifest.chunks) == ["model.onnx"]
    layer = layer_of(version)
    assert layer.path == "model.onnx.chunks"
    assert read_table(registry.storage, layer.digest, len(LARGE)) == chunk_table(LARGE)
    assert layer.digest in blobs_of(registry.storage.read(version.digest, limit=MIB))


@pytest.mark.parametrize(("size", "count"), [(MIB - 1, 0), (MIB, 1)])
def test_a_table_is_made_from_one_mebibyte_on(
    add: Add, tmp_path: Path, size: int, count: int
) -> None:
    (tmp_path / "file").write_bytes(LARGE[:size])
    assert len(add(content=LARGE[:size]).manifest.chunks) == count
    assert len(add(content=tmp_path / "file").manifest.chunks) == count


def test_a_table_is_no_file_of_the_version(registry: Registry, add: Add, tmp_path: Path) -> None:
    version = add(content=LARGE)
    assert [entry.path for entry in version.files] == ["model.onnx"]
    assert version.size == len(LARGE)
    assert str(version.to_json()["files"]).count("path") == 1
    assert registry.extract("digits:1", tmp_path / "out") == (tmp_path / "out" / "model.onnx",)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    again = add(content=LARGE)
    assert again.manifest.content == version.manifest.content
    assert ".chunks" not in str(registry.diff("digits:1", "digits:2").to_json())


def test_equal_bytes_share_one_table(add: Add, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE)
    made = {layer_of(add(name, content)).digest for name, content in [("a", LARGE), ("b", path)]}
    assert len(made) == 1


def test_a_file_that_is_recognised_keeps_its_table(add: Add, tmp_path: Path) -> None:
    """It is not read again, so its table comes from the version that had it."""
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE)
    time.sleep(0.1)  # what changed within a tick of the clock is not recognised
    first = add(content=path)
    second = add("other", content=path)
    assert layer_of(second) == layer_of(first)
    assert second.digest != first.digest


def test_a_table_that_was_lost_is_done_without(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(LARGE)
    time.sleep(0.1)
    first = add(content=path)
    registry.storage.delete(layer_of(first).digest)
    assert add("other", content=path).manifest.chunks == {}


def test_a_file_called_as_the_table_would_be_goes_before_it(registry: Registry, add: Add) -> None:
    files = {"model.onnx": LARGE, "model.onnx.chunks": b"mine"}
    version = registry.add(
        "digits", files, framework="onnx", model_type="other", signature=add("x").signature
    )
    assert version.manifest.chunks == {}
    assert len(version.files) == 2


def test_a_table_is_verified_kept_and_freed_with_its_version(registry: Registry, add: Add) -> None:
    version = add(content=LARGE)
    assert registry.gc(grace_s=0).blobs == 0
    assert registry.verify().is_clean
    path = registry.storage.path(layer_of(version).digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (problem,) = registry.verify().problems
    assert problem.paths == ("model.onnx.chunks",)
    assert problem.versions == ("digits:1",)
    registry.delete("digits", force=True)
    registry.gc(grace_s=0)
    assert blobs(registry) == set()
