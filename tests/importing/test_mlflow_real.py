"""MLflow itself, in an environment of its own, with SQLite: what it registers comes here, and back."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nbmodel.client import Client
from tests.tools.mlflow_peer import mlflow_python, mlflow_server, run

# The first run installs MLflow.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REGISTER = """
import sys, mlflow, mlflow.onnx, numpy as np, onnx
from mlflow.models import infer_signature
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
with mlflow.start_run() as run:
    mlflow.log_metric("acc", 0.93)
    mlflow.log_param("depth", 3)
    told = infer_signature({"x": np.ones((2, 2), np.float32)}, {"y": np.ones((2, 3), np.float32)})
    for _ in range(2):
        mlflow.onnx.log_model(onnx.load(sys.argv[2]), name="model", registered_model_name="toy", signature=told)
client.set_registered_model_alias("toy", "champion", "1")
client.set_model_version_tag("toy", "1", "team", "fruit")
client.update_model_version("toy", "1", description="sorts fruit")
print(run.info.run_id)
"""
LOAD = """
import json, sys, mlflow, mlflow.onnx, numpy as np
folder = sys.argv[1]
model = mlflow.models.Model.load(folder)
proto = mlflow.onnx.load_model(folder)
answer = mlflow.pyfunc.load_model(folder).predict({"x": np.ones((1, 2), np.float32)})
mlflow.set_tracking_uri(sys.argv[2])
with mlflow.start_run() as run:
    mlflow.log_artifacts(folder, "model")
version = mlflow.register_model(f"runs:/{run.info.run_id}/model", "back")
print(json.dumps({
    "flavors": sorted(model.flavors),
    "inputs": model.signature.inputs.to_dict(),
    "graph": proto.graph.name,
    "answer": np.asarray(answer["y"]).tolist(),
    "version": version.version,
}))
"""


@pytest.fixture(scope="module")
def python(project_root: Path) -> Path:
    if sys.platform == "win32":
        pytest.skip("made for POSIX")
    pytest.importorskip("onnx", reason="the flavor of the toy model is onnx")
    return mlflow_python(project_root / "build" / f"mlflow-{sys.version_info.minor}")


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(python, tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def run_id(python: Path, server: str, linear_onnx: Path) -> str:
    return run(python, REGISTER, server, str(linear_onnx)).split()[-1]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.mark.parametrize(
    ("uri", "number"),
    [("models:/toy/1", "1"), ("models:/toy@champion", "1"), ("models:/toy/latest", "2")],
)
def test_a_version_comes_over_the_rest_api_without_mlflow(
    client: Client, server: str, run_id: str, uri: str, number: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    card = client.import_(uri, type="regression")
    assert card.reference == "toy:1"
    assert card.tags["mlflow.version"] == number
    assert card.tags["mlflow.run_id"] == run_id
    assert dict(card.metrics) == {"acc": 0.93}
    assert card.metadata["mlflow.registry"]["parameters"] == {"depth": "3"}
    assert [(one.name, one.datatype, one.shape) for one in card.signature.inputs] == [
        ("x", "FP32", (-1, 2))
    ]
    assert client.infer(card.reference, [[1.0, 1.0]])["y"].tolist() == [[15.0, 27.0, 39.0]]
    if number == "1":
        assert card.tags["mlflow.aliases"] == "champion"
        assert card.tags["mlflow.tag.team"] == "fruit"
        assert card.description == "sorts fruit"


def test_a_database_is_read_with_mlflow_installed(
    python: Path, tmp_path: Path, linear_onnx: Path, project_root: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run(python, f"import os; os.chdir({str(tmp_path)!r}){REGISTER}", store, str(linear_onnx))
    script = (
        "import sys; from nbmodel.cli import main; "
        "sys.exit(main(['import', 'models:/toy@champion', '--type', 'regression', '--json']))"
    )
    said = run(
        python,
        script,
        PYTHONPATH=str(project_root),
        MLFLOW_TRACKING_URI=store,
        NBMODEL_HOME=str(tmp_path / "home"),
    )
    card = json.loads(said)
    assert card["reference"] == "toy:1"
    assert card["tags"]["mlflow.aliases"] == "champion"
    assert card["metrics"] == {"acc": 0.93}
    assert card["lineage"]["origin"]["uri"] == "models:/toy/1"


def test_what_is_exported_loads_answers_registers_and_comes_back(
    client: Client, python: Path, server: str, linear_onnx: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = client.upload(
        linear_onnx, name="toy", type="regression", sample=np.ones((1, 2), np.float32)
    )
    client.export("toy:1", tmp_path / "out", to="mlflow")
    told = json.loads(run(python, LOAD, str(tmp_path / "out"), server).splitlines()[-1])
    assert told["flavors"] == ["nbmodel", "onnx", "python_function"]
    assert told["inputs"][0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 2]}
    assert told["answer"] == [[15.0, 27.0, 39.0]]
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    back = client.import_("models:/back/1")
    assert back.model == "back"
    assert [(one.path, one.digest) for one in back.files] == [
        (one.path, one.digest) for one in made.files
    ]
    assert back.signature == made.signature
    assert back.manifest.golden == made.manifest.golden
    digest = hashlib.sha256(linear_onnx.read_bytes()).hexdigest()
    assert back.files[-1].digest == f"sha256:{digest}"
