"""A remote and the connections to it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any, cast

import pytest

from nbmodel.core.remote import Remote
from nbmodel.errors import BlobNotFoundError, RemoteFaultError
from nbmodel.registry.remote import peer as peer_module
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.storage.remote_registry import RemoteRegistry

REMOTE = Remote.parse("localhost:5000")


class Connection:
    """One that notes whether two use it at once, and whether it was closed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def made() -> list[Connection]:
    return []


@pytest.fixture
def connect(made: list[Connection]) -> Any:
    def open_one(remote: Remote) -> RemoteRegistry:
        assert remote == REMOTE
        made.append(Connection())
        return cast("RemoteRegistry", made[-1])

    return open_one


def test_many_things_are_asked_at_once_and_answered_in_order(
    made: list[Connection], connect: Any
) -> None:
    def ask(registry: RemoteRegistry, item: int) -> int:
        lock = cast("Connection", registry).lock
        assert lock.acquire(blocking=False), "two use one connection"
        try:
            return item * item
        finally:
            lock.release()

    with Peer(REMOTE, connect) as peer:
        assert peer.each(ask, range(3)) == [0, 1, 4]
        assert len(made) == 1
        assert peer.each(ask, range(200)) == [item * item for item in range(200)]
        assert 2 <= len(made) <= 5
        assert peer.each(ask, []) == []
    assert all(connection.is_closed for connection in made)


def test_the_first_failure_ends_it(made: list[Connection], connect: Any) -> None:
    def ask(registry: RemoteRegistry, item: int) -> int:
        if item == 7:
            raise BlobNotFoundError("none")
        return item

    with Peer(REMOTE, connect) as peer, pytest.raises(BlobNotFoundError):
        peer.each(ask, range(1000))
    assert all(connection.is_closed for connection in made)


def test_who_is_told_to_stop_asks_nothing_more(connect: Any) -> None:
    asked: list[int] = []
    with (
        Peer(REMOTE, connect, cancelled=lambda: len(asked) >= 3) as peer,
        pytest.raises(CancelledError),
    ):
        peer.each(lambda _, item: asked.append(item), range(1000))
    assert len(asked) < 10
    with pytest.raises(CancelledError):
        Peer(REMOTE, connect, cancelled=lambda: True).advance(1)


def test_a_registry_that_stumbles_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "_PAUSES_S", (0.0, 0.0))
    faults = [RemoteFaultError("500"), RemoteFaultError("500")]

    def stumble() -> str:
        if faults:
            raise faults.pop()
        return "answer"

    assert steadily(stumble) == "answer"
    faults += [RemoteFaultError("500")] * 3
    with pytest.raises(RemoteFaultError):
        steadily(stumble)


def test_an_answer_is_not_asked_for_again() -> None:
    asked = []

    def answer() -> str:
        asked.append(1)
        raise BlobNotFoundError("none")

    with pytest.raises(BlobNotFoundError):
        steadily(answer)
    assert len(asked) == 1
