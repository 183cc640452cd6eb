"""SavedModels of other makes than TensorFlow's own, and files that only look like one."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.savedmodel import DATATYPES, SavedModel


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def shape(*dims: int) -> bytes:
    return b"".join(field(2, field(1, dim) if dim else b"") for dim in dims)


def tensor(dtype: int = 1, dims: bytes | None = b"") -> bytes:
    return field(2, dtype) + (b"" if dims is None else field(3, dims))


def signature(inputs: dict[bytes, bytes], outputs: dict[bytes, bytes]) -> bytes:
    return b"".join(
        field(side, field(1, name) + field(2, info))
        for side, tensors in ((1, inputs), (2, outputs))
        for name, info in tensors.items()
    )


def graph(signatures: dict[bytes, bytes], tags: tuple[bytes, ...] = (b"serve",)) -> bytes:
    info = b"".join(field(4, tag) for tag in tags)
    return field(1, info) + b"".join(
        field(5, field(1, name) + field(2, one)) for name, one in signatures.items()
    )


def saved(path: Path, *graphs: bytes, version: int = 1) -> Path:
    file = path / "saved_model.pb"
    file.write_bytes(field(1, version) + b"".join(field(2, one) for one in graphs))
    return path


Y = {b"y": tensor()}


def test_maps_have_no_order(tmp_path: Path) -> None:
    names = [b"b", b"c", b"a"]
    one = signature(dict.fromkeys(names, tensor()), Y)
    facts = SavedModel().read(saved(tmp_path, graph({b"serving_default": one})))
    assert [each.name for each in facts.signature.inputs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("info", "datatype", "dims"),
    [
        pytest.param(tensor(1, shape(-1, 2)), "FP32", (-1, 2), id="a variable dimension"),
        pytest.param(tensor(1, shape(0, 2)), "FP32", (0, 2), id="an empty dimension"),
        pytest.param(tensor(7, b""), "BYTES", (), id="a scalar"),
        pytest.param(tensor(3, field(3, 1)), "INT32", None, id="an unknown rank"),
        pytest.param(tensor(3, None), "INT32", None, id="no shape at all"),
        pytest.param(tensor(12, shape(2)), "UINT8", (2,), id="quantised"),
        pytest.param(tensor(101, shape(2)), "FP32", (2,), id="a reference"),
        pytest.param(field(4, b"") + field(2, 1), "FP32", None, id="sparse"),
        pytest.param(field(2, 1) + field(5, b""), "VARIANT", None, id="composite"),
        pytest.param(tensor(1, shape(-9)), "FP32", (-1,), id="below -1"),
    ],
)
def test_tensors(tmp_path: Path, info: bytes, datatype: str, dims: tuple[int, ...] | None) -> None:
    one = graph({b"serving_default": signature({b"x": info}, Y)})
    (x,) = SavedModel().read(saved(tmp_path, one)).signature.inputs
    assert (x.datatype, x.shape) == (datatype, dims)


def test_every_type_has_a_name() -> None:
    # types.proto: DT_INVALID is 0, DT_FLOAT4_E2M1FN, the last, 33.
    assert len(DATATYPES) == 34
    assert (DATATYPES[9], DATATYPES[10], DATATYPES[19], DATATYPES[23]) == (
        "INT64", "BOOL", "FP16", "UINT64",
    )  # fmt: skip


def test_the_graph_to_serve_is_read(tmp_path: Path) -> None:
    train = graph({b"serving_default": signature({b"t": tensor()}, Y)}, (b"train",))
    serve = graph({b"serving_default": signature({b"s": tensor()}, Y)}, (b"gpu", b"serve"))
    facts = SavedModel().read(saved(tmp_path, train, serve))
    assert [one.name for one in facts.signature.inputs] == ["s"]
    assert facts.metadata["tags"] == ["gpu", "serve"]
    assert facts.metadata["graphs"] == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"hello world", "not a TensorFlow SavedModel, starts with b'hello world'", id="text"),
        pytest.param(field(1, 1), "no meta_graphs", id="no graph"),
        pytest.param(field(2, b""), "no saved_model_schema_version", id="no version"),
        pytest.param(field(1, 2) + field(2, b""), "schema_version 2, expected 1", id="another version"),
        pytest.param(field(1, 1) + field(2, graph({})), "expected a signature", id="no signature"),
        pytest.param(
            field(1, 1) + field(2, graph({b"serving_default": signature({b"x": tensor(99)}, Y)})),
            "unknown type 99 of 'x', expected at most 33",
            id="an unknown type",
        ),
        pytest.param(
            field(1, 1) + field(2, graph({b"serving_default": signature({b"x": tensor(1, shape(*[1] * 1025))}, Y)})),
            "more than 1024 dimensions",
            id="a rank without end",
        ),
        pytest.param(field(1, 1) + b"\x12\xff\x7f", "reaches to offset", id="cut short"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "saved_model.pb"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        SavedModel().read(path)
    assert problem in str(caught.value)


def test_an_onnx_model_is_none() -> None:
    assert not SavedModel().sniff(b"\x08\x01\x12\x0bonnx-tester")
    assert not SavedModel().sniff(b"\x08\x07\x12\x07pytorch\x1a\x051.0.0")


def test_a_large_graph_is_stepped_over(tmp_path: Path) -> None:
    """A sparse file: nothing of its gigabyte is read."""
    head, size = b"\x08\x01", 1 << 30
    tail = graph({b"serving_default": signature({b"x": tensor()}, Y)})
    inside = varint(2 << 3 | 2) + varint(size)
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.write(head + varint(2 << 3 | 2) + varint(len(inside) + size + len(tail)) + inside)
        file.seek(size, io.SEEK_CUR)
        file.write(tail)
    begin = time.perf_counter()
    facts = SavedModel().read(tmp_path)
    assert time.perf_counter() - begin < 1
    assert [one.name for one in facts.signature.inputs] == ["x"]
