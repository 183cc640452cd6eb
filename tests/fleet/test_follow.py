"""Following a runtime: its status while it changes, its log line by line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.client import Client
from nbmodel.core.event import Event
from nbmodel.display.base import Result
from nbmodel.errors import TargetError, TargetUnreachableError
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.watch import Watch

pytestmark = pytest.mark.unhurried

ROWS = [[1.0, 1.0]]


class Seen:
    """A view that keeps what it is shown, and may do something then.

    Args:
        then: Called with each headline.
    """

    def __init__(self, then: Callable[[str], None] = lambda _: None) -> None:
        self.headlines: list[str] = []
        self.events: list[Event] = []
        self.cards: list[Result] = []
        self.last = ""
        self._then = then

    def show(self, result: Result, headline: str) -> None:
        self.cards.append(result)
        self.headlines.append(headline)
        self._then(headline)

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self._then(event.text)

    def close(self, line: str) -> None:
        self.last = line


def interrupt(_: str) -> None:
    raise KeyboardInterrupt  # as Ctrl-C and a kernel's button do, in the thread that waits


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Client]:
    """A client with a runtime ``edge`` in a process of its own, and a model ``lines``."""
    client = Client(tmp_path_factory.mktemp("home"))
    client.runtimes.start("edge")
    client.upload(linear_onnx, name="lines", type="regression", sample=ROWS)
    yield client
    client.runtimes.remove("edge")
    client.close()


def test_a_wait_shows_a_deployment_until_it_is_committed(client: Client) -> None:
    client.deploy("lines", on="edge", confirm_s=6, service="waited")
    seen = Seen()
    card = client.status("edge", wait=True, view=seen)
    assert any(line.endswith("waited provisional") for line in seen.headlines)
    assert seen.headlines[-1].endswith("ready")
    assert any(event.type == "Committed" for event in seen.events)
    assert seen.last.startswith("edge: settled after ")
    assert card.exit_code == 0
    assert "committed" not in card.text()  # the events belong to the live view
    again = Seen()
    client.status("edge", wait=True, view=again)
    assert len(again.cards) == 1


def test_a_wait_ends_in_time_with_what_it_waits_for(client: Client) -> None:
    client.deploy("lines", on="edge", confirm_s=20.0, service="slow")
    card = client.status("edge", wait=True, timeout_s=0.2, view=Seen())
    assert card.exit_code == 1
    assert any(note.endswith("still waits for: slow provisional") for note in card.notes)
    client.undeploy("slow@edge")


def test_what_is_followed_until_it_is_interrupted_is_given_in_the_end(client: Client) -> None:
    card = client.status("edge", follow=True, view=Seen(interrupt))
    assert card["runtime"] == "edge"
    assert card.exit_code == 0
    waited = client.status("edge", follow=True, wait=True, view=Seen(interrupt))
    assert waited.exit_code == 130


def test_a_wait_fails_where_a_service_does(client: Client, tmp_path: Path) -> None:
    remote = client.runtimes.get("edge")
    config, etag = remote.config()
    broken = {
        "name": "broken",
        "api": "rdk:service:mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": str(tmp_path / "gone.onnx")},
    }
    remote.put_config({**config, "services": [*config["services"], broken]}, if_match=etag)
    seen = Seen()
    card = client.status("edge", wait=True, view=seen)
    assert (card.exit_code, seen.last.startswith("edge: settled")) == (1, True)
    remote.put_config(config, if_match=None)
    assert client.status("edge", wait=True, view=Seen()).exit_code == 0


def test_a_log_is_followed_line_by_line(client: Client) -> None:
    before = client.runtimes.logs("edge", lines=3)
    remote = client.runtimes.get("edge")

    def act(text: str) -> None:
        if text == "edge: following, interrupt to end":
            config, _ = remote.config()
            remote.put_config({**config, "note": "x"}, if_match=None)
        elif text == "config replaced" and len(seen.events) > 3:
            raise KeyboardInterrupt

    seen = Seen(act)
    shown = client.runtimes.logs("edge", lines=3, follow=True, view=seen)
    assert shown[:3] == before
    assert shown[-1].endswith("INFO config replaced")
    assert [event.seq for event in seen.events] == list(
        range(seen.events[0].seq, seen.events[0].seq + len(seen.events))
    )
    assert seen.last.startswith("edge: followed")


def test_a_runtime_that_starts_again_is_followed_on(tmp_path: Path, linear_onnx: Path) -> None:
    client = Client(tmp_path / "home")
    client.runtimes.start("edge", http="127.0.0.1:0")
    client.upload(linear_onnx, name="lines", type="regression", sample=ROWS)
    client.deploy("lines", on="edge", confirm_s=0)
    other = Client(tmp_path / "home")
    threads = []

    def restart() -> None:
        other.runtimes.stop("edge")
        other.runtimes.start("edge")

    def act(headline: str) -> None:
        if not threads:
            threads.append(threading.Thread(target=restart))
            threads[0].start()
        elif not threads[0].is_alive() and headline == "1 service ready":
            raise KeyboardInterrupt

    seen = Seen(act)
    try:
        card = client.status("edge", follow=True, view=seen)
        assert any("does not answer" in shown.text() for shown in seen.cards)
        assert not card.missed
        numbers = [event.seq for event in seen.events]
        assert numbers == sorted(set(numbers))
        assert "told to end" in [event.text for event in seen.events]
    finally:
        threads[0].join()
        client.runtimes.remove("edge")
        client.close()
        other.close()


def test_the_end_of_a_runtime_is_told_to_who_waits_and_not_held_up(tmp_path: Path) -> None:
    client = Client(tmp_path / "home")
    client.runtimes.start("edge")
    other = Client(tmp_path / "home")
    try:
        watch = Watch(other.runtimes.get("edge"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(watch.wait, 30.0)
            time.sleep(0.5)
            began = time.monotonic()
            client.runtimes.stop("edge")
            assert time.monotonic() - began < 8  # it gives requests 10 s
            assert [event.type for event in waiting.result()] == ["Ending"]
    finally:
        client.runtimes.remove("edge")
        client.close()
        other.close()


def test_a_runtime_that_is_away_at_the_start_is_an_error(client: Client) -> None:
    client.runtimes.add("twin", client.runtimes.get("edge").url)
    from nbmodel.fleet.known import Known, KnownRuntimes

    KnownRuntimes(client.home).add(Known("twin", "http://127.0.0.1:9"))
    with pytest.raises(TargetUnreachableError):
        client.status("twin", follow=True, view=Seen())
    with pytest.raises(TargetUnreachableError):
        client.runtimes.logs("twin", follow=True, view=Seen())
    client.runtimes.remove("twin")


class Old(RemoteRuntime):
    """A runtime of before there were events: it does not know the path."""

    def events(self, since: int = 0, *, wait_s: float = 0.0) -> tuple[list[Event], int]:
        del since, wait_s
        raise TargetError("Not Found")


def test_a_runtime_that_tells_nothing_is_looked_at_again_and_again(client: Client) -> None:
    with Old(client.runtimes.get("edge").url) as old:
        watch = Watch(old)
        assert [watch.wait(30.0) for _ in range(3)] == [[], [], []]  # at once, not in 30 s


def test_a_path_that_is_not_there_is_what_an_older_runtime_says(client: Client) -> None:
    remote = client.runtimes.get("edge")
    assert httpx.get(f"{remote.url}/nbmodel/nothing", trust_env=False).status_code == 404
    with pytest.raises(TargetError):
        remote._object("GET", "/nbmodel/nothing")


class Forgetful(RemoteRuntime):
    """A runtime whose log began anew after 100 events."""

    def events(self, since: int = 0, *, wait_s: float = 0.0) -> tuple[list[Event], int]:
        del wait_s
        kept = [Event(seq, "2026-02-28T13:36:51Z", "info", None, "Note", "x") for seq in (1, 2)]
        return [event for event in kept if event.seq > since], 2


def test_a_log_that_began_anew_is_followed_from_its_beginning(client: Client) -> None:
    with Forgetful(client.runtimes.get("edge").url) as forgetful:
        watch = Watch(forgetful, since=100)
        assert [event.seq for event in watch.wait(1.0)] == [1, 2]
        assert watch.wait(1.0) == []


def command(client: Client, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nbmodel", *words],
        env={**os.environ, "NBMODEL_HOME": str(client.home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("as_json", [False, True], ids=["lines", "json"])
def test_the_command_line_follows_a_log_until_ctrl_c(client: Client, as_json: bool) -> None:
    flags = ["--json"] if as_json else []
    with command(client, "runtime", "logs", "edge", "--follow", "-n", "1", *flags) as process:
        assert process.stdout is not None
        process.stdout.readline()
        remote = client.runtimes.get("edge")
        config, _ = remote.config()
        remote.put_config({**config, "note": f"now {as_json}"}, if_match=None)
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "", "")
    text: Any = json.loads(line)["text"] if as_json else line.rstrip()
    assert text.endswith("config replaced")


def test_the_command_line_waits_and_tells_machines(client: Client) -> None:
    with command(client, "status", "edge", "--wait", "--json") as process:
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, len(errors.splitlines())) == (0, 1)
    assert json.loads(out)["runtime"] == "edge"
    with command(client, "status", "edge", "--follow", "--wait", "--json") as process:
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert [json.loads(line)["runtime"] for line in out.splitlines()] == ["edge"]
