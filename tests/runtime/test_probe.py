"""Versions that are tried out in a process of their own; real engines, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import open_session
from nbmodel.core.golden import Golden
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    ConfigError,
    NbModelError,
    PluginError,
    ProbeError,
    StorageUnavailableError,
    UnavailableError,
)
from nbmodel.golden import GoldenSample
from nbmodel.runtime.packages import Installed
from nbmodel.runtime.probe import ProbeLimits, probe
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.runtime.services import Source
from nbmodel.sample import sample_inputs
from tests.tools.bad_backend import SIGNATURE, install_bad_backend

MIB = 2**20
X = np.array([[1, 2]], np.float32)
LIMITS = ProbeLimits(timeout_s=60, memory_bytes=300 * MIB)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
needs_onnx = pytest.mark.usefixtures("_onnx")


@pytest.fixture
def _onnx() -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    pytest.importorskip("onnx", reason="toy models are made with onnx")


@pytest.fixture(autouse=True)
def _bad_backend(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backend ``bad`` is installed, here and in what is started."""
    monkeypatch.syspath_prepend(install_bad_backend(tmp_path_factory.mktemp("plugins")))


def bad(folder: Path, **behaviour: Any) -> Source:
    """A model that misbehaves, as a file by path."""
    path = folder / "model.bad"
    path.write_text(json.dumps(behaviour))
    return Source("bad", {"model_path": str(path)}, "key")


def version(
    folder: Path,
    model: Path,
    *,
    backend: str = "bad",
    golden: Mapping[str, Any] | None = None,
    signature: Signature = SIGNATURE,
) -> Source:
    """A model as it comes with a version; ``golden`` is what it should answer to ``X``."""
    paths = [model.name]
    if golden is not None:
        sample = GoldenSample({"x": X}, {name: np.float32(it) for name, it in golden.items()})
        (folder / "golden.npz").write_bytes(sample.to_bytes())
        paths.append("golden.npz")
    files = tuple(FileEntry(path, 1, "sha256:" + "1" * 64) for path in paths)
    manifest = Manifest(
        "m",
        "2026-02-28T00:00:00.000000Z",
        files,
        "onnx",
        "other",
        signature,
        golden=None if golden is None else Golden(),
    )
    there = PackageVersion("m", "sha256:" + "2" * 64, "latest", 1, None)
    return Source(backend, {"model_path": str(model)}, "key", Installed(there, manifest, folder))


def refusal(source: Source, limits: ProbeLimits = LIMITS) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        probe(source, limits)
    assert caught.value.hint
    return caught.value


@needs_onnx
def test_a_version_that_answers_its_golden_sample_may_serve(
    tmp_path: Path, linear_onnx: Path
) -> None:
    report = probe(
        version(
            tmp_path,
            linear_onnx,
            backend="viam:mlmodel:onnx-cpu",
            golden={"y": [[19, 32, 45]]},
            signature=Signature(
                (Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 3), labels=("a",)),)
            ),
        ),
        LIMITS,
    )
    assert report.golden.startswith("all outputs agree")
    assert report.note == ""
    assert 0 < report.load_s < 30
    assert report.latency_ms is not None
    assert 0 < report.latency_ms < 1000
    if sys.platform == "linux":
        assert report.memory_bytes is not None
        assert MIB < report.memory_bytes < 300 * MIB
    assert set(report.to_json()) == {"load_s", "latency_ms", "memory_bytes", "golden", "note"}


def test_a_backend_that_is_installed_beside_nbmodel_is_found(tmp_path: Path) -> None:
    report = probe(bad(tmp_path))
    assert report.golden == "no golden sample; answers made-up inputs x FP32[1,2]"


def test_wrong_numbers_are_refused_with_the_difference(tmp_path: Path) -> None:
    source = bad(tmp_path)
    model = Path(source.attributes["model_path"])
    error = refusal(version(tmp_path, model, golden={"y": [[2, 5]]}))
    assert str(error) == (
        "answers its golden sample wrongly: output 'y' differs at [0, 1]: expected 5, found 4 "
        "(1 of 2 elements out of tolerance)"
    )
    assert error.reason == "WrongAnswer"


