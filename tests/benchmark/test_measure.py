"""``bench`` as a verb: a service, an address, and a version that runs right here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel import cli
from nbmodel.client import Client
from nbmodel.errors import InputError, NbModelError, TargetError

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
