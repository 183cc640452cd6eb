"""Requests that are sent to a real tritonserver and to a runtime of ours alike.

Valid and invalid ones, most of them made from tables. They are sent in this order, each on
a connection of its own, to servers that have the models of ``tests/tools/example_models.py``
loaded.
"""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.tools.example_models import ALL, DATATYPES

LENGTH = "Inference-Header-Content-Length"
SIMPLE = "/v2/models/simple/infer"
NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One request.

    Attributes:
        id: What it is.
        path: Where to.
        method: In upper case.
        body: All of it.
        headers: Besides ``Host`` and ``Content-Length``.
    """

    id: str
    path: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def corpus() -> list[Case]:
    """All cases; every id is there once."""
    families = (
        _routes(),
        _descriptions(),
        _datatypes(),
        _extremes(),
        _outputs(),
        _ids_and_parameters(),
        _malformed_json(),
        _wrong_tensors(),
        _wrong_data(),
        _wrong_binary(),
        _classification(),
        _compression(),
        _raw(),
        _versions(),
        _names(),
        _memory(),
        _settings(),
        _repository(),
    )
    return list(itertools.chain.from_iterable(families))


def _json(id_: str, path: str, data: object, **headers: str) -> Case:
    return Case(id_, path, body=json.dumps(data).encode(), headers=headers)


def _get(id_: str, path: str) -> Case:
    return Case(id_, path, "GET")


def _int32(name: str, data: object, shape: object = (1, 16), **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "INT32", "shape": shape, "data": data, **more}


_NUMBERS = list(range(16))
_PAIR = [_int32("INPUT0", _NUMBERS), _int32("INPUT1", _NUMBERS)]


def _simple(id_: str, **more: Any) -> Case:
    return _json(id_, SIMPLE, {"inputs": _PAIR, **more})


def _routes() -> Iterator[Case]:
    """Every route with every verb, and paths that are none."""
    paths = (
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/models/simple",
        "/v2/models/simple/ready",
        "/v2/models/simple/config",
        "/v2/models/simple/stats",
        "/v2/models/simple/infer",
        "/v2/models/simple/versions/1",
        "/v2/models/simple/versions/1/infer",
        "/v2/repository/index",
        "/v2/repository/models/nope/load",
        "/v2/repository/models/nope/unload",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/nope/register",
        "/v2/systemsharedmemory/region/nope/unregister",
        "/v2/cudasharedmemory/status",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/simple/trace/setting",
    )
    for path, method in itertools.product(paths, ("GET", "POST", "PUT", "DELETE", "PATCH")):
        yield Case(f"route {method} {path}", path, method)
    for path in (
        "/v3",
        "/v2x",
        "/v2/health",
        "/v2/health/alive",
        "/v2/models/simple/nope",
        "/v2/models/simple/infer/more",
        "/v2/models/simple/",
        "/v2/models/simple/versions/v1",
        "/v2/models/simple/versions/",
        "/v2/models/simple/versions/-1",
        "/v2/models/simple/versions/1/nope",
        "/v2/repository",
        "/v2/repository/index/more",
        "/v2/repository/models/simple",
        "/v2/repository/models/simple/reload",
        "/v2/systemsharedmemory",
        "/v2/systemsharedmemory/region",
        "/v2/logging/more",
        "/v2/trace",
    ):
        for method in ("GET", "POST"):
            yield Case(f"no route {method} {path}", path, method)
    for path in ("/v2", "/v2/health/live", "/v2/models/simple", "/v2/models/simple/config"):
        yield _get(f"a query is ignored: {path}", f"{path}?a=1&b=%20")


def _descriptions() -> Iterator[Case]:
    for model in ALL:
        yield _get(f"metadata of {model.name}", f"/v2/models/{model.name}")
        yield _get(f"readiness of {model.name}", f"/v2/models/{model.name}/ready")
        yield _get(f"config of {model.name}", f"/v2/models/{model.name}/config")


def _arrays(datatype: str) -> Iterator[tuple[str, Any]]:
    for shape in ((1, 1), (2, 3), (3, 1)):
        yield "x".join(map(str, shape)), _array(datatype, shape)


def _array(datatype: str, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        words = ["", "a", "größer", "😀 face", 'quote " and \\', "line\nbreak", "\u0001"]
        values = [words[i % len(words)].encode() for i in range(count)]
        return np.array(values, object).reshape(shape)
    if datatype == "BOOL":
        return (np.arange(count) % 2 == 0).reshape(shape)
    return (np.arange(count) * 3 % 100).astype(NUMPY[datatype]).reshape(shape)


def _to_json(array: Any) -> list[Any]:
    if array.dtype == object:
        return [value.decode() for value in array.reshape(-1)]
    values: list[Any] = array.reshape(-1).tolist()
    return values


def to_bytes(array: Any) -> bytes:
    """A tensor as it travels in binary."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(v)) + v for v in array.reshape(-1))
    content: bytes = array.tobytes()
    return content


