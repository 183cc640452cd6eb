"""One suite for every backend in the table, on toy models with answers in closed form.

A backend takes part by an entry in ``TOYS``: functions that write its toy models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from nbmodel.backends import BACKENDS, Session, backends_for, load_backend, open_session
from nbmodel.core.signature import DATATYPES
from nbmodel.errors import (
    ConfigError,
    DatatypeError,
    InferenceError,
    NbModelError,
    ShapeError,
    TensorNameError,
)
from nbmodel.formats import read_model
from nbmodel.protocol.datatypes import to_numpy
from tests.tools.triton import packages

# --- toy models ------------------------------------------------------------------------


def onnx_model(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> bytes:
    onnx = pytest.importorskip("onnx", reason="toy models are made with onnx")
    graph = onnx.helper.make_graph(nodes, "toy", inputs, outputs)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    return model.SerializeToString()


def onnx_identity(datatype: str) -> bytes:
    """``y = x``, both [-1, 3]."""
    from onnx import helper

    element = ONNX_ELEMENTS[datatype]
    return onnx_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", element, ["n", 3])],
        [helper.make_tensor_value_info("y", element, ["n", 3])],
    )


def onnx_sums() -> bytes:
    """``sum = a + b`` and ``double = a + a``, all FP32[-1, 3]."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])

    return onnx_model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Add", ["a", "a"], ["double"]),
        ],
        [value("a"), value("b")],
        [value("sum"), value("double")],
    )


def tflite_model(
    operators: list[tuple[int, tuple[int, Any], list[int], list[int]]],
    tensors: list[tuple[str, int]],
    inputs: list[int],
    outputs: list[int],
) -> bytes:
    """A model of operators (code, options, inputs, outputs) over tensors (name, type) [-1, 3]."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="toy models are made with flatbuffers")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    graph = schema.SubGraphT()
    graph.inputs, graph.outputs = inputs, outputs
    graph.tensors, graph.operators = [], []
    for name, kind in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, kind, 0
        # Two rows at first: a session that never resizes is found out by one row or three.
        tensor.shape, tensor.shapeSignature, tensor.hasRank = [2, 3], [-1, 3], True
        graph.tensors.append(tensor)
    for number, (code, options, ins, outs) in enumerate(operators):
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = number, ins, outs
        operator.builtinOptionsType, operator.builtinOptions = options
        graph.operators.append(operator)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def tflite_identity(datatype: str) -> bytes:
    """``y = x``, both [-1, 3], from two rows on.

    SQUEEZE takes out axes of length 1, of which there are none; it alone takes every type.
    """
    from ai_edge_litert import schema_py_generated as schema

    kind = getattr(schema.TensorType, TFLITE_TYPES[datatype])
    options = (schema.BuiltinOptions.SqueezeOptions, schema.SqueezeOptionsT())
    return tflite_model(
        [(schema.BuiltinOperator.SQUEEZE, options, [0], [1])], [("x", kind), ("y", kind)], [0], [1]
    )


def tflite_sums() -> bytes:
    """``sum = a + b`` and ``double = a + a``, all FP32[-1, 3]."""
    from ai_edge_litert import schema_py_generated as schema

    add = schema.BuiltinOperator.ADD
    options = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    kind = schema.TensorType.FLOAT32
    return tflite_model(
        [(add, options, [0, 1], [2]), (add, options, [0, 0], [3])],
        [(name, kind) for name in ("a", "b", "sum", "double")],
        [0, 1],
        [2, 3],
    )


def python_model(inputs: list[Any], outputs: list[Any], answers: str) -> bytes:
    """A model of Triton's Python backend that answers with expressions of its inputs."""
    return f"""
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        inputs = {inputs}
        outputs = {outputs}
        for one in inputs:
            config.add_input(one)
        for one in outputs:
            config.add_output(one)
        config.set_max_batch_size(0)
        return config

    def execute(self, requests):
        responses = []
        for request in requests:
            given = {{one.name(): one.as_numpy() for one in request.inputs()}}
            answers = {answers}
            tensors = [pb_utils.Tensor(name, array) for name, array in answers.items()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
""".encode()


