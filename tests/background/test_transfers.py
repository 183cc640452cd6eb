"""Jobs of one process: handles, ends, what another process left."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from nbmodel import background
from nbmodel.background import Did, Transfer, Transfers, transfer
from nbmodel.background.queue import JobQueue
from nbmodel.core.job import Job
from nbmodel.display import Progress, TransferTable
from nbmodel.display.progress import sink_here
from nbmodel.errors import InputError, StorageError, TargetUnreachableError
from nbmodel.storage.patience import Patience

pytestmark = pytest.mark.unhurried
WAIT_S = 60  # for what takes milliseconds where nobody else wants the machine


class Work:
    """A verb of a test: it goes on when it is let, and says how far it is."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        self.raises: list[Exception] = []

    def __call__(self, job: Job, *, cancelled: Callable[[], bool]) -> Did:
        self.begun.set()
        with Progress(job.what, total=100) as progress:
            while not self.go.wait(0.01):
                progress.advance(0)
                if cancelled():
                    raise CancelledError
            if self.raises:
                raise self.raises.pop(0)
            progress.advance(100)
        self.done.append(job.what)
        return Did({"card": job.what}, "3 kB sent, 2 kB there already")


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.set()


@pytest.fixture
def here(tmp_path: Path, work: Work) -> Transfers:
    return Transfers(tmp_path, tmp_path / "registry", work)


def left_in(home: Path, given: dict[str, Any], registry: str = "registry") -> Job:
    """A job that nobody works on."""
    queue = JobQueue(home / "transfers")
    return queue.add(queue.make("push", given, str(home / registry)))


def push(here: Transfers, name: str = "digits") -> Any:
    return here.begin("push", {"reference": name})


def test_a_job_gives_a_handle_at_once_and_its_result_later(
    here: Transfers, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = push(here)
    assert not handle.done()
    work.go.set()
    assert handle.result(WAIT_S) == {"card": "push digits"}
    assert (handle.done(), handle.progress) == (True, 1.0)
    assert handle.line.startswith("push digits: done, 3 kB sent, 2 kB there already, ")
    assert here.queue.get(handle.id).line == handle.line
    assert capsys.readouterr() == ("", ""), "nothing is printed into whatever goes on here"


def test_a_handle_is_awaited(here: Transfers, work: Work) -> None:
    async def wait() -> Any:
        handle = push(here)
        work.go.set()
        return await asyncio.wait_for(handle, WAIT_S)

    assert asyncio.run(wait()) == {"card": "push digits"}


def test_who_does_not_wait_any_more_does_not_end_it(here: Transfers, work: Work) -> None:
    handle = push(here)

    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle, 0.05)

    asyncio.run(wait())
    work.go.set()
    assert handle.result(WAIT_S) == {"card": "push digits"}


def test_a_handle_is_cancelled(here: Transfers, work: Work) -> None:
    handle = push(here)
    assert work.begun.wait(WAIT_S)
    handle.cancel()
    with pytest.raises(CancelledError):
        handle.result(WAIT_S)
    assert here.queue.get(handle.id).state == "cancelled"
    assert "push digits: cancelled after" in handle.line


def test_a_job_is_cancelled_by_another_process(here: Transfers, work: Work, tmp_path: Path) -> None:
    handle = push(here)
    assert work.begun.wait(WAIT_S)
    JobQueue(tmp_path / "transfers").cancel(handle.id)
    assert isinstance(handle.exception(WAIT_S), CancelledError)


def test_a_job_that_waits_behind_another_is_cancelled_too(here: Transfers, work: Work) -> None:
    first, second = push(here, "a"), push(here, "b")
    assert work.begun.wait(WAIT_S)
    second.cancel()
    work.go.set()
    assert first.result(WAIT_S) == {"card": "push a"}
    assert isinstance(second.exception(WAIT_S), CancelledError)
    assert work.done == ["push a"]


