"""Models of Triton's Python backend: what their code says without being run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nbmodel.core.signature import describe
from nbmodel.errors import FormatError
from nbmodel.formats import read_model
from nbmodel.formats.python_model import MAX_CODE, PythonModel

HEAD = '''raise SystemExit("it was run")


class TritonPythonModel:
    """A model."""

    @staticmethod
    def auto_complete_config(config):
'''
TAIL = """

    def execute(self, requests):
        config.add_input({"name": "no", "data_type": "TYPE_FP32", "dims": [1]})
        return []
"""
#: As the examples of Triton's Python backend do it.
EXAMPLE = """
        inputs = [
            {"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]},
            {"name": "INPUT1", "data_type": "TYPE_STRING", "dims": [-1, 2]},  # words
        ]
        outputs = [{"name": "OUTPUT0", "data_type": "TYPE_INT64", "dims": [4]}]

        # What was configured by hand stays.
        known = config.as_dict()
        input_names = []
        for input in known["input"]:
            input_names.append(input["name"])
        for input in inputs:
            if input["name"] not in input_names:
                config.add_input(input)
        for output in outputs:
            config.add_output(output)
        config.set_max_batch_size(0)
        config.set_dynamic_batching()
        return config
"""
ONE = """
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [2]})
"""


def model(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "model.py"
    path.write_text(HEAD + body + TAIL)
    return path


def told(tmp_path: Path, body: str) -> list[str]:
    signature = PythonModel().read(model(tmp_path, body)).signature
    return list(map(describe, signature.inputs + signature.outputs))


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        pytest.param(
            EXAMPLE,
            ["INPUT0 FP32[4]", "INPUT1 BYTES[-1,2]", "OUTPUT0 INT64[4]"],
            id="triton's example",
        ),
        pytest.param(ONE, ["x FP32[2]", "y FP32[2]"], id="a call each"),
        pytest.param(
            f"        config.set_max_batch_size(8)\n{ONE}",
            ["x FP32[-1,2]", "y FP32[-1,2]"],
            id="batches",
        ),
        pytest.param(
            ONE.replace('{"name": "x"', '{\n  "name":\n"x"').replace("[2]", "(\n  -1,\n  2,\n)"),
            ["x FP32[-1,2]", "y FP32[-1,2]"],
            id="over lines",
        ),
        pytest.param(
            ONE.replace('"x"', "'x'").replace('"y"', '"""y"""'), ["x FP32[2]", "y FP32[2]"], id="quotes"
        ),
        pytest.param(
            f"        dims = [2]\n        {ONE.strip()}".replace("[2]})", "dims})"),
            ["x FP32[2]", "y FP32[2]"],
            id="a name for a value",
        ),
    ],
)  # fmt: skip
def test_plain_values_are_read(tmp_path: Path, body: str, tensors: list[str]) -> None:
    assert told(tmp_path, body) == tensors


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("        return config\n", id="nothing is added"),
        pytest.param(ONE.replace("[2]", "[SIZE]"), id="a name from outside"),
        pytest.param(ONE.replace("[2]", "[2 + 1]"), id="arithmetic"),
        pytest.param(ONE.replace("[2]", "[2] * 3"), id="an operator behind"),
        pytest.param(ONE.replace('"x"', 'f"x{1}"'), id="a text that is put together"),
        pytest.param(ONE.replace('"x"', '"x" "y"'), id="texts beside each other"),
        pytest.param(ONE.replace('"TYPE_FP32"', "kind()"), id="a call"),
        pytest.param(ONE.replace("TYPE_FP32", "TYPE_FLOAT"), id="no type of Triton's"),
        pytest.param(f"        if BIG:\n{ONE}", id="a branch"),
        pytest.param(f"        while True:\n{ONE}", id="a loop"),
        pytest.param(f"        d = [2]\n        d += [3]\n{ONE.replace('[2]', 'd')}", id="added to"),
        pytest.param(f"        d = [2]\n        d.append(3)\n{ONE.replace('[2]', 'd')}", id="appended to"),
        pytest.param(f"        d = [2]\n        d[0] = 3\n{ONE.replace('[2]', 'd')}", id="set in place"),
        pytest.param(f"        d = [2]\n        d = f(d)\n{ONE.replace('[2]', 'd')}", id="given twice"),
        pytest.param(f"        config.set_max_batch_size(N)\n{ONE}", id="batches of unknown size"),
        pytest.param(ONE + ONE, id="a name twice"),
        pytest.param('        """open\n' + ONE, id="a text without end"),
        pytest.param("        config.add_input(" + "[" * 99, id="brackets without end"),
    ],
)  # fmt: skip
def test_what_only_running_it_would_tell_is_not_guessed(tmp_path: Path, body: str) -> None:
    facts = PythonModel().read(model(tmp_path, body))
    assert facts.gap == "model.py does not tell its tensors in auto_complete_config"
    assert not (facts.signature.inputs and facts.signature.outputs)


def test_a_configuration_beside_it_wins(tmp_path: Path) -> None:
    path = model(tmp_path, ONE)
    (tmp_path / "config.pbtxt").write_text(
        'input { name: "a" data_type: TYPE_BOOL dims: 1 }'
        'output { name: "b" data_type: TYPE_BOOL dims: 1 }'
    )
    facts = read_model(path)
    assert [one.name for one in facts.signature.inputs] == ["a"]
    assert facts.metadata == {"signature_from": "config.pbtxt"}
    assert facts.external == ("config.pbtxt",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"import numpy\n", r"no class TritonPythonModel\), *starts|starts with b'import numpy"),
        (b"# class TritonPythonModel:\n", "no class TritonPythonModel"),
        (b"class TritonPythonModel:\n    x = '\xff'\n", "expected UTF-8"),
        (b"class TritonPythonModel:\n\0", "no class TritonPythonModel"),
        (b"class TritonPythonModel:\n" + b"#" * MAX_CODE, "expected at most 1,048,576"),
    ],
)
def test_other_code_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "model.py"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=problem):
        PythonModel().read(path)


@pytest.mark.parametrize(
    "piece", ["'", '"', '"\\', "'''", '"""', "{", "[", "(", "-", "a=", "for a in ", "add_input(", "if a[0]"]
)  # fmt: skip
def test_no_code_keeps_the_reader_busy(tmp_path: Path, piece: str) -> None:
    path = model(tmp_path, f"        {piece * ((MAX_CODE - 2000) // len(piece))}\n")
    begin = time.perf_counter()
    PythonModel().read(path)
    assert time.perf_counter() - begin < 10