def python_tensor(name: str, datatype: str) -> dict[str, Any]:
    kind = "STRING" if datatype == "BYTES" else datatype
    return {"name": name, "data_type": f"TYPE_{kind}", "dims": [-1, 3]}


def python_identity(datatype: str) -> bytes:
    """``y = x``, both [-1, 3]."""
    return python_model(
        [python_tensor("x", datatype)], [python_tensor("y", datatype)], '{"y": given["x"]}'
    )


def python_sums() -> bytes:
    """``sum = a + b`` and ``double = a + a``, all FP32[-1, 3]."""
    return python_model(
        [python_tensor("a", "FP32"), python_tensor("b", "FP32")],
        [python_tensor("sum", "FP32"), python_tensor("double", "FP32")],
        '{"sum": given["a"] + given["b"], "double": given["a"] + given["a"]}',
    )


ONNX_ELEMENTS = {
    "FP32": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BYTES": 8,
    "BOOL": 9, "FP16": 10, "FP64": 11, "UINT32": 12, "UINT64": 13, "BF16": 16,
}  # fmt: skip
TFLITE_TYPES = {
    "FP32": "FLOAT32", "UINT8": "UINT8", "INT8": "INT8", "UINT16": "UINT16", "INT16": "INT16",
    "INT32": "INT32", "INT64": "INT64", "BYTES": "STRING", "BOOL": "BOOL", "FP16": "FLOAT16",
    "FP64": "FLOAT64", "UINT32": "UINT32", "UINT64": "UINT64",
}  # fmt: skip


@dataclass(frozen=True)
class Toys:
    suffix: str
    modules: tuple[str, ...]
    identity: Callable[[str], bytes]
    sums: Callable[[], bytes]
    datatypes: frozenset[str]
    #: What a service has to say besides ``model_path``.
    more: Callable[[pytest.FixtureRequest], dict[str, Any]] = lambda _: {}


def in_triton(request: pytest.FixtureRequest) -> dict[str, Any]:
    """ONNX Runtime inside the Python backend, which the tritonserver of the wheel has alone."""
    parameters = {"python_path": {"string_value": ":".join(packages())}}
    return {
        "model_name": "toy",
        "address": request.getfixturevalue("triton_address"),
        "model_config": {"backend": "python", "parameters": parameters},
    }


TOYS = {
    "onnx_cpu": Toys(".onnx", ("onnxruntime",), onnx_identity, onnx_sums, frozenset(ONNX_ELEMENTS)),
    # On a GPU where there is one, else on what takes its place.
    "onnx_gpu": Toys(
        ".onnx",
        ("onnxruntime",),
        onnx_identity,
        onnx_sums,
        frozenset(ONNX_ELEMENTS),
        lambda _: {"allow_cpu": True},
    ),
    # numpy has no bfloat16.
    "python": Toys(".py", (), python_identity, python_sums, frozenset(ONNX_ELEMENTS) - {"BF16"}),
    # LiteRT's Python interface has no bfloat16.
    "tflite_cpu": Toys(
        ".tflite", ("ai_edge_litert",), tflite_identity, tflite_sums, frozenset(TFLITE_TYPES)
    ),
    # The Python backend has no bfloat16 in numpy.
    "triton": Toys(
        ".onnx",
        ("tritonclient", "onnxruntime"),
        onnx_identity,
        onnx_sums,
        frozenset(ONNX_ELEMENTS) - {"BF16"},
        in_triton,
    ),
}

