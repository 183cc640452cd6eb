from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import InputError
from nbmodel.importing.signature import read_signature

SIGNATURE = Signature(
    (Tensor("x", "FP64", (-1, 4), profile="numerical"),),
    (Tensor("y", "INT64", (), profile="categorical"),),
)
SIDES = """
  inputs: { x: { shape: [-1, 4], type: float64, profile: numerical } }
  outputs: { y: { shape: scalar,  type: int64,   profile: categorical } }
"""
#: All keys of hydro-serving-cli 3.0.3.
SERVING = f"""kind: Model
name: my-model
runtime: "hydrosphere/serving-runtime-python-3.7:3.0.3"
install-command: "pip install -r requirements.txt"
training-data: s3://bucket/train.csv
payload: ["src/", "requirements.txt", "model.joblib"]
contract:
  name: predict{SIDES}
metadata: {{ author: me }}
monitoring:
  - name: auto-od
    config: {{ monitoring-model: "my-metric:1", threshold: 12, operator: "<=" }}
monitoring-configuration: {{ batch-size: 100 }}
"""
SPELT = {
    "serving.yaml": SERVING,
    "with-application.yaml": f"kind: Application\nname: a\n---\n{SERVING}---\n",
    "older.yml": "kind: Model\nname: m\ncontract:\n  infer:" + SIDES.replace("\n  ", "\n    "),
    "own.yaml": f"---\n{SIDES.replace(chr(10) + '  ', chr(10))}",
    "contract.yaml": f"contract:{SIDES}",
    "own.json": json.dumps(SIGNATURE.to_json(), indent=2),
    "json-without-suffix": json.dumps(SIGNATURE.to_json()),
}