@pytest.mark.skipif(sys.platform == "win32", reason="names signals")
@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        pytest.param(
            {"load": "segfault"},
            "crashes while loading the model: SIGSEGV (Segmentation fault)",
            id="loading",
        ),
        pytest.param(
            {"run": "abort", "on": 2},
            "crashes while answering made-up inputs (run 2): SIGABRT (Aborted); it printed: the "
            "engine: assertion `tensor != nullptr' failed",
            id="the second request",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"run": "exit 3"},
            "crashes while answering made-up inputs: exit code 3",
            id="ending without a word",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_crash_is_refused_with_its_signal(
    tmp_path: Path, behaviour: Mapping[str, Any], message: str
) -> None:
    error = refusal(bad(tmp_path, **behaviour))
    assert str(error) == message
    assert error.reason == "Crashed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "doing"),
    [
        pytest.param({"load": "hang"}, "loading the model", id="loading"),
        pytest.param(
            {"run": "hold", "on": 2},
            "answering made-up inputs (run 2)",
            id="the second request, and no thread runs beside",
            marks=on_linux,
        ),
    ],
)
def test_a_hang_is_refused_with_what_it_was_doing(
    tmp_path: Path, behaviour: Mapping[str, Any], doing: str
) -> None:
    began = time.monotonic()
    error = refusal(bad(tmp_path, **behaviour), ProbeLimits(timeout_s=3))
    assert str(error) == f"hangs: not done after 3 s, while {doing}"
    assert error.reason == "TimedOut"
    assert "probe_timeout_s" in str(error.hint)
    assert time.monotonic() - began < 10


@on_linux
def test_taking_too_much_memory_is_refused_with_the_limit(tmp_path: Path) -> None:
    error = refusal(bad(tmp_path, load="allocate 500"))
    assert str(error).startswith(
        "takes too much memory while loading the model (the limit is 300 MiB; it had "
    )
    assert error.reason == "OutOfMemory"
    assert "probe_memory_bytes" in str(error.hint)


@on_linux
@pytest.mark.slow
def test_without_a_limit_it_is_what_the_machine_has_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmodel.runtime.probe.free_memory", lambda: 100 * MIB)
    error = refusal(bad(tmp_path, load="allocate 300"), ProbeLimits())
    assert "(the limit is 80 MiB, four fifths of what was free; it had " in str(error)
    assert "free memory on this machine" in str(error.hint)


