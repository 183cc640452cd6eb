"""Python models in processes of their own: limits, ends, new starts, what they get to see."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Session, load_backend
from nbmodel.backends.base import Known
from nbmodel.backends.python_process import LONGEST_PAUSE_S, environment, pause_s
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError, NbModelError, UnavailableError
from tests.tools.python_models import EVERYTHING, scaling_py

pytestmark = pytest.mark.unhurried

X = np.array([[1, 2]], np.float32)
PATIENCE_S = 60.0
Load = Callable[..., Session]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    sessions: list[Session] = []

    def load_code(code: bytes, known: Known | None = None, **attributes: Any) -> Session:
        (tmp_path / "model.py").write_bytes(code)
        given = {"model_path": str(tmp_path), **attributes}
        sessions.append(load_backend("python").load(given, known or Known()))
        return sessions[-1]

    yield load_code
    for session in sessions:
        session.close()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def answer(session: Session, x: np.ndarray = X) -> list[list[float]]:
    return session.infer({"x": x})["y"].tolist()


def text_of(session: Session) -> str:
    return bytes(session.infer({"x": X})["text"][0]).decode()


def telling(expression: str, head: str = "") -> bytes:
    """A model that tells a text, whatever it is given."""
    return f"""
import os, sys
import numpy as np
import triton_python_backend_utils as pb_utils
{head}

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}})
        config.add_output({{"name": "text", "data_type": "TYPE_STRING", "dims": [1]}})
        return config

    def execute(self, requests):
        text = np.array([str({expression}).encode()], object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("text", text)]) for _ in requests]