def test_what_a_verb_raises_is_told(here: Transfers, work: Work) -> None:
    work.raises = [StorageError("the other side refused")]
    work.go.set()
    handle = push(here)
    assert isinstance(handle.exception(WAIT_S), StorageError)
    assert here.queue.get(handle.id).state == "failed"
    assert "push digits: failed: the other side refused" in handle.line
    work.raises = []
    assert push(here).result(WAIT_S) == {"card": "push digits"}, "the next one is done all the same"


def test_a_network_that_is_away_is_waited_for(
    here: Transfers, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=3, first_s=0.01))
    work.raises = [TargetUnreachableError("away")] * 3
    work.go.set()
    assert push(here).result(WAIT_S) == {"card": "push digits"}
    work.raises = [TargetUnreachableError("away")] * 4
    with pytest.raises(TargetUnreachableError):
        push(here).result(WAIT_S)


def away(words: str = "host:1 does not answer") -> list[Any]:
    return [TargetUnreachableError(words) for _ in range(10_000)]


def test_who_never_answers_is_given_up_and_stays_in_the_queue(
    here: Transfers, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=10_000, first_s=0.01, longest_s=0.1))
    monkeypatch.setattr(background, "UNREACHED_S", 0.3)
    work.raises = away()
    work.go.set()
    handle = push(here)
    error = handle.exception(WAIT_S)
    assert isinstance(error, TargetUnreachableError)
    assert str(error).startswith("host:1 does not answer, tried for ")
    resumes = f"`transfers --resume {handle.id}` goes on with it"
    assert error.hint == f"is the address right? it stays in the queue: {resumes}"
    assert handle.line.startswith("push digits: interrupted, host:1 does not answer, tried for ")
    assert handle.line.endswith(resumes)
    job = here.queue.get(handle.id)
    assert (job.state, job.line) == ("open", handle.line)
    assert not here.queue.is_held(handle.id)
    work.raises = []
    (resumed,) = here.resume(handle.id)
    assert resumed.result(WAIT_S) == {"card": "push digits"}
    assert here.queue.get(handle.id).state == "done"


def test_who_runs_the_cell_again_goes_on_with_what_was_given_up(
    here: Transfers, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "UNREACHED_S", 0.0)
    work.raises = away()[:1]
    work.go.set()
    handle = push(here)
    assert isinstance(handle.exception(WAIT_S), TargetUnreachableError)
    again = push(here)
    assert (again.id, again.result(WAIT_S)) == (handle.id, {"card": "push digits"})
    assert again is not handle


def test_a_network_that_breaks_in_the_midst_is_waited_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=10_000, first_s=0.01, longest_s=0.1))
    monkeypatch.setattr(background, "UNREACHED_S", 0.0)
    shares = [0.2, 0.2, 0.5, 1.0]

    def verb(job: Job, *, cancelled: Callable[[], bool]) -> Did:
        share = shares.pop(0)
        sink_here().show(f"{job.what}  {share:.0%}", share)
        if shares:
            raise TargetUnreachableError("broken")
        return Did("there", "done")

    here = Transfers(tmp_path, tmp_path / "registry", verb)
    assert push(here).result(WAIT_S) == "there"


def test_a_wait_is_shown_once_with_the_time_at_which_it_is_over(
    here: Transfers, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook()
    shown = transfer._Display(notebook.display, lambda: 1)
    monkeypatch.setattr(transfer, "_notebook_display", lambda: shown)
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=2, first_s=1.0))
    work.raises = away("host:1 is away")[:2]
    work.go.set()
    push(here).result(WAIT_S)
    lines = [bundle["text/plain"] for bundle, *_ in notebook.shown]
    waits = [line for line in lines if "next try" in line]
    assert len(waits) == 2, "however long they are"
    for line in waits:
        assert re.fullmatch(r"push digits: host:1 is away; next try at \d\d:\d\d:\d\d", line)


def test_the_command_line_is_told_of_a_wait(
    here: Transfers,
    work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=1, first_s=0.01))
    left_in(tmp_path, {"reference": "digits"})
    work.raises = away("host:1 is away")[:1]
    work.go.set()
    assert here.finish() == ({"card": "push digits"},)
    assert "push digits: host:1 is away; next try at " in capsys.readouterr().err


