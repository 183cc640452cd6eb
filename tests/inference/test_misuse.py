"""What a person is told who uses a client in a way that cannot work."""

from __future__ import annotations

import socket
import threading

import pytest

from nbmodel.errors import DatatypeError, InputError, TargetError, TargetUnreachableError
from nbmodel.fleet.known import Known
from nbmodel.inference import InferenceClient


def test_a_grpc_port_is_guessed() -> None:
    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(bytes.fromhex("000000040000000000") + b"\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with InferenceClient(url) as client, pytest.raises(TargetUnreachableError) as info:
            client.server_metadata()
        thread.join()
    assert info.value.hint == "is this a gRPC port? HTTP is spoken here"


def test_an_address_of_grpc_is_told_apart() -> None:
    with pytest.raises(InputError, match="not gRPC") as info:
        InferenceClient("grpc://pi:8001")
    assert info.value.hint == "its HTTP address, for example http://pi:8080"


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="timeout_s"):
        InferenceClient("http://localhost:1", timeout_s=seconds)


def test_a_closed_client_says_so(runtime: Known) -> None:
    with InferenceClient(runtime.url, token=runtime.token) as client:
        client.infer("linear", [[1.0, 1.0]])
    for ask in (client.is_live, lambda: client.infer("linear", [[1.0, 1.0]])):
        with pytest.raises(InputError, match="is closed"):
            ask()


def test_an_object_of_another_kind_is_told_what_is_taken(runtime: Known) -> None:
    with (
        InferenceClient(runtime.url, token=runtime.token) as client,
        pytest.raises(DatatypeError, match="a value of type object is no input") as info,
    ):
        client.infer("linear", object())
    assert info.value.hint is not None
    assert "data frame" in info.value.hint


def test_an_unknown_model_is_told_with_those_there_are(runtime: Known) -> None:
    with (
        InferenceClient(runtime.url, token=runtime.token) as client,
        pytest.raises(TargetError) as info,
    ):
        client.infer("nope", [[1.0]])
    assert info.value.hint is not None
    assert "linear" in info.value.hint
    assert info.value.__notes__ == [f"hint: {info.value.hint}"]
