"""The event log: numbered, kept over restarts, bounded, and told of at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from nbmodel.core.event import Event
from nbmodel.core.version import parse_time
from nbmodel.runtime import journal as module
from nbmodel.runtime.journal import EVENTS_FILE, Journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / EVENTS_FILE


def texts(journal: Journal, since: int = 0) -> list[tuple[int, str]]:
    return [(event.seq, event.text) for event in journal.since(since)]


def test_events_are_numbered_and_say_when_about_what_and_how_bad() -> None:
    journal = Journal()
    journal.note("digits: version 1 is live", service="digits", type="Live")
    journal.warn("digits:\n  does not load")
    first, second = journal.since(0)
    assert (first.seq, first.level, first.service, first.type) == (1, "info", "digits", "Live")
    assert (second.seq, second.level, second.service, second.type) == (2, "warning", None, "Note")
    assert second.text == "digits: does not load"  # one event, one line
    assert abs(parse_time(second.time).timestamp() - parse_time(first.time).timestamp()) < 5
    assert journal.lines(1) == [f"{second.time} WARNING digits: does not load"]
    assert journal.lines(0) == []


def test_a_restart_goes_on_with_the_numbers(file: Path) -> None:
    before = Journal(file)
    before.note("one")
    before.warn("zwei ü \x1b", service="a")
    after = Journal(file)
    assert after.since(0) == before.since(0)
    after.note("three")
    assert texts(after, since=1) == [(2, "zwei ü \x1b"), (3, "three")]
    assert texts(Journal(file)) == texts(after)


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(b'{"seq": 3, "ti', id="a line that was cut"),
        pytest.param(b"\0" * 50, id="zeros, as a power cut leaves them"),
        pytest.param(b"\xff\xfe\n[]\n5\n{}\nnull\n", id="lines that are no events"),
        pytest.param(b'{"seq":' + b"[" * 100_000 + b"\n", id="nested without end"),
        pytest.param(
            json.dumps(Event(1, "t", "info", None, "Note", "old").to_json()).encode() + b"\n",
            id="a number that was before",
        ),
    ],
)
def test_what_a_power_cut_left_is_passed_over(file: Path, torn: bytes) -> None:
    journal = Journal(file)
    journal.note("one")
    journal.note("two")
    with file.open("ab") as stream:
        stream.write(torn)
    again = Journal(file)
    assert texts(again) == [(1, "one"), (2, "two")]
    again.note("three")
    assert texts(Journal(file)) == [(1, "one"), (2, "two"), (3, "three")]


def test_neither_memory_nor_file_grows_without_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 10)
    journal = Journal(file)
    for number in range(1, 96):
        journal.note(f"event {number}")
        assert len(file.read_bytes().splitlines()) <= 20
    assert texts(journal) == [(number, f"event {number}") for number in range(86, 96)]
    assert texts(Journal(file)) == texts(journal)
    journal.note("x" * 100_000)
    assert len(journal.since(95)[0].text) == 4000


def test_a_disk_that_refuses_the_file_stops_nothing_and_is_used_when_it_takes_it_again(
    file: Path,
) -> None:
    file.parent.write_text("a file where the folder should be")
    journal = Journal(file)
    journal.note("one")
    journal.note("two")
    assert texts(journal) == [(1, "one"), (2, "two")]
    file.parent.unlink()
    journal.note("three")
    assert texts(Journal(file)) == [(1, "one"), (2, "two"), (3, "three")]


def test_who_watches_is_told_of_each_event_from_any_thread() -> None:
    journal = Journal()
    told = threading.Semaphore(0)
    with journal.watched(told.release):
        threads = [threading.Thread(target=journal.note, args=("x",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    journal.note("nobody watches any more")
    assert [told.acquire(blocking=False) for _ in range(21)] == [True] * 20 + [False]
    assert [event.seq for event in journal.since(0)] == list(range(1, 22))
