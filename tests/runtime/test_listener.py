"""Why an address cannot be listened on, and where others reach one that can."""

from __future__ import annotations

import contextlib
import socket

import pytest

from nbmodel.errors import InputError
from nbmodel.runtime.listener import host_for_others, listen


@pytest.mark.parametrize("purpose", ["", "gRPC"])
def test_a_port_in_use_is_told(purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as info:
            listen("127.0.0.1", port, purpose=purpose)
    said = f" for {purpose}" if purpose else ""
    assert str(info.value) == f"cannot listen on 127.0.0.1:{port}{said}: Address already in use"
    assert info.value.hint == "port 0 takes a free one"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        pytest.param("no.such.host.invalid", "", id="a name that nobody has"),
        pytest.param("192.0.2.1", "Cannot assign requested address", id="not this machine's"),
    ],
)
def test_where_the_host_is_the_problem_another_port_is_no_help(host: str, why: str) -> None:
    with pytest.raises(InputError, match=f"cannot listen on {host}:0: .*{why}") as info:
        listen(host, 0)
    assert "port 0" not in (info.value.hint or "")


def test_a_free_port_is_listened_on() -> None:
    with (
        contextlib.closing(listen("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert client.getpeername() == listener.getsockname()


def test_others_use_the_address_itself_or_one_that_is_not_loopback() -> None:
    assert host_for_others("192.168.1.20") == "192.168.1.20"
    assert not host_for_others("0.0.0.0").startswith(("127.", "0."))
