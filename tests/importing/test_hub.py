"""The routes of a hub, of MLflow's server and of an object store, from servers that serve them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nbmodel.client import Client
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    InputError,
    NbModelError,
    PluginError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.importing import Import, Limits, download
from nbmodel.importing.hf import HuggingFace
from nbmodel.importing.mlflow import MlflowRegistry
from nbmodel.importing.object_store import ObjectStore
from tests.tools.model_places import MLMODEL, serve_hub, serve_mlflow
from tests.tools.object_server import SECRET, ObjectServer, object_server
from tests.tools.site import Page, Site, site

pytestmark = pytest.mark.unhurried

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSES_S", (0.0,))


@pytest.fixture
def model(linear_onnx: Path) -> bytes:
    return linear_onnx.read_bytes()


@pytest.fixture
def hub(web: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_TOKEN", "hf_hush")
    return web


# ── the hub ───────────────────────────────────────────────────────────────────────


def test_only_what_a_model_needs_is_brought(hub: Site, client: Client, model: bytes) -> None:
    files = {
        "onnx/toy.onnx": model,
        "README.md": b"---\npipeline_tag: tabular-regression\n---\n",
        "pytorch_model.bin": bytes(1000),
        "model.safetensors": bytes(1000),
    }
    serve_hub(hub, "fruit/toy", COMMIT, files, "v1")
    card = client.import_("hf://fruit/toy@v1")
    assert [entry.path for entry in card.files] == ["README.md", "onnx/toy.onnx"]
    assert card.model_type == "regression"
    assert dict(card.tags) == {"hf.repo": "fruit/toy", "hf.commit": COMMIT}
    origin = card.manifest.lineage.origin
    assert origin is not None
    assert (origin.uri, origin.revision) == ("hf://fruit/toy@v1", COMMIT)


def test_the_token_goes_to_the_hub_and_not_to_where_it_sends_us(
    hub: Site, job: Import, model: bytes
) -> None:
    serve_hub(hub, "fruit/toy", COMMIT, {"toy.onnx": model}, "main")
    with site() as cdn:
        cdn.pages["/blob"] = Page(model)
        moved = Page(status=302, headers={"Location": f"{cdn.url}/blob"})
        hub.pages[f"/fruit/toy/resolve/{COMMIT}/toy.onnx"] = moved
        HuggingFace().fetch("hf://fruit/toy", job)
        assert {one.headers.get("Authorization") for one in hub.asked} == {"Bearer hf_hush"}
        assert [one.headers.get("Authorization") for one in cdn.asked] == [None]


@pytest.mark.parametrize("name", ["toy.onnx", "README.md"], ids=["lfs", "git"])
def test_a_hub_that_sends_other_bytes_is_refused(
    hub: Site, job: Import, model: bytes, name: str
) -> None:
    serve_hub(hub, "fruit/toy", COMMIT, {"toy.onnx": model, "README.md": b"# Toy"}, "main")
    page = hub.pages[f"/fruit/toy/resolve/{COMMIT}/{name}"]
    assert isinstance(page, Page)
    hub.pages[f"/fruit/toy/resolve/{COMMIT}/{name}"] = Page(page.content[::-1])
    with pytest.raises(DigestMismatchError):
        HuggingFace().fetch("hf://fruit/toy", job)


@pytest.mark.parametrize(
    ("page", "error", "match"),
    [
        (Page(b"{}", 404), InputError, "nothing is at"),
        (Page(b"{}", 401), AuthenticationError, "refused"),
        (Page(b"<html>"), StorageError, "no JSON"),
        (Page(b'{"sha": "x", "siblings": []}'), NbModelError, "no commit"),
        (Page(b'{"sha": 1}'), StorageError, "something else than the files"),
        (
            Page(
                json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "../x", "size": 1}]}).encode()
            ),
            InputError,
            "unsafe path",
        ),
    ],
    ids=["gone", "private", "html", "commit", "shape", "escape"],
)
def test_a_hub_that_answers_otherwise_is_one_line_without_the_token(
    hub: Site, job: Import, page: Page, error: type[NbModelError], match: str
) -> None:
    hub.pages["/api/models/fruit/toy/revision/main"] = page
    with pytest.raises(error, match=match) as caught:
        HuggingFace().fetch("hf://fruit/toy", job)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["hf://", "hf://a/b/c", "hf://a/b@", "hf://../x", "hf://a b"])
def test_what_is_no_repository_is_refused(uri: str, hub: Site, job: Import) -> None:
    with pytest.raises(InputError):
        HuggingFace().fetch(uri, job)


# ── MLflow's server ───────────────────────────────────────────────────────────────


@pytest.fixture
def mlflow(web: Site, monkeypatch: pytest.MonkeyPatch, model: bytes) -> Site:
    serve_mlflow(web, "toy", {"MLmodel": MLMODEL, "model.onnx": model}, {"champion": "3"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", web.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    return web


@pytest.mark.parametrize("uri", ["models:/toy/3", "models:/toy@champion"])
def test_version_run_metrics_tags_and_aliases_come_along(
    mlflow: Site, client: Client, uri: str
) -> None:
    card = client.import_(uri, type="regression")
    assert dict(card.metrics) == {"acc": 0.9}
    assert dict(card.tags) == {
        "mlflow.version": "3",
        "mlflow.aliases": "champion",
        "mlflow.run_id": "r1",
        "mlflow.tag.team": "fruit",
    }
    assert card.description == "with more data"
    assert card.metadata["mlflow.registry"]["parameters"] == {"depth": "3"}
    assert card.metadata["mlflow"]["run_id"] == "0f1e"
    origin = card.manifest.lineage.origin
    assert origin is not None
    assert (origin.uri, origin.revision) == ("models:/toy/3", "3")
    assert all(one.headers["Authorization"].startswith("Basic ") for one in mlflow.asked)
    assert "hush" not in str(card.to_json())


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("models:/toy@none", "nothing is at"),
        ("models:/a@b@c", "not a version"),
        ("models:/", "not"),
    ],
)
def test_a_version_that_is_not_there_is_one_line(
    mlflow: Site, job: Import, uri: str, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        MlflowRegistry().fetch(uri, job)


def test_only_a_server_of_this_machine_names_folders_of_it(
    mlflow: Site, job: Import, tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "MLmodel").write_bytes(MLMODEL)
    (folder / "model.onnx").write_bytes(model)
    where = {"artifact_uri": folder.as_uri()}
    page = "/api/2.0/mlflow/model-versions/get-download-uri"
    mlflow.pages[page] = Page(json.dumps(where).encode())
    assert MlflowRegistry().fetch("models:/toy/3", job).path == folder
    monkeypatch.setattr("nbmodel.importing.mlflow.is_loopback", lambda _: False)
    with pytest.raises(InputError, match="which is not on this machine"):
        MlflowRegistry().fetch("models:/toy/3", job)


def test_an_artifact_that_leads_out_is_refused(mlflow: Site, job: Import) -> None:
    listing = {"files": [{"path": "a/..", "is_dir": False, "file_size": 1}]}
    mlflow.pages["/api/2.0/mlflow-artifacts/artifacts"] = Page(json.dumps(listing).encode())
    with pytest.raises(InputError, match="unsafe path"):
        MlflowRegistry().fetch("models:/toy/3", job)


@pytest.mark.parametrize(
    ("route", "uri", "answer"),
    [
        ("registered-models/alias", "models:/toy@champion", {}),
        ("model-versions/get", "models:/toy/3", {"model_version": []}),
        ("model-versions/search", "models:/toy", {"model_versions": None}),
        ("model-versions/search", "models:/toy", {"model_versions": [{"version": "x"}] * 2}),
        ("runs/get", "models:/toy/3", {"run": 3}),
        ("runs/get", "models:/toy/3", {"run": {"data": []}}),
        ("model-versions/get-download-uri", "models:/toy/3", {"artifact_uri": "s3://[/x"}),
    ],
)
def test_odd_answers_of_mlflow_are_one_line(
    mlflow: Site, job: Import, route: str, uri: str, answer: object
) -> None:
    mlflow.pages[f"/api/2.0/mlflow/{route}"] = Page(json.dumps(answer).encode())
    with pytest.raises(StorageError, match="MLflow answered"):
        MlflowRegistry().fetch(uri, job)


def test_sizes_of_mlflow_that_are_none_are_one_line(mlflow: Site, job: Import) -> None:
    for size in ("x", "-1", "[]"):
        listing = {"files": [{"path": "a", "is_dir": False, "file_size": size}]}
        mlflow.pages["/api/2.0/mlflow-artifacts/artifacts"] = Page(json.dumps(listing).encode())
        with pytest.raises(StorageError, match="expected the bytes of a file"):
            MlflowRegistry().fetch("models:/toy/3", job)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, None), (401, AuthenticationError), (503, TargetUnreachableError)],
)
def test_a_run_may_be_gone_but_not_refused(
    mlflow: Site, job: Import, status: int, error: type[NbModelError] | None
) -> None:
    mlflow.pages["/api/2.0/mlflow/runs/get"] = Page(b"", status)
    if error is None:
        assert not MlflowRegistry().fetch("models:/toy/3", job).metrics
        return
    with pytest.raises(error):
        MlflowRegistry().fetch("models:/toy/3", job)


def test_folders_of_mlflow_in_one_another_end(mlflow: Site, job: Import) -> None:
    listing = {"files": [{"path": "a", "is_dir": True}]}
    mlflow.pages["/api/2.0/mlflow-artifacts/artifacts"] = Page(json.dumps(listing).encode())
    with pytest.raises(InputError, match="more than 20 files"):
        MlflowRegistry().fetch("models:/toy/3", replace(job, limits=Limits(files=20)))


def test_a_database_needs_mlflow(job: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(PluginError, match="needs mlflow") as caught:
        MlflowRegistry().fetch("models:/toy/3", job)
    assert "MLFLOW_TRACKING_URI" in str(caught.value.hint)


# ── object stores ─────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectServer]:
    pytest.importorskip("obstore", reason="object stores are read with obstore")
    pytest.importorskip("moto", reason="moto is the object store")
    with object_server() as running:
        running.make_bucket("models")
        yield running


@pytest.fixture
def bucket(s3: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"{s3.url}/models"


def _put(url: str, content: bytes) -> None:
    httpx.put(url, content=content, trust_env=False).raise_for_status()


def test_an_object_or_all_below_a_prefix(bucket: str, client: Client, model: bytes) -> None:
    _put(f"{bucket}/fruit/toy.onnx", model)
    _put(f"{bucket}/fruit/labels.txt", b"a\nb\nc\n")
    one = client.import_("s3://models/fruit/toy.onnx", type="regression")
    assert [entry.path for entry in one.files] == ["toy.onnx"]
    origin = one.manifest.lineage.origin
    assert origin is not None
    assert origin.revision == hashlib.md5(model, usedforsecurity=False).hexdigest()  # S3's ETag
    assert origin.digest == f"sha256:{hashlib.sha256(model).hexdigest()}"
    folder = client.import_("s3://models/fruit/", type="regression")
    assert folder.model == "fruit"
    assert folder.labels == ("a", "b", "c")


def test_what_an_earlier_import_brought_is_not_fetched_again(
    bucket: str, job: Import, model: bytes
) -> None:
    content = bytes(range(256)) * (24 << 12)  # 24 MiB: three ranges
    _put(f"{bucket}/big.bin", content)
    came: list[int] = []
    ended = replace(job, cancelled=lambda: sum(came) > 8 << 20, progress=came.append)
    with pytest.raises(CancelledError):
        ObjectStore().fetch("s3://models/big.bin", ended)
    first: list[int] = []
    got = ObjectStore().fetch("s3://models/big.bin", replace(job, progress=first.append))
    assert got.path.read_bytes() == content
    assert first[0] > 8 << 20


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("s3://models/nothing.onnx", "nothing is at"),
        ("s3://nowhere/m.onnx", "no bucket"),
        ("s3://key:secret@models/m.onnx", "credential"),
    ],
)
def test_what_is_not_there_is_one_line_without_secrets(
    bucket: str, job: Import, uri: str, match: str
) -> None:
    with pytest.raises(NbModelError, match=match) as caught:
        ObjectStore().fetch(uri, job)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
