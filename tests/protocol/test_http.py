import json
from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from tritonclient.http import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)

from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import (
    DatatypeError,
    FormatError,
    NbModelError,
    ShapeError,
    TensorNameError,
)
from nbmodel.protocol.datatypes import from_numpy, to_numpy
from nbmodel.protocol.http import (
    HEADER_LENGTH,
    decode_raw_request,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from nbmodel.protocol.inference import (
    InferRequest,
    InferResponse,
    Region,
    RequestedOutput,
    SharedTensor,
)

EXAMPLES: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 255, 7]], np.uint8),
    "UINT16": np.array([[0, 65535, 7]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1, 7]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1, 7]], np.uint64),
    "INT8": np.array([[-128, 127, 7]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1, 7]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1, 7]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1, 7]], np.int64),
    "FP16": np.array([[0.5, -65504, 7]], np.float16),
    "FP32": np.array([[0.1, -3.4e38, 7]], np.float32),
    "FP64": np.array([[0.1, -1.7e308, 7]], np.float64),
    "BF16": np.array([[0.5, -1, 7]], ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "größe".encode(), b"a\x00b"]], np.object_),
}
IN_JSON = [name for name in DATATYPES if name not in ("FP16", "BF16")]


def request(*tensors: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **fields}).encode()


def entry(datatype: str = "FP32", **fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": [2], **fields}


def decode(body: bytes, header_length: int | None = None) -> InferRequest:
    return decode_request(body, header_length, model="m")


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        # Bytes, so that NaN equals itself and −0 does not equal 0.
        and (left.dtype == object or left.tobytes() == right.tobytes())
        and (left.dtype != object or bool((left == right).all()))
    )


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["name", "shape", "data", "datatype", "parameters", "inputs"])
    return st.lists(children) | st.dictionaries(keys, children)


def _arrays() -> st.SearchStrategy[NDArray[Any]]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    numbers = st.sampled_from([name for name in IN_JSON if name != "BYTES"] + ["FP16"])
    return st.one_of(
        numbers.flatmap(lambda name: hnp.arrays(to_numpy(name), shapes)),
        hnp.arrays(np.object_, shapes, elements=st.binary(max_size=5), fill=st.nothing()),
    )


def _fits_json(array: NDArray[Any]) -> bool:
    if array.dtype != object:
        # NaN has payloads, which text does not carry.
        return array.dtype != np.float16 and not (array.dtype.kind == "f" and np.isnan(array).any())
    try:
        return all(item.decode() is not None for item in array.flat)
    except UnicodeDecodeError:
        return False


class TestTheOfficialClient:
    """What tritonclient writes we read, and it reads what we write."""

    @pytest.mark.parametrize(
        ("datatype", "binary"),
        [
            *(pytest.param(name, True, id=f"{name} in binary") for name in DATATYPES),
            *(pytest.param(name, False, id=f"{name} in JSON") for name in IN_JSON),
        ],
    )
    def test_its_request_is_read(self, datatype: str, binary: bool) -> None:
        array = EXAMPLES[datatype]
        given = InferInput("x", list(array.shape), datatype)
        given.set_data_from_numpy(array, binary_data=binary)
        body, length = InferenceServerClient.generate_request_body([given], request_id="7")
        read = decode(body, length)
        assert read.id == "7"
        assert read.binary_outputs  # it asks for binary when no output is listed
        assert same(read.inputs["x"], array)

    def test_its_mixed_request_is_read(self) -> None:
        inputs = []
        for index, (datatype, array) in enumerate(EXAMPLES.items()):
            given = InferInput(datatype, list(array.shape), datatype)
            given.set_data_from_numpy(array, binary_data=datatype not in IN_JSON or index % 2 == 0)
            inputs.append(given)
        outputs = [InferRequestedOutput("a"), InferRequestedOutput("b", binary_data=False)]
        body, length = InferenceServerClient.generate_request_body(
            inputs, outputs=outputs, parameters={"k": 1}
        )
        read = decode(body, length)
        assert list(read.inputs) == list(EXAMPLES)
        assert all(same(read.inputs[name], array) for name, array in EXAMPLES.items())
        assert read.output_names == ("a", "b")
        assert [read.wants_binary(name) for name in ("a", "b", "c")] == [True, False, False]
        assert read.parameters == {"k": 1}

    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
    def test_it_reads_our_answer(self, binary: bool) -> None:
        outputs = {name: EXAMPLES[name] for name in (DATATYPES if binary else IN_JSON)}
        wanted = InferRequest("m", {}, binary_outputs=binary)
        body = encode_response(InferResponse("m", "3", outputs, id="7"), wanted)
        result = InferResult.from_response_body(body.join(), header_length=body.header_length)
        assert result.get_response()["model_version"] == "3"
        for name, array in outputs.items():
            read = result.as_numpy(name)
            if name == "BYTES" and not binary:  # it leaves JSON's text as it is
                read = np.array([[item.encode() for item in read.flat]], object)
            assert same(read, array)


