"""Jobs on disk: one process at a time, whatever became of the one before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbmodel.background.queue import KEPT_S, JobQueue
from nbmodel.core.job import Job
from nbmodel.errors import FormatError, InputError, StorageUnavailableError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "transfers")


def test_a_job_is_read_by_the_next_process(queue: JobQueue, tmp_path: Path) -> None:
    job = queue.add(queue.make("push", {"reference": "digits"}, "/r"))
    again = JobQueue(tmp_path / "transfers")
    assert again.jobs() == (job,)
    assert dict(again.get(job.id).given) == {"reference": "digits"}
    assert (job.what, job.state, job.is_open) == ("push digits", "open", True)


def test_jobs_are_for_their_owner_alone(queue: JobQueue, tmp_path: Path) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    file = tmp_path / "transfers" / f"{job.id}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_only_what_can_be_written_down_is_taken(queue: JobQueue) -> None:
    with pytest.raises(InputError, match="upload in the background takes what can be written"):
        queue.add(queue.make("upload", {"sample": object()}, "/r"))
    assert queue.jobs() == ()


def test_a_job_is_held_by_one(queue: JobQueue) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    with queue.hold(job.id) as held, queue.hold(job.id) as held_too:
        assert (held, held_too) == (True, False)
        assert queue.is_held(job.id)
    assert not queue.is_held(job.id)


@pytest.mark.unhurried
def test_a_job_is_free_again_when_its_process_was_killed(queue: JobQueue, tmp_path: Path) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from nbmodel.background.queue import JobQueue\n"
        "with JobQueue(Path(sys.argv[1])).hold(sys.argv[2]) as held:\n"
        "    print(held, flush=True)\n"
        "    time.sleep(600)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "transfers"), job.id]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        assert queue.is_held(job.id)
        other.kill()
        other.wait()
    assert not queue.is_held(job.id)


def test_a_job_that_nobody_works_on_is_cancelled_at_once(queue: JobQueue) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    assert queue.cancel(job.id).state == "cancelled"
    assert queue.get(job.id).state == "cancelled"


def test_a_job_that_is_worked_on_is_told(queue: JobQueue) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    with queue.hold(job.id):
        assert queue.cancel(job.id).is_open
        assert queue.is_cancelled(job.id)


def test_what_has_ended_stays_as_it_ended(queue: JobQueue) -> None:
    job = queue.update(queue.add(queue.make("push", {}, "/r")), state="done", line="done")
    assert queue.cancel(job.id) == job


def test_jobs_that_ended_long_ago_are_forgotten_and_open_ones_never(
    queue: JobQueue, tmp_path: Path
) -> None:
    ended = queue.update(queue.add(queue.make("push", {"reference": "a"}, "/r")), state="done")
    waiting = queue.add(queue.make("push", {"reference": "b"}, "/r"))
    past = time.time() - KEPT_S - 60
    for job in (ended, waiting):
        os.utime(tmp_path / "transfers" / f"{job.id}.json", (past, past))
    assert queue.jobs() == (waiting,)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half of one"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'{"id": "0123abcd"}', id="without fields"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
def test_a_file_that_is_no_job_is_passed_over(
    queue: JobQueue, tmp_path: Path, content: bytes
) -> None:
    job = queue.add(queue.make("push", {}, "/r"))
    (tmp_path / "transfers" / "0123abcd.json").write_bytes(content)
    assert queue.jobs() == (job,)


@pytest.mark.parametrize("id_", ["", "../../x", "0123abcd", "0123ABCD"])
def test_an_id_that_is_none(queue: JobQueue, id_: str) -> None:
    with pytest.raises(InputError, match="no transfer"):
        queue.get(id_)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "transfers").write_bytes(b"")
    with pytest.raises(StorageUnavailableError, match="cannot keep a transfer"):
        JobQueue(tmp_path / "transfers").add(JobQueue.make("push", {}, "/r"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": "x"}, id="an id"),
        pytest.param({"state": "running"}, id="a state"),
        pytest.param({"share": 2}, id="a share"),
        pytest.param({"given": []}, id="arguments"),
        pytest.param({"line": 3}, id="a line"),
    ],
)
def test_fields_that_no_job_has(changes: dict[str, object]) -> None:
    data = Job("0123abcd", "push", {}, "/r", "2026-01-01T00:00:00Z").to_json()
    with pytest.raises(FormatError, match="transfer"):
        Job.from_json(data | changes)