def _tensor(datatype: str, array: Any, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    entry: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(array.shape)}
    if binary:
        content = to_bytes(array)
        return {**entry, "parameters": {"binary_data_size": len(content)}}, content
    return {**entry, "data": _to_json(array)}, b""


def _with_binary(
    id_: str, path: str, data: object, tensors: bytes, length: str | None = None, **headers: str
) -> Case:
    head = json.dumps(data).encode()
    told = str(len(head)) if length is None else length
    return Case(id_, path, body=head + tensors, headers={LENGTH: told, **headers})


def _datatypes() -> Iterator[Case]:
    """Every datatype, in and out, as JSON and as bytes."""
    for datatype in DATATYPES:
        path = f"/v2/models/identity_{datatype.lower()}/infer"
        for (shape, array), binary, answer in itertools.product(
            _arrays(datatype), (False, True), (None, False, True)
        ):
            entry, tensors = _tensor(datatype, array, binary=binary)
            data: dict[str, Any] = {"inputs": [entry]}
            if answer is not None:
                data["parameters"] = {"binary_data_output": answer}
            way = f"{'binary' if binary else 'JSON'} in, {_word(answer)} out"
            id_ = f"{datatype} {shape} {way}"
            yield _with_binary(id_, path, data, tensors) if binary else _json(id_, path, data)


def _word(binary: bool | None) -> str:
    return "default" if binary is None else "binary" if binary else "JSON"


def _extremes() -> Iterator[Case]:
    """The ends of each datatype's range, and what lies beyond."""
    for datatype, numpy in NUMPY.items():
        if numpy is np.bool_ or datatype.startswith("FP"):
            continue
        limits = np.iinfo(numpy)
        for word, value in (
            ("least", limits.min),
            ("greatest", limits.max),
            ("below the least", int(limits.min) - 1),
            ("above the greatest", int(limits.max) + 1),
        ):
            yield _identity(f"{datatype} {word}", datatype, [int(value)], (1, 1))
    for word, text in (
        ("small", "1e-45"),
        ("great", "3.4028234663852886e38"),
        ("too great", "1e39"),
        ("infinite", "Infinity"),
        ("not a number", "NaN"),
        ("negative zero", "-0.0"),
        ("an integer", "7"),
        ("huge", "1e400"),
    ):
        for datatype in ("FP32", "FP64"):
            entry = f'{{"name":"x","datatype":"{datatype}","shape":[1,1],"data":[{text}]}}'
            body = f'{{"inputs":[{entry}]}}'.encode()
            path = f"/v2/models/identity_{datatype.lower()}/infer"
            yield Case(f"{datatype} {word}", path, body=body)


def _identity(id_: str, datatype: str, data: object, shape: object, **more: Any) -> Case:
    entry = {"name": "x", "datatype": datatype, "shape": shape, "data": data, **more}
    return _json(id_, f"/v2/models/identity_{datatype.lower()}/infer", {"inputs": [entry]})


def _outputs() -> Iterator[Case]:
    def out(name: str, **parameters: Any) -> dict[str, Any]:
        return {"name": name, "parameters": parameters} if parameters else {"name": name}

    tables: dict[str, list[Any]] = {
        "none named": [],
        "the first": [out("OUTPUT0")],
        "the second": [out("OUTPUT1")],
        "both turned": [out("OUTPUT1"), out("OUTPUT0")],
        "one twice": [out("OUTPUT0"), out("OUTPUT0")],
        "one binary": [out("OUTPUT0", binary_data=True), out("OUTPUT1")],
        "other binary": [out("OUTPUT0"), out("OUTPUT1", binary_data=True)],
        "binary false": [out("OUTPUT0", binary_data=False)],
        "unknown": [out("OUTPUT2")],
        "no name": [{}],
        "name a number": [{"name": 3}],
        "binary a word": [out("OUTPUT0", binary_data="yes")],
        "unknown parameter": [out("OUTPUT0", color="red")],
    }
    for word, outputs in tables.items():
        yield _simple(f"outputs: {word}", outputs=outputs)
        yield _simple(
            f"outputs: {word}, binary by default",
            outputs=outputs,
            parameters={"binary_data_output": True},
        )
    yield _simple("outputs: a string", outputs="OUTPUT0")
    yield _simple("outputs: strings", outputs=["OUTPUT0"])
    yield _simple("outputs: null", outputs=None)