class TestRoundTrips:
    @given(st.data())
    def test_every_array_comes_back_from_a_request(self, data: st.DataObject) -> None:
        arrays = data.draw(st.dictionaries(st.text(min_size=1), _arrays(), max_size=3))
        body = encode_request(InferRequest("m", arrays, id="é", parameters={"a": 1.5}))
        read = decode(body.join(), body.header_length)
        assert (read.id, read.parameters) == ("é", {"a": 1.5})
        assert list(read.inputs) == list(arrays)
        assert all(same(read.inputs[name], arrays[name]) for name in arrays)

    @given(st.data())
    def test_every_array_comes_back_from_an_answer(self, data: st.DataObject) -> None:
        arrays = data.draw(st.dictionaries(st.text(min_size=1), _arrays(), max_size=3))
        wanted = InferRequest(
            "m",
            {},
            outputs=tuple(
                RequestedOutput(name, data.draw(st.booleans()) or not _fits_json(array))
                for name, array in arrays.items()
            ),
        )
        body = encode_response(InferResponse("m", "1", arrays), wanted)
        read = decode_response(bytearray(body.join()), body.header_length)
        assert all(same(read.outputs[name], arrays[name]) for name in arrays)
        assert all(array.flags.writeable for array in read.outputs.values())

    @given(st.binary(max_size=200), st.none() | st.integers(-1, 250))
    def test_no_body_breaks_the_reader(self, body: bytes, header_length: int | None) -> None:
        with suppress(NbModelError):
            decode(body, header_length)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), _nested))
    def test_no_json_breaks_the_reader(self, data: Any) -> None:
        for body in (data, {"inputs": data}, {"inputs": [entry(data=data)]}, {"inputs": [data]}):
            with suppress(NbModelError):
                decode(json.dumps(body).encode())


def test_binary_tensors_start_aligned() -> None:
    body = encode_request(InferRequest("m", {"x": np.ones(3, np.float64)}))
    assert body.header_length is not None
    assert body.header_length % 8 == 0
    assert body.headers[HEADER_LENGTH] == str(body.header_length)


def test_a_binary_tensor_is_a_view_of_the_body() -> None:
    body = bytearray(encode_request(InferRequest("m", {"x": np.zeros(2, np.float32)})).join())
    read = decode_request(body, len(body) - 8, model="m")
    body[-4:] = np.float32(5).tobytes()
    assert read.inputs["x"].tolist() == [0, 5]


def test_a_misaligned_tensor_is_copied() -> None:
    head = request(entry(parameters={"binary_data_size": 8}))
    head += b" " * (1 - len(head) % 4)
    read = decode(head + np.array([1, 2], "<f4").tobytes(), len(head))
    assert read.inputs["x"].flags.aligned
    assert read.inputs["x"].tolist() == [1, 2]


def test_any_byte_but_zero_is_true() -> None:
    head = request(entry("BOOL", parameters={"binary_data_size": 2}))
    read = decode(head + b"\x00\x02", len(head))
    assert read.inputs["x"].tolist() == [False, True]


