"""Addresses of Triton servers, and the two kinds of runtimes that they tell apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.errors import InputError
from nbmodel.fleet.kinds import open_runtime
from nbmodel.fleet.known import Known, KnownRuntimes
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.triton_address import check_triton_url, endpoint_of
from nbmodel.fleet.triton_runtime import TritonRuntime

ADDRESSES = {
    "triton+grpc://jetson:8001": ("grpc", "jetson", 8001),
    "triton+grpc://jetson": ("grpc", "jetson", 8001),
    "triton+http://jetson:8000/": ("http", "jetson", 8000),
    "triton+https://jetson.example:443/": ("https", "jetson.example", 443),
    "triton+grpcs://[fd00::2]:9": ("grpcs", "fd00::2", 9),
}
NONE = [
    "triton+",
    "triton+ftp://jetson",
    "triton://jetson:8001",
    "triton-grpc://jetson:8001",
    "triton+grpc://",
    "triton+grpc://jetson:99999",
    "triton+grpc://jetson:0",
    "triton+grpc://user@jetson",
    "triton+http://jetson/models/digits",
    "http://jetson:8000",
]


@pytest.mark.parametrize(("url", "found"), ADDRESSES.items(), ids=ADDRESSES)
def test_an_address_says_where_a_triton_listens(url: str, found: tuple[str, str, int]) -> None:
    endpoint = endpoint_of(url)
    assert (endpoint.scheme, endpoint.host, endpoint.port) == found
    assert check_triton_url(check_triton_url(url)) == check_triton_url(url)


@pytest.mark.parametrize("url", NONE)
def test_what_is_no_address_of_a_triton_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(InputError, match="not the address of a Triton server") as caught:
        endpoint_of(url)
    assert "triton+grpc://host:8001" in str(caught.value.hint)


def test_what_was_meant_as_a_triton_is_told_how_one_is_written() -> None:
    with pytest.raises(InputError, match="not the address of a Triton server"):
        Known("jetson", "triton://jetson:8001")


def test_a_known_runtime_is_opened_as_what_its_address_says(tmp_path: Path) -> None:
    known = KnownRuntimes(tmp_path)
    known.add(Known("jetson", "triton+grpc://jetson"))
    known.add(Known("pi", "http://pi:8080/"))
    with open_runtime(known.get("jetson")) as jetson, open_runtime(known.get("pi")) as pi:
        assert isinstance(jetson, TritonRuntime)
        assert (jetson.name, jetson.url) == ("jetson", "triton+grpc://jetson:8001")
        assert isinstance(pi, RemoteRuntime)
        assert pi.url == "http://pi:8080"