#: The values of each datatype that are easiest to get wrong, [2, 3].
VALUES: Mapping[str, list[list[Any]]] = {
    "BOOL": [[True, False, True], [False, False, True]],
    "UINT8": [[0, 1, 255], [128, 127, 2]],
    "UINT16": [[0, 1, 65535], [32768, 32767, 2]],
    "UINT32": [[0, 1, 2**32 - 1], [2**31, 2**31 - 1, 2]],
    "UINT64": [[0, 1, 2**64 - 1], [2**63, 2**53 + 1, 2]],
    "INT8": [[0, -1, 127], [-128, 1, 2]],
    "INT16": [[0, -1, 32767], [-32768, 1, 2]],
    "INT32": [[0, -1, 2**31 - 1], [-(2**31), 1, 2]],
    "INT64": [[0, -1, 2**63 - 1], [-(2**63), 2**53 + 1, 2]],
    "FP16": [[0.0, -0.0, 65504.0], [6e-8, float("inf"), float("nan")]],
    "FP32": [[0.0, -0.0, 3.4028235e38], [1e-45, float("inf"), float("nan")]],
    "FP64": [[0.0, -0.0, 1.7976931348623157e308], [5e-324, float("-inf"), float("nan")]],
    "BF16": [[0.0, -0.0, 3.3895314e38], [1e-38, float("inf"), float("nan")]],
    "BYTES": [[b"", b"a", "é".encode()], [b"a\0b", b"tail\0", b"\n"]],
}


def values(datatype: str) -> NDArray[Any]:
    return np.array(VALUES[datatype], object).astype(to_numpy(datatype))


#: Without subnormal numbers, which LiteRT's kernels may take for zero.
FLOATS = st.floats(-100, 100, width=32, allow_subnormal=False)

# --- fixtures --------------------------------------------------------------------------


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name == "triton" else name
        for name in BACKENDS.names()
    ]
)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    assert name in TOYS, f"add toy models for the backend {name!r} to TOYS"
    for module in TOYS[name].modules:
        pytest.importorskip(module, reason="pip install 'nbmodel[runtime]'")
    return name


@pytest.fixture
def toys(backend: str) -> Toys:
    return TOYS[backend]


@pytest.fixture
def write(toys: Toys, tmp_path: Path) -> Callable[[bytes], Path]:
    def write_model(content: bytes) -> Path:
        path = tmp_path / f"model{toys.suffix}"
        path.write_bytes(content)
        return path

    return write_model


@pytest.fixture
def load(
    backend: str, toys: Toys, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Session]]:
    sessions = []

    def load_model(path: Path, **attributes: Any) -> Session:
        given = {"model_path": str(path), **toys.more(request), **attributes}
        sessions.append(load_backend(backend).load(given))
        return sessions[-1]

    yield load_model
    for session in sessions:
        session.close()


@pytest.fixture
def sums(load: Callable[..., Session], toys: Toys, write: Callable[[bytes], Path]) -> Session:
    return load(write(toys.sums()))


def ones(rows: int = 2) -> NDArray[np.float32]:
    return np.ones((rows, 3), np.float32)


# --- the suite -------------------------------------------------------------------------


def test_the_suite_knows_every_datatype():
    assert set(VALUES) == set(DATATYPES)


class TestDatatypes:
    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_values_pass_unchanged(self, load, backend, toys, write, datatype):
        if datatype not in toys.datatypes:
            pytest.skip(f"the engine of {backend} has no {datatype}")
        expected = values(datatype)
        session = load(write(toys.identity(datatype)))
        answer = session.infer({"x": expected})["y"]
        assert answer.dtype == expected.dtype
        assert answer.shape == (2, 3)
        if datatype == "BYTES":
            assert answer.tolist() == expected.tolist()
        else:
            assert answer.tobytes() == expected.tobytes()  # bit for bit: -0.0 and NaN too

    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_the_signature_is_what_the_file_says(self, load, backend, toys, write, datatype):
        if datatype not in toys.datatypes:
            pytest.skip(f"the engine of {backend} has no {datatype}")
        path = write(toys.identity(datatype))
        session = load(path)
        assert session.signature == read_model(path).signature
        assert session.signature.inputs[0].datatype == datatype

    def test_text_is_taken_for_bytes(self, load, backend, toys, write):
        session = load(write(toys.identity("BYTES")))
        answer = session.infer({"x": np.array([["a", "é", ""]] * 2)})["y"]
        assert answer.tolist() == [[b"a", "é".encode(), b""]] * 2

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_any_layout_in_memory_is_taken(self, sums, data):
        shape = st.tuples(st.integers(1, 4), st.just(3))
        a = data.draw(hnp.arrays("f4", shape, elements=FLOATS))
        layout = data.draw(
            st.sampled_from(
                [
                    np.asfortranarray,
                    lambda x: np.repeat(x, 2, axis=0)[::2],
                    lambda x: x[::-1].copy()[::-1],
                    lambda x: x.astype(">f4"),
                ]
            )
        )
        answer = sums.infer({"a": layout(a), "b": layout(a)})
        # One float32 addition, which is rounded alike everywhere.
        assert np.array_equal(answer["sum"], a + a)


