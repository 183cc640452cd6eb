"""What each exporter writes, against the readers of the systems that it is for."""

from __future__ import annotations

import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.errors import (
    AuthenticationError,
    InputError,
    NbModelError,
    PluginError,
    TargetUnreachableError,
)
from nbmodel.exporting.viam_package import PackageInfo
from nbmodel.exporting.yaml import to_yaml
from nbmodel.formats.textproto import parse
from tests.tools.viam_app import KEY, KEY_ID, viam_app


@pytest.fixture
def client(tmp_path: Path, linear_onnx: Path) -> Iterator[Client]:
    """A client with ``fruit/sorter.v2:1``."""
    client = Client(tmp_path / "home")
    client.upload(
        linear_onnx, name="fruit/sorter.v2", labels=("a", "b", "c"), type="classification"
    )
    yield client
    client.close()


# ── Viam ──────────────────────────────────────────────────────────────────────────


def test_a_package_is_where_viams_own_command_puts_it(client: Client, tmp_path: Path) -> None:
    card = client.export(
        "fruit/sorter.v2", tmp_path, to="viam", options={"organization": "f1a5", "platform": "any"}
    )
    stamp = client.registry.resolve("fruit/sorter.v2").stamp
    packed, told = card
    assert packed == tmp_path / stamp / "fruit-sorter_v2.tar.gz"
    with tarfile.open(packed) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["labels.txt", "linear.onnx"]
    assert {member.mtime for member in members} == {0}
    data = json.loads(told.read_text())
    entry = {key: data[key] for key in ("package", "version", "name", "type")}
    assert entry == {
        "package": "f1a5/fruit-sorter_v2",
        "version": stamp,
        "name": "fruit-sorter_v2",
        "type": "ml_model",
    }
    assert data["metadata"] == {
        "model_framework": "onnx",
        "model_type": "single_label_classification",
    }
    assert card.place == entry["package"]


def test_the_message_is_what_viams_protobuf_makes_of_it(client: Client) -> None:
    packages = pytest.importorskip("viam.gen.app.packages.v1.packages_pb2", reason="viam-sdk")
    version = client.registry.resolve("fruit/sorter.v2")
    info = PackageInfo.of(version, organization="f1a5", platform="linux/arm64")
    read = packages.PackageInfo.FromString(info.to_bytes())
    assert read.type == packages.PACKAGE_TYPE_ML_MODEL
    assert [(one.name, one.size, one.is_directory) for one in read.files] == [
        (entry.path, entry.size, False) for entry in version.files
    ]
    assert all(one.HasField("is_directory") for one in read.files)
    assert dict(read.metadata.items()) == dict(info.metadata)
    assert (read.organization_id, read.name, read.version, read.platform) == (
        "f1a5",
        "fruit-sorter_v2",
        version.stamp,
        "linux/arm64",
    )


def _upload(client: Client, address: str, **options: str) -> Any:
    given = {"organization": "f1a5"} | options
    return client.export("fruit/sorter.v2", address, to="viam-upload", options=given)


