"""Programs without a golden sample on a real Triton: what a trial lets pass, and what looking does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")

from nbmodel.backends import triton_client
from nbmodel.client import Client
from nbmodel.display import StatusCard
from nbmodel.errors import DeployError, InferenceError, InputError, TargetError
from nbmodel.fleet.triton_runtime import TritonRuntime
from tests.tools.triton import NoTritonError, Triton, packages, triton

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

#: A program that scales; ``x`` is what it is asked.
PROGRAM = """\
import os
import signal
import sys
import time

sys.path[:0] = {packages!r}

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        {start}

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            {body}
            y = pb_utils.Tensor("y", x * x.dtype.type({factor}))
            answers.append(pb_utils.InferenceResponse([y]))
        return answers
"""
CONFIG = """\
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }
"""
#: What a version does when it is asked, or (the last) when it is loaded → what is said of it.
NO_ANSWER = {
    "a segmentation fault": (
        {"body": "os.kill(os.getpid(), signal.SIGSEGV)"},
        "the process that ran it in Triton has ended",
    ),
    "an end of its own": ({"body": "os._exit(0)"}, "the process that ran it in Triton has ended"),
    "no answer": (
        {"body": "while not os.path.exists({end!r}): time.sleep(0.05)"},
        "made-up inputs .*: it does not answer",
    ),
    "an end when it is loaded": ({"start": "os._exit(3)"}, "bad refused bad:1"),
}
BOOM = {"body": "raise ValueError('boom in execute')"}
SOMETIMES = {"body": "assert (x >= 0).all(), 'no row may be negative'"}
ENDS = {"body": "(x < 0).any() and os._exit(1)"}

Upload = Callable[..., Any]


@contextmanager
def bare_triton(scratch: Path, **options: Any) -> Iterator[Triton]:
    """A tritonserver that has no models."""
    try:
        (scratch / "models").mkdir(parents=True)
        with triton(scratch / "models", scratch, models=[], **options) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with bare_triton(tmp_path_factory.mktemp("bare") / "triton") as server:
        yield server


@pytest.fixture
def client(server: Triton, tmp_path: Path) -> Iterator[Client]:
    """A notebook that knows the Triton as ``jetson``; it leaves nothing there."""
    client = Client(tmp_path / "home")
    client.runtimes.add("jetson", f"triton+http://{server.http}")
    yield client
    (tmp_path / "end").touch()  # whoever hangs may go
    for entry in status(client)["services"]:
        client.undeploy(f"{entry['name']}@jetson")
    client.close()


@pytest.fixture
def upload(client: Client, tmp_path: Path) -> Upload:
    """Upload a program; gives the card."""
    numbers = iter(range(1000))

    def upload(name: str, *, factor: float = 2, start: str = "pass", body: str = "pass") -> Any:
        folder = tmp_path / f"program-{next(numbers)}"
        folder.mkdir()
        body = body.replace("{end!r}", repr(str(tmp_path / "end")))
        given = {"packages": packages(), "factor": factor, "start": start, "body": body}
        (folder / "model.py").write_text(PROGRAM.format(**given))
        (folder / "config.pbtxt").write_text(CONFIG)
        return client.upload(folder, name=name, type="other")

    return upload


def ask(client: Client, target: str, value: float = 1) -> float:
    return float(client.infer(target, [[value, value]])["y"][0, 0])


def status(client: Client, runtime: str = "jetson") -> StatusCard:
    card = client.status(runtime)
    assert isinstance(card, StatusCard)
    return card


def counts(client: Client, service: str) -> tuple[int, int]:
    """Requests that Triton answered for a service, and that failed."""
    (row,) = [one for one in triton_of(client).client.statistics() if one["name"] == service]
    spent = row["inference_stats"]
    return int(spent["success"]["count"]), int(spent["fail"]["count"])


def triton_of(client: Client, name: str = "jetson") -> TritonRuntime:
    runtime = client.runtimes.get(name)
    assert isinstance(runtime, TritonRuntime)
    return runtime


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(("program", "words"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_version_that_gives_no_answer_is_refused_and_the_one_before_serves_on(
    program: dict[str, str],
    words: str,
    protocol: str,
    client: Client,
    server: Triton,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if protocol == "grpc":
        client.runtimes.add("jetson", f"triton+grpc://{server.grpc}", replace=True)
    upload("bad", **program)
    upload("good")
    client.deploy("good", on="jetson")
    if program == NO_ANSWER["no answer"][0]:
        monkeypatch.setattr(triton_client, "INFER_S", 5.0)  # that one never comes is seen sooner
    with pytest.raises(DeployError, match=words) as caught:
        client.deploy("bad", on="jetson")
    assert "keeps serving" not in str(caught.value)
    (note,) = [note for note in upload("good", **program).notes if "jetson" in note]
    assert "could not be brought to good:2" in note
    assert "version 1 keeps serving" in note
    assert [one["name"] for one in status(client)["services"]] == ["good"]
    monkeypatch.undo()
    assert ask(client, "good@jetson") == 2


def test_a_version_that_only_refuses_what_was_made_up_is_live_and_that_is_said(
    client: Client, upload: Upload
) -> None:
    upload("odd", **BOOM)
    card = client.deploy("odd", on="jetson")
    assert "it was not tried out: " in card.text()
    assert "boom in execute" in card.text()
    (note,) = [note for note in upload("odd", factor=3, **BOOM).notes if "jetson" in note]
    assert "runs odd:2" in note
    assert "for model 'odd_" in note
    assert "boom in execute" in note


def test_looking_counts_nothing(client: Client, upload: Upload) -> None:
    upload("odd", **SOMETIMES)
    client.deploy("odd", on="jetson")
    assert ask(client, "odd@jetson") == 2
    with pytest.raises(InferenceError, match="no row may be negative"):
        ask(client, "odd@jetson", -1)
    before = counts(client, "odd")
    assert before[1] >= 1
    for _ in range(3):
        card = status(client)
        client.status("jetson", wait=True)
        client.runtimes.list()
    assert counts(client, "odd") == before
    assert card["services"][0]["state"] == "ready"
    assert "failed since it was loaded" in card.text()


def test_one_whose_process_has_ended_is_not_said_to_serve(client: Client, upload: Upload) -> None:
    upload("odd", **ENDS)
    client.deploy("odd", on="jetson")
    with pytest.raises(InferenceError, match="process that ran it in Triton has ended") as caught:
        ask(client, "odd@jetson", -1)
    assert "`deploy --on jetson` starts it anew" in str(caught.value.hint)
    assert "`rollback odd@jetson`" in str(caught.value.hint)
    before = counts(client, "odd")
    card = status(client)
    assert card.failed
    assert "its process in Triton has ended" in card.text()
    assert "keeps serving" not in card.text()
    assert counts(client, "odd") == before
    card = client.redeploy("jetson")
    assert card.exit_code == 0
    assert not card.failed
    assert ask(client, "odd@jetson") == 2


def test_one_that_does_not_answer_is_not_taken_for_a_server_that_is_away(
    client: Client, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload("odd", body=f"while (x < 0).any() and {NO_ANSWER['no answer'][0]['body'][6:]}")
    client.deploy("odd", on="jetson")
    monkeypatch.setattr(triton_client, "INFER_S", 2.0)
    with pytest.raises(InferenceError, match="'odd' of runtime 'jetson' does not answer") as caught:
        ask(client, "odd@jetson", -1)
    assert "Triton itself answers" in str(caught.value.hint)


def test_a_trial_that_was_broken_off_is_shown_as_one(client: Client, server: Triton) -> None:
    runtime = triton_of(client)
    name = runtime.host.new_name("digits")  # as a deployment names it that is killed then
    program = PROGRAM.format(packages=packages(), factor=2, start="pass", body="pass")
    config = (
        f'{{"name": "{name}", "backend": "python", '
        '"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}], '
        '"output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 2]}]}'
    )
    runtime.client.load(name, config, {"1/model.py": program.encode()})
    try:
        card = status(client)
        assert card["services"] == card["others"] == []
        assert f"left by a trial that was broken off: {name}" in " ".join(card.text().split())
    finally:
        runtime.client.unload(name)


def test_the_card_of_a_deployment_has_the_attributes_in_force_as_they_are_typed(
    client: Client, upload: Upload
) -> None:
    upload("odd")
    given = {"model_config": {"parameters": {"a": {"string_value": "b"}}}}
    client.deploy("odd", on="jetson", attributes={"device": "cpu", **given})
    plan = client.deploy("odd", on="jetson", attributes={"instances": 2}, dry_run=True)
    card = client.deploy("odd", on="jetson", attributes={"instances": 2})
    for shown in (plan, card):
        assert shown.to_json()["attributes"] == {"device": "cpu", "instances": 2, **given}
        text = " ".join(shown.text().split())
        assert "device=cpu" in text
        assert 'model_config={"parameters": {"a":' in text
        assert "model_path" not in text.partition("runtime")[0]


def test_a_name_is_not_moved_to_another_address_without_being_told_to(
    client: Client, server: Triton, upload: Upload, tmp_path: Path
) -> None:
    upload("odd")
    client.deploy("odd", on="jetson", attributes={"device": "cpu"})
    with bare_triton(tmp_path / "second") as second:
        there = f"triton+http://{second.http}"
        with pytest.raises(InputError, match=r"'jetson' is at .* already") as caught:
            client.runtimes.add("jetson", there)
        assert "--replace" in str(caught.value.hint)
        assert triton_of(client).url == f"triton+http://{server.http}"
        table = client.runtimes.add("jetson", there, replace=True)
        assert any("odd@jetson runs odd:1" in note for note in table.notes)
        found = triton_of(client).service("odd")
        assert found is not None
        assert found.record is not None
        assert found.record.attributes == {"device": "cpu"}
        client.runtimes.add("jetson", f"triton+http://{server.http}", replace=True)


def test_an_address_that_has_a_name_already_is_said(client: Client, server: Triton) -> None:
    assert client.runtimes.add("jetson", f"triton+http://{server.http}").notes == ()
    (note,) = client.runtimes.add("other", f"triton+http://{server.http}").notes
    assert "is known as jetson too" in note


def test_all_that_a_triton_ran_comes_back_at_one_word_as_it_was_and_by_its_pins(
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "home")
    try:
        with bare_triton(tmp_path / "first") as server:
            client.runtimes.add("jetson", f"triton+http://{server.http}")
            for factor in (2, 3):
                folder = tmp_path / f"times-{factor}"
                folder.mkdir()
                program = PROGRAM.format(
                    packages=packages(), factor=factor, start="pass", body="pass"
                )
                (folder / "model.py").write_text(program)
                (folder / "config.pbtxt").write_text(CONFIG)
                client.upload(folder, name="odd", type="other")
            client.deploy("odd:2", on="jetson", service="fixed", attributes={"device": "cpu"})
            client.deploy("odd", on="jetson", service="newest")
            client.pin("odd:1", on="jetson")
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(20)
            ports = tuple(int(place.rpartition(":")[2]) for place in (server.http, server.grpc))
        with bare_triton(tmp_path / "second", ports=(ports[0], ports[1])):
            notes = [note for note in status(client).notes if "not there any more" in note]
            assert len(notes) == 2
            assert all("`deploy --on jetson` brings back all" in note for note in notes)
            with pytest.raises(TargetError, match="no service") as caught:
                client.rollback("newest@jetson")
            assert caught.value.hint == "services there: none; see `status jetson`"
            card = client.redeploy("jetson")
            assert card.exit_code == 0
            told = {one["name"]: (one["model"], one["number"]) for one in card["services"]}
            assert told == {"fixed": ("odd", 1), "newest": ("odd", 1)}
            found = triton_of(client).service("fixed")
            assert found is not None
            assert found.record is not None
            assert found.record.attributes == {"device": "cpu"}
            client.unpin("odd", on="jetson")
            assert ask(client, "fixed@jetson") == 3  # of odd:2, which it was deployed at
            for name in ("fixed", "newest"):
                client.undeploy(f"{name}@jetson")
            with pytest.raises(DeployError, match="nothing was deployed to jetson"):
                client.redeploy("jetson")
    finally:
        client.close()
