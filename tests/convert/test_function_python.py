"""Plain functions to Python models: what comes along, what is refused, and in which words."""

from __future__ import annotations

import ast
import os as system
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import load_backend
from nbmodel.convert import Converted, convert
from nbmodel.convert.function_code import read_function
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ConversionError
from nbmodel.formats import read_model

X = np.arange(6, dtype=np.float32).reshape(3, 2)
FACTOR = 2


def double(x: np.ndarray) -> Any:
    """Twice."""
    return x * 2


def with_an_import(x, power=2.0):
    import math

    return np.float32(math.pow(power, 3)) * x


def with_modules(x):
    system.getpid()
    return np.sqrt(x)


def recursive(x, depth=3):
    return x if depth == 0 else recursive(x + 1, depth - 1)


def with_inner(x):
    def inner(value):
        return [one + unit for one in value]

    unit: float = 1.0
    return np.array(inner(x), np.float32)


def of_two(a, b):
    return a + b, (a - b).sum()


def in_a_dictionary(a, b):
    return {"sum": a + b, "is larger": a > b}


def of_texts(words):
    return np.array([word.decode().upper() for word in words])


def of_three_rows(x):
    assert len(x) == 3
    return x


def changing(x):
    x += 1
    return x


def with_a_constant(x):
    return x * FACTOR


def with_a_helper(x):
    return double(x) + FACTOR


def with_a_default(x, factor=FACTOR):
    return x * factor


def of_many(*arrays):
    return arrays[0]


def of_nothing(x):
    return None


def failing(x):
    raise ValueError("no such row")


def generating(x):
    yield x


@pytest.fixture
def run(tmp_path: Path):
    def run_converted(made: Converted) -> tuple[Signature, dict[str, Any]]:
        """Its signature, as the file tells it, and answers to its golden inputs, in a process."""
        for path, content in made.files.items():
            (tmp_path / path).write_bytes(content)
        session = load_backend("python").load({"model_path": str(tmp_path)})
        try:
            signature = read_model(tmp_path / "model.py").signature
            assert session.signature == signature
            return signature, session.infer(made.golden.inputs)
        finally:
            session.close()

    return run_converted


TAKEN = {
    "an array": (double, X, (Tensor("x", "FP32", (-1, 2)),), (Tensor("output", "FP32", (-1, 2)),)),
    "an import of its own": (
        with_an_import,
        X,
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("output", "FP32", (-1, 2)),),
    ),
    "modules imported beside it": (
        with_modules,
        X,
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("output", "FP32", (-1, 2)),),
    ),
    "itself": (recursive, X, (Tensor("x", "FP32", (-1, 2)),), (Tensor("output", "FP32", (-1, 2)),)),
    "functions in it": (
        with_inner,
        X,
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("output", "FP32", (-1, 2)),),
    ),
    "several arrays": (
        of_two,
        (X, X + 1),
        (Tensor("a", "FP32", (3, 2)), Tensor("b", "FP32", (3, 2))),
        (Tensor("output_0", "FP32", (3, 2)), Tensor("output_1", "FP32", (1,))),
    ),
    "a dictionary": (
        in_a_dictionary,
        {"a": X, "b": X[::-1]},
        (Tensor("a", "FP32", (-1, 2)), Tensor("b", "FP32", (-1, 2))),
        (Tensor("sum", "FP32", (-1, 2)), Tensor("is larger", "BOOL", (-1, 2))),
    ),
    "texts": (
        of_texts,
        ["a", "é"],
        (Tensor("words", "BYTES", (-1,)),),
        (Tensor("output", "BYTES", (-1,)),),
    ),
    "a number of rows": (
        of_three_rows,
        X,
        (Tensor("x", "FP32", (3, 2)),),
        (Tensor("output", "FP32", (3, 2)),),
    ),
    "what changes its input": (
        changing,
        X,
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("output", "FP32", (-1, 2)),),
    ),
}


@pytest.mark.unhurried
@pytest.mark.parametrize(("function", "sample", "inputs", "outputs"), TAKEN.values(), ids=TAKEN)
def test_a_function_answers_in_its_process_as_it_does_here(
    run, function, sample, inputs, outputs
) -> None:
    made = convert(function, sample)
    signature, answers = run(made)
    assert signature == Signature(inputs, outputs)
    assert made.files.keys() == {"model.py"}
    assert answers.keys() == made.golden.outputs.keys()
    for name, expected in made.golden.outputs.items():
        assert answers[name].tolist() == expected.tolist()


def test_of_many_rows_a_few_are_kept() -> None:
    made = convert(double, np.ones((100, 2), np.float32))
    assert made.golden.inputs["x"].shape == (16, 2)


def test_what_it_imports_beyond_numpy_is_required_at_the_version_that_is_here() -> None:
    pytest.importorskip("pandas", reason="a package that is installed")
    from importlib.metadata import version

    def frame(x):
        import json

        import pandas as pd

        return pd.DataFrame(x).to_numpy() * len(json.dumps({}))

    made = convert(frame, X)
    assert made.files["requirements.txt"].decode() == f"pandas=={version('pandas')}\n"


def test_the_text_is_read_by_people_too() -> None:
    code = convert(double, X).files["model.py"].decode()
    assert '"""Twice."""' in code
    ast.parse(code)


def closing_over(value: int):
    def inner(x):
        return x + value

    return inner


REFUSED = {
    "a constant beside it": (with_a_constant, X, "uses 'FACTOR', which is defined outside of it"),
    "a function beside it": (with_a_helper, X, "uses 'FACTOR', 'double', which is defined"),
    "a default from beside it": (with_a_default, X, "uses 'FACTOR'"),
    "the function around it": (closing_over(3), X, "uses 'value' of the function around it"),
    "no name": (lambda x: x, X, "is no function made with def|cannot be read"),
    "any number of arrays": (of_many, X, r"takes \*arrays, expected parameters with names"),
    "a generator": (generating, X, "is a generator"),
    "nothing returned": (of_nothing, X, "returns nothing"),
    "an error": (failing, X, "cannot answer the sample as arrays: ValueError: no such row"),
    "no sample": (double, None, r"does not tell what arrays it takes: double\(x\)"),
    "another sample": (of_two, {"a": X}, "expected an array for each of a, b, found a sample of a"),
    "a single value": (double, 3.0, "x is a single value"),
}


@pytest.mark.parametrize(("function", "sample", "told"), REFUSED.values(), ids=REFUSED)
def test_a_function_that_cannot_travel_says_why(function, sample, told) -> None:
    with pytest.raises(ConversionError, match=told):
        convert(function, sample)


def test_whoever_needs_what_is_around_is_told_what_to_do() -> None:
    with pytest.raises(ConversionError) as caught:
        convert(with_a_constant, X)
    assert "write a folder with a model.py" in str(caught.value.hint)


def test_a_function_of_no_file_has_no_source() -> None:
    names: dict[str, Any] = {}
    exec("def made(x):\n    return x", names)
    with pytest.raises(ConversionError, match="the source of made cannot be read"):
        convert(names["made"], X)


def test_modules_come_as_they_are_called() -> None:
    code = read_function(with_modules)
    assert code.imports == ("import numpy as np", "import os as system")
    assert code.requirements == ()
