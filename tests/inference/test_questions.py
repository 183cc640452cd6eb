from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from nbmodel.errors import FormatError, InputError
from nbmodel.inference import questions
from nbmodel.inference.questions import Question, RepositoryModel


@pytest.mark.parametrize(
    ("question", "method", "path"),
    [
        (questions.is_live(), "GET", "/v2/health/live"),
        (questions.is_ready(), "GET", "/v2/health/ready"),
        (questions.is_model_ready("a/b", "2"), "GET", "/v2/models/a%2Fb/versions/2/ready"),
        (questions.server_metadata(), "GET", "/v2"),
        (questions.model_metadata("m"), "GET", "/v2/models/m"),
        (questions.model_config("m", "1"), "GET", "/v2/models/m/versions/1/config"),
        (questions.statistics(), "GET", "/v2/models/stats"),
        (questions.statistics("m"), "GET", "/v2/models/m/stats"),
        (questions.repository_index(), "POST", "/v2/repository/index"),
        (questions.load_model("m"), "POST", "/v2/repository/models/m/load"),
        (questions.unload_model("ä"), "POST", "/v2/repository/models/%C3%A4/unload"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_paths_are_the_protocols(question: Question[Any], method: str, path: str) -> None:
    assert (question.method, question.path) == (method, path)


@pytest.mark.parametrize(
    ("model", "version"), [("", ""), (".", ""), ("..", ""), ("m", "v1"), ("m", "-1"), ("m", "²")]
)
def test_a_name_that_is_none_is_refused(model: str, version: str) -> None:
    with pytest.raises(InputError, match=r"name of a model|expected a number"):
        questions.model_metadata(model, version)
    if not version:
        for change in (questions.load_model, questions.unload_model):
            with pytest.raises(InputError, match="name of a model"):
                change(model)


def test_loading_carries_config_and_files() -> None:
    question = questions.load_model("m", {"backend": "x"}, {"1/model.onnx": b"\0\1"})
    assert question.content is not None
    parameters = json.loads(question.content)["parameters"]
    assert json.loads(parameters["config"]) == {"backend": "x"}
    assert base64.b64decode(parameters["file:1/model.onnx"]) == b"\0\1"
    with pytest.raises(InputError, match="need a config"):
        questions.load_model("m", files={"1/m": b""})
    with pytest.raises(InputError, match="cannot be written as JSON"):
        questions.load_model("m", {"x": float("nan")})


def test_an_index_is_read_with_what_the_server_leaves_out() -> None:
    body = json.dumps([{"name": "a", "version": "1", "state": "READY"}, {"name": "b"}]).encode()
    assert questions.repository_index().read(200, body) == (
        RepositoryModel("a", "1", "READY"),
        RepositoryModel("b"),
    )


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"3", b'{"inputs": 3}', b"[3]", b"[" * 5000, b'{"versions": 3}']
)
@pytest.mark.parametrize(
    "question",
    [questions.model_metadata("m"), questions.repository_index()],
    ids=["an object", "an array"],
)
def test_what_is_not_the_protocols_is_refused(question: Question[Any], body: bytes) -> None:
    with pytest.raises(FormatError):
        question.read(200, body)


@pytest.mark.parametrize(
    "question",
    [questions.server_metadata(), questions.model_config("m"), questions.statistics()],
    ids=["server", "config", "statistics"],
)
@pytest.mark.parametrize("body", [b"", b"3", b"[]", b"nope"])
def test_what_should_be_an_object_must_be_one(question: Question[Any], body: bytes) -> None:
    with pytest.raises(FormatError):
        question.read(200, body)
