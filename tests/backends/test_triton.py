"""Models in a real tritonserver, at an address and started here."""

from __future__ import annotations

import gc
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.backends import Known, Session, load_backend, triton_memory
from nbmodel.backends.owner import owner
from nbmodel.backends.triton_client import Client, Endpoint, connect
from nbmodel.backends.triton_config import Wanted
from nbmodel.backends.triton_host import OtherHost
from nbmodel.backends.triton_memory import WORTH, TensorMemory
from nbmodel.backends.triton_model import model_from_file
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    ConfigError,
    InferenceError,
    NoCompatibleBackendError,
    PluginError,
    SignatureError,
    StorageUnavailableError,
    TensorNameError,
    UnavailableError,
)
from nbmodel.golden import GoldenSample
from tests.conformance.test_backends import onnx_identity, onnx_sums
from tests.tools.triton import NoTritonError, Triton, packages, program, triton

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "data" / "formats" / "torch" / "scripted.pt"
IN_PYTHON: dict[str, Any] = {
    "backend": "python",
    "parameters": {"python_path": {"string_value": ":".join(packages())}},
}
#: A model of a person's own for the Python backend: y = 2x, and which instance answered.
PROGRAM = """\
import sys

sys.path[:0] = {packages!r}

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", {factor} * x)]))
        return answers
"""
CONFIG = """\
backend: "python"
input {{ name: "x" data_type: TYPE_FP32 dims: [ -1, {columns} ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ -1, {columns} ] }}
"""

Load = Callable[..., Session]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    scratch = tmp_path_factory.mktemp("triton")
    repository = scratch / "models"
    for number, factor in ((1, 3), (4, 5)):
        write_python(repository / "own", factor, number)
    try:
        with triton(repository, scratch, models=[]) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


@pytest.fixture(params=["http", "grpc"])
def address(server: Triton, request: pytest.FixtureRequest) -> str:
    return f"{request.param}://{server.http if request.param == 'http' else server.grpc}"


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """Attributes of a service whose tritonserver is started for it."""
    try:
        path, backends = program(tmp_path / "program")
    except NoTritonError as exc:
        pytest.skip(str(exc))
    return {"tritonserver": str(path), "backend_directory": str(backends)}


@pytest.fixture
def load() -> Iterator[Load]:
    sessions = []

    def load_model(attributes: dict[str, Any], known: Known | None = None) -> Session:
        sessions.append(load_backend("triton").load(attributes, known or Known()))
        return sessions[-1]

    yield load_model
    for session in sessions:
        session.close()


@pytest.fixture
def sums(tmp_path: Path) -> dict[str, Any]:
    """Attributes of ``sum = a + b`` and ``double = a + a``, all FP32[-1, 3]."""
    path = tmp_path / "sums.onnx"
    path.write_bytes(onnx_sums())
    return {"model_path": str(path), "model_config": IN_PYTHON}


def write_python(folder: Path, factor: int, number: int | None = None, columns: int = 2) -> None:
    inner = folder if number is None else folder / str(number)
    inner.mkdir(parents=True, exist_ok=True)
    (inner / "model.py").write_text(PROGRAM.format(packages=packages(), factor=factor))
    (folder / "config.pbtxt").write_text(CONFIG.format(columns=columns))


def client_of(server: Triton) -> Client:
    return connect(Endpoint.parse(f"http://{server.http}"))


def loaded(server: Triton) -> set[str]:
    client = client_of(server)
    try:
        return set(client.models())
    finally:
        client.close()


def ones(rows: int = 2, columns: int = 3) -> np.ndarray[Any, Any]:
    return np.ones((rows, columns), np.float32)


# --- where it runs -----------------------------------------------------------------------


