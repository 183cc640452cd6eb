"""Probes in the background, of real files in real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import NbModelError, UnavailableError
from nbmodel.runtime.probe import ProbeLimits, ProbeReport
from nbmodel.runtime.prober import Outcome, Prober
from nbmodel.runtime.services import Source
from tests.tools.toy_versions import hanging_onnx, scaling_onnx

pytestmark = pytest.mark.slow

LIMITS = ProbeLimits(timeout_s=60.0)
PATIENCE_S = 60.0


class Told:
    """Knows how often a prober said that it is done."""

    def __init__(self) -> None:
        self._times = threading.Semaphore(0)

    def __call__(self) -> None:
        self._times.release()

    def wait(self) -> None:
        assert self._times.acquire(timeout=PATIENCE_S)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def prober(told: Told) -> Iterator[Prober]:
    prober = Prober(told)
    yield prober
    prober.close()


@pytest.fixture
def good(tmp_path: Path) -> Source:
    path = tmp_path / "good.onnx"
    path.write_bytes(scaling_onnx(2))
    return Source("onnx_cpu", {"model_path": str(path)}, "good")


@pytest.fixture
def bad(tmp_path: Path) -> Source:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"junk")
    return Source("onnx_cpu", {"model_path": str(path)}, "bad")


@pytest.fixture
def hanging(tmp_path: Path) -> Source:
    path = tmp_path / "hanging.onnx"
    path.write_bytes(hanging_onnx())
    return Source("onnx_cpu", {"model_path": str(path)}, "hanging")


def outcome(prober: Prober, told: Told, name: str, source: Source) -> Outcome:
    while (found := prober.ask(name, source, LIMITS)) is None:
        told.wait()
    return found


def test_the_outcome_is_there_when_it_is_done(
    prober: Prober, told: Told, good: Source, bad: Source
) -> None:
    assert not prober.busy
    assert prober.ask("a", good, LIMITS) is None
    assert prober.busy
    assert prober.knows("a", good)
    assert not prober.knows("a", bad)
    assert not prober.knows("b", good)
    told.wait()
    assert prober.busy, "nobody was told the outcome yet"
    assert prober.knows("a", good)
    assert isinstance(prober.ask("a", good, LIMITS), ProbeReport)
    assert not prober.busy
    assert not prober.knows("a", good)


def test_what_must_not_serve_is_an_outcome_too(prober: Prober, told: Told, bad: Source) -> None:
    assert isinstance(outcome(prober, told, "a", bad), NbModelError)


def test_one_waits_for_the_other(prober: Prober, told: Told, good: Source, bad: Source) -> None:
    assert prober.ask("a", good, LIMITS) is None
    assert prober.ask("b", bad, LIMITS) is None
    assert not prober.knows("b", bad)
    assert isinstance(outcome(prober, told, "a", good), ProbeReport)
    assert isinstance(outcome(prober, told, "b", bad), NbModelError)


def test_another_version_of_the_same_service_breaks_it_off(
    prober: Prober, told: Told, hanging: Source, good: Source
) -> None:
    assert prober.ask("a", hanging, LIMITS) is None
    assert prober.ask("a", good, LIMITS) is None
    told.wait()
    assert prober.busy, "who asked is to ask again"
    assert isinstance(outcome(prober, told, "a", good), ProbeReport)


def test_what_nobody_wants_to_know_is_broken_off(
    prober: Prober, told: Told, hanging: Source, good: Source
) -> None:
    assert prober.ask("a", hanging, LIMITS) is None
    prober.keep(["b"])
    told.wait()
    prober.keep(["b"])
    assert not prober.busy
    assert isinstance(outcome(prober, told, "b", good), ProbeReport)


def test_a_closed_prober_leaves_nothing_behind(told: Told, hanging: Source) -> None:
    prober = Prober(told)
    assert prober.ask("a", hanging, LIMITS) is None
    began = time.monotonic()
    prober.close()
    told.wait()
    assert time.monotonic() - began < 10


def test_without_threads_it_is_asked_again_later(
    prober: Prober, told: Told, good: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", refuse)
        assert isinstance(prober.ask("a", good, LIMITS), UnavailableError)
    assert not prober.busy
    assert isinstance(outcome(prober, told, "a", good), ProbeReport)
