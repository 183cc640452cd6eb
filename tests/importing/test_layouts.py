"""Folders and packages of other systems: everything they say, and how they say it wrongly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.errors import DigestMismatchError, FormatError, InputError, NbModelError
from nbmodel.importing import Fetched, Import
from nbmodel.importing.clearml import ClearMlExport
from nbmodel.importing.hf_cache import HuggingFaceCache
from nbmodel.importing.hs import HsFolder
from nbmodel.importing.mlflow_model import MlflowModel, read_schema
from nbmodel.importing.table import importer_of
from nbmodel.importing.triton import TritonModel
from nbmodel.importing.viam import ViamPackage
from tests.tools.model_places import CONFIG, LABELS, MLMODEL, SERVING, tape


@pytest.fixture
def model(linear_onnx: Path) -> bytes:
    return linear_onnx.read_bytes()


# ── Viam ──────────────────────────────────────────────────────────────────────────


PACKAGE = {"package": "f1a5/toy", "name": "toy", "type": "ml_model"}


@pytest.mark.parametrize(
    ("version", "stamp"),
    [
        ("2024-02-28T13-36-51", "2024-02-28T13-36-51"),
        ("20240228133651", "2024-02-28T13-36-51"),
        ("1709127411000", None),
        ("my-own-words", None),
    ],
)
def test_versions_of_viam_are_kept_in_every_form(
    tmp_path: Path, job: Import, model: bytes, version: str, stamp: str | None
) -> None:
    path = tape(tmp_path / "toy.tar.gz", {"toy.onnx": model})
    (tmp_path / "toy.json").write_text(json.dumps({**PACKAGE, "version": version}))
    assert importer_of(str(path)).name == "viam"
    got = ViamPackage().fetch(str(path), job)
    assert got.name == "toy"
    assert got.tags == {"viam.version": version, "viam.organization": "f1a5"}
    assert got.metadata["viam"].get("stamp") == stamp
    assert got.origin.revision == version
    assert got.origin.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_the_folder_of_an_export_is_its_version(tmp_path: Path, job: Import, model: bytes) -> None:
    path = tape(tmp_path / "20240228133651" / "toy.tar.gz", {"toy.onnx": model})
    assert ViamPackage().fetch(str(path), job).metadata["viam"] == {
        "version": "20240228133651",
        "stamp": "2024-02-28T13-36-51",
    }


def test_package_info_says_type_framework_and_platform(
    tmp_path: Path, job: Import, model: bytes
) -> None:
    path = tape(tmp_path / "toy.tgz", {"toy.onnx": model, "labels.txt": b"a\nb\nc\n"})
    info = {
        "organization_id": "f1a5",
        "name": "toy",
        "version": "2024-02-28T13-36-51",
        "type": "PACKAGE_TYPE_ML_MODEL",
        "files": [
            {"name": "toy.onnx", "size": str(len(model))},
            {"name": "x", "is_directory": True},
        ],
        "metadata": {"model_framework": "onnx", "model_type": "single_label_classification"},
        "platform": "linux/arm64",
    }
    (tmp_path / "package.json").write_text(json.dumps({"info": info, "url": "https://…"}))
    got = ViamPackage().fetch(str(path), job)
    assert got.model_type == "classification"
    assert got.tags["viam.framework"] == "onnx"
    assert got.metadata["viam"]["platform"] == "linux/arm64"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"type": "module"}, "of type 'module', expected ml_model"),
        ({"files": [{"name": "toy.onnx", "size": 3}]}, "its JSON says 3"),
        ({"files": [{"name": "../x", "size": 3}]}, "has nothing"),
        ({"files": [7]}, "malformed list of files"),
        ({"version": "x" * 300}, "malformed"),
        ({"metadata": [1]}, "malformed"),
    ],
    ids=["type", "size", "outside", "files", "version", "metadata"],
)
def test_a_package_that_is_not_what_its_json_says_is_refused(
    tmp_path: Path, job: Import, model: bytes, change: dict[str, Any], match: str
) -> None:
    path = tape(tmp_path / "toy.tar.gz", {"toy.onnx": model})
    (tmp_path / "toy.json").write_text(json.dumps({**PACKAGE, **change}))
    with pytest.raises(FormatError, match=match):
        ViamPackage().fetch(str(path), job)


# ── hs ────────────────────────────────────────────────────────────────────────────


def hs_folder(at: Path, serving: bytes, **files: bytes) -> Path:
    at.mkdir()
    (at / "serving.yaml").write_bytes(serving)
    for name, content in files.items():
        (at / name.replace("__", "/")).parent.mkdir(exist_ok=True)
        (at / name.replace("__", "/")).write_bytes(content)
    return at


def test_all_keys_of_serving_yaml_come_along(tmp_path: Path, client: Client, model: bytes) -> None:
    folder = hs_folder(tmp_path / "hs", SERVING, **{"model.onnx": model, "requirements.txt": b"x"})
    (folder / "unlisted.bin").write_bytes(b"left out")
    card = client.import_(str(folder), type="regression")
    assert [entry.path for entry in card.files] == ["model.onnx", "requirements.txt"]
    assert card.metadata["author"] == "me"
    assert card.metadata["hs"] == {
        "runtime": "hydrosphere/serving-runtime-python-3.7:3.0.3",
        "install_command": "pip install -r requirements.txt",
        "training_data": "s3://bucket/train.csv",
        "monitoring": [
            {
                "name": "auto-od",
                "config": {"monitoring-model": "my-metric:1", "threshold": 12, "operator": "<="},
            }
        ],
        "monitoring_configuration": {"batch-size": 100},
        "contract": "predict",
    }
    assert [one.profile for one in card.signature.inputs] == ["numerical"]


def test_a_contract_that_the_file_contradicts_is_told_and_left_out(
    tmp_path: Path, client: Client, model: bytes
) -> None:
    serving = SERVING.replace(b"x: {", b"other: {")
    folder = hs_folder(tmp_path / "hs", serving, **{"model.onnx": model, "requirements.txt": b"x"})
    card = client.import_(str(folder), type="regression")
    assert any("the given signature has input 'other'" in note for note in card.notes)
    assert [one.name for one in card.signature.inputs] == ["x"]


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ("scalar", "int", ((), "INT64")),
        ("[]", "float", ((), "FP64")),
        ("[-1, 3]", "str", ((-1, 3), "BYTES")),
        ("null", "qint8", (None, "INT8")),
        ("[2]", "half", ((2,), "FP16")),
    ],
)
def test_shapes_and_types_of_a_contract(
    tmp_path: Path, job: Import, shape: str, kind: str, expected: tuple[Any, str]
) -> None:
    serving = f"kind: Model\nname: m\npayload: [m]\ncontract:\n  inputs:\n    x: {{shape: {shape}, type: {kind}}}\n"
    got = HsFolder().read(hs_folder(tmp_path / "hs", serving.encode(), m=b"m"), job)
    assert got.signature is not None
    (tensor,) = got.signature.inputs
    assert (tensor.shape, tensor.datatype) == expected


HS_WRONG = {
    "no-kind": (b"name: m\n", "no 'kind' field"),
    "other-kind": (b"kind: Application\nname: m\n", "has Application, expected one document"),
    "two": (b"kind: Model\nname: m\n---\nkind: Model\nname: n\n", "expected one document"),
    "no-name": (b"kind: Model\npayload: [m]\n", "no name"),
    "type": (b"kind: Model\nname: m\ncontract: {inputs: {x: {shape: scalar, type: flaot}}}\n", "'x': unknown type 'flaot'"),
    "shape": (b"kind: Model\nname: m\ncontract: {inputs: {x: {shape: scaler, type: int8}}}\n", "scalar or whole numbers, found 'scaler'"),
    "profile": (b"kind: Model\nname: m\ncontract: {inputs: {x: {type: int8, profile: odd}}}\n", "unknown profile 'odd'"),
    "payload": (b"kind: Model\nname: m\npayload: m\n", "list of paths"),
    "missing": (b"kind: Model\nname: m\npayload: [n]\n", "'n' is not there"),
    "outside": (b"kind: Model\nname: m\npayload: [../../etc/passwd]\n", "leads out"),
    "absolute": (b"kind: Model\nname: m\npayload: [/etc/passwd]\n", "leads out"),
    "pattern": (b"kind: Model\nname: m\npayload: ['**x/m']\n", "no pattern|is not there"),
    "nul": (b'kind: Model\nname: m\npayload: ["a\\0b"]\n', "no pattern|is not there"),
    "link": (b"kind: Model\nname: m\npayload: [out]\n", "leads out"),
    "no-yaml": (b"kind: [", "not YAML"),
    "object": (b"kind: !!python/object/apply:os.system [true]\n", "not YAML"),
    "alias": (b"a: &a [x]\nb: *a\n", "an alias"),
    "deep": (b"kind: " + b"[" * 150 + b"]" * 150, "nested too deeply"),
    "long": (b"#" * (5 << 20), "longer than"),
}  # fmt: skip


@pytest.mark.parametrize(("serving", "match"), HS_WRONG.values(), ids=HS_WRONG)
def test_a_wrong_serving_yaml_is_one_line_that_names_the_place(
    tmp_path: Path, job: Import, serving: bytes, match: str
) -> None:
    folder = hs_folder(tmp_path / "hs", serving, m=b"m")
    (folder / "out").symlink_to("/etc/hostname")
    with pytest.raises(NbModelError, match=match) as caught:
        HsFolder().read(folder, job)
    assert "\n" not in str(caught.value)


# ── MLflow ────────────────────────────────────────────────────────────────────────


def mlflow_folder(at: Path, said: bytes, **files: bytes) -> Path:
    at.mkdir()
    (at / "MLmodel").write_bytes(said)
    for name, content in files.items():
        (at / name).write_bytes(content)
    return at


def test_an_mlflow_model_says_run_signature_and_flavors(
    tmp_path: Path, client: Client, model: bytes
) -> None:
    files = {"model.onnx": model, "conda.yaml": b"x", "python_env.yaml": b"x"}
    card = client.import_(str(mlflow_folder(tmp_path / "toy", MLMODEL, **files)), type="regression")
    assert [entry.path for entry in card.files] == ["model.onnx"]
    said = card.metadata["mlflow"]
    assert (said["run_id"], said["model_id"]) == ("0f1e", "c0ffee")
    assert said["flavors"] == ["onnx", "python_function"]
    assert card.manifest.lineage.origin is not None
    assert card.manifest.lineage.origin.revision == "c0ffee"
    assert card.notes == ()  # an output without a name is the only one


def test_columns_of_a_data_frame_name_those_of_the_input(
    tmp_path: Path, client: Client, model: bytes
) -> None:
    columns = '[{"type": "double", "name": "length"}, {"type": "double", "name": "width"}]'
    said = f"flavors: {{onnx: {{data: model.onnx}}}}\nsignature: {{inputs: '{columns}'}}\n"
    folder = mlflow_folder(tmp_path / "toy", said.encode(), **{"model.onnx": model})
    card = client.import_(str(folder), type="regression")
    assert card.signature.inputs[0].labels == ("length", "width")


def test_a_pickle_of_mlflow_is_not_opened(tmp_path: Path, client: Client) -> None:
    said = b"flavors: {sklearn: {pickled_model: model.pkl}}\n"
    folder = mlflow_folder(tmp_path / "toy", said, **{"model.pkl": b"\x80\x04cos\nsystem\n."})
    with pytest.raises(FormatError, match="a Python pickle"):
        client.import_(str(folder), type="regression")


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"[]", "no description of a model"),
        (b"a: 1", "names no flavor"),
        (b"flavors: {onnx: {data: gone.onnx}}", "which is not there"),
        (b"flavors: {onnx: {data: ../../x}}", "unsafe path"),
        (b"flavors: {f: {}}\nsignature: {inputs: '{'}", "malformed signature"),
        (b'flavors: {f: {}}\nsignature: {inputs: \'[{"type": "tensor"}]\'}', "malformed signature"),
    ],
)
def test_a_wrong_mlmodel_is_one_line(tmp_path: Path, job: Import, said: bytes, match: str) -> None:
    with pytest.raises(NbModelError, match=match):
        MlflowModel().read(mlflow_folder(tmp_path / "toy", said, x=b"x"), job)


def test_every_type_of_a_tensor_of_mlflow_is_known() -> None:
    names = (
        "float16",
        "float32",
        "float64",
        "bool",
        "uint8",
        "int64",
        "object",
        "str",
        "<U10",
        "|S3",
    )
    fields = [
        {"type": "tensor", "name": f"t{at}", "tensor-spec": {"dtype": name, "shape": [-1]}}
        for at, name in enumerate(names)
    ]
    found = [one.datatype for one in read_schema(json.dumps(fields)).tensors]
    assert found == ["FP16", "FP32", "FP64", "BOOL", "UINT8", "INT64", *["BYTES"] * 4]


# ── ClearML ───────────────────────────────────────────────────────────────────────


TOLD: dict[str, Any] = {
    "id": "5f3e",
    "name": "train - toy",
    "framework": "ONNX",
    "uri": "s3://bucket/a/toy.onnx",
}


def clearml_folder(at: Path, told: object, **files: bytes) -> Path:
    at.mkdir()
    (at / "model.json").write_text(json.dumps(told))
    for name, content in files.items():
        (at / name).write_bytes(content)
    return at


def test_what_clearml_knows_comes_along(tmp_path: Path, client: Client, model: bytes) -> None:
    told = {
        **TOLD,
        "labels": {"banana": 1, "apple": 0, "cherry": 2},
        "tags": ["fruit", "with space"],
        "comment": "a toy",
        "ready": False,
        "task": "t1",
        "design": {"layers": 3},
        "metadata": {
            "depth": {"type": "int", "value": "3"},
            "rate": {"type": "float", "value": "0.5"},
            "on": {"type": "bool", "value": "True"},
            "sizes": {"type": "list", "value": "[1, 2]"},
            "words": {"type": "dict", "value": "{'it\\'s': True}"},
            "odd": {"type": "int", "value": "three"},
        },
    }
    folder = clearml_folder(tmp_path / "export", {"model": told}, **{"toy.onnx": model})
    card = client.import_(str(folder))
    assert card.model == "toy"
    assert card.labels == LABELS
    assert card.model_type == "classification"
    assert card.description == "a toy"
    assert dict(card.tags) == {"fruit": "", "clearml.id": "5f3e", "clearml.status": "draft"}
    data = card.metadata
    assert (data["depth"], data["rate"], data["on"], data["sizes"]) == (3, 0.5, True, [1, 2])
    assert data["odd"] == "three"
    assert data["words"] == {"it's": True}
    assert data["clearml"]["design"] == {"layers": 3}
    assert data["clearml"]["tags"] == ["with space"]
    assert "metadata 'odd' is no int, and is kept as text" in card.notes


@pytest.mark.parametrize(
    ("change", "files", "match"),
    [
        ({}, {}, "'toy.onnx' are not beside it"),
        ({"uri": "s3://b/x/failed_uploading"}, {}, "never had the weights"),
        ({"labels": {"a": "b"}}, {"toy.onnx": b"x"}, "no whole number"),
        ({"uri": "file:///../../x/toy.onnx"}, {}, "not beside it"),
    ],
    ids=["gone", "failed", "labels", "file"],
)
def test_an_export_that_lacks_something_is_one_line(
    tmp_path: Path, job: Import, change: dict[str, Any], files: dict[str, bytes], match: str
) -> None:
    folder = clearml_folder(tmp_path / "export", {**TOLD, **change}, **files)
    with pytest.raises(NbModelError, match=match):
        ClearMlExport().read(folder, job)


def test_only_an_export_of_this_machine_names_files_of_it(
    tmp_path: Path, client: Client, model: bytes
) -> None:
    (tmp_path / "own.onnx").write_bytes(model)
    told = {**TOLD, "uri": f"file://{tmp_path / 'own.onnx'}"}
    folder = clearml_folder(tmp_path / "export", told)
    assert client.import_(str(folder), type="regression").files[0].path == "own.onnx"
    packed = tape(tmp_path / "sent.tar.gz", {"model.json": json.dumps(told).encode()})
    with pytest.raises(InputError, match="are not beside it"):
        client.import_(str(packed), name="sent", type="regression")


def test_broken_json_beside_a_model_does_not_hide_it(tmp_path: Path, model: bytes) -> None:
    folder = clearml_folder(tmp_path / "export", TOLD, **{"toy.onnx": model, "a.json": b"{"})
    assert ClearMlExport().recognises(folder)


def test_a_folder_with_other_json_is_not_clearmls(tmp_path: Path) -> None:
    assert not ClearMlExport().recognises(clearml_folder(tmp_path / "a", {"id": 3}))
    assert not ClearMlExport().recognises(clearml_folder(tmp_path / "b", [1]))


# ── Hugging Face's cache, Triton ──────────────────────────────────────────────────


def cache(at: Path, files: dict[str, bytes], commit: str = "c" * 40) -> Path:
    root = at / "models--fruit--toy"
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        head = f"blob {len(content)}\0".encode()
        blob = root / "blobs" / hashlib.sha1(head + content).hexdigest()
        if len(content) > 100:
            blob = root / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (root / "snapshots" / commit / name).symlink_to(f"../../blobs/{blob.name}")
    (root / "refs" / "main").write_text(commit)
    return root


def test_a_snapshot_says_task_licence_and_labels(
    tmp_path: Path, client: Client, model: bytes
) -> None:
    names = {str(index): name for index, name in enumerate(LABELS)}
    root = cache(
        tmp_path,
        {
            "toy.onnx": model,
            "README.md": b"---\nlicense: mit\npipeline_tag: image-classification\n---\n# Toy\n",
            "config.json": json.dumps({"id2label": names}).encode(),
            "pytorch_model.bin": bytes(500),
        },
    )
    card = client.import_(str(root))
    assert card.model_type == "classification"
    assert card.labels == LABELS
    assert card.metadata["hf"] == {
        "repo": "fruit/toy",
        "commit": "c" * 40,
        "license": "mit",
        "pipeline_tag": "image-classification",
    }
    assert "pytorch_model.bin" not in {entry.path for entry in card.files}


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_a_blob_that_is_not_what_it_is_called_is_refused(
    tmp_path: Path, job: Import, model: bytes, kind: str
) -> None:
    root = cache(tmp_path, {"toy.onnx": model, "README.md": b"# Toy"})
    length = 64 if kind == "sha256" else 40
    (blob,) = [one for one in (root / "blobs").iterdir() if len(one.name) == length]
    blob.write_bytes(blob.read_bytes()[::-1])
    with pytest.raises(DigestMismatchError, match=blob.name[:12]):
        HuggingFaceCache().read(root, job)


def test_a_cache_cannot_lead_to_other_files(tmp_path: Path, job: Import, model: bytes) -> None:
    root = cache(tmp_path, {"toy.onnx": model})
    (root / "snapshots" / ("c" * 40) / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="leads out"):
        HuggingFaceCache().read(root, job)
    with pytest.raises(InputError, match="not a revision"):
        HuggingFaceCache().read(root, replace(job, revision="../../x"))


def test_several_models_in_one_place_are_told(tmp_path: Path, client: Client, model: bytes) -> None:
    root = cache(tmp_path, {"a.onnx": model, "b.onnx": model + b"\n"})
    with pytest.raises(InputError, match=r"has 2 models: a\.onnx") as caught:
        client.import_(str(root), type="other")
    assert caught.value.hint == "choose one: --path a.onnx"
    assert client.import_(str(root), type="other", paths=["a.onnx"]).model == "toy"


def test_a_version_of_a_model_repository_is_the_newest_or_the_one_asked_for(
    tmp_path: Path, job: Import
) -> None:
    for number in (1, 2, 10):
        (tmp_path / "toy" / str(number)).mkdir(parents=True)
        (tmp_path / "toy" / str(number) / "model.onnx").write_bytes(b"%d" % number)
    (tmp_path / "toy" / "config.pbtxt").write_bytes(CONFIG)
    (tmp_path / "toy" / "labels.txt").write_text("a\nb\nc\n")

    def read(**change: Any) -> Fetched:
        return TritonModel().read(tmp_path / "toy", replace(job, **change))

    assert (read().path / "model.onnx").read_bytes() == b"10"
    assert (read(revision="2").path / "model.onnx").read_bytes() == b"2"
    assert read().labels == ("a", "b", "c")
    with pytest.raises(InputError, match="no version '3'"):
        read(revision="3")
    policy = b"version_policy { specific { versions: [ 2 ] } }"
    (tmp_path / "toy" / "config.pbtxt").write_bytes(CONFIG + policy)
    assert read().tags == {"triton.version": "2"}


MAKE: dict[str, Callable[[Path], Path]] = {
    "empty": lambda at: at,
    "file": lambda at: _written(at / "m.onnx"),
    "text": lambda at: _written(at / "notes.txt"),
}


def _written(path: Path) -> Path:
    path.write_bytes(b"hello")
    return path


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_what_says_nothing_but_its_files_is_uploaded(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match="says more than its files do") as caught:
        importer_of(str(path))
    assert caught.value.hint == f"nbmodel upload {path} --name NAME"


@pytest.mark.parametrize("uri", ["nothing/here", "ftp://host/x", "models", "::"])
def test_what_is_nothing_is_told_with_all_forms(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        importer_of(uri)
    assert "git+https://HOST" in str(caught.value.hint)