def _ids_and_parameters() -> Iterator[Case]:
    for word, value in {
        "a word": "request-1",
        "empty": "",
        "long": "x" * 500,
        "Unicode": "größer 😀",
        "quotes": 'a"b\\c',
        "a number": 3,
        "null": None,
    }.items():
        yield _simple(f"id: {word}", id=value)
    for word, parameters in {
        "none": {},
        "own string": {"mine": "yes"},
        "own number": {"mine": 3},
        "own fraction": {"mine": 0.5},
        "own truth": {"mine": True},
        "own null": {"mine": None},
        "own list": {"mine": [1]},
        "own object": {"mine": {}},
        "priority": {"priority": 1},
        "priority a word": {"priority": "high"},
        "timeout": {"timeout": 1_000_000},
        "timeout a word": {"timeout": "soon"},
        "timeout negative": {"timeout": -1},
        "binary a word": {"binary_data_output": "yes"},
        "reserved": {"triton_mine": 1},
        "reserved final response": {"triton_enable_empty_final_response": True},
        "headers": {"headers": "x"},
        "sequence id": {"sequence_id": 5},
        "sequence id a word": {"sequence_id": "five"},
        "sequence start": {"sequence_id": 5, "sequence_start": True, "sequence_end": True},
    }.items():
        yield _simple(f"parameters: {word}", parameters=parameters)
    yield _simple("parameters: a list", parameters=[1])
    yield _simple("parameters: a word", parameters="x")
    yield _simple("an unknown key", mine=3)


def _malformed_json() -> Iterator[Case]:
    deep = b"[" * 200 + b"]" * 200
    for word, body in {
        "empty": b"",
        "a space": b" ",
        "a word": b"inputs",
        "a number": b"7",
        "null": b"null",
        "a list": b"[]",
        "an empty object": b"{}",
        "cut off": b'{"inputs":[',
        "a comma too many": b'{"inputs":[],}',
        "single quotes": b"{'inputs':[]}",
        "more after it": b'{"inputs":[]} x',
        "no UTF-8": b'{"id":"\xff","inputs":[]}',
        "a byte order mark": b"\xef\xbb\xbf" + json.dumps({"inputs": _PAIR}).encode(),
        "nested too deep": b'{"inputs":' + deep + b"}",
        "a control character": b'{"id":"\x01","inputs":[]}',
        "inputs empty": b'{"inputs":[]}',
        "inputs null": b'{"inputs":null}',
        "inputs an object": b'{"inputs":{}}',
        "inputs a word": b'{"inputs":"INPUT0"}',
        "inputs of words": b'{"inputs":["INPUT0","INPUT1"]}',
        "inputs of numbers": b'{"inputs":[1]}',
        "inputs twice": b'{"inputs":[],"inputs":' + json.dumps(_PAIR).encode() + b"}",
        "a comment": b'{/* x */"inputs":[]}',
    }.items():
        yield Case(f"body: {word}", SIMPLE, body=body)
        yield Case(f"body: {word}, unknown model", "/v2/models/nope/infer", body=body)