@pytest.mark.parametrize(
    "data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]], ids=str
)
def test_data_may_be_flat_or_nested(data: list[Any]) -> None:
    tensor = {"name": "x", "datatype": "INT32", "shape": [2, 2], "data": data}
    assert decode(request(tensor)).inputs["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        pytest.param(b"", FormatError, "failed to parse the request JSON", id="empty body"),
        pytest.param(b"{", FormatError, "failed to parse the request JSON", id="half an object"),
        pytest.param(b"\xff{}", FormatError, "failed to parse the request JSON", id="not UTF-8"),
        pytest.param(b"[]", FormatError, "expected an object, found an array", id="a list"),
        pytest.param(b"[" * 10**6, FormatError, "JSON buffer", id="a million open brackets"),
        pytest.param(b"[" * 10**5 + b"]" * 10**5, FormatError, "nested deeper", id="deep"),
        pytest.param(
            b'{"inputs":[' + b"[" * 99 + b"]" * 99 + b"]}",
            FormatError,
            "nested deeper than 100",
            id="101 levels",
        ),
        pytest.param(b"{}", FormatError, "'inputs'", id="no inputs"),
        pytest.param(b'{"inputs": 1}', FormatError, "'inputs'", id="inputs is a number"),
        pytest.param(b'{"inputs": [], "id": 1}', FormatError, "'id'", id="id is a number"),
        pytest.param(
            request({"datatype": "FP32", "shape": [1], "data": [1]}),
            FormatError,
            "no name",
            id="anon",
        ),
        pytest.param(request(entry("FLOAT", data=[1, 2])), DatatypeError, "'FLOAT'", id="datatype"),
        pytest.param(request(entry(data=[1])), ShapeError, "2 elements, found 1", id="too few"),
        pytest.param(request(entry(data=[1, "a"])), DatatypeError, "found a string", id="text"),
        pytest.param(request(entry(data=[1, None])), DatatypeError, "found null", id="null"),
        pytest.param(request(entry(data=[1, True])), DatatypeError, "a boolean", id="bool"),
        pytest.param(request(entry(data=[1, [2]])), DatatypeError, "an array", id="ragged"),
        pytest.param(
            request(entry(data=[[1], 2])), FormatError, "mixed", id="ragged the other way"
        ),
        pytest.param(request(entry(data=3)), FormatError, "expected an array", id="no list"),
        pytest.param(request(entry()), FormatError, "'data'", id="no data"),
        pytest.param(request(entry("INT8", data=[1, 128])), DatatypeError, "128", id="too large"),
        pytest.param(request(entry("UINT8", data=[1, -1])), DatatypeError, "-1", id="negative"),
        pytest.param(request(entry("INT8", data=[1, 1.5])), DatatypeError, "INT8", id="fraction"),
        pytest.param(request(entry("BOOL", data=[1, 0])), DatatypeError, "BOOL", id="0 for false"),
        pytest.param(request(entry("FP32", data=[10**400, 0])), DatatypeError, "x", id="huge"),
        pytest.param(
            request(entry("BYTES", data=["\ud800", ""])), DatatypeError, "Unicode", id="surrogate"
        ),
        pytest.param(
            request(entry("FP16", data=[1, 2])),
            DatatypeError,
            "sending FP16 data via JSON is not supported",
            id="FP16 in JSON",
        ),
        pytest.param(
            request(entry("BF16", data=[1, 2])),
            DatatypeError,
            "sending BF16 data via JSON is not supported",
            id="BF16 in JSON",
        ),
        pytest.param(request(entry(shape=[-1], data=[])), ShapeError, "found -1", id="shape −1"),
        pytest.param(
            request(entry(shape=[True], data=[1])), FormatError, "'shape'", id="shape of booleans"
        ),
        pytest.param(
            request(entry(shape="2", data=[1])), FormatError, "'shape'", id="shape is text"
        ),
        pytest.param(request(entry(shape=[0, 10**30], data=[])), ShapeError, "x", id="huge shape"),
        pytest.param(request(entry(shape=[0] * 99, data=[])), ShapeError, "x", id="99 dimensions"),
        pytest.param(
            request(entry(shape=[0, 2**40, 2**40], data=[])), ShapeError, "x", id="overflow"
        ),
        pytest.param(
            request(entry(data=[1, 2]), entry(data=[1, 2])),
            TensorNameError,
            "already exists",
            id="twice",
        ),
        pytest.param(
            request(entry(data=[1, 2]), parameters={"triton_x": 1}),
            FormatError,
            "reserved",
            id="reserved parameter",
        ),
        pytest.param(
            request(entry(parameters={"shared_memory_region": 7})),
            FormatError,
            "'shared_memory_region'",
            id="shared memory",
        ),
        pytest.param(
            request(entry(data=[1, 2]), outputs=[{"parameters": {}}]),
            FormatError,
            "an output has no name",
            id="an output without a name",
        ),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(
    body: bytes, error: type[NbModelError], says: str
) -> None:
    with pytest.raises(error) as caught:
        decode(body)
    assert type(caught.value) is error
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "size", "tail", "error", "says"),
    [
        pytest.param(
            "FP32", 8, b"1234567", FormatError, "expecting 1 additional bytes", id="short"
        ),
        pytest.param(
            "FP32", 8, b"123456789", FormatError, "unexpected additional input data", id="long"
        ),
        pytest.param("FP32", 4, b"1234", ShapeError, "Expected 8, got 4", id="not the shape's"),
        pytest.param("FP32", -8, b"12345678", FormatError, "binary_data_size", id="negative"),
        pytest.param("BYTES", 3, b"\0\0\0", FormatError, "length indicator", id="half a length"),
        pytest.param("BYTES", 5, b"\x09\0\0\0a", FormatError, "incomplete string data", id="cut"),
        pytest.param("BYTES", 4, b"\0" * 4, ShapeError, "expected 2 string", id="one of two"),
        pytest.param("BYTES", 12, b"\0" * 12, ShapeError, "got more", id="three of two"),
    ],
)
def test_binary_data_of_a_wrong_size_is_refused(
    datatype: str, size: int, tail: bytes, error: type[NbModelError], says: str
) -> None:
    head = request(entry(datatype, parameters={"binary_data_size": size}))
    with pytest.raises(error, match=says):
        decode(head + tail, len(head))