def test_the_same_again_is_the_one_that_is_under_way(here: Transfers, work: Work) -> None:
    handle = push(here)
    assert push(here) is handle
    assert push(here, "other") is not handle
    work.go.set()
    handle.result(WAIT_S)
    assert push(here) is not handle


def test_what_another_process_left_is_gone_on_with(
    here: Transfers, work: Work, tmp_path: Path
) -> None:
    left = left_in(tmp_path, {"reference": "digits"})
    work.go.set()
    handle = push(here)
    assert handle.id == left.id, "running the cell again goes on with it"
    handle.result(WAIT_S)
    left = left_in(tmp_path, {"reference": "b"}, "elsewhere")
    (resumed,) = here.resume()
    assert resumed.id == left.id
    resumed.result(WAIT_S)
    assert here.resume() == ()
    with pytest.raises(InputError, match=f"transfer {left.id} has ended: push b: done"):
        here.resume(left.id)


def test_what_another_process_works_on_is_left_alone(
    here: Transfers, work: Work, tmp_path: Path
) -> None:
    theirs = JobQueue(tmp_path / "transfers")
    left = left_in(tmp_path, {"reference": "digits"})
    work.go.set()
    with theirs.hold(left.id):
        assert here.resume() == here.finish() == ()
        with pytest.raises(InputError, match="is worked on by another process"):
            here.resume(left.id)
        with pytest.raises(InputError, match="is worked on by another process"):
            here.finish(left.id)
        assert push(here).id != left.id


def test_the_command_line_waits_for_what_was_left(
    here: Transfers, work: Work, tmp_path: Path
) -> None:
    left = left_in(tmp_path, {"reference": "digits"})
    work.go.set()
    assert here.finish() == ({"card": "push digits"},)
    assert here.queue.get(left.id).state == "done"


def test_one_that_fails_does_not_keep_the_command_line_from_the_others(
    here: Transfers, work: Work, tmp_path: Path
) -> None:
    first, second = (left_in(tmp_path, {"reference": name}) for name in "ab")
    work.raises = [StorageError("refused")]
    work.go.set()
    with pytest.raises(StorageError, match="refused"):
        here.finish()
    assert here.queue.get(first.id).state == "failed"
    assert here.queue.get(second.id).state == "done"


def test_a_host_that_is_away_does_not_hold_up_the_others(tmp_path: Path) -> None:
    dead_begun, let_go = threading.Event(), threading.Event()

    def verb(job: Job, *, cancelled: Callable[[], bool]) -> Did:
        if "dead" in job.to:
            dead_begun.set()
            assert let_go.wait(WAIT_S)
        return Did(job.to, "done")

    here = Transfers(tmp_path, tmp_path / "registry", verb)
    dead = here.begin("push", {"reference": "a", "remote": "http://dead:1/team"})
    assert dead_begun.wait(WAIT_S)
    behind = here.begin("push", {"reference": "b", "remote": "dead:1"})
    alive = here.begin("push", {"reference": "a", "remote": "http://alive:1/team"})
    assert alive.result(WAIT_S) == "http://alive:1/team"
    assert not dead.done()
    assert behind.line == "push b: waiting"
    table = TransferTable(here.queue.jobs(), [dead.id, behind.id])
    assert [table.state(job) for job in table] == ["running", "waiting", "done"]
    assert "http://dead:1/team" in table.text()
    let_go.set()
    assert behind.result(WAIT_S) == "dead:1"


def test_of_a_host_that_is_away_the_command_line_tries_one_and_last_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PATIENCE", Patience(tries=0))
    asked: list[str] = []

    def verb(job: Job, *, cancelled: Callable[[], bool]) -> Did:
        asked.append(str(job.given["reference"]))
        if job.lane == "dead:1":
            raise TargetUnreachableError("dead:1 does not answer")
        return Did(None, "done")

    here = Transfers(tmp_path, tmp_path / "registry", verb)
    for name, remote in (("a", "dead:1"), ("b", "dead:1"), ("c", "alive:1")):
        left_in(tmp_path, {"reference": name, "remote": remote})
    with pytest.raises(TargetUnreachableError):
        here.finish()
    assert asked == ["a", "c"]
    left_in(tmp_path, {"reference": "d", "remote": "alive:1"})
    with pytest.raises(TargetUnreachableError):
        here.finish()
    assert asked == ["a", "c", "b", "d"]