def _wrong_tensors() -> Iterator[Case]:
    first, second = _PAIR
    for word, inputs in {
        "one missing": [first],
        "other missing": [second],
        "one unknown": [first, _int32("INPUT2", _NUMBERS)],
        "one too many": [first, second, _int32("INPUT2", _NUMBERS)],
        "one twice": [first, first],
        "turned": [second, first],
        "wrong datatype": [{**first, "datatype": "FP32"}, second],
        "unknown datatype": [{**first, "datatype": "INT33"}, second],
        "datatype in lower case": [{**first, "datatype": "int32"}, second],
        "datatype a number": [{**first, "datatype": 3}, second],
        "no datatype": [{k: v for k, v in first.items() if k != "datatype"}, second],
        "no shape": [{k: v for k, v in first.items() if k != "shape"}, second],
        "no name": [{k: v for k, v in first.items() if k != "name"}, second],
        "no data": [{k: v for k, v in first.items() if k != "data"}, second],
        "name a number": [{**first, "name": 0}, second],
        "unknown key": [{**first, "mine": 1}, second],
        "parameters a word": [{**first, "parameters": "x"}, second],
        "own parameter": [{**first, "parameters": {"mine": 1}}, second],
    }.items():
        yield _json(f"tensor: {word}", SIMPLE, {"inputs": inputs})
    for word, shape in {
        "without batch": [16],
        "of 15": [1, 15],
        "of 17": [1, 17],
        "too many dimensions": [1, 1, 16],
        "empty": [],
        "a number": 16,
        "a word": "1,16",
        "null": None,
        "negative": [-1, 16],
        "two negative": [-1, -16],
        "zero": [0, 16],
        "fractions": [1.0, 16.0],
        "words": ["1", "16"],
        "huge": [1 << 40, 1 << 40],
        "beyond 64 bits": [1 << 70, 16],
        "nested": [[1, 16]],
    }.items():
        changed = [_int32("INPUT0", _NUMBERS, shape), second]
        yield _json(f"shape: {word}", SIMPLE, {"inputs": changed})
    for batch in (2, 8, 9, 100):
        data = _NUMBERS * batch
        both = [_int32(f"INPUT{i}", data, [batch, 16]) for i in range(2)]
        yield _json(f"a batch of {batch}", SIMPLE, {"inputs": both})
    mixed = [_int32("INPUT0", _NUMBERS * 2, [2, 16]), second]
    yield _json("batches that differ", SIMPLE, {"inputs": mixed})


def _wrong_data() -> Iterator[Case]:
    nested = [list(range(16))]
    for word, data in {
        "nested": nested,
        "nested once too often": [nested],
        "nested unevenly": [[0, 1], list(range(14))],
        "too few": _NUMBERS[:15],
        "too many": [*_NUMBERS, 16],
        "none": [],
        "fractions": [x + 0.5 for x in _NUMBERS],
        "whole fractions": [float(x) for x in _NUMBERS],
        "words": [str(x) for x in _NUMBERS],
        "truths": [True] * 16,
        "nulls": [None] * 16,
        "objects": [{}] * 16,
        "too large": [1 << 40] * 16,
        "a number": 3,
        "a word": "0123",
        "null": None,
        "an object": {},
    }.items():
        yield _json(f"data: {word}", SIMPLE, {"inputs": [_int32("INPUT0", data), _PAIR[1]]})
    for word, datatype, data in (
        ("numbers for BOOL", "BOOL", [1, 0]),
        ("two for BOOL", "BOOL", [2, 0]),
        ("words for BOOL", "BOOL", ["true", "false"]),
        ("numbers for BYTES", "BYTES", [1, 2]),
        ("null for BYTES", "BYTES", [None, "a"]),
        ("words for FP32", "FP32", ["1", "2"]),
        ("truths for FP32", "FP32", [True, False]),
        ("fractions for FP16", "FP16", [0.5, 1.5]),
    ):
        yield _identity(f"data: {word}", datatype, data, (1, 2))
    for datatype in ("FP32", "BYTES", "BOOL", "INT64"):
        for shape in ((0, 0), (1, 0), (0, 3)):
            yield _identity(f"{datatype} empty {shape}", datatype, [], shape)


