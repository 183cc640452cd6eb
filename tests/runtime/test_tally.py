"""What a worker told is not lost when its process dies."""

from __future__ import annotations

from nbmodel.runtime.statistics import Duration, ModelStatistics
from nbmodel.runtime.tally import Tally


def counts(success: int, *, pending: int = 0, version: str = "1") -> ModelStatistics:
    return ModelStatistics("m", version, success=Duration(success, success), pending=pending)


def told(tally: Tally) -> list[tuple[str, int, int]]:
    return [(key, one.success.count, one.pending) for key, one in tally.counts()]


def test_the_last_that_a_process_told_counts() -> None:
    tally = Tally()
    tally.follow({"m": "a", "silent": "b"})
    assert told(tally) == []
    tally.tell("a", counts(3, pending=2))
    tally.tell("a", counts(5, pending=1))
    assert told(tally) == [("a", 5, 1)]


def test_counts_go_on_where_those_of_the_processes_that_died_ended() -> None:
    tally = Tally()
    tally.follow({"m": "a"})
    for success, total in ((5, 5), (2, 7), (1, 8)):
        tally.tell("a", counts(success, pending=1))
        assert told(tally) == [("a", total, 1)]
        tally.end()
        tally.follow({"m": "a"})
        assert told(tally) == [("a", total, 0)]


def test_the_same_files_under_another_version_count_on() -> None:
    tally = Tally()
    tally.follow({"m": "a"})
    tally.tell("a", counts(5))
    tally.end()
    tally.follow({"m": "a"})
    tally.tell("a", counts(1, version="2"))
    ((_key, both),) = tally.counts()
    assert (both.success.count, both.version) == (6, "2")


def test_a_model_that_is_replaced_takes_its_counts_with_it() -> None:
    tally = Tally()
    tally.follow({"m": "a"})
    tally.tell("a", counts(5))
    tally.end()
    tally.tell("a", counts(1))
    tally.follow({"m": "b"})
    assert told(tally) == []
    tally.tell("a", counts(9))  # asked before, answered after
    assert told(tally) == []
    tally.tell("b", counts(2))
    tally.follow({})
    tally.follow({"m": "b"})
    assert told(tally) == []
