"""One model, put where each importer looks for it: real files, repositories and servers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.tools import docker_registry
from tests.tools.object_server import object_server
from tests.tools.site import Asked, Page, Site

LABELS = ("apple", "banana", "cherry")
_GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass
class Stand:
    """What a place is made with.

    Attributes:
        folder: Empty at first.
        model: Content of an ONNX file, which the place is to hold.
        web: A running server.
        request: Of the test, for what must be ended and for the environment.
    """

    folder: Path
    model: bytes
    web: Site
    request: pytest.FixtureRequest

    def set(self, name: str, value: str) -> None:
        """Set an environment variable for the test."""
        self.request.getfixturevalue("monkeypatch").setenv(name, value)


def tape(path: Path, files: Mapping[str, bytes]) -> Path:
    """A ``.tar.gz`` of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def git(folder: Path, *words: str) -> str:
    """What git writes; it reads nobody's settings."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **_GIT},
    )  # fmt: skip
    return done.stdout.strip()


def repository(folder: Path, files: Mapping[str, bytes]) -> str:
    """A Git repository with one commit on ``main``; the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    return commit(folder, files)


def commit(folder: Path, files: Mapping[str, bytes]) -> str:
    """One more commit; its name."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "files")
    return git(folder, "rev-parse", "HEAD")


def pointer(content: bytes) -> bytes:
    """The Git LFS pointer to a file, as the specification has it."""
    oid = hashlib.sha256(content).hexdigest()
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    ).encode()


def serve_hub(web: Site, repo: str, commit: str, files: Mapping[str, bytes], revision: str) -> None:
    """The routes of the hub that reading a model takes; files above 100 bytes are in LFS."""

    def entry(name: str, content: bytes) -> dict[str, object]:
        git_name = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        one: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_name}
        if len(content) > 100:
            sha256 = hashlib.sha256(content).hexdigest()
            one["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        return one

    listed = {"id": repo, "sha": commit, "siblings": [entry(*one) for one in files.items()]}
    web.pages[f"/api/models/{repo}/revision/{revision}"] = Page(json.dumps(listed).encode())
    for name, content in files.items():
        web.pages[f"/{repo}/resolve/{commit}/{name}"] = Page(content)


def serve_mlflow(
    web: Site, name: str, files: Mapping[str, bytes], aliases: Mapping[str, str]
) -> None:
    """The routes of MLflow's server that reading a version takes, as its documentation has them."""
    version = {
        "name": name,
        "version": "3",
        "run_id": "r1",
        "current_stage": "None",
        "description": "with more data",
        "aliases": sorted(aliases),
        "tags": [{"key": "team", "value": "fruit"}],
        "source": "models:/m-1",
    }
    run = {
        "metrics": [{"key": "acc", "value": 0.9, "timestamp": 1, "step": 0}],
        "params": [{"key": "depth", "value": "3"}],
        "tags": [{"key": "mlflow.user", "value": "me"}],
    }
    base = "/api/2.0/mlflow"
    web.pages[f"{base}/model-versions/get"] = Page(json.dumps({"model_version": version}).encode())
    web.pages[f"{base}/registered-models/alias"] = lambda asked: (
        Page(json.dumps({"model_version": version}).encode())
        if parse_qs(urlsplit(asked.path).query)["alias"][0] in aliases
        else Page(b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', 404)
    )
    web.pages[f"{base}/runs/get"] = Page(json.dumps({"run": {"data": run}}).encode())
    where = {"artifact_uri": "mlflow-artifacts:/0/models/m-1/artifacts"}
    web.pages[f"{base}/model-versions/get-download-uri"] = Page(json.dumps(where).encode())
    root = "/api/2.0/mlflow-artifacts/artifacts"

    def listing(asked: Asked) -> Page:
        path = parse_qs(urlsplit(asked.path).query)["path"][0]
        inside = [one for one in files if path == "0/models/m-1/artifacts"]
        entries = [{"path": one, "is_dir": False, "file_size": len(files[one])} for one in inside]
        return Page(json.dumps({"files": entries}).encode())

    web.pages[root] = listing
    for one, content in files.items():
        web.pages[f"{root}/0/models/m-1/artifacts/{one}"] = Page(content)


MLMODEL = b"""artifact_path: model
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.16.0
    providers: [CPUExecutionProvider]
  python_function:
    loader_module: mlflow.onnx
mlflow_version: 3.1.0
run_id: 0f1e
model_uuid: c0ffee
utc_time_created: '2026-02-28 13:36:51.250000'
signature:
  inputs: '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
  params: null
"""
SERVING = b"""kind: Model
name: toy
runtime: "hydrosphere/serving-runtime-python-3.7:3.0.3"
install-command: "pip install -r requirements.txt"
training-data: s3://bucket/train.csv
payload: ["model.onnx", "requirements.txt"]
contract:
  name: predict
  inputs:
    x: { shape: [-1, 2], type: float32, profile: numerical }
  outputs:
    y: { shape: [-1, 3], type: float32, profile: numerical }
metadata: { author: me }
monitoring:
  - name: auto-od
    config: { monitoring-model: "my-metric:1", threshold: 12, operator: "<=" }
monitoring-configuration: { batch-size: 100 }
"""


def _url(at: Stand) -> str:
    at.web.pages["/toy.onnx"] = Page(at.model)
    return f"{at.web.url}/toy.onnx"


def _git(at: Stand) -> str:
    repository(at.folder / "toy", {"model.onnx": at.model, "README.md": b"a toy"})
    return f"git+file://{at.folder / 'toy'}@main"


def _object_store(at: Stand) -> str:
    pytest.importorskip("obstore", reason="object stores are read with obstore")
    pytest.importorskip("moto", reason="moto is the object store")
    running = object_server()
    server = running.__enter__()
    at.request.addfinalizer(lambda: running.__exit__(None, None, None))
    for name, value in server.environment.items():
        at.set(name, value)
    server.make_bucket("models")
    httpx.put(f"{server.url}/models/fruit/toy.onnx", content=at.model, trust_env=False)
    return "s3://models/fruit/toy.onnx"


def _hf(at: Stand) -> str:
    files = {"onnx/toy.onnx": at.model, "README.md": b"---\nlicense: mit\n---\n# Toy\n"}
    serve_hub(at.web, "fruit/toy", "c" * 40, files, "main")
    at.set("HF_ENDPOINT", at.web.url)
    return "hf://fruit/toy@main"


def _mlflow(at: Stand) -> str:
    serve_mlflow(at.web, "toy", {"MLmodel": MLMODEL, "model.onnx": at.model}, {"champion": "3"})
    at.set("MLFLOW_TRACKING_URI", at.web.url)
    return "models:/toy@champion"


def _hs(at: Stand) -> str:
    for name, content in {
        "serving.yaml": SERVING,
        "model.onnx": at.model,
        "requirements.txt": b"numpy\n",
    }.items():
        (at.folder / name).write_bytes(content)
    return str(at.folder)


CONFIG = b"""
name: "toy"
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }
"""


def _triton(at: Stand) -> str:
    for name, content in {
        "toy/config.pbtxt": CONFIG,
        "toy/labels.txt": "\n".join(LABELS).encode(),
        "toy/1/model.onnx": b"an older one",
        "toy/12/model.onnx": at.model,
    }.items():
        (at.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (at.folder / name).write_bytes(content)
    return str(at.folder)


def _mlflow_model(at: Stand) -> str:
    (at.folder / "toy").mkdir()
    (at.folder / "toy" / "MLmodel").write_bytes(MLMODEL)
    (at.folder / "toy" / "model.onnx").write_bytes(at.model)
    return str(at.folder / "toy")


def _clearml(at: Stand) -> str:
    told = {
        "id": "5f3e",
        "name": "train - toy",
        "framework": "ONNX",
        "uri": "https://files.clear.ml/x/models/toy.onnx",
        "labels": {"apple": 0, "banana": 1, "cherry": 2},
        "tags": ["fruit"],
        "ready": True,
        "comment": "a toy",
        "metadata": {"depth": {"key": "depth", "type": "int", "value": "3"}},
    }
    (at.folder / "model.json").write_text(json.dumps({"data": {"model": told}}))
    (at.folder / "toy.onnx").write_bytes(at.model)
    return str(at.folder)


def _viam(at: Stand) -> str:
    files = {"toy.onnx": at.model, "labels.txt": "\n".join(LABELS).encode()}
    return str(tape(at.folder / "2024-02-28T13-36-51" / "toy.tar.gz", files))


def _hf_cache(at: Stand) -> str:
    root = at.folder / "models--fruit--toy"
    snapshot = root / "snapshots" / ("c" * 40)
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True)
    blob = root / "blobs" / hashlib.sha256(at.model).hexdigest()
    blob.write_bytes(at.model)
    (snapshot / "toy.onnx").symlink_to(f"../../blobs/{blob.name}")
    (root / "refs" / "main").write_text("c" * 40)
    return str(root)


def _archive(at: Stand) -> str:
    with zipfile.ZipFile(at.folder / "toy.zip", "w") as archive:
        archive.writestr("toy/toy.onnx", at.model)
    return str(at.folder / "toy.zip")


def _oci(at: Stand) -> str:
    if docker_registry.PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    running = docker_registry.docker_registry(at.folder / "registry")
    url = running.__enter__()
    at.request.addfinalizer(lambda: running.__exit__(None, None, None))

    def put(content: bytes, kind: str, **more: object) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        began = httpx.post(f"{url}/v2/toy/blobs/uploads/", trust_env=False)
        there = httpx.URL(url).join(began.headers["Location"]).copy_merge_params({"digest": digest})
        httpx.put(there, content=content, trust_env=False).raise_for_status()
        return {"mediaType": kind, "digest": digest, "size": len(content), **more}

    type_ = "application/vnd.cncf.model"
    title = {"annotations": {"org.cncf.model.filepath": "toy.onnx"}}
    config = {"descriptor": {"name": "toy"}, "config": {"format": "onnx"}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": f"{type_}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{type_}.config.v1+json"),
        "layers": [put(at.model, f"{type_}.weight.v1.raw", **title)],
    }
    httpx.put(
        f"{url}/v2/toy/manifests/v1",
        content=json.dumps(manifest).encode(),
        headers={"Content-Type": str(manifest["mediaType"])},
        trust_env=False,
    ).raise_for_status()
    return f"oci://{url.removeprefix('http://')}/toy:v1"


#: Importer → what puts the model where it looks, and gives the address.
PLACES: Mapping[str, Callable[[Stand], str]] = {
    "hf": _hf,
    "git": _git,
    "object-store": _object_store,
    "oci": _oci,
    "mlflow": _mlflow,
    "url": _url,
    "hs": _hs,
    "triton": _triton,
    "mlflow-model": _mlflow_model,
    "clearml": _clearml,
    "viam": _viam,
    "hf-cache": _hf_cache,
    "archive": _archive,
}