def _wrong_binary() -> Iterator[Case]:
    path = "/v2/models/identity_fp32/infer"

    def entry(size: object, **more: Any) -> dict[str, Any]:
        parameters = {"binary_data_size": size}
        return {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": parameters, **more}

    one = {"inputs": [entry(16)]}
    good = bytes(16)
    yield _with_binary("binary: right", path, one, good)
    yield _with_binary("binary: nothing after it", path, one, b"")
    yield _with_binary("binary: 15 bytes", path, one, good[:15])
    yield _with_binary("binary: 17 bytes", path, one, good + b"x")
    yield _with_binary("binary: a size of 12", path, {"inputs": [entry(12)]}, good[:12])
    yield _with_binary("binary: a size of 20", path, {"inputs": [entry(20)]}, good + b"xxxx")
    yield _with_binary("binary: a size of 0", path, {"inputs": [entry(0)]}, b"")
    yield _with_binary("binary: a negative size", path, {"inputs": [entry(-1)]}, good)
    yield _with_binary("binary: a size in words", path, {"inputs": [entry("16")]}, good)
    yield _with_binary("binary: a fractional size", path, {"inputs": [entry(16.0)]}, good)
    yield _with_binary("binary: a huge size", path, {"inputs": [entry(1 << 62)]}, good)
    yield _with_binary("binary: data besides", path, {"inputs": [entry(16, data=[1] * 4)]}, good)
    yield _json("binary: a size without the header", path, one)
    json_only = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    yield _with_binary("binary: JSON with the header", path, json_only, b"")
    yield _with_binary("binary: JSON with bytes after it", path, json_only, b"xxxx")
    length = len(json.dumps(one))
    for word, told in {
        "too small": str(length - 1),
        "too large": str(length + 1),
        "beyond the body": str(length + 17),
        "negative": "-1",
        "a word": "x",
        "empty": "",
        "hexadecimal": hex(length),
        "with a sign": f"+{length}",
        "with a space": f" {length}",
        "fractional": f"{length}.0",
        "huge": "9" * 30,
    }.items():
        yield _with_binary(f"header length: {word}", path, one, good, told)
    pair = [
        {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16]},
        {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16]},
    ]
    values = np.arange(16, dtype=np.int32).tobytes()
    binary = {"parameters": {"binary_data_size": 64}}
    mixes: dict[str, tuple[list[dict[str, Any]], bytes]] = {
        "both": ([{**pair[0], **binary}, {**pair[1], **binary}], values * 2),
        "first": ([{**pair[0], **binary}, {**pair[1], "data": _NUMBERS}], values),
        "second": ([{**pair[0], "data": _NUMBERS}, {**pair[1], **binary}], values),
        "both, one's bytes": ([{**pair[0], **binary}, {**pair[1], **binary}], values),
        "neither has data": (pair, b""),
    }
    for word, (inputs, tensors) in mixes.items():
        yield _with_binary(f"mixed: {word}", SIMPLE, {"inputs": inputs}, tensors)
    for word, content in {
        "a length too long": struct.pack("<I", 5) + b"abc",
        "half a length": b"\x01\x00",
        "one element too few": struct.pack("<I", 1) + b"a",
        "one element too many": (struct.pack("<I", 1) + b"a") * 3,
        "a huge length": struct.pack("<I", 0xFFFFFFFF) + b"a",
        "no UTF-8": (struct.pack("<I", 1) + b"\xff") * 2,
    }.items():
        tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 2]}
        tensor["parameters"] = {"binary_data_size": len(content)}
        path = "/v2/models/identity_bytes/infer"
        yield _with_binary(f"BYTES: {word}", path, {"inputs": [tensor]}, content)
    tensor = {"name": "x", "datatype": "BOOL", "shape": [1, 2], "parameters": {}}
    tensor["parameters"] = {"binary_data_size": 2}
    path = "/v2/models/identity_bool/infer"
    yield _with_binary("BOOL: a byte of 2", path, {"inputs": [tensor]}, b"\x02\x01")