@pytest.mark.parametrize("header_length", [-1, 3])
def test_a_header_length_outside_the_body_is_refused(header_length: int) -> None:
    with pytest.raises(FormatError, match=r"range \(0, 2\), got"):
        decode(b"{}", header_length)


class TestRawRequests:
    @pytest.mark.parametrize(
        ("shape", "values", "expected"),
        [
            pytest.param((2, 2), 4, (2, 2), id="a fixed shape"),
            pytest.param((-1, 2), 6, (3, 2), id="the batch follows from the size"),
            pytest.param((-1, -1), 3, (1, 3), id="a second variable makes the batch one"),
            pytest.param((2, -1), 6, (2, 3), id="a variable last axis"),
        ],
    )
    def test_the_shape_is_deduced(
        self, shape: tuple[int, ...], values: int, expected: tuple[int, ...]
    ) -> None:
        array = np.arange(values, dtype=np.float32)
        signature = Signature((Tensor("x", "FP32", shape),))
        read = decode_raw_request(array.tobytes(), signature, model="m")
        assert same(read.inputs["x"], array.reshape(expected))
        assert read.wants_binary("anything")

    def test_a_text_is_one_element(self) -> None:
        signature = Signature((Tensor("x", "BYTES", (-1, 1)),))
        read = decode_raw_request(b"427", signature, model="m")
        assert read.inputs["x"].tolist() == [[b"427"]]

    @pytest.mark.parametrize(
        ("tensors", "error"),
        [
            pytest.param((), FormatError, id="no input"),
            pytest.param((("a", "FP32", (1,)), ("b", "FP32", (1,))), FormatError, id="two inputs"),
            pytest.param((("a", "FP32", (2,)),), ShapeError, id="another size"),
            pytest.param((("a", "FP32", (1, -1, -1)),), FormatError, id="two variable axes"),
            pytest.param((("a", "FP32", None),), FormatError, id="no rank"),
            pytest.param((("a", "FP32", (-1, 0)),), ShapeError, id="no row of nothing"),
            pytest.param((("a", "BYTES", (2,)),), FormatError, id="two texts"),
            pytest.param((("a", "COMPLEX64", (-1,)),), DatatypeError, id="a foreign datatype"),
        ],
    )
    def test_what_cannot_be_deduced_is_refused(
        self, tensors: tuple[Any, ...], error: type[NbModelError]
    ) -> None:
        signature = Signature(tuple(Tensor(*tensor) for tensor in tensors))
        with pytest.raises(error):
            decode_raw_request(b"1234", signature, model="m")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        pytest.param(EXAMPLES["FP16"], "sending FP16 data via JSON", id="FP16"),
        pytest.param(np.array([b"\xff"], object), "not UTF-8", id="bytes that are not text"),
    ],
)
def test_an_output_that_json_cannot_carry_says_so(array: NDArray[Any], says: str) -> None:
    with pytest.raises(DatatypeError, match=says) as caught:
        encode_response(InferResponse("m", "1", {"y": array}), InferRequest("m", {}))
    assert "binary" in (caught.value.hint or "")


