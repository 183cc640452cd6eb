"""Copying and hashing in one pass, with somebody who looks on."""

from __future__ import annotations

import hashlib
import io
import threading

import pytest

from nbmodel.storage.copying import CHUNK, pump

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7]


def data_of(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(size % 251)


@pytest.mark.parametrize("size", SIZES)
def test_sink_hash_and_onlooker_get_every_byte_in_order(size: int) -> None:
    data = data_of(size)
    sunk, seen = bytearray(), bytearray()
    state = pump(io.BytesIO(data), sunk.extend, beside=seen.extend)
    assert state.hexdigest() == hashlib.sha256(data).hexdigest()
    assert sunk == seen == data


def test_an_onlooker_has_a_thread_of_its_own() -> None:
    names = set()
    pump(io.BytesIO(data_of(3 * CHUNK)), beside=lambda _: names.add(threading.get_ident()))
    assert len(names) == 1
    assert names != {threading.get_ident()}


@pytest.mark.parametrize("size", [10, 30 * CHUNK], ids=["small", "more than all buffers"])
def test_what_an_onlooker_raises_passes_through(size: int) -> None:
    calls = []

    def fail(piece: memoryview) -> None:
        calls.append(len(piece))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pump(io.BytesIO(data_of(size)), beside=fail)
    assert len(calls) == 1, "it is not asked again"


def test_what_a_sink_raises_ends_all_threads() -> None:
    before = threading.active_count()

    def fail(_: memoryview) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pump(io.BytesIO(data_of(30 * CHUNK)), fail, beside=len)
    assert threading.active_count() == before