def _classification() -> Iterator[Case]:
    """Not of BYTES, which ends Triton 2.51 with a segmentation fault."""
    path = "/v2/models/scores/infer"

    def ask(id_: str, data: list[float], classes: object, *, binary: bool = False) -> Case:
        entry = {"name": "x", "datatype": "FP32", "shape": [len(data) // 4, 4], "data": data}
        parameters: dict[str, Any] = {"classification": classes, "binary_data": binary}
        outputs = [{"name": "y", "parameters": parameters}]
        return _json(id_, path, {"inputs": [entry], "outputs": outputs})

    one, two = [0.25, 0.5, 0.125, 0.0625], [0.25, 0.5, 0.125, 0.0625, 4.0, 3.0, 2.0, 1.0]
    for classes in (0, 1, 2, 4, 5, 100, -1, 1.5, "2", True, None, 1 << 40):
        yield ask(f"classification: {classes!r}", one, classes)
    for classes in (1, 3, 4):
        yield ask(f"classification: {classes} of two rows", two, classes)
        yield ask(f"classification: {classes} of two rows, binary", two, classes, binary=True)
    yield ask("classification: equal values", [1.0, 1.0, 0.0, 0.0], 4)
    yield ask("classification: whole numbers", [7.0, 3.0, 123456789.0, 0.0], 4)
    yield ask("classification: small and great", [1e-7, 1.5e20, -3.25, 0.1], 4)
    yield _simple(
        "classification: no labels",
        outputs=[{"name": "OUTPUT0", "parameters": {"classification": 2}}],
    )


def _compression() -> Iterator[Case]:
    plain = json.dumps({"inputs": _PAIR}).encode()
    for coding, compress in {"gzip": gzip.compress, "deflate": zlib.compress}.items():
        body = compress(plain)
        headers = {"Content-Encoding": coding}
        yield Case(f"{coding}: right", SIMPLE, body=body, headers=headers)
        yield Case(f"{coding}: cut off", SIMPLE, body=body[:-9], headers=headers)
        yield Case(f"{coding}: not compressed", SIMPLE, body=plain, headers=headers)
        yield Case(f"{coding}: empty", SIMPLE, body=b"", headers=headers)
        yield Case(f"{coding}: more after it", SIMPLE, body=body + b"xx", headers=headers)
        length = {LENGTH: str(len(plain)), **headers}
        yield Case(f"{coding}: with the header's length", SIMPLE, body=body, headers=length)
    for coding in ("identity", "br", "x", "", "GZIP", "gzip, deflate"):
        headers = {"Content-Encoding": coding}
        yield Case(f"content coding {coding!r}", SIMPLE, body=plain, headers=headers)
    for accepted in (
        "gzip",
        "deflate",
        "gzip, deflate",
        "deflate, gzip",
        "identity",
        "br",
        "*",
        "gzip;q=0",
        "gzip;q=0.5, deflate;q=1",
        "",
    ):
        headers = {"Accept-Encoding": accepted}
        yield Case(f"accepted coding {accepted!r}", SIMPLE, body=plain, headers=headers)
        data = {"inputs": _PAIR, "parameters": {"binary_data_output": True}}
        yield Case(
            f"accepted coding {accepted!r}, binary",
            SIMPLE,
            body=json.dumps(data).encode(),
            headers=headers,
        )


def _raw() -> Iterator[Case]:
    """The whole body is the only input."""
    raw = {LENGTH: "0"}
    for word, model, body in (
        ("one variable dimension", "raw", bytes(range(16))),
        ("two rows", "raw", bytes(32)),
        ("half an element", "raw", bytes(15)),
        ("empty", "raw", b""),
        ("too many variable dimensions", "identity_fp32", bytes(16)),
        ("several inputs", "simple", bytes(64)),
        ("a fixed shape", "picture", bytes(602112)),
        ("a fixed shape, too short", "picture", bytes(602108)),
        ("BYTES", "simple_identity", b"hello"),
        ("unknown model", "nope", b"x"),
    ):
        yield Case(f"raw: {word}", f"/v2/models/{model}/infer", body=body, headers=raw)


def _versions() -> Iterator[Case]:
    body = json.dumps({"inputs": _PAIR}).encode()
    for version in ("1", "2", "0", "01", "9" * 18, "9" * 30):
        base = f"/v2/models/simple/versions/{version}"
        yield _get(f"version {version}: metadata", base)
        yield _get(f"version {version}: ready", f"{base}/ready")
        yield _get(f"version {version}: config", f"{base}/config")
        yield _get(f"version {version}: stats", f"{base}/stats")
        yield Case(f"version {version}: infer", f"{base}/infer", body=body)


def _names() -> Iterator[Case]:
    body = json.dumps({"inputs": _PAIR}).encode()
    for name in ("nope", "Simple", "simple%20", "s%69mple", "%2e%2e", "%00", "a%2Fb", "größe"):
        quoted = name if name.isascii() else "gr%C3%B6%C3%9Fe"
        base = f"/v2/models/{quoted}"
        yield _get(f"model {name}: metadata", base)
        yield _get(f"model {name}: ready", f"{base}/ready")
        yield _get(f"model {name}: config", f"{base}/config")
        yield _get(f"model {name}: stats", f"{base}/stats")
        yield Case(f"model {name}: infer", f"{base}/infer", body=body)


def _memory() -> Iterator[Case]:
    """System shared memory that is not there; what is there has tests of its own."""
    base = "/v2/systemsharedmemory"

    def register(word: str, data: object) -> Case:
        return _json(f"shared memory: register {word}", f"{base}/region/oracle/register", data)

    yield _get("shared memory: status", f"{base}/status")
    yield _get("shared memory: status of an unknown region", f"{base}/region/oracle/status")
    yield register("a missing key", {"byte_size": 64})
    yield register("no size", {"key": "/oracle-none"})
    yield register("what is not there", {"key": "/oracle-none", "offset": 0, "byte_size": 64})
    yield register("a size in words", {"key": "/oracle-none", "byte_size": "64"})
    yield register("a number for a key", {"key": 3, "byte_size": 64})
    yield register("nothing", {})
    yield Case("shared memory: unregister all", f"{base}/unregister")
    yield Case("shared memory: unregister unknown", f"{base}/region/oracle/unregister")
    for which, parameters in {
        "an unknown region": {"shared_memory_region": "oracle", "shared_memory_byte_size": 64},
        "no size": {"shared_memory_region": "oracle"},
        "a region that is a number": {"shared_memory_region": 3, "shared_memory_byte_size": 64},
    }.items():
        given = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "parameters": parameters}
        yield _json(f"shared memory: input in {which}", SIMPLE, {"inputs": [given, _PAIR[1]]})
        outputs = [{"name": "OUTPUT0", "parameters": parameters}]
        yield _simple(f"shared memory: output in {which}", outputs=outputs)
    yield _get("CUDA shared memory: status", "/v2/cudasharedmemory/status")
    yield Case("CUDA shared memory: unregister all", "/v2/cudasharedmemory/unregister")


def _settings() -> Iterator[Case]:
    yield _get("logging: as it is", "/v2/logging")
    for word, data in {
        "nothing": {},
        "verbose off": {"log_verbose_level": 0},
        "a format": {"log_format": "default"},
        "an unknown key": {"log_mine": 1},
        "a word for a truth": {"log_info": "yes"},
        "a number for a word": {"log_format": 3},
        "an unknown format": {"log_format": "mine"},
        "a list": [1],
    }.items():
        yield _json(f"logging: {word}", "/v2/logging", data)
    yield Case("logging: no JSON", "/v2/logging", body=b"x")
    yield _get("trace: as it is", "/v2/trace/setting")
    yield _get("trace of a model: as it is", "/v2/models/simple/trace/setting")
    yield _get("trace of an unknown model", "/v2/models/nope/trace/setting")
    for word, data in {
        "nothing": {},
        "off": {"trace_level": ["OFF"]},
        "a rate": {"trace_rate": "100"},
        "an unknown key": {"trace_mine": "1"},
        "a rate in words": {"trace_rate": "often"},
    }.items():
        yield _json(f"trace: {word}", "/v2/trace/setting", data)
    yield Case("trace: no JSON", "/v2/trace/setting", body=b"x")


def _repository() -> Iterator[Case]:
    """Last, as it changes what is loaded."""
    models = "/v2/repository/models"
    yield Case("repository: index", "/v2/repository/index")
    yield _json("repository: index of the ready", "/v2/repository/index", {"ready": True})
    yield _json("repository: ready a word", "/v2/repository/index", {"ready": "yes"})
    yield Case("repository: index, no JSON", "/v2/repository/index", body=b"x")
    yield Case("repository: named", "/v2/repository/mine/index")
    yield Case("repository: load unknown", f"{models}/nope/load")
    yield Case("repository: unload unknown", f"{models}/nope/unload")
    yield Case("repository: load, no JSON", f"{models}/simple/load", body=b"x")
    for word, parameters in {
        "an unknown parameter": {"mine": 1},
        "a config that is no JSON": {"config": "x"},
        "a file without a config": {"file:1/model.onnx": "AAAA"},
        "a config that is a number": {"config": 3},
    }.items():
        data = {"parameters": parameters}
        yield _json(f"repository: load with {word}", f"{models}/simple/load", data)
    yield Case("repository: load again", f"{models}/simple/load")
    yield Case("repository: unload", f"{models}/simple_int8/unload")
    yield _get("unloaded: metadata", "/v2/models/simple_int8")
    yield _get("unloaded: ready", "/v2/models/simple_int8/ready")
    yield _get("unloaded: config", "/v2/models/simple_int8/config")
    yield _get("unloaded: stats", "/v2/models/simple_int8/stats")
    yield _json("unloaded: infer", "/v2/models/simple_int8/infer", {"inputs": _PAIR})
    yield Case("repository: unload again", f"{models}/simple_int8/unload")
    yield Case("repository: load what was unloaded", f"{models}/simple_int8/load")
    yield _get("loaded: ready", "/v2/models/simple_int8/ready")