@on_linux
@pytest.mark.slow
def test_a_kill_by_the_system_is_a_lack_of_memory(tmp_path: Path) -> None:
    error = refusal(bad(tmp_path, run="killed"))
    assert str(error).startswith(
        "was killed by the system while answering made-up inputs (the limit is 300 MiB"
    )
    assert error.reason == "OutOfMemory"


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        pytest.param(
            lambda bad: bad.truncated(bad.spread()),
            "LoadFailed",
            "onnx_cpu cannot load model.onnx: ",
            id="truncated",
        ),
        pytest.param(
            lambda bad: bad.unknown_operator(),
            "LoadFailed",
            "com.example.nowhere:Frobnicate(-1) is not a registered function/op",
            id="an operator that no engine has",
        ),
        pytest.param(
            lambda bad: bad.memory_eater(100_000),
            "OutOfMemory",
            "asks for more memory than there is (the limit is 300 MiB; it had ",
            id="a hundred gigabytes at once",
            marks=on_linux,
        ),
        pytest.param(
            lambda bad: bad.endless(),
            "TimedOut",
            "hangs: not done after 3 s, while answering made-up inputs",
            id="endless",
        ),
        pytest.param(
            lambda bad: bad.not_a_number(),
            "NotFinite",
            "answers made-up inputs x FP32[1,2] with nan in output 'y' at [0, 0]",
            id="NaN",
        ),
    ],
)
def test_bad_onnx_files_are_refused(
    tmp_path: Path, make: Callable[[Any], bytes], reason: str, message: str
) -> None:
    from tests.tools import bad_models

    path = tmp_path / "model.onnx"
    path.write_bytes(make(bad_models))
    limits = ProbeLimits(timeout_s=3 if reason == "TimedOut" else 60, memory_bytes=300 * MIB)
    error = refusal(Source("onnx_cpu", {"model_path": str(path)}, "key"), limits)
    assert message in str(error)
    assert error.reason == reason


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("golden", "signature", "reason", "message"),
    [
        pytest.param(
            {"y": [[0.5, 0.5]]},
            SIGNATURE,
            "NotFinite",
            "output 'y' differs at [0, 0]: expected 0.5, found nan (2 of 2 elements",
            id="NaN where there was none",
        ),
        pytest.param(
            {"y": [[np.nan, np.nan]]},
            Signature((Tensor("x", "INT64", (-1, 2)),)),
            "WrongSignature",
            "input x FP32[-1,2] was promised as x INT64[-1,2]",
            id="another signature",
        ),
        pytest.param(
            None,
            Signature(outputs=(Tensor("y", "FP32", (-1, 7)),)),
            "WrongAnswer",
            "with an output 'y' of FP32[1, 2], its signature says y FP32[-1,7]",
            id="an output of another length",
        ),
    ],
)
def test_a_version_that_is_not_what_it_says_is_refused(
    tmp_path: Path, golden: Any, signature: Signature, reason: str, message: str
) -> None:
    from tests.tools.bad_models import not_a_number

    model = tmp_path / "model.onnx"
    model.write_bytes(not_a_number())
    error = refusal(
        version(tmp_path, model, backend="onnx_cpu", golden=golden, signature=signature)
    )
    assert error.reason == reason
    assert message in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite",
        "mobilenet_v2_1.0_224_quant.tflite",
        "keras_lstm_mnist_ptq.tflite",
    ],
)
def test_real_tflite_models_may_serve(test_models: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
    report = probe(Source("tflite_cpu", {"model_path": str(test_models / name)}, "key"))
    assert report.golden.startswith("no golden sample; answers made-up inputs ")
    assert report.latency_ms is not None


@pytest.mark.slow
def test_a_real_tflite_model_with_an_unknown_operator_is_refused(test_models: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
    model = test_models / "model_invoking_error.tflite"
    error = refusal(Source("tflite_cpu", {"model_path": str(model)}, "key"))
    assert "needs the custom operation 'fake-op-double'" in str(error)
    assert error.reason == "LoadFailed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "reason", "message"),
    [
        pytest.param(
            lambda whole: whole[: len(whole) // 2],
            "LoadFailed",
            "The model is not a valid Flatbuffer buffer",
            id="truncated",
        ),
        pytest.param(
            lambda whole: whole[:200_000] + bytes(50_000) + whole[250_000:],
            "WrongAnswer",
            "answers its golden sample wrongly: output 'MobilenetV1/Predictions/Reshape_1' differs",
            id="weights that are gone",
        ),
    ],
)
def test_a_damaged_real_tflite_model_is_refused(
    tmp_path: Path,
    test_models: Path,
    damage: Callable[[bytes], bytes],
    reason: str,
    message: str,
) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
    whole = test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite"
    session = open_session(whole, "tflite")
    inputs = sample_inputs(session.signature)
    sample = GoldenSample(inputs, session.infer(inputs))
    session.close()
    model = tmp_path / "model.tflite"
    model.write_bytes(damage(whole.read_bytes()))
    (tmp_path / "golden.npz").write_bytes(sample.to_bytes())
    files = tuple(
        FileEntry(path, 1, "sha256:" + "1" * 64) for path in ("model.tflite", "golden.npz")
    )
    manifest = Manifest("m", "2026", files, "tflite", "other", session.signature, golden=Golden())
    there = PackageVersion("m", "sha256:" + "2" * 64, "latest", 1, None)
    error = refusal(
        Source(
            "tflite_cpu", {"model_path": str(model)}, "key", Installed(there, manifest, tmp_path)
        )
    )
    assert message in str(error)
    assert error.reason == reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        pytest.param(
            Source("bad", {"model_path": "/nowhere/model.bad"}, "key"),
            ConfigError,
            "model_path is not a file: /nowhere/model.bad",
            id="no file",
        ),
        pytest.param(
            Source("badd", {"model_path": "/nowhere"}, "key"),
            PluginError,
            "unknown backend 'badd'",
            id="no backend",
        ),
    ],
)
def test_a_config_that_cannot_work_is_told_as_such(
    source: Source, kind: type[NbModelError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        probe(source)
    assert type(caught.value) is kind


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "kind"),
    [("full no room just now", StorageUnavailableError), ("away not up", UnavailableError)],
    ids=["no room", "cannot be reached"],
)
def test_what_says_nothing_about_the_version_is_told_as_such(
    does: str, kind: type[NbModelError], tmp_path: Path
) -> None:
    with pytest.raises(kind, match=does.partition(" ")[2]) as caught:
        probe(bad(tmp_path, load=does))
    assert type(caught.value) is kind


