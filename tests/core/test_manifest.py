"""Manifests: round trips, and everything a hostile one may hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.chunks import CHUNKS_TYPE
from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.manifest import FileEntry, Manifest, check_path
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ManifestError

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FULL = Manifest(
    name="team/digits",
    created="2026-02-28T13:36:51.250000Z",
    files=(FileEntry("labels.txt", 0, A), FileEntry("model.onnx", 7, B)),
    framework="onnx",
    model_type="classification",
    signature=Signature((Tensor("x", "FP32", (-1, 64)),), (Tensor("y", "BYTES", None),)),
    metadata={"depth": 3, "ä": [1.5, None, {"b": True}]},
    metrics={"acc": 0.5},
    lineage=Lineage(parents=(A,), cell=3, git_dirty=False, packages={"numpy": "2"}),
    golden=Golden(),
    conversion=Conversion("sklearn.svm.SVC", "skl2onnx", 0.1, 0.2, 3),
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
paths = st.lists(
    st.text("abcxyz._- 0", min_size=1, max_size=6).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=3,
).map("/".join)
entries = st.builds(
    FileEntry,
    paths,
    st.integers(0, 2**50),
    st.binary(max_size=4).map(lambda data: "sha256:" + hashlib.sha256(data).hexdigest()),
)
manifests = st.builds(
    Manifest,
    name=st.just("digits"),
    created=st.just("2026-02-28T13:36:51.250000Z"),
    files=st.lists(entries, max_size=4, unique_by=lambda entry: entry.path).map(tuple),
    framework=st.sampled_from(["onnx", "tflite"]),
    model_type=st.just("other"),
    signature=st.just(FULL.signature),
    metadata=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    metrics=st.dictionaries(
        st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3
    ),
)


@given(manifests)
def test_bytes_give_the_manifest_back_and_the_same_bytes(manifest: Manifest) -> None:
    again = Manifest.from_bytes(manifest.manifest_bytes(), manifest.config_bytes())
    assert again == manifest
    assert again.manifest_bytes() == manifest.manifest_bytes()
    assert again.config_bytes() == manifest.config_bytes()


def test_a_manifest_with_everything_comes_back() -> None:
    assert Manifest.from_bytes(FULL.manifest_bytes(), FULL.config_bytes()) == FULL


def test_the_manifest_is_an_oci_image_manifest_of_modelpack_type() -> None:
    data = json.loads(FULL.manifest_bytes())
    assert data["schemaVersion"] == 2
    assert data["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert data["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert data["config"] == {
        "mediaType": "application/vnd.cncf.model.config.v1+json",
        "digest": "sha256:" + hashlib.sha256(FULL.config_bytes()).hexdigest(),
        "size": len(FULL.config_bytes()),
    }
    assert data["layers"][1] == {
        "mediaType": "application/vnd.cncf.model.weight.v1.raw",
        "digest": B,
        "size": 7,
        "annotations": {
            "org.cncf.model.filepath": "model.onnx",
            "org.opencontainers.image.title": "model.onnx",
        },
    }
    config = json.loads(FULL.config_bytes())
    assert config["modelfs"] == {"type": "layers", "diffIds": [A, B]}
    assert config["config"] == {"format": "onnx"}


def test_unknown_fields_survive_reading_and_writing() -> None:
    data = json.loads(FULL.manifest_bytes())
    config = json.loads(FULL.config_bytes())
    data["annotations"] = {"org.example": "kept"}
    config["config"]["precision"] = "fp16"
    config["descriptor"]["licenses"] = ["MIT"]
    config["later"] = {"a": 1}
    read = Manifest.from_bytes(json.dumps(data).encode(), json.dumps(config).encode())
    assert json.loads(read.manifest_bytes())["annotations"] == {"org.example": "kept"}
    written = json.loads(read.config_bytes())
    assert written["config"] == {"precision": "fp16", "format": "onnx"}
    assert written["descriptor"]["licenses"] == ["MIT"]
    assert written["later"] == {"a": 1}


def with_table(**changes: Any) -> Manifest:
    """A manifest whose larger file has a chunk table."""
    table = replace(FileEntry("model.onnx.chunks", 32, A, CHUNKS_TYPE), **changes)
    return replace(FULL, chunks={"model.onnx": table})


def test_a_chunk_table_is_a_layer_but_no_file() -> None:
    manifest = with_table()
    data = json.loads(manifest.manifest_bytes())
    assert data["layers"][-1] == {
        "mediaType": "application/vnd.nbmodel.chunks.v1",
        "digest": A,
        "size": 32,
        "annotations": {
            "org.cncf.model.filepath": "model.onnx.chunks",
            "org.opencontainers.image.title": "model.onnx.chunks",
            "io.nbmodel.chunks.of": "model.onnx",
        },
    }
    diff_ids = json.loads(manifest.config_bytes())["modelfs"]["diffIds"]
    assert diff_ids == [layer["digest"] for layer in data["layers"]]
    read = Manifest.from_bytes(manifest.manifest_bytes(), manifest.config_bytes())
    assert read == manifest
    assert (read.files, read.size, read.content) == (FULL.files, FULL.size, FULL.content)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: replace(FULL, chunks={"gone.onnx": FileEntry("x", 32, A, CHUNKS_TYPE)}),
            id="of a file that is not there",
        ),
        pytest.param(lambda: with_table(size=33), id="larger than one of its file can be"),
        pytest.param(lambda: with_table(media_type="text/plain"), id="of another type"),
    ],
)
def test_a_chunk_table_that_cannot_be_is_refused(make: Callable[[], Manifest]) -> None:
    with pytest.raises(ManifestError, match="chunk table of"):
        make()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"io.nbmodel.chunks.of": "model.onnx"}, "two chunk tables", id="twice"),
        pytest.param({"io.nbmodel.chunks.of": "gone"}, "which is no file", id="of no file"),
        pytest.param({}, "layer 3 needs", id="of nothing"),
    ],
)
def test_layers_of_chunk_tables_are_checked(change: dict[str, str], said: str) -> None:
    manifest = with_table()
    data = json.loads(manifest.manifest_bytes())
    annotations = {"org.cncf.model.filepath": "more", **change}
    data["layers"].append({**data["layers"][-1], "annotations": annotations})
    with pytest.raises(ManifestError, match=said):
        Manifest.from_bytes(json.dumps(data).encode(), manifest.config_bytes())


def test_content_is_of_paths_and_bytes_alone() -> None:
    # printf '%s  %s\n' … | sha256sum
    lines = f"{A}  labels.txt\n{B}  model.onnx\n"
    assert FULL.content == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    other = replace(FULL, created="2027", metrics={}, files=tuple(reversed(FULL.files)))
    assert other.content == FULL.content
    moved = replace(FULL, files=(FileEntry("labels.txt", 0, B), FileEntry("model.onnx", 7, A)))
    assert moved.content != FULL.content


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "C:/x",
        "C:x",
        "\\\\server\\share",
        "a\\..\\b",
        "a\x00b",
        "a\nb",
        "a\ud800b",
        "x" * 1025,
    ],
)
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(ManifestError, match="unsafe path"):
        check_path(path)
    layer = {"mediaType": "x", "digest": A, "size": 1}
    layer["annotations"] = {"org.cncf.model.filepath": path}
    with pytest.raises(ManifestError):
        Manifest.from_bytes(json.dumps({"layers": [layer]}).encode(), b"{}")


@pytest.mark.parametrize("path", ["a", "a/b", "ä b/c.d", "...", "..a", "-", "a" * 1024])
def test_an_ordinary_path_is_accepted(path: str) -> None:
    assert check_path(path) == path


LAYER: dict[str, Any] = {
    "mediaType": "x",
    "digest": A,
    "size": 1,
    "annotations": {"org.cncf.model.filepath": "m"},
}


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"layers": {}}',
        b'{"layers": [3]}',
        json.dumps({"layers": [{**LAYER, "digest": "sha256:x"}]}).encode(),
        json.dumps({"layers": [{**LAYER, "size": -1}]}).encode(),
        json.dumps({"layers": [{**LAYER, "size": 1.5}]}).encode(),
        json.dumps({"layers": [{**LAYER, "size": True}]}).encode(),
        json.dumps({"layers": [{**LAYER, "size": "1"}]}).encode(),
        json.dumps({"layers": [{**LAYER, "annotations": {}}]}).encode(),
        json.dumps({"layers": [{**LAYER, "annotations": None}]}).encode(),
        json.dumps({"layers": [{"digest": A}]}).encode(),
        json.dumps({"layers": [LAYER, LAYER]}).encode(),
        b" " * (4 * 1024 * 1024 + 1),
    ],
)
def test_a_malformed_manifest_is_a_manifest_error(manifest: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(manifest, b"{}")


@pytest.mark.parametrize(
    "own",
    [
        [],
        {"metrics": {"acc": "high"}},
        {"metrics": []},
        {"metrics": {"acc": 10**400}},
        {"metrics": {"acc": float("nan")}},
        {"model_type": "\ud800"},
        {"conversion": {"source": "", "tool": "", "max_abs": 10**400, "max_rel": 0, "samples": 1}},
        {"metadata": 3},
        {"signature": {"inputs": [{}]}},
        {"signature": 3},
        {"lineage": {"packages": 3}},
        {"golden": {"rtol": "x"}},
        {"conversion": {}},
    ],
)
def test_a_malformed_config_is_a_manifest_error(own: object) -> None:
    manifest = json.dumps({"layers": [LAYER]}).encode()
    with pytest.raises(ManifestError):
        Manifest.from_bytes(manifest, json.dumps({"nbmodel": own}).encode())


def test_a_foreign_modelpack_artifact_is_read_as_far_as_it_tells() -> None:
    config = {"descriptor": {"name": "their-model"}, "config": {"format": "gguf"}}
    layer = {**LAYER, "annotations": {"org.opencontainers.image.title": "w.gguf"}}
    read = Manifest.from_bytes(
        json.dumps({"layers": [layer]}).encode(), json.dumps(config).encode()
    )
    assert (read.name, read.framework, read.model_type) == ("their-model", "gguf", "other")
    assert [entry.path for entry in read.files] == ["w.gguf"]
    assert read.signature == Signature()


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_manifest_error(manifest: bytes, config: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_bytes(manifest, config)