def test_two_versions_serve_beside_each_other(
    server: Triton, address: str, load: Load, tmp_path: Path
) -> None:
    sessions = []
    for factor in (2, 7):
        folder = tmp_path / str(factor)
        write_python(folder, factor)
        attributes = {"model_name": "twice", "model_path": str(folder), "address": address}
        sessions.append(load(attributes))
    answers = [session.infer({"x": ones(1, 2)})["y"].tolist() for session in sessions]
    assert answers == [[[2, 2]], [[7, 7]]]
    assert len([name for name in loaded(server) if name.startswith("twice.")]) == 2
    sessions[0].close()
    assert sessions[1].infer({"x": ones(1, 2)})["y"].tolist() == [[7, 7]]


def test_a_session_that_nobody_has_any_more_leaves_nothing(
    server: Triton, sums: dict[str, Any], address: str
) -> None:
    attributes = {"model_name": "forgotten", **sums, "address": address}
    session = load_backend("triton").load(attributes)
    assert any(name.startswith("forgotten.") for name in loaded(server))
    del session
    gc.collect()
    deadline = time.monotonic() + 60
    while any(name.startswith("forgotten.") for name in loaded(server)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_process_that_is_gone_has_loaded_is_let_go_of(
    server: Triton, sums: dict[str, Any], address: str
) -> None:
    attributes = {"model_name": "orphan", **sums, "address": address}
    code = (
        "import json, os, sys; from nbmodel.backends import load_backend;"
        "session = load_backend('triton').load(json.loads(sys.argv[1])); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(attributes)], check=True)
    assert any(name.startswith("orphan.") for name in loaded(server))
    load_backend("triton").tidy(attributes)
    deadline = time.monotonic() + 60
    while any(name.startswith("orphan.") for name in loaded(server)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_of_our_own_is_shared_and_ends_with_its_last_user(
    own: dict[str, Any], sums: dict[str, Any]
) -> None:
    backend, others = load_backend("triton"), children()
    sessions = [backend.load({**sums, **own}) for _ in range(2)]
    pids = children()
    assert len(pids) == len(others) + 1
    sessions[0].close()
    assert sessions[1].infer({"a": ones(), "b": ones()})["sum"].tolist() == (2 * ones()).tolist()
    assert children() == pids
    sessions[1].close()
    assert children() == others
    assert not list(triton_memory.FOLDER.glob(f"{triton_memory.PREFIX}{owner()}-*"))


def test_a_server_of_our_own_ends_when_its_process_is_killed(
    own: dict[str, Any], sums: dict[str, Any]
) -> None:
    code = (
        "import json, os, signal, sys; from nbmodel.backends import load_backend;"
        "session = load_backend('triton').load(json.loads(sys.argv[1]));"
        "print(session._placed.host._server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps({**sums, **own})],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    process = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 60
    while process.exists() and "(zombie)" not in (process / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children() -> list[int]:
    files = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    return [pid for pid in sorted(pids) if "tritonserver" in Path(f"/proc/{pid}/comm").read_text()]


# --- model repositories ------------------------------------------------------------------


@pytest.mark.parametrize(("version", "factor"), [(1, 3), (4, 5), (-1, 5)])
def test_a_version_in_a_repository_is_run_by_a_server_of_our_own(
    own: dict[str, Any], load: Load, tmp_path: Path, version: int, factor: int
) -> None:
    for number, scale in ((1, 3), (4, 5)):
        write_python(tmp_path / "models" / "own", scale, number)
    attributes = {
        "model_name": "own",
        "model_repository_path": str(tmp_path / "models"),
        "model_version": version,
        **own,
    }
    session = load(attributes)
    assert session.infer({"x": ones(1, 2)})["y"].tolist() == [[factor, factor]]
    assert session.signature.inputs == (Tensor("x", "FP32", (-1, 2)),)


def test_a_model_in_the_repository_of_a_triton_is_not_ours_to_unload(
    server: Triton, address: str
) -> None:
    attributes = {"model_name": "own", "model_repository_path": "/its/own", "address": address}
    session = load_backend("triton").load(attributes)
    assert session.infer({"x": ones(1, 2)})["y"].tolist() == [[5, 5]]
    session.close()
    assert "own" in loaded(server)


def test_a_repository_without_the_model_is_named(own: dict[str, Any], tmp_path: Path) -> None:
    attributes = {"model_name": "none", "model_repository_path": str(tmp_path), **own}
    with pytest.raises(ConfigError, match=r"has no version of a model in .*none"):
        load_backend("triton").load(attributes)


# --- formats -----------------------------------------------------------------------------

DATA = Path(__file__).parents[1] / "data" / "formats"
ROWS = Signature((Tensor("INPUT__0", "FP32", (-1, 2)),), (Tensor("OUTPUT__0", "FP32", (-1, 3)),))
#: File of a framework that the wheel's Triton has no backend for, and its signature where the
#: file does not tell it.
FORMATS: dict[str, tuple[Path | bytes, Signature | None]] = {
    "tensorflow": (DATA / "tensorflow" / "linear", None),
    "pytorch": (DATA / "torch" / "scripted.pt", ROWS),
    "openvino": (DATA / "openvino" / "linear.xml", None),
    "tensorrt": (b"ftrt" + bytes(124), ROWS),
    "onnxruntime": (onnx_sums(), None),
}


@pytest.mark.parametrize("backend", FORMATS)
def test_triton_takes_the_configuration_of_every_format_as_far_as_its_backend(
    server: Triton, tmp_path: Path, backend: str
) -> None:
    """What it lacks is the library, which it looks for when all else is right."""
    path, signature = FORMATS[backend]
    if isinstance(path, bytes):
        content, path = path, tmp_path / ("m.plan" if backend == "tensorrt" else "m.onnx")
        path.write_bytes(content)
    model = model_from_file(path, Known(signature), Wanted("KIND_CPU", 2))
    host = OtherHost(Endpoint.parse(f"grpc://{server.grpc}"))
    try:
        with pytest.raises(
            InferenceError, match=f"unable to find backend library for backend '{backend}'"
        ):
            host.bring(host.new_name("m"), model)
    finally:
        host.close()


def test_a_triton_that_is_too_old_for_a_format_says_so_before_anything_is_moved(
    server: Triton, address: str, load: Load
) -> None:
    attributes = {"model_path": str(DATA / "torch" / "compiled.pt2"), "address": address}
    host = OtherHost(Endpoint.parse(address))
    try:
        with pytest.raises(
            NoCompatibleBackendError, match=r"with Triton 2\.67, this one is of version 2"
        ):
            host.check_platform("torch_aoti")
        host.check_platform("onnxruntime_onnx")
    finally:
        host.close()
    with pytest.raises(NoCompatibleBackendError, match="no backend 'pytorch', it has python"):
        load(attributes, Known(ROWS))


def test_a_plan_of_another_gpu_is_refused_with_a_sentence(
    tmp_path: Path, load: Load, address: str
) -> None:
    """In TensorRT's words, for want of a TensorRT, by way of a real Triton."""
    words = "The engine plan file is generated on an incompatible device, expecting compute 8.7 "
    (tmp_path / "model.py").write_text(
        "class TritonPythonModel:\n    def initialize(self, args):\n"
        f"        raise RuntimeError({words + 'got compute 8.6, please rebuild.'!r})\n"
    )
    (tmp_path / "config.pbtxt").write_text(CONFIG.format(columns=2))
    with pytest.raises(
        InferenceError, match=r"built for a GPU of compute capability 8\.6, that of Triton has 8\.7"
    ) as caught:
        load({"model_path": str(tmp_path), "address": address})
    assert "build it on that device" in str(caught.value.hint)


# --- configuration -----------------------------------------------------------------------


def test_a_configuration_by_hand_that_contradicts_the_signature_is_refused(
    load: Load, tmp_path: Path, address: str
) -> None:
    write_python(tmp_path / "m", 2, columns=4)
    tensors = (Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),)
    with pytest.raises(SignatureError, match=r"x FP32\[-1,4\] in the file"):
        load({"model_path": str(tmp_path / "m"), "address": address}, Known(Signature(*tensors)))


def test_triton_takes_warm_up_labels_and_batches(
    server: Triton, load: Load, sums: dict[str, Any], address: str, tmp_path: Path
) -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    sample = tmp_path / "golden.npz"
    sample.write_bytes(GoldenSample({"a": a, "b": a}, {"sum": a + a}).to_bytes())
    labels = ("cat", "dog", "two\nlines")
    signature = Signature(
        (Tensor("a", "FP32", (-1, 3)), Tensor("b", "FP32", (-1, 3))),
        (Tensor("sum", "FP32", (-1, 3), labels=labels), Tensor("double", "FP32", (-1, 3))),
    )
    attributes = {"model_name": "all", **sums, "address": address, "max_batch_size": 8}
    session = load(attributes, Known(signature, sample))
    (name,) = (name for name in loaded(server) if name.startswith("all."))
    connection = http.client.HTTPConnection(server.http, timeout=30)
    try:
        connection.request("GET", f"/v2/models/{name}/config")
        config = json.loads(connection.getresponse().read())
        connection.request("POST", f"/v2/models/{name}/infer", json.dumps(CLASSIFY))
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    assert config["model_warmup"][0]["inputs"]["a"]["input_data_file"] == "golden-0.bin"
    assert answer["outputs"][0]["data"] == ["4.000000:2:two lines"]
    assert session.signature.inputs[0].shape == (-1, 3)
    assert session.infer({"a": a, "b": a})["sum"].tolist() == (a + a).tolist()


CLASSIFY = {
    "inputs": [
        {"name": name, "datatype": "FP32", "shape": [1, 3], "data": [0, 1, 2]} for name in "ab"
    ],
    "outputs": [{"name": "sum", "parameters": {"classification": 1}}],
}


def test_tensors_are_called_otherwise(load: Load, sums: dict[str, Any], address: str) -> None:
    names = {"inputs": {"a": "image"}, "outputs": {"sum": "score"}}
    session = load({**sums, "address": address, "tensor_name_remappings": names})
    answer = session.infer({"image": ones(), "b": ones()}, ["score", "double"])
    assert list(answer) == ["score", "double"]
    assert answer["score"].tolist() == (2 * ones()).tolist()
    assert [tensor.name for tensor in session.plain.signature.inputs] == ["a", "b"]
    assert session.plain.infer({"a": ones(), "b": ones()}, ["sum"])["sum"][0, 0] == 2


def test_a_renaming_of_what_is_not_there_leaves_nothing_loaded(
    server: Triton, sums: dict[str, Any], address: str
) -> None:
    names = {"inputs": {"picture": "image"}}
    attributes = {"model_name": "renamed", **sums, "address": address}
    with pytest.raises(TensorNameError, match="'picture', which the model has not"):
        load_backend("triton").load({**attributes, "tensor_name_remappings": names})
    assert not any(name.startswith("renamed.") for name in loaded(server))


def test_scalars_are_scalars(load: Load, tmp_path: Path, address: str) -> None:
    from onnx import TensorProto, helper

    def value(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "by"], ["z"]), helper.make_node("Add", ["by", "by"], ["y"])],
        "scalars",
        [value("x", [2]), value("by", [])],
        [value("z", [2]), value("y", [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "scalars.onnx"
    path.write_bytes(model.SerializeToString())
    session = load({"model_path": str(path), "model_config": IN_PYTHON, "address": address})
    shapes = {
        one.name: one.shape for one in (*session.signature.inputs, *session.signature.outputs)
    }
    assert shapes == {"x": (2,), "by": (), "z": (2,), "y": ()}
    answer = session.infer({"x": ones(1, 2)[0], "by": np.array(3, np.float32)})
    assert answer["z"].tolist() == [3, 3]
    assert answer["y"].shape == ()
    assert answer["y"] == 6


# --- refusals ----------------------------------------------------------------------------


def test_a_lacking_backend_is_told_from_the_servers_own_list(
    address: str, own: dict[str, Any]
) -> None:
    attributes = {"model_path": str(SCRIPT)}
    for where in ({"address": address}, own):
        with pytest.raises(
            NoCompatibleBackendError, match=r"has no backend 'pytorch', it has python\b"
        ):
            load_backend("triton").load({**attributes, **where})


def test_without_a_backend_for_onnx_the_one_for_python_runs_it(
    load: Load, sums: dict[str, Any], address: str, own: dict[str, Any]
) -> None:
    path = {"parameters": IN_PYTHON["parameters"]}
    for where in ({"address": address}, own):
        session = load({**sums, "model_config": path, **where})
        assert session.infer({"a": ones(), "b": ones()}, ["sum"])["sum"][0, 0] == 2
        assert "ONNX Runtime runs inside its Python backend" in session.note


#: Where Triton's Python is to look for modules → what is said.
PYTHON_PATHS = {
    "no folder": ("/no/folder", "python_path: /no/folder is no folder on Triton's machine", ""),
    "another numpy": (
        ":".join(packages()[1:]),
        r"no data for output '\w+' of \[2, 3\]: if its Python has numpy 2\.x, this stub needs numpy < 2",
        "python_path",
    ),
    "nothing": ("", "No module named '(onnxruntime|numpy)'", "python_path"),
}


@pytest.mark.parametrize(("folders", "words", "hint"), PYTHON_PATHS.values(), ids=PYTHON_PATHS)
def test_what_tritons_python_lacks_is_named(
    load: Load, sums: dict[str, Any], address: str, folders: str, words: str, hint: str
) -> None:
    given = {"parameters": {"python_path": {"string_value": folders}}}
    with pytest.raises(InferenceError, match=words) as caught:
        load({**sums, "model_config": given, "address": address}).infer({"a": ones(), "b": ones()})
    assert hint in str(caught.value.hint)


def test_a_triton_that_is_not_told_what_to_load_says_so(
    sums: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    options = ["--model-control-mode=none"]
    try:
        with triton(tmp_path / "models", tmp_path, models=[], options=options) as server:
            for address in (f"http://{server.http}", f"grpc://{server.grpc}"):
                with pytest.raises(ConfigError, match="this Triton takes no models") as caught:
                    load_backend("triton").load({**sums, "address": address})
                assert caught.value.hint == "start it with --model-control-mode=explicit"
    except NoTritonError as exc:
        pytest.skip(str(exc))


def test_a_service_runs_where_its_device_says(
    load: Load, sums: dict[str, Any], address: str
) -> None:
    for device in ("cpu", "auto"):
        session = load({**sums, "address": address, "device": device})
        assert session.infer({"a": ones(), "b": ones()}, ["sum"])["sum"][0, 0] == 2
    with pytest.raises(InferenceError, match="it is to run on a GPU, and Triton has none"):
        load({**sums, "address": address, "device": "gpu"})


def test_its_errors_have_its_words(load: Load, tmp_path: Path, address: str) -> None:
    (tmp_path / "model.py").write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        raise KeyError('odd')\n"
    )
    (tmp_path / "config.pbtxt").write_text(CONFIG.format(columns=2))
    session = load({"model_path": str(tmp_path), "address": address})
    with pytest.raises(InferenceError, match=r"cannot be run: .*KeyError: 'odd'"):
        session.infer({"x": ones(1, 2)})
    (tmp_path / "model.py").write_text(
        "class TritonPythonModel:\n    def initialize(self, args):\n        raise OSError('no key')\n"
    )
    with pytest.raises(InferenceError, match=r"triton cannot load .*OSError: no key"):
        load({"model_path": str(tmp_path), "address": address})


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_triton_that_is_not_there_is_unavailable(sums: dict[str, Any], scheme: str) -> None:
    with pytest.raises(
        UnavailableError, match=rf"Triton at {scheme}://127.0.0.1:9 cannot be reach"
    ):
        load_backend("triton").load({**sums, "address": f"{scheme}://127.0.0.1:9"})


def test_a_program_that_is_not_there_is_named(sums: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="/no/tritonserver is no program") as caught:
        load_backend("triton").load({**sums, "tritonserver": "/no/tritonserver"})
    for attribute in ("tritonserver", "backend_directory", "address"):
        assert f'"{attribute}"' in str(caught.value.hint)


def test_a_program_that_does_not_start_is_quoted(sums: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tritonserver"
    path.write_text("#!/bin/sh\necho 'error: no such GPU' >&2\nexit 3\n")
    path.chmod(0o755)
    with pytest.raises(
        UnavailableError,
        match=r"does not start: it ended with exit code 3 after it said: .*no such",
    ):
        load_backend("triton").load({**sums, "tritonserver": str(path), "backend_directory": ""})


def test_a_disk_that_takes_no_repository_is_no_fault_of_the_model(
    own: dict[str, Any], sums: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(StorageUnavailableError, match="cannot make a model repository"):
        load_backend("triton").load({**sums, **own})


# --- shared memory -----------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path: Path) -> dict[str, Any]:
    """Attributes of ``y = x`` over rows of 3, which are many enough for shared memory."""
    path = tmp_path / "wide.onnx"
    path.write_bytes(onnx_identity("FP32"))
    return {"model_path": str(path), "model_config": IN_PYTHON}


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def regions() -> list[Path]:
    return list(triton_memory.FOLDER.glob(f"{triton_memory.PREFIX}{owner()}-*"))


def test_large_tensors_are_shared(load: Load, wide: dict[str, Any], address: str) -> None:
    session = load({**wide, "address": address})
    many = WORTH // 12 + 1
    for count in (2, many, 2 * many, many):
        x = rows(count)
        answer = session.infer({"x": x})["y"]
        assert answer.tobytes() == x.tobytes()
        assert answer.flags.writeable
        assert bool(regions()) == (count > 2)
    session.close()
    assert regions() == []


def test_what_triton_cannot_open_is_sent(
    load: Load,
    wide: dict[str, Any],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_memory, "FOLDER", tmp_path)  # where no Triton looks
    session = load({**wide, "address": address})
    for _ in range(2):
        x = rows(WORTH)
        assert session.infer({"x": x})["y"].tobytes() == x.tobytes()
    assert not list(tmp_path.glob(f"{triton_memory.PREFIX}*"))


def test_memory_that_triton_has_forgotten_is_made_anew(
    server: Triton, load: Load, wide: dict[str, Any], address: str
) -> None:
    session = load({**wide, "address": address})
    x = rows(WORTH)
    session.infer({"x": x})
    (before,) = regions()
    client = client_of(server)
    client.unregister(before.name)
    client.close()
    for _ in range(2):
        assert session.infer({"x": x})["y"].tobytes() == x.tobytes()
    (after,) = regions()
    assert after != before


def test_an_output_that_is_larger_than_was_thought_is_sent(
    load: Load, tmp_path: Path, address: str
) -> None:
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])

    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], "g", [value("x")], [value("y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "twice.onnx"
    path.write_bytes(model.SerializeToString())
    session = load({"model_path": str(path), "model_config": IN_PYTHON, "address": address})
    x = rows(WORTH)
    for _ in range(2):
        assert session.infer({"x": x})["y"].tobytes() == 2 * x.tobytes()


def test_memory_that_a_killed_process_left_is_removed() -> None:
    place, pid, start = owner().split("-")
    left = triton_memory.FOLDER / f"{triton_memory.PREFIX}{place}-{pid}-{int(start) + 1}-1"
    others = triton_memory.FOLDER / f"{triton_memory.PREFIX}{'0' * 8}-{os.getpid()}-7-1"
    for file in (left, others):
        file.write_bytes(b"x")
    try:
        TensorMemory(Signature())
        assert not left.exists()
        assert others.exists()
    finally:
        others.unlink()