def test_a_golden_sample_that_is_no_file_of_the_version_is_not_opened(tmp_path: Path) -> None:
    source = bad(tmp_path)
    one = version(tmp_path, Path(source.attributes["model_path"]))
    assert one.installed is not None
    manifest = Manifest(
        "m",
        "2026",
        one.installed.manifest.files,
        "onnx",
        "other",
        SIGNATURE,
        golden=Golden(path="/etc/passwd"),
    )
    there = Installed(one.installed.version, manifest, tmp_path)
    error = refusal(Source(one.model, one.attributes, "key", there))
    assert "the golden sample '/etc/passwd' is not among the files" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more"])
def test_a_golden_sample_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    source = bad(tmp_path)
    one = version(tmp_path, Path(source.attributes["model_path"]), golden={"y": [[2, 4]]})
    (tmp_path / "golden.npz").write_bytes(content)
    assert "golden sample cannot be read" in str(refusal(one))


class TestCancelling:
    def test_nobody_waits_for_a_hang(self, tmp_path: Path) -> None:
        told = tmp_path / "told"
        over = threading.Event()

        def stop() -> None:
            while not told.exists():
                time.sleep(0.01)
            over.set()

        threading.Thread(target=stop).start()
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="the probe was given up"):
            probe(bad(tmp_path, load=f"tell {told}", run="hang"), LIMITS, cancelled=over.is_set)
        assert time.monotonic() - began < 10
        if sys.platform == "linux":
            assert not Path(f"/proc/{written(told)['pid']}").exists()


@on_linux
class TestTheChild:
    @pytest.fixture
    def told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What a child sees, once it is there; then it is let go."""
        monkeypatch.setenv("NBMODEL_REGISTRY_TOKEN", "hunter2")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy:3128")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        path = tmp_path / "told"
        seen: dict[str, Any] = {}

        def look() -> bool:
            if not path.exists() or not path.read_text():
                return False
            seen.update(written(path))
            folder = Path(f"/proc/{seen['pid']}")
            seen["oom"] = (folder / "oom_score_adj").read_text().strip()
            seen["limits"] = (folder / "limits").read_text()
            seen["nice"] = os.getpriority(os.PRIO_PROCESS, seen["pid"])
            seen["group"] = os.getpgid(seen["pid"])
            return True

        with pytest.raises(UnavailableError):
            probe(bad(tmp_path, load=f"tell {path}", run="hang"), LIMITS, cancelled=look)
        return seen

    def test_it_is_modest_and_knows_no_secrets(self, told: dict[str, Any]) -> None:
        assert "hunter2" not in json.dumps(told["environment"])
        assert told["environment"]["OMP_NUM_THREADS"] == "1"
        assert told["oom"] == "1000"
        assert told["nice"] >= min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        assert told["group"] == told["pid"] != os.getpgid(0)
        rows = {line[:26].strip(): line[26:].split() for line in told["limits"].splitlines()}
        assert rows["Max core file size"][:2] == ["0", "0"]
        assert 600 * MIB < int(rows["Max data size"][0]) < 4096 * MIB

    @pytest.mark.slow
    def test_what_it_started_ends_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "pid"
        probe(bad(tmp_path, load=f"child {path}"), LIMITS)
        assert has_gone(int(path.read_text()))

    @pytest.mark.slow
    def test_what_it_prints_does_not_stop_it(self, tmp_path: Path) -> None:
        assert probe(bad(tmp_path, load="print 1000000"), LIMITS).latency_ms is not None

    @pytest.mark.slow
    @pytest.mark.parametrize("hangs", ["hang", "hold"])
    def test_it_ends_when_its_parent_is_killed(self, tmp_path: Path, hangs: str) -> None:
        path = tmp_path / "told"
        model = tmp_path / "model.bad"
        model.write_text(json.dumps({"load": f"tell {path}", "run": hangs}))
        code = (
            "from nbmodel.runtime.probe import probe; from nbmodel.runtime.services import Source; "
            f"probe(Source('bad', {{'model_path': {str(model)!r}}}, ''))"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.monotonic() + 30
        while not path.exists() or not path.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.kill()
        parent.wait()
        assert has_gone(written(path)["pid"])


def test_a_process_that_cannot_be_started_says_nothing_about_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(UnavailableError, match="no process can be started"):
        probe(bad(tmp_path))


def written(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def has_gone(pid: int) -> bool:
    """Whether a process ends, within ten seconds; a zombie has."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
