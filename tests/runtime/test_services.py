from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbmodel.backends import Session
from nbmodel.core.golden import Golden
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import GoldenSampleError, PluginError
from nbmodel.golden import GoldenSample
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.scheduler import RetiredError, Scheduler, Scheduling
from nbmodel.runtime.services import LiveService, Source, check_golden, folder_number, load_service

SIGNATURE = Signature((Tensor("x", "FP32", (-1,)),), (Tensor("y", "FP32", (-1,)),))
X = np.array([1, 2], np.float32)


class Doubling(Session):
    """``y = 2x``; waits to be let go when it is given something to wait for."""

    def __init__(self) -> None:
        super().__init__(SIGNATURE, name="doubling")
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.closed = False

    def _run(self, inputs: Any, outputs: Any) -> dict[str, NDArray[Any]]:
        self.entered.set()
        assert self.go_on.wait(10)
        assert not self.closed
        return {"y": 2 * inputs["x"]}

    def _close(self) -> None:
        self.closed = True


def manifest(golden: Golden | None, *paths: str) -> Manifest:
    files = tuple(FileEntry(path, 1, "sha256:" + "1" * 64) for path in paths)
    return Manifest("m", "2026", files, "onnx", "other", SIGNATURE, golden=golden)


def test_a_retired_model_is_closed_at_once_when_nobody_uses_it() -> None:
    session = Doubling()
    live = LiveService(Scheduler([session], Scheduling()), Source("", {}, "key"))
    live.infer(InferRequest("m", {"x": X}))
    live.retire()
    assert session.closed
    with pytest.raises(RetiredError):
        live.infer(InferRequest("m", {"x": X}))


def test_a_retired_model_is_closed_after_the_last_answer() -> None:
    session = Doubling()
    session.go_on.clear()
    live = LiveService(Scheduler([session], Scheduling()), Source("", {}, "key"))
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(live.infer(InferRequest("m", {"x": X})).outputs)
    )
    thread.start()
    assert session.entered.wait(10)
    live.retire()
    assert not session.closed
    session.go_on.set()
    thread.join(10)
    assert session.closed
    assert answers[0]["y"].tolist() == [2, 4]


def test_a_version_without_a_golden_sample_is_not_checked(tmp_path: Path) -> None:
    assert check_golden(Doubling(), manifest(None), tmp_path) is None


def test_the_right_answers(tmp_path: Path) -> None:
    (tmp_path / "golden.npz").write_bytes(GoldenSample({"x": X}, {"y": 2 * X}).to_bytes())
    difference = check_golden(Doubling(), manifest(Golden(), "golden.npz"), tmp_path)
    assert difference is not None
    assert difference.max_abs == 0


@pytest.mark.parametrize(
    ("content", "golden", "message"),
    [
        pytest.param(
            GoldenSample({"x": X}, {"y": 3 * X}).to_bytes(),
            Golden(),
            r"answers its golden sample wrongly: output 'y' differs at \[1\]: expected 6, found 4",
            id="other answers",
        ),
        pytest.param(
            GoldenSample({"z": X}, {"y": X}).to_bytes(),
            Golden(),
            "cannot run the golden sample: unexpected input 'z'",
            id="inputs that the model has not",
        ),
        pytest.param(b"PK", Golden(), "golden sample cannot be read", id="no npz"),
        pytest.param(None, Golden(), "cannot read the golden sample", id="no file"),
        pytest.param(
            b"",
            Golden(path="../golden.npz"),
            "the golden sample '../golden.npz' is not among the files",
            id="a path with a way out",
        ),
    ],
)
def test_a_golden_sample_that_fails(
    tmp_path: Path, content: bytes | None, golden: Golden, message: str
) -> None:
    if content is not None:
        (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(GoldenSampleError, match=message):
        check_golden(Doubling(), manifest(golden, "golden.npz"), tmp_path)


def test_an_unknown_backend() -> None:
    with pytest.raises(PluginError, match="unknown backend 'nothing'"):
        load_service(Source("nothing", {}, "key"))


@pytest.mark.parametrize(
    ("path", "number"),
    [
        pytest.param("/models/digits/3/model.onnx", 3, id="a model repository"),
        pytest.param("/models/digits/007/model.onnx", 7, id="zeros before it"),
        pytest.param("/models/model.onnx", 1, id="another folder"),
        pytest.param("/models/0/model.onnx", 1, id="no version is 0"),
        pytest.param("/20240131120000/model.onnx", 1, id="a time"),
        pytest.param("/²/model.onnx", 1, id="no digit of ASCII"),
        pytest.param("model.onnx", 1, id="no folder"),
    ],
)
def test_a_files_folder_may_be_its_version(path: str, number: int) -> None:
    assert folder_number(Path(path)) == number
