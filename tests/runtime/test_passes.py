from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nbmodel.runtime.journal import Journal
from nbmodel.runtime.passes import Errand, Passes

PATIENCE_S = 10.0


class Turns:
    """What is done in a pass; it lasts until it may end."""

    def __init__(self) -> None:
        self.errands: list[Errand] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.began = threading.Semaphore(0)
        self.error: Exception | None = None
        self.pause_s: float | None = None
        self.busy = False
        self.journal = Journal()

    def __call__(self, errand: Errand) -> None:
        self.errands.append(errand)
        self.began.release()
        assert self.may_end.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        assert self.began.acquire(timeout=PATIENCE_S)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def passes(turns: Turns) -> Iterator[Passes]:
    passes = Passes(
        turns,
        pause_s=lambda: turns.pause_s,
        is_busy=lambda: turns.busy,
        journal=turns.journal,
    )
    passes.start()
    yield passes
    turns.may_end.set()
    passes.close()
    assert not passes.is_alive


def test_a_first_pass_is_made_unasked(turns: Turns, passes: Passes) -> None:
    assert passes.wait_settled(PATIENCE_S)
    assert turns.errands == [Errand(is_asked=True)]
    assert (passes.was_made, passes.was_settled, passes.is_alive) == (True, True, True)


def test_who_asks_meanwhile_is_in_the_next_pass(turns: Turns, passes: Passes) -> None:
    assert passes.wait_settled(PATIENCE_S)
    turns.wait()
    turns.may_end.clear()
    passes.ask(Errand())
    turns.wait()
    passes.ask(Errand(retry=frozenset("a"), visions=True))
    passes.ask(Errand(retry=frozenset("b"), urgent=frozenset("c"), abandoned=frozenset("d")))
    assert not passes.settled
    assert not passes.wait_settled(0.01)
    turns.may_end.set()
    assert passes.wait_settled(PATIENCE_S)
    assert turns.errands[1:] == [
        Errand(is_asked=True),
        Errand(
            retry=frozenset("ab"),
            urgent=frozenset("c"),
            abandoned=frozenset("d"),
            visions=True,
            is_asked=True,
        ),
    ]


def test_a_pass_is_made_when_it_is_time(turns: Turns, passes: Passes) -> None:
    turns.wait()
    turns.pause_s = 0.01
    passes.ask(Errand())
    turns.wait()
    turns.wait()
    assert not turns.errands[2].is_asked


def test_a_pass_that_fails_is_not_the_last(turns: Turns, passes: Passes) -> None:
    turns.wait()
    turns.error = KeyError("x")
    passes.ask(Errand())
    turns.wait()
    assert passes.wait_settled(PATIENCE_S)
    assert "cannot follow the config: KeyError: 'x'" in turns.journal.lines(1)[0]
    passes.ask(Errand())
    turns.wait()


def test_a_pass_that_fails_is_made_again_though_nobody_asks(
    turns: Turns, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmodel.runtime.passes.AGAIN_S", 0.05)
    turns.wait()
    turns.error = KeyError("x")
    passes.ask(Errand(retry=frozenset("a"), abandoned=frozenset("b")))
    turns.wait()
    turns.wait()
    assert turns.errands[2] == Errand(retry=frozenset("a"), is_asked=True)
    turns.error = None
    while turns.began.acquire(timeout=0.5):
        assert len(turns.errands) < 20, "one that went well is not made again"


def test_what_goes_on_in_the_background_is_waited_for(turns: Turns, passes: Passes) -> None:
    turns.wait()
    turns.busy = True
    passes.ask(Errand())
    turns.wait()
    assert not passes.wait_settled(0.05)
    turns.busy = False
    passes.ask(Errand())
    assert passes.wait_settled(PATIENCE_S)


def test_one_pass_can_be_waited_for(turns: Turns, passes: Passes) -> None:
    turns.wait()
    assert passes.wait_settled(PATIENCE_S)
    turns.may_end.clear()
    first = passes.ask(Errand())
    turns.wait()
    second = passes.ask(Errand())
    assert (first, second) == (2, 3)
    assert not passes.wait_made(first, 0.01)
    turns.busy = True  # with what others asked for
    turns.may_end.set()
    assert passes.wait_made(second, PATIENCE_S)
    assert not passes.wait_made(second, 0.01, goes_on=lambda: True)
    assert len(turns.errands) == 3


def test_nobody_waits_for_what_is_closed(turns: Turns) -> None:
    passes = Passes(turns, pause_s=lambda: None, is_busy=lambda: True, journal=turns.journal)
    passes.start()
    threading.Timer(0.05, passes.close).start()
    began = time.monotonic()
    assert not passes.wait_settled(PATIENCE_S)
    assert not passes.wait_made(99, PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert passes.is_closing


def test_many_may_ask_at_once(turns: Turns, passes: Passes) -> None:
    def asking(name: str) -> Callable[[], None]:
        return lambda: passes.ask(Errand(retry=frozenset([name])))

    threads = [threading.Thread(target=asking(str(number))) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passes.wait_settled(PATIENCE_S)
    asked = frozenset().union(*(errand.retry for errand in turns.errands))
    assert asked == {str(number) for number in range(20)}