def test_figures_of_what_nobody_works_on_are_not_shown(tmp_path: Path) -> None:
    job = left_in(tmp_path, {"reference": "digits", "remote": "host:1"})
    stale = JobQueue(tmp_path / "transfers").update(job, line="push 26 % 14.0 MB/s", share=0.26)
    shown = TransferTable([stale]).text()
    assert "26" not in shown
    assert "its process ended" in shown
    assert "host:1" in shown


def test_what_is_cancelled_before_its_turn_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def verb(job: Job, *, cancelled: Callable[[], bool]) -> Did:
        done.append(job.id)
        here.cancel(second.id)
        return Did(job.id, "done")

    here = Transfers(tmp_path, tmp_path / "registry", verb)
    first, second = (left_in(tmp_path, {"reference": name}) for name in "ab")
    listed = here.queue.jobs()
    assert here.finish() == (first.id,)
    assert (here.queue.get(second.id).state, done) == ("cancelled", [first.id])
    monkeypatch.setattr(here.queue, "jobs", lambda: listed)  # as they were, to who just looked
    assert here.resume() == here.finish() == ()
    assert here.begin("push", {"reference": "b"}).result(WAIT_S) not in (first.id, second.id)


def test_what_was_cancelled_while_its_process_ended_is_not_done(
    here: Transfers, work: Work, tmp_path: Path
) -> None:
    left = left_in(tmp_path, {"reference": "digits"})
    with here.queue.hold(left.id):
        here.cancel(left.id)
    work.go.set()
    with pytest.raises(InputError, match="has ended: cancelled"):
        here.resume(left.id)
    assert (here.queue.get(left.id).state, work.done) == ("cancelled", [])


def test_an_interrupt_leaves_a_job_to_be_gone_on_with(
    tmp_path: Path,
) -> None:
    def interrupted(job: Job, *, cancelled: Callable[[], bool]) -> Did:
        raise KeyboardInterrupt

    here = Transfers(tmp_path, tmp_path / "registry", interrupted)
    left = left_in(tmp_path, {"reference": "digits"})
    with pytest.raises(KeyboardInterrupt):
        here.finish()
    assert here.queue.get(left.id).is_open


class Notebook:
    """What a front end is told."""

    def __init__(self) -> None:
        self.shown: list[tuple[dict[str, str], str, bool]] = []

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: str, update: bool) -> None:
        assert raw
        self.shown.append((bundle, display_id, update))


def test_a_notebook_has_one_display_that_ends_as_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook, cell = Notebook(), [1]
    shown = transfer._Display(notebook.display, lambda: cell[0])
    monkeypatch.setattr(transfer, "_notebook_display", lambda: shown)
    handle = Transfer(Job("0123abcd", "push", {"reference": "<digits>"}, "/r", "now"), object)
    for count in range(1000):
        handle.tell(f"push <digits>  {count / 10:.0f}%", count / 1000)
    handle.end("push <digits>: done, 3 kB sent, 2 kB there already, 3.2 s")
    handle._ipython_display_()  # it is the value of the cell that began it
    assert len({id_ for _, id_, _ in notebook.shown}) == 1
    assert [update for *_, update in notebook.shown] == [False] + [True] * (len(notebook.shown) - 1)
    assert len(notebook.shown) < 100, "at most four a second"
    last = notebook.shown[-1][0]
    assert last["text/plain"] == "push <digits>: done, 3 kB sent, 2 kB there already, 3.2 s"
    assert "<progress" in notebook.shown[0][0]["text/html"]
    assert "<progress" not in last["text/html"]
    assert "push &lt;digits&gt;: done" in last["text/html"]
    cell[0] = 2
    handle._ipython_display_()
    again, id_, update = notebook.shown[-1]
    assert (again, id_, update) == (last, notebook.shown[0][1], False), "below that cell, too"
    assert capsys.readouterr() == ("", "")