class TestSharedMemory:
    HERE = Region("r", 8, offset=16)
    PARAMETERS = {  # noqa: RUF012
        "shared_memory_region": "r",
        "shared_memory_byte_size": 8,
        "shared_memory_offset": 16,
    }

    def test_an_input_may_be_there(self) -> None:
        read = decode(request(entry(parameters=self.PARAMETERS)))
        assert read.inputs == {}
        assert read.shared_inputs == {"x": SharedTensor("FP32", (2,), self.HERE)}

    def test_an_output_may_go_there(self) -> None:
        outputs = [{"name": "y", "parameters": self.PARAMETERS}]
        read = decode(request(entry(data=[1, 2]), outputs=outputs))
        assert read.outputs == (RequestedOutput("y", region=self.HERE),)

    def test_what_we_write_comes_back(self) -> None:
        written = InferRequest(
            "m",
            {"a": np.ones(2, np.float32)},
            outputs=(RequestedOutput("y", region=self.HERE), RequestedOutput("z", True, 5)),
            shared_inputs={"x": SharedTensor("FP32", (2,), self.HERE)},
        )
        body = encode_request(written)
        read = decode(body.join(), body.header_length)
        assert (read.outputs, read.shared_inputs) == (written.outputs, written.shared_inputs)

    def test_its_answer_is_told_without_data(self) -> None:
        wanted = InferRequest(
            "m", {}, outputs=(RequestedOutput("s", region=self.HERE), RequestedOutput("y"))
        )
        shared = {"s": SharedTensor("FP32", (1, 2), self.HERE)}
        answer = InferResponse("m", "1", {"y": np.ones(1, np.int8)}, shared_outputs=shared)
        body = encode_response(answer, wanted)
        assert json.loads(body.join())["outputs"] == [
            {"name": "s", "datatype": "FP32", "shape": [1, 2]},
            {"name": "y", "datatype": "INT8", "shape": [1], "data": [1]},
        ]
        read = decode_response(body.join(), body.header_length)
        assert list(read.shared_outputs) == ["s"]


def test_an_empty_raw_request_is_refused() -> None:
    with pytest.raises(ShapeError, match="is empty"):
        decode_raw_request(b"", Signature((Tensor("x", "FP32", (-1, 4)),)), model="m")


def test_infinity_is_a_number_when_it_is_called_so() -> None:
    body = request(entry(data=[0, 0])).replace(b"[0, 0]", b"[-Infinity, NaN]")
    assert decode(body).inputs["x"].tolist()[0] == -np.inf
    body = request(entry("FP32", data=[1e300, 1]))  # infinite in FP32, as everywhere
    assert decode(body).inputs["x"].tolist() == [np.inf, 1]


def test_reserved_parameters_are_kept() -> None:
    given = {
        "sequence_id": "a",
        "sequence_start": True,
        "sequence_end": False,
        "priority": 0,
        "timeout": 2**64 - 1,
        "mine": 0.5,
    }
    read = decode(request(entry(data=[1, 2]), parameters={**given, "binary_data_output": True}))
    assert read.parameters == given
    assert read.binary_outputs


def test_classes_are_asked_for() -> None:
    outputs = [{"name": "y", "parameters": {"classification": 3, "binary_data": False}}]
    read = decode(request(entry(data=[1, 2]), outputs=outputs))
    assert read.outputs == (RequestedOutput("y", False, classification=3),)


def test_a_request_like_the_one_before_has_its_own_tensors() -> None:
    head = request(entry(parameters={"binary_data_size": 8}), parameters={"k": 1}, id="7")
    bodies = [head + np.array([i, i + 1], np.float32).tobytes() for i in (1, 2)]
    first, second = (decode(body, len(head)) for body in bodies)
    assert first.inputs["x"].tolist() == [1, 2]
    assert second.inputs["x"].tolist() == [2, 3]
    assert first.id == second.id == "7"
    with pytest.raises(TypeError):
        second.parameters["k"] = 2  # type: ignore[index]


def test_a_refused_request_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(FormatError, match="no field is set"):
            decode(request(entry()))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_an_empty_tensor_has_no_bytes_to_tell_of(shape: tuple[int, ...]) -> None:
    body = encode_response(
        InferResponse("m", "1", {"y": np.empty(shape, np.float32)}),
        InferRequest("m", {}, binary_outputs=True),
    )
    assert body.header_length is None
    assert body.headers == {"Content-Type": "application/json"}
    assert decode_response(body.join(), None).outputs["y"].shape == shape


def test_names_are_escaped() -> None:
    name = 'a"\\b\né'
    body = encode_response(
        InferResponse(name, name, {name: np.ones(1, np.int8)}, id=name, parameters={name: name}),
        InferRequest("m", {}),
    )
    read = decode_response(body.join(), None)
    assert (read.model, read.version, read.id, list(read.outputs)) == (name, name, name, [name])
    assert read.parameters == {name: name}


def test_numbers_that_json_does_not_have_are_written_as_triton_does() -> None:
    array = np.array([np.nan, np.inf, -np.inf], np.float32)
    body = encode_response(InferResponse("m", "1", {"y": array}), InferRequest("m", {}))
    assert b"[NaN,Infinity,-Infinity]" in body.join()
    assert from_numpy(array.dtype, what="y") == "FP32"