@pytest.mark.parametrize(("name", "content"), SPELT.items(), ids=SPELT)
def test_a_file_says_a_signature(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_signature(tmp_path / name) == SIGNATURE
    assert read_signature(str(tmp_path / name)) == SIGNATURE


def test_values_mappings_and_json_text_say_one() -> None:
    assert read_signature(None) is None
    assert read_signature(SIGNATURE) is SIGNATURE
    assert read_signature(SIGNATURE.to_json()) == SIGNATURE
    assert read_signature(f" {json.dumps(SIGNATURE.to_json())}") == SIGNATURE


# The examples of hydro-serving-cli's README, of 2017 and of 2018, and one of the last protocol.
FIRST = """signatures {
  signature_name: "detect"
  inputs { field_name: "image_b64" info { dtype: DT_STRING } }
  outputs {
    field_name: "scores"
    info { dtype: DT_DOUBLE tensor_shape: { dim: { size: -1 } } }
  }
  outputs { field_name: "classes" info { dtype: DT_STRING tensor_shape: { dim: { size: -1 } } } }
}
"""
SECOND = """signatures {
  signature_name: "detect"
  inputs { name: "image_b64" dtype: DT_STRING }
  outputs { name: "scores" dtype: DT_DOUBLE shape { dim: { size: -1 } } }
  outputs { name: "classes" dtype: DT_STRING shape { dim: { size: -1 } } }
}
"""
LAST = """model_name: "detector"
predict {
  signature_name: "predict"
  inputs { name: "image_b64" dtype: DT_STRING }
  outputs { name: "scores" dtype: DT_DOUBLE shape { dims: -1 } profile: NUMERICAL }
  outputs { name: "classes" dtype: DT_STRING shape { dims: [-1] } }
}
"""
TRITON = """max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_INT64 dims: [1] }
"""
PROTOTEXTS = {
    "first": (FIRST, ["image_b64 BYTES[?]", "scores FP64[-1]", "classes BYTES[-1]"]),
    "second": (SECOND, ["image_b64 BYTES[?]", "scores FP64[-1]", "classes BYTES[-1]"]),
    "last": (LAST, ["image_b64 BYTES[?]", "scores FP64[-1]", "classes BYTES[-1]"]),
    "triton": (TRITON, ["x FP32[-1,4]", "y INT64[-1,1]"]),
}


@pytest.mark.parametrize(("content", "expected"), PROTOTEXTS.values(), ids=PROTOTEXTS)
def test_a_file_in_the_text_form_of_protocol_buffers_says_a_signature(
    tmp_path: Path, content: str, expected: list[str]
) -> None:
    (tmp_path / "contract.prototxt").write_text(content)
    signature = read_signature(tmp_path / "contract.prototxt")
    assert signature is not None
    assert [describe(one) for one in (*signature.inputs, *signature.outputs)] == expected


PRETTY = '{\n "inputs": {\n  "x": {\n   "type": "int8",\n   "shape": [\n    1,\n    2.5\n   ]\n  }\n }\n}'
WRONG: dict[str, tuple[str, str, str]] = {
    "a type": (
        "s.yaml",
        "inputs:\n  x:\n    type: flaot32\n",
        r"s.yaml, line 3: inputs.x.type: tensor 'x': unknown type 'flaot32'",
    ),
    "a shape": (
        "s.yaml",
        "inputs:\n  x:\n    type: int8\n    shape: scaler\n",
        r"s.yaml, line 4: inputs.x.shape: .*found 'scaler'",
    ),
    "a key": ("s.yaml", "inputs:\n  x:\n    shap: []\n", r"s.yaml, line 3: inputs.x.shap: .*unknown key"),
    "a label": (
        "s.yaml",
        "outputs:\n  y:\n    labels:\n    - a\n    - no\n",
        r"s.yaml, line 5: outputs.y.labels.1: expected a text, found False",
    ),
    "json": ("s.json", PRETTY, r"s.json, line 5: inputs.x.shape: .*whole numbers"),
    "json in one line": ("s.json", '{"inputs": [{"name": "x", "typ": 3}]}', r"line 1: inputs.0.typ"),
    "serving": (
        "serving.yaml",
        SERVING.replace("float64", "flaot64"),
        r"serving.yaml, line 9: contract.inputs.x.type: .*'flaot64'",
    ),
    "a key of serving": (
        "serving.yaml",
        SERVING.replace("payload:", "pay-load:"),
        r"serving.yaml, line 6: pay-load: unknown key 'pay-load'",
    ),
    "serving without a type": (
        "serving.yaml",
        SERVING.replace("type: int64,", ""),
        r"line 10: contract.outputs.y: tensor 'y' has no type",
    ),
    "serving without a contract": ("s.yaml", "kind: Model\nname: m\n", "the model has no contract"),
    "another kind": ("s.yaml", "kind: Application\nname: m\n", "expected one document of kind Model"),
    "a document without a kind": ("s.yaml", "kind: Model\n---\na: 1\n", r"s.yaml, line 3: no 'kind'"),
    "two signatures": ("s.yaml", "inputs: {}\n---\ninputs: {}\n", "s.yaml has 2 documents"),
    "one key twice": ("s.yaml", "inputs:\n  x: int8\n  x: int16\n", "'x' is given twice, again in line 3"),
    "one key twice in json": ("s.json", '{"inputs": {}, "inputs": {}}', "'inputs' is given twice"),
    "no yaml": ("s.yaml", "inputs: [", "s.yaml is not YAML"),
    "no json": ("s.json", "{", "s.json is not JSON"),
    "an alias": ("s.yaml", "inputs: &a {}\noutputs: *a\n", "an alias"),
    "nothing": ("s.yaml", "", "s.yaml has 0 documents, expected one"),
    "a list": ("s.yaml", "- x\n", "expected a mapping, found list"),
    "a type of a contract": (
        "c.prototxt",
        SECOND.replace("DT_DOUBLE", "DT_DUOBLE"),
        r"c.prototxt: outputs.0.dtype: tensor 'scores': unknown type 'DT_DUOBLE'",
    ),
    "a field of a contract": (
        "c.prototxt",
        LAST.replace("profile:", "profiel:"),
        r"c.prototxt: predict.outputs.0.profiel: .*unknown key",
    ),
    "two contracts": ("c.prototxt", FIRST + SECOND, "c.prototxt has 2 signatures, expected one"),
    "no contract": ("c.prototxt", "name: 3", "c.prototxt: expected one signature"),
    "no prototext": ("c.prototxt", "inputs {", "c.prototxt"),
    "a shape of something else": (
        "c.prototxt",
        "predict { inputs { name: 'x' shape: 3 } }",
        "expected shape to be scalar or whole numbers",
    ),
    "dimensions that are none": (
        "c.prototxt",
        "predict { inputs { name: 'x' shape { dim { name: 'n' } } } }",
        "expected shape to be scalar or whole numbers",
    ),
    "triton": ("config.pbtxt", TRITON.replace("FP32", "FP33"), "config.pbtxt: expected a data_type"),
    "code": ("s.yaml", "inputs: !!python/object/apply:os.getcwd []\n", "not YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_one_line_that_names_file_line_and_key(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem) as caught:
        read_signature(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param(3, "a int is no signature", id="a number"),
        pytest.param("missing.prototxt", "missing.prototxt: No such file", id="no such contract"),
        pytest.param("missing.yaml", "missing.yaml: it is not there", id="no such file"),
        pytest.param('{"inputs": }', "signature: not JSON", id="a text that is no JSON"),
    ],
)
def test_what_says_none_is_refused(given: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_signature(given)  # type: ignore[arg-type] # the point of it
    assert "\n" not in str(caught.value)
