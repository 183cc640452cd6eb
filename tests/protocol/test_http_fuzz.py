"""Bodies that are nearly right, by the hundred thousand: each is read or refused."""

from __future__ import annotations

import gzip
import json
import random
import resource
import zlib
from contextlib import suppress

import numpy as np
import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import NbModelError
from nbmodel.protocol.compression import decompress
from nbmodel.protocol.http import (
    decode_raw_request,
    decode_request,
    decode_response,
    encode_response,
)
from nbmodel.protocol.inference import InferRequest, InferResponse

CASES = 200_000
LIMIT = 1 << 16
SIGNATURE = Signature((Tensor("x", "BYTES", (-1, 1)),))
#: What breaks readers: edges of numbers, nesting, other types, halves of characters.
PIECES = (
    *(b"-1", b"0", b"1e999", b"NaN", b"-0", b"2147483648", b"9223372036854775808"),
    *(b"18446744073709551616", b'"x"', b"null", b"true", b"[]", b"{}", b"[[]]", b'"\\ud800"'),
    *(b",", b":", b'"inputs"', b'"data"', b'"shape"', b'"datatype"', b'"BYTES"', b'"BF16"'),
    *(b'"parameters"', b'"binary_data_size"', b'"shared_memory_region"', b'"classification"'),
    *(b"\x00", b"\xff\xff\xff\xff", b"\xc3", b"[" * 200, b" " * 50),
)


def _seeds() -> list[tuple[bytes, int]]:
    text = {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "bé"]}
    numbers = {"name": "n", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2.5]]}
    raw = {
        "name": "b",
        "datatype": "INT16",
        "shape": [2],
        "parameters": {"binary_data_size": 4},
    }
    strings = {
        "name": "s",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"binary_data_size": 11},
    }
    shared = {
        "name": "m",
        "datatype": "FP32",
        "shape": [1],
        "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4},
    }
    outputs = [
        {"name": "y", "parameters": {"classification": 2, "binary_data": True}},
        {"name": "z", "parameters": {"shared_memory_region": "r"}},
    ]
    head = json.dumps(
        {
            "id": "7",
            "parameters": {"sequence_id": 1, "timeout": 5, "binary_data_output": True},
            "inputs": [text, numbers, raw, strings, shared],
            "outputs": outputs,
        }
    ).encode()
    tail = b"\x01\x00\x02\x00" + b"\x03\x00\x00\x00abc" + b"\x00\x00\x00\x00"
    short = json.dumps({"inputs": [raw]}).encode()
    return [(head + tail, len(head)), (short + tail[:4], len(short))]


def _mutated(body: bytes, chance: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                data[at : at + chance.randint(1, 8)] = chance.choice(PIECES)
    return bytes(data)


def _read(body: bytes, length: int | None) -> None:
    request = decode_request(bytearray(body), length, model="m")
    for array in request.inputs.values():
        assert array.size * max(array.itemsize, 1) <= 64 * len(body) + 64


def _rounds(count: int) -> None:
    chance = random.Random(20_240_229)
    seeds = _seeds()
    packed = [pack(body) for body, _ in seeds for pack in (gzip.compress, zlib.compress)]
    answer = encode_response(
        InferResponse("m", "1", {"y": np.ones((1, 2), np.float32)}), InferRequest("m", {})
    ).join()
    for number in range(count):
        seed, length = chance.choice(seeds)
        body = _mutated(seed, chance)
        with suppress(NbModelError):
            _read(body, chance.choice((length, None, 0, chance.randrange(len(body) + 2))))
        if number % 4:
            continue
        with suppress(NbModelError):
            decode_raw_request(body, SIGNATURE, model="m")
        with suppress(NbModelError):
            decode_response(_mutated(answer, chance), None)
        with suppress(NbModelError):
            decompress(_mutated(chance.choice(packed), chance), limit=LIMIT)


def test_what_is_nearly_right_is_read_or_refused() -> None:
    _rounds(1000)


@pytest.mark.slow
def test_a_great_many_requests_that_are_nearly_right_leave_no_memory_behind() -> None:
    _rounds(CASES // 10)  # caches fill
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _rounds(CASES)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 20_000  # KiB