""".encode()


class TestEnds:
    def test_a_call_that_takes_too_long_is_ended_and_the_next_is_answered(self, load: Load) -> None:
        session = load(scaling_py(body="time.sleep(3600 if x.max() > 5 else 0)"), timeout_s=2)
        with pytest.raises(InferenceError, match="did not answer within 2 s") as caught:
            answer(session, X * 10)
        assert "timeout_s" in str(caught.value.hint)

        def is_answering() -> bool:
            try:
                return answer(session) == [[2, 4]]
            except InferenceError:  # not up again yet, or too slow on a busy machine
                return False

        wait_for(is_answering)

    def test_a_process_that_dies_says_how_and_what_it_printed_and_comes_again(
        self, load: Load
    ) -> None:
        session = load(
            scaling_py(body="x.max() > 5 and (print('the last words'), os.kill(os.getpid(), 11))")
        )
        notes: list[str] = []
        session.report_to(notes.append)
        with pytest.raises(InferenceError, match=r"SIGSEGV.*it printed: the last words"):
            answer(session, X * 10)
        wait_for(lambda: "its process runs again" in notes)
        assert answer(session) == [[2, 4]]
        assert any("SIGSEGV" in note and "started again after" in note for note in notes)

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds its socket there")
    def test_a_process_that_cannot_be_understood_is_ended_and_comes_again(self, load: Load) -> None:
        sockets = "(one for one in os.listdir('/proc/self/fd') if int(one) > 2)"
        found = (
            f"[one for one in {sockets} if 'socket' in os.path.realpath('/proc/self/fd/' + one)]"
        )
        talk = f"os.write(int({found}[0]), b'\\xff' * 100)"
        session = load(scaling_py(body=f"x.max() > 5 and {talk}"))
        with pytest.raises(InferenceError, match="it said a head of 4294967295 bytes"):
            answer(session, X * 10)
        wait_for(lambda: session.trouble is None)
        assert answer(session) == [[2, 4]]

    def test_while_it_is_started_again_requests_are_told_to_come_later(
        self, load: Load, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        go.touch()
        start = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
        session = load(scaling_py(body="x.max() > 5 and os._exit(3)", start=start))
        go.unlink()
        with pytest.raises(InferenceError, match="exit code 3"):
            answer(session, X * 10)
        wait_for(lambda: session.trouble is not None)
        with pytest.raises(UnavailableError, match=r"ended: exit code 3.*started again"):
            answer(session)
        go.touch()
        wait_for(lambda: session.trouble is None)
        assert answer(session) == [[2, 4]]

    def test_pauses_grow_and_are_bounded(self) -> None:
        pauses = [pause_s(failures) for failures in range(40)]
        assert pauses == sorted(pauses)
        assert pauses[0] < 1
        assert pauses[-1] == LONGEST_PAUSE_S

    def test_what_it_has_started_ends_with_it(self, load: Load) -> None:
        session = load(
            telling(
                "other.pid",
                "import subprocess; other = subprocess.Popen(['sleep', '3600'])",
            )
        )
        pid = int(text_of(session))
        os.kill(pid, 0)
        session.close()
        wait_for(lambda: not is_alive(pid))

    def test_it_finishes_when_it_is_closed(self, load: Load, tmp_path: Path) -> None:
        done = tmp_path / "done"
        code = (
            scaling_py() + f"\n    def finalize(self):\n        open({str(done)!r}, 'w')\n".encode()
        )
        session = load(code)
        assert answer(session) == [[2, 4]]
        session.close()
        assert done.exists()

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
    def test_it_ends_when_whoever_started_it_is_killed(self, tmp_path: Path) -> None:
        import subprocess
        import sys

        (tmp_path / "model.py").write_bytes(telling("os.getpid()"))
        program = (
            "import numpy as np, time\n"
            "from nbmodel.backends import load_backend\n"
            f"session = load_backend('python').load({{'model_path': {str(tmp_path)!r}}})\n"
            "print(session.infer({'x': np.ones((1, 2), 'f4')})['text'][0].decode(), flush=True)\n"
            "time.sleep(3600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            assert is_alive(pid)
            process.send_signal(signal.SIGKILL)
        wait_for(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class TestLimits:
    def test_a_model_that_is_not_loaded_in_time_is_refused(self, load: Load) -> None:
        with pytest.raises(
            InferenceError, match=r"model.py: it was not loaded after 1 s"
        ) as caught:
            load(scaling_py(start="time.sleep(3600)"), start_timeout_s=1)
        assert "start_timeout_s" in str(caught.value.hint)

    @pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux limits it")
    def test_more_memory_than_it_may_have_is_an_error_of_the_model(self, load: Load) -> None:
        body = "x.max() > 5 and np.ones(1 << 28)"  # 2 GiB
        session = load(scaling_py(body=body), memory_bytes=1 << 30)
        with pytest.raises(InferenceError, match="Memory"):
            answer(session, X * 10)
        assert answer(session) == [[2, 4]]

    def test_variables_of_the_runtime_do_not_reach_it(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NBMODEL_TOKEN", "hidden")
        monkeypatch.setenv("AWS_PROFILE", "hidden")
        session = load(telling("sorted(os.environ)"), num_threads=3)
        assert "TOKEN" not in text_of(session)
        assert "AWS" not in text_of(session)

    def test_it_is_told_how_many_threads_it_has(self, tmp_path: Path) -> None:
        assert environment({"PATH": "/bin", "X": "1"}, tmp_path, 3)["OMP_NUM_THREADS"] == "3"

    def test_it_writes_into_a_folder_that_goes_with_it(self, load: Load, tmp_path: Path) -> None:
        session = load(telling("os.getcwd()", "open('written', 'w').write('x')"))
        scratch = Path(text_of(session))
        assert (scratch / "written").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.py"]
        session.close()
        assert not scratch.exists()


REFUSED = {
    "no such class": (b"x = 1\n", "it has no class TritonPythonModel"),
    "no execute": (b"class TritonPythonModel: pass\n", "has no method 'execute'"),
    "a mistake": (b"class TritonPythonModel:\n  def", "SyntaxError"),
    "an error at the start": (
        scaling_py(start="raise ValueError('no weights')"),
        r"ValueError: no weights \(model.py, line \d+\)",
    ),
    "an end at the start": (scaling_py(start="os._exit(7)"), "its process ended: exit code 7"),
    "a call of exit": (scaling_py(start="raise SystemExit(2)"), "SystemExit: 2"),
    "a decoupled model": (
        scaling_py().replace(
            b"config.set_max_batch_size(0)",
            b"config.set_model_transaction_policy({'decoupled': True})",
        ),
        "decoupled.*Triton server",
    ),
    "several answers": (
        scaling_py(start="from triton_python_backend_utils import InferenceResponseSender"),
        "cannot import name 'InferenceResponseSender'",
    ),
    "a type that there is not": (
        scaling_py().replace(b"TYPE_FP32", b"TYPE_FP31"),
        "TYPE_FP31",
    ),
    "no tensors": (
        b"class TritonPythonModel:\n  def execute(self, requests): return []\n",
        "does not tell its inputs and outputs",
    ),
}
FAILED = {
    "an error": ("raise ValueError('bad row')", r"ValueError: bad row \(model.py, line \d+\)"),
    "another name": ("responses.append(None); continue", "no InferenceResponse"),
    "no answer": ("continue", "no list of one response"),
    "another type": ("y = y.astype(np.float64)", r"output 'y' is FP64\[1, 2\], expected FP32"),
    "another shape": ("y = y[:, :1]", r"output 'y' is FP32\[1, 1\], expected FP32\[-1, 2\]"),
    "what does not travel": ("y = y.astype(np.complex64)", "which does not travel"),
    "calling others": (
        "pb_utils.InferenceRequest(model_name='other').exec()",
        "calling other models from a model.*Triton server",
    ),
    "decoupled": ("request.get_response_sender()", "decoupled.*Triton server"),
}


class TestRefusals:
    @pytest.mark.parametrize(("code", "told"), REFUSED.values(), ids=REFUSED)
    def test_a_model_that_cannot_be_loaded_says_why(
        self, load: Load, code: bytes, told: str
    ) -> None:
        with pytest.raises(InferenceError, match=f"(?s)python cannot load model.py: .*{told}"):
            load(code)

    @pytest.mark.parametrize(("body", "told"), FAILED.values(), ids=FAILED)
    def test_a_request_that_fails_says_why_and_the_next_is_answered(
        self, load: Load, body: str, told: str
    ) -> None:
        session = load(scaling_py(body=f"if x.max() > 5: {body}"))
        with pytest.raises(InferenceError, match=f"model.py cannot be run: .*{told}"):
            answer(session, X * 10)
        assert answer(session) == [[2, 4]]


class TestConfigurations:
    def test_the_configuration_beside_it_counts_and_reaches_it(
        self, load: Load, tmp_path: Path
    ) -> None:
        (tmp_path / "config.pbtxt").write_text(
            'name: "mine" backend: "python" max_batch_size: 8\n'
            'input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }\n'
            'output { name: "text" data_type: TYPE_STRING dims: [ 1 ] }\n'
            'parameters { key: "unit" value { string_value: "mm" } }\n'
        )
        code = telling("self.config").replace(
            b"    def execute",
            b"    def initialize(self, args):\n"
            b"        import json\n"
            b"        config = json.loads(args['model_config'])\n"
            b"        self.config = config['parameters']['unit'], config['max_batch_size']\n\n"
            b"    def execute",
        )
        start, end = code.index(b"    @staticmethod"), code.index(b"    def initialize")
        session = load(code[:start] + code[end:])
        assert session.signature.inputs == (Tensor("x", "FP32", (-1, 2)),)
        assert session.signature.outputs == (Tensor("text", "BYTES", (-1, 1)),)
        (tmp_path / "config.pbtxt").unlink()

    def test_a_version_tells_what_its_code_does_not(self, load: Load) -> None:
        code = scaling_py()
        start, end = code.index(b"    @staticmethod"), code.index(b"    def initialize")
        signature = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),))
        session = load(code[:start] + code[end:], Known(signature))
        assert session.signature == signature
        assert answer(session) == [[2, 4]]

    def test_what_there_is_of_tritons_module_works(self, load: Load) -> None:
        session = load(EVERYTHING)
        found = session.infer({"x": X, "text": np.array(["a", "bcd", ""])})
        assert found["y"].tolist() == [[2, 4]]
        assert found["length"].tolist() == [1, 3, 0]

    def test_a_large_tensor_comes_back_as_it_went(self, load: Load) -> None:
        x = np.random.default_rng(0).standard_normal((1 << 20, 2), np.float32)
        assert np.array_equal(load(scaling_py()).infer({"x": x})["y"], x * np.float32(2))


def test_threads_that_ask_while_it_dies_all_get_an_answer_or_an_error(load: Load) -> None:
    session = load(scaling_py(body="x.max() > 5 and os._exit(1)"))
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(10):
            bad = number == 0 and turn == 3
            try:
                if answer(session, X * 10 if bad else X) != [[2, 4]]:
                    wrong.append(number)
            except NbModelError:
                continue
            except Exception as exc:
                wrong.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    wait_for(lambda: session.trouble is None)
    assert answer(session) == [[2, 4]]