def test_an_upload_is_let_in_with_a_key(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with viam_app(tmp_path / "app", locked=True) as address:
        with pytest.raises(AuthenticationError) as caught:
            _upload(client, address)
        assert "VIAM_API_KEY" in str(caught.value.hint)
        monkeypatch.setenv("VIAM_API_KEY_ID", KEY_ID)
        monkeypatch.setenv("VIAM_API_KEY", "another")
        with pytest.raises(AuthenticationError, match="refused the upload: … key"):
            _upload(client, address)
        monkeypatch.setenv("VIAM_API_KEY", KEY)
        card = _upload(client, f"http://{address}")
    stamp = client.registry.resolve("fruit/sorter.v2").stamp
    assert card.place == f"f1a5/fruit-sorter_v2 version {stamp}"
    assert list(card) == []
    assert json.loads((tmp_path / "app" / "info.json").read_text())["type"] == (
        "PACKAGE_TYPE_ML_MODEL"
    )


def test_no_message_of_an_upload_has_the_key(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIAM_API_KEY", KEY)
    with (
        viam_app(tmp_path / "app", locked=True) as address,
        pytest.raises(AuthenticationError) as caught,
    ):
        _upload(client, address)
    assert KEY not in f"{caught.value} {caught.value.hint}"


def test_a_key_is_not_sent_in_clear(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="grpcio carries it")
    monkeypatch.setenv("VIAM_API_KEY_ID", KEY_ID)
    monkeypatch.setenv("VIAM_API_KEY", KEY)
    with pytest.raises(InputError, match="is not sent over plain http") as caught:
        _upload(client, "http://viam.invalid")
    assert KEY not in f"{caught.value} {caught.value.hint}"


def test_an_upload_that_a_server_never_answers_can_be_cancelled(client: Client) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio carries it")
    came, over = threading.Event(), threading.Event()

    def create(messages: Any, _: Any) -> bytes:
        for _ in messages:
            pass
        came.set()
        over.wait(30)
        return b""

    handlers = {"CreatePackage": grpc.stream_unary_rpc_method_handler(create)}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("viam.app.packages.v1.PackageService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(CancelledError):
            client.export(
                "fruit/sorter.v2",
                f"127.0.0.1:{port}",
                to="viam-upload",
                options={"organization": "f1a5"},
                cancelled=came.is_set,
            )
    finally:
        over.set()
        server.stop(None).wait(5)


@pytest.mark.parametrize(
    ("address", "options", "error", "match"),
    [
        ("127.0.0.1:1", {}, TargetUnreachableError, "does not answer"),
        ("https://host/path", {}, InputError, "not the address"),
        ("host:port", {}, InputError, "not the address"),
        ("app.viam.com", {"organization": ""}, InputError, "needs an organization"),
    ],
)
def test_an_upload_that_cannot_be_made_is_one_line(
    client: Client, address: str, options: dict[str, str], error: type[NbModelError], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        _upload(client, address, **options)
    assert "\n" not in str(caught.value)


# ── Triton, KServe, MLflow ────────────────────────────────────────────────────────


def test_a_model_repository_has_a_configuration_that_triton_reads(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    card = client.export("fruit/sorter.v2", tmp_path / "models", to="triton")
    model = tmp_path / "models" / "fruit-sorter.v2"
    assert card.place == "fruit-sorter.v2"
    assert (model / "1" / "linear.onnx").read_bytes() == linear_onnx.read_bytes()
    text = (model / "config.pbtxt").read_text()
    fields = parse(text)
    assert fields.text("backend") == "onnxruntime"
    assert fields.text("default_model_filename") == "linear.onnx"
    (output,) = fields.messages("output")
    assert (model / output.text("label_filename")).read_text() == "a\nb\nc\n"
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient")
    from google.protobuf import text_format

    read = text_format.Parse(text, config.ModelConfig())
    assert [list(one.dims) for one in read.input] == [[-1, 2]]
    assert list(read.version_policy.specific.versions) == [1]


def test_versions_are_added_to_a_repository_and_the_last_is_served(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    client.export(
        "fruit/sorter.v2:1", tmp_path / "models", to="triton", options={"model": "sorter"}
    )
    client.upload(linear_onnx, name="fruit/sorter.v2", type="classification")
    client.export(
        "fruit/sorter.v2:2", tmp_path / "models", to="triton", options={"model": "sorter"}
    )
    assert {one.name for one in (tmp_path / "models" / "sorter").iterdir() if one.is_dir()} == {
        "1",
        "2",
    }
    assert "versions: [ 2 ]" in (tmp_path / "models" / "sorter" / "config.pbtxt").read_text()
    again = client.import_(str(tmp_path / "models"), name="first", revision="1")
    assert again.labels == ("a", "b", "c")


def files_of(model: Path) -> dict[str, bytes]:
    return {
        path.relative_to(model).as_posix(): path.read_bytes()
        for path in model.rglob("*")
        if path.is_file()
    }


def test_a_version_that_is_exported_again_is_there_once(client: Client, tmp_path: Path) -> None:
    for _ in range(2):
        client.export("fruit/sorter.v2", tmp_path, to="triton", options={"model": "sorter"})
    names = "1/labels.txt 1/linear.onnx config.pbtxt labels-1-0.txt nbmodel-1.json"
    assert sorted(files_of(tmp_path / "sorter")) == names.split()
    made = client.import_(str(tmp_path / "sorter"), name="again")
    assert [entry.path for entry in made.manifest.files if entry.path.endswith("onnx")] == [
        "linear.onnx"
    ]


def test_another_version_of_a_number_takes_the_place_of_the_one_that_was_exported(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    models = tmp_path / "models"
    client.export("fruit/sorter.v2:1", models, to="triton", options={"model": "sorter"})
    other = tmp_path / "other.onnx"
    other.write_bytes(linear_onnx.read_bytes())
    client.upload(other, name="other", type="regression")
    card = client.export("other:1", models, to="triton", options={"model": "sorter"})
    assert sorted(files_of(models / "sorter")) == [
        "1/other.onnx",
        "config.pbtxt",
        "nbmodel-1.json",
    ]
    assert models / "sorter" / "1" / "other.onnx" in card
    assert client.import_(str(models), name="back").model_type == "regression"


def test_a_number_whose_folder_is_gone_is_exported_anew(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    client.export("fruit/sorter.v2:1", tmp_path, to="triton", options={"model": "sorter"})
    shutil.rmtree(tmp_path / "sorter" / "1")
    other = tmp_path / "other.onnx"
    other.write_bytes(linear_onnx.read_bytes())
    client.upload(other, name="other", type="regression")
    client.export("other:1", tmp_path, to="triton", options={"model": "sorter"})
    assert files_of(tmp_path / "sorter")["1/other.onnx"] == linear_onnx.read_bytes()


def test_what_was_not_exported_is_not_replaced(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "sorter" / "1"
    folder.mkdir(parents=True)
    (folder / "model.plan").write_bytes(b"somebody's")
    with pytest.raises(InputError, match="is there, and not of an export"):
        client.export("fruit/sorter.v2", tmp_path, to="triton", options={"model": "sorter"})
    assert files_of(tmp_path / "sorter") == {"1/model.plan": b"somebody's"}


def test_an_upload_of_a_repository_with_several_versions_names_the_verb_that_takes_one(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    client.upload(linear_onnx, name="fruit/sorter.v2", type="classification")
    for number in (1, 2):
        reference = f"fruit/sorter.v2:{number}"
        client.export(reference, tmp_path, to="triton", options={"model": "sorter"})
    with pytest.raises(InputError) as caught:
        client.upload(tmp_path / "sorter", name="back")
    assert "`import`" in str(caught.value.hint)


def test_an_inference_service_is_yaml_that_says_all(client: Client, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads it")
    (path,) = client.export(
        "fruit/sorter.v2",
        tmp_path,
        to="kserve",
        options={
            "storage": "oci://registry.example/team/sorter:1",
            "namespace": "yes",
            "replicas": "0",
        },
    )
    assert path.name == "fruit-sorter-v2.yaml"
    read = yaml.safe_load(path.read_text())
    version = client.registry.resolve("fruit/sorter.v2")
    assert read == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "fruit-sorter-v2",
            "namespace": "yes",
            "annotations": {
                "nbmodel.io/reference": "fruit/sorter.v2:1",
                "nbmodel.io/digest": version.digest,
                "nbmodel.io/stamp": version.stamp,
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "storageUri": "oci://registry.example/team/sorter:1",
                },
            }
        },
    }


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "must know where the files are"),
        ({"storage": "/data/models"}, "must know where the files are"),
        ({"storage": "s3://key:secret@bucket/x"}, "has a credential in it"),
        ({"storage": "s3://b", "name": "Upper"}, "not a name of a service"),
        ({"storage": "s3://b", "replicas": "-1"}, "expected a number"),
    ],
)
def test_what_kserve_would_refuse_is_refused_here(
    client: Client, tmp_path: Path, options: dict[str, str], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        client.export("fruit/sorter.v2", tmp_path, to="kserve", options=options)
    assert not list(tmp_path.glob("*.yaml"))


def test_files_with_mlflows_own_names_have_a_folder_of_their_own(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(linear_onnx.read_bytes())
    (folder / "requirements.txt").write_text("numpy\n")
    made = client.upload(folder, name="toy", type="regression")
    client.export("toy", tmp_path / "out", to="mlflow")
    assert (tmp_path / "out" / "data" / "requirements.txt").read_text() == "numpy\n"
    back = client.import_(str(tmp_path / "out"), name="back")
    assert [one.path for one in back.files] == [one.path for one in made.files]


def test_another_folder_is_not_written_into(client: Client, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        client.export("fruit/sorter.v2", tmp_path / "out", to="mlflow")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_the_same_version_may_be_written_again_and_another_may_not(
    client: Client, tmp_path: Path, linear_onnx: Path
) -> None:
    first = client.export("fruit/sorter.v2:1", tmp_path / "out", to="mlflow")
    again = client.export("fruit/sorter.v2:1", tmp_path / "out", to="mlflow")
    assert list(first) == list(again)
    client.upload(linear_onnx, name="fruit/sorter.v2", type="classification")
    with pytest.raises(InputError, match="is not empty"):
        client.export("fruit/sorter.v2:2", tmp_path / "out", to="mlflow")


@pytest.mark.parametrize("name", ["..", ".", "///"])
def test_a_model_repository_is_not_left(client: Client, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name of a model"):
        client.export("fruit/sorter.v2", tmp_path / "a", to="triton", options={"model": name})
    assert not (tmp_path / "config.pbtxt").exists()


def test_an_unknown_format_is_told_with_the_nearest(client: Client, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="unknown exporter 'kserv'") as caught:
        client.export("fruit/sorter.v2", tmp_path, to="kserv")
    assert caught.value.hint == "did you mean 'kserve'?"


@pytest.mark.parametrize(
    "value",
    [
        {"a": "no", "yes": ["on", "1.5", "null", ""], "n": None, "f": 1.5, "t": True, "e": {}},
        {"nested": [{"x": [1, [2, 3], {"y": "z"}]}, []], "key: odd": {"deep": {"er": [{}]}}},
        {"text": 'quote " back \\ tab \t line \n bell \x07 nel \x85 \u2028 \ufffe \U0001f600 é'},
    ],
    ids=["words", "nesting", "characters"],
)
def test_yaml_is_read_back_as_it_was(value: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads it")
    assert yaml.safe_load(to_yaml(value)) == value
