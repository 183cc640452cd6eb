"""``bench`` as a verb: a service, an address, and a version that runs right here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from nbmodel import cli
from nbmodel.benchmark import Job, LocalSubject, measure
from nbmodel.benchmark.subject import Prepared
from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor
from nbmodel.display import BenchCard
from nbmodel.errors import InferenceError, InputError, NbModelError, TargetError

pytestmark = pytest.mark.unhurried

QUICK = {"count": 20, "concurrency": [1, 3]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Client]:
    """A client with ``linear`` in its registry, and on the runtime ``edge``."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    client = Client(tmp_path_factory.mktemp("home"))
    client.runtimes.start("edge")
    client.upload(linear_onnx, name="linear", type="regression", sample=[[1.0, 1.0]])
    client.deploy("linear", on="edge")
    yield client
    client.runtimes.remove("edge")
    client.close()


@pytest.mark.parametrize("where", ["service", "address", "address in full", "here"])
def test_a_target_is_measured(client: Client, where: str) -> None:
    url = client.runtimes.get("edge").url
    target = {
        "service": "linear@edge",
        "address": f"{url}/linear",
        "address in full": f"{url}/v2/models/linear",
        "here": "linear",
    }[where]
    card = client.bench(target, **QUICK)
    assert [level.concurrency for level in card.levels] == [1, 3]
    assert [(level.requests, level.errors) for level in card.levels] == [(20, 0), (20, 0)]
    assert card.inputs == ("x FP32[1,2]",)
    assert card.are_generated
    assert (card.request_bytes is None) == (where == "here")
    if where != "here":
        assert card.version == "1"
        assert card.answer_bytes is not None
        assert card.answer_bytes > 12  # of three FP32


def test_a_given_input_is_what_is_sent(client: Client) -> None:
    card = client.bench("linear@edge", [[1, 1]] * 8, **QUICK)
    assert card.inputs == ("x FP32[8,2]",)
    assert not card.are_generated


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ("nope@edge", TargetError, "nope"),
        ("nope", TargetError, "nope"),
        ("http://127.0.0.1", InputError, "no model in the address"),
        ("ftp://host/m", InputError, "no model in the address"),
    ],
)
def test_a_target_that_is_none(
    client: Client, target: str, error: type[NbModelError], says: str
) -> None:
    with pytest.raises(error, match=says):
        client.bench(target, **QUICK)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seconds": 0}, "seconds of a level"),
        ({"seconds": float("nan")}, "seconds of a level"),
        ({"count": 0}, "requests of a level"),
        ({"concurrency": []}, "no concurrency"),
        ({"concurrency": [0]}, "expected 1..1024, found 0"),
        ({"concurrency": [5000]}, "found 5000"),
    ],
)
def test_an_option_out_of_range_is_told(
    client: Client, options: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        client.bench("linear@edge", **options)  # type: ignore[arg-type]


def test_the_command_prints_text_and_json(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(client.home))
    words = ["bench", "linear@edge", "--count", "10", "--concurrency", "1, 2"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "requests/s" in text
    assert "█" in text
    assert cli.main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [level["concurrency"] for level in data["levels"]] == [1, 2]
    assert cli.main(["bench", "linear@edge", "--concurrency", "1,x"]) == 2


def test_a_level_has_at_least_the_requests_that_are_under_way_at_once(client: Client) -> None:
    card = client.bench("linear", count=2, concurrency=[1, 4])
    assert [level.requests for level in card.levels] == [2, 4]


class Ending:
    """A version that runs right here, until a job of it raises."""

    label = "ending"
    signature = Signature(inputs=(Tensor("x", "FP32", (1, 2)),))

    def __init__(self, error: BaseException, after: int = 1) -> None:
        self._error = error
        self._left = after

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        return Prepared(self._open)

    def _open(self) -> Job:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return LocalSubject("", self.signature, lambda _: None).prepare({}).open_job()


def test_what_was_measured_before_an_interrupt_is_shown() -> None:
    card = BenchCard.of(measure(Ending(KeyboardInterrupt()), count=3, concurrency=[1, 2]))
    assert [level.requests for level in card.levels] == [3]
    assert card.exit_code == cli.INTERRUPTED
    assert "interrupted" in card.text()
    with pytest.raises(KeyboardInterrupt):
        measure(Ending(KeyboardInterrupt(), after=0), count=3, concurrency=[1])


def test_failed_requests_are_an_exit_code() -> None:
    card = BenchCard.of(measure(Ending(InferenceError("no")), count=3, concurrency=[1, 1]))
    assert card.levels[1].errors
    assert card.exit_code == 1
    assert "1 error" in card.text()