class TestInference:
    def test_outputs_come_in_the_order_asked_for(self, sums):
        feed = {"a": ones(), "b": 2 * ones()}
        assert list(sums.infer(feed)) == ["sum", "double"]
        assert list(sums.infer(feed, ["double", "sum"])) == ["double", "sum"]
        assert list(sums.infer(feed, ["double"])) == ["double"]
        assert sums.infer(feed, []) == {}

    def test_the_order_of_inputs_means_nothing(self, sums):
        a, b = ones(), 5 * ones()
        assert sums.infer({"b": b, "a": a})["double"].tolist() == (2 * ones()).tolist()

    @pytest.mark.parametrize("rows", [1, 2, 7, 64])
    def test_a_batch_answers_as_its_rows_do(self, sums, rows):
        a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        batch = sums.infer({"a": a, "b": a + 1})["sum"]
        single = [sums.infer({"a": row[None], "b": row[None] + 1})["sum"][0] for row in a]
        assert batch.tolist() == (2 * a + 1).tolist()
        assert np.array_equal(batch, np.stack(single))

    def test_answers_belong_to_the_caller(self, sums):
        a, b = ones(), ones()
        first = sums.infer({"a": a, "b": b})
        first["sum"][:] = -1
        first["double"][:] = -2
        second = sums.infer({"a": a, "b": b})
        assert first["sum"].tolist() == (-1 * ones()).tolist()
        assert second["sum"].tolist() == (2 * ones()).tolist()
        assert a.tolist() == b.tolist() == ones().tolist()
        assert not np.shares_memory(first["sum"], second["sum"])

    def test_inputs_may_be_read_only(self, sums):
        a = np.frombuffer(ones().tobytes(), np.float32).reshape(2, 3)
        assert sums.infer({"a": a, "b": a})["sum"].tolist() == (2 * ones()).tolist()

    def test_threads_get_their_own_answers(self, sums):
        wrong: list[str] = []

        def work(number: int) -> None:
            rows = 1 + number % 4
            a = np.full((rows, 3), number, np.float32)
            for _ in range(20):
                answer = sums.infer({"a": a, "b": a})["sum"]
                if not np.array_equal(answer, a + a):
                    wrong.append(f"thread {number} got {answer}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_two_threads_per_inference_answer_the_same(self, load, backend, toys, write):
        if not load_backend(backend).runs_here:
            pytest.skip("its threads are its server's")
        path = write(toys.sums())
        session = load(path, num_threads=2)
        assert session.infer({"a": ones(), "b": ones()})["sum"].tolist() == (2 * ones()).tolist()


REQUESTS = {
    "a missing input": ({"a": ones()}, None, TensorNameError, "missing input 'b'"),
    "an unexpected input": (
        {"a": ones(), "b": ones(), "c": ones()},
        None,
        TensorNameError,
        "unexpected input 'c'",
    ),
    "another datatype": (
        {"a": ones().astype(np.float64), "b": ones()},
        None,
        DatatypeError,
        "input 'a' is FP32, found FP64",
    ),
    "a datatype nothing carries": (
        {"a": ones().astype(np.complex64), "b": ones()},
        None,
        DatatypeError,
        "input 'a' is an array of complex64",
    ),
    "rows of unequal length": (
        {"a": [[1.0], [1.0, 2.0]], "b": ones()},
        None,
        DatatypeError,
        "input 'a' is not an array",
    ),
    "another size": (
        {"a": np.ones((2, 4), np.float32), "b": ones()},
        None,
        ShapeError,
        r"input 'a' has shape \[-1, 3\], found \[2, 4\]",
    ),
    "another rank": (
        {"a": np.ones(3, np.float32), "b": ones()},
        None,
        ShapeError,
        r"input 'a' has shape \[-1, 3\], found \[3\]",
    ),
    "an unknown output": (
        {"a": ones(), "b": ones()},
        ["sum", "total"],
        TensorNameError,
        "unexpected output 'total'",
    ),
    "rows that cannot be added": (
        {"a": ones(2), "b": ones(3)},
        None,
        InferenceError,
        "model.* cannot be run",
    ),
}


class TestRefusals:
    @pytest.mark.parametrize(
        ("inputs", "outputs", "error", "message"), REQUESTS.values(), ids=REQUESTS
    )
    def test_a_wrong_request_says_what_is_wrong(self, sums, inputs, outputs, error, message):
        with pytest.raises(error, match=message):
            sums.infer(inputs, outputs)
        # and the session goes on as if nothing had happened
        assert sums.infer({"a": ones(), "b": ones()})["sum"].tolist() == (2 * ones()).tolist()

    def test_a_closed_session_says_so(self, sums):
        sums.close()
        sums.close()
        with pytest.raises(InferenceError, match=r"session of model.* is closed"):
            sums.infer({"a": ones(), "b": ones()})


class TestLoading:
    @pytest.mark.parametrize(
        "content",
        [b"", b"hello, this is text\n" * 50, None, bytes(4096)],
        ids=["an empty file", "a text", "half a model", "zeros"],
    )
    def test_a_file_that_is_no_model_is_named(self, load, backend, toys, write, content):
        if content is None:
            whole = toys.sums()
            content = whole[: len(whole) // 2]
        path = write(content)
        with pytest.raises(InferenceError, match=f"{backend} cannot load {path.name}: "):
            load(path)

    def test_files_that_are_not_there_are_all_named(self, backend, toys, tmp_path):
        attributes = {
            "model_path": str(tmp_path / f"none{toys.suffix}"),
            "label_path": str(tmp_path / "none.txt"),
        }
        with pytest.raises(ConfigError) as caught:
            load_backend(backend).load(attributes)
        assert len(caught.value.problems) == 2
        assert caught.value.problems[0].startswith("model_path is not a file: ")
        assert caught.value.problems[1].startswith("label_path cannot be read: ")

    def test_a_folder_is_no_model(self, load, backend, toys, tmp_path):
        folder = tmp_path / f"model{toys.suffix}"
        folder.mkdir()
        with pytest.raises(ConfigError, match="model_path is not a file"):
            load(folder)

    def test_any_path_will_do(self, load, backend, toys, tmp_path):
        path = tmp_path / "Ünï ço∂e & spaces" / f"a model.v1{toys.suffix.upper()}"
        path.parent.mkdir()
        path.write_bytes(toys.sums())
        session = load(path)
        assert session.infer({"a": ones(), "b": ones()})["sum"].tolist() == (2 * ones()).tolist()

    def test_labels_go_to_the_output_they_count(self, load, backend, toys, write, tmp_path):
        labels = tmp_path / "labels.txt"
        labels.write_text("cat\ndog\nfish\n")
        path = write(toys.sums())
        session = load(path, label_path=str(labels))
        assert session.signature.labels == ("cat", "dog", "fish")

    def test_a_format_finds_its_backend(self, backend, toys, write):
        for framework in load_backend(backend).formats:
            assert backend in backends_for(framework)
            if not load_backend(backend).runs_here:
                continue  # a file is not all that it needs
            session = open_session(write(toys.sums()), framework, threads=1)
            assert [tensor.name for tensor in session.signature.inputs] == ["a", "b"]


def attribute_rows(path: str) -> dict[str, tuple[dict[str, Any], list[str]]]:
    threads = "attribute 'num_threads' must be an integer from 1 to 256, found "
    return {
        "the path alone": ({"model_path": path}, []),
        "all there are": (
            {"model_path": path, "label_path": "l", "num_threads": 4, "package_reference": "o/m"},
            [],
        ),
        "an empty label path": ({"model_path": path, "label_path": ""}, []),
        "a placeholder": ({"model_path": "${packages.ml_model.m}/" + path}, []),
        "no path": ({}, ["attribute 'model_path' is required by "]),
        "a path that is a number": (
            {"model_path": 3},
            ["attribute 'model_path' must be a string, found 3"],
        ),
        "another suffix": ({"model_path": "m.bin"}, ["attribute 'model_path' must end in ."]),
        "no threads": ({"model_path": path, "num_threads": 0}, [threads + "0"]),
        "negative threads": ({"model_path": path, "num_threads": -1}, [threads + "-1"]),
        "threads that are true": ({"model_path": path, "num_threads": True}, [threads + "True"]),
        "threads in text": ({"model_path": path, "num_threads": "2"}, [threads + "'2'"]),
        "threads with a fraction": ({"model_path": path, "num_threads": 1.5}, [threads + "1.5"]),
        "labels that are a list": (
            {"model_path": path, "label_path": ["a"]},
            ["attribute 'label_path' must be a string, found ['a']"],
        ),
        "a misspelt name": (
            {"model_path": path, "num_thread": 2},
            ["attribute 'num_thread' is unknown to "],
        ),
        "three at once": (
            {"modelpath": path, "num_threads": 0},
            ["attribute 'modelpath' is unknown", "attribute 'model_path' is required", threads],
        ),
    }


class TestAttributes:
    @pytest.mark.parametrize("row", attribute_rows(""))
    def test_every_problem_is_a_sentence(self, backend, toys, row):
        if not load_backend(backend).runs_here:
            pytest.skip("its attributes are its own, and so are the tests of them")
        attributes, expected = attribute_rows(f"model{toys.suffix}")[row]
        problems = load_backend(backend).check(attributes)
        assert len(problems) == len(expected)
        for problem, start in zip(problems, expected, strict=True):
            assert problem.startswith(start)
        if expected:
            with pytest.raises(ConfigError) as caught:
                load_backend(backend).load(attributes)
            assert list(caught.value.problems) == problems

    def test_a_misspelt_attribute_is_guessed(self, backend):
        problems = load_backend(backend).check({"model_paths": "x"})
        assert "did you mean 'model_path'?" in problems[0]

    def test_every_attribute_is_described(self, backend):
        for attribute in load_backend(backend).attributes:
            assert attribute.help


class TestRealModels:
    @pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
    def test_the_engine_and_the_file_agree_on_every_tensor(self, test_models, suffix):
        paths = sorted(test_models.glob(f"*{suffix}"))
        for path in paths:
            facts = read_model(path)
            try:
                session = open_session(path, facts.framework)
            except InferenceError:
                assert path.name == "model_invoking_error.tflite"
                continue
            engine, file = session.signature, facts.signature
            for mine, theirs in zip(
                (*engine.inputs, *engine.outputs), (*file.inputs, *file.outputs), strict=True
            ):
                assert (mine.name, mine.datatype) == (theirs.name, theirs.datatype)
                assert mine.quantization == theirs.quantization
                assert theirs.fits(mine.shape or ())


def test_every_error_of_a_backend_is_one_of_ours(load, backend, toys, write):
    path = write(toys.sums()[:100])
    with pytest.raises(NbModelError):
        load(path)
