"""What a runtime and its workers say to each other, over real sockets."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from nbmodel.runtime.channel import (
    MAX_PASSED,
    pass_connection,
    statistics_from_json,
    take_connection,
)
from nbmodel.runtime.statistics import BatchStatistics, Duration, ModelStatistics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.fixture
def client() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_connection_goes_on_in_the_other_process(pair: Pair, client: Pair) -> None:
    pass_connection(pair[0], client[0].fileno(), b"GET /")
    taken = take_connection(pair[1])
    assert taken is not None
    connection, data = taken
    with connection:
        connection.sendall(b"hello")
    assert data == b"GET /"
    assert client[1].recv(10) == b"hello"


def test_one_that_comes_without_its_descriptor_is_passed_over(pair: Pair, client: Pair) -> None:
    pair[0].send(b"as when the other process has no descriptor left")
    pass_connection(pair[0], client[0].fileno(), b"next")
    taken = take_connection(pair[1])
    assert taken is not None
    with taken[0]:
        assert taken[1] == b"next"


def test_a_process_that_is_gone_passes_nothing_on(pair: Pair) -> None:
    pair[0].close()
    assert take_connection(pair[1]) is None


def test_more_than_one_message_holds_is_refused(pair: Pair, client: Pair) -> None:
    with pytest.raises(ValueError, match="at most"):
        pass_connection(pair[0], client[0].fileno(), bytes(MAX_PASSED + 1))


def test_statistics_arrive_as_they_were_sent() -> None:
    counts = ModelStatistics(
        "m",
        "3",
        last_inference=5,
        success=Duration(1, 2),
        batch_stats=(BatchStatistics(4, Duration(1, 1), Duration(1, 2), Duration(1, 3)),),
        pending=7,
    )
    assert statistics_from_json(json.loads(json.dumps(asdict(counts)))) == counts
