from __future__ import annotations

import json

import pytest

from nbmodel.errors import (
    AuthenticationError,
    ConfigError,
    DeployError,
    InferenceError,
    InputError,
    NbModelError,
    ShapeError,
    TargetError,
    TargetUnreachableError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.inference.refusal import error_class, refusal, unreachable
from nbmodel.inference.server import Server

SERVER = Server("http://pi:1", label="runtime 'pi'", if_away="go and look", if_refused="ask")


def of(status: int, body: object = None) -> NbModelError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(SERVER, status, "Reason", content)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, TargetError),
        (413, InputError),
        (429, UnavailableError),
        (500, InferenceError),
        (501, UnsupportedError),
        (502, TargetUnreachableError),
        (503, UnavailableError),
        (504, TargetUnreachableError),
        (418, DeployError),
        (302, DeployError),
    ],
)
def test_a_status_has_its_error(status: int, kind: type[NbModelError]) -> None:
    error = of(status, {"error": "no"})
    assert type(error) is kind
    assert str(error) == "runtime 'pi': no"


def test_an_error_that_says_its_class_comes_as_it_was() -> None:
    error = of(400, {"error": "too long", "type": "ShapeError", "hint": "cut it"})
    assert (type(error), str(error), error.hint) == (ShapeError, "too long", "cut it")
    config = of(422, {"error": "bad", "type": "ConfigError", "problems": ["one", "two"]})
    assert isinstance(config, ConfigError)
    assert config.problems == ("one", "two")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff", b"[1]", b"[" * 3000, {"error": ""}, {"hint": 3}, {"error": None}],
)
def test_a_refusal_without_words_has_its_status(body: object) -> None:
    error = of(500, body)
    assert str(error) == "runtime 'pi': 500 Reason"
    assert error.hint is None


def test_words_without_end_are_cut() -> None:
    assert len(str(of(500, {"error": "x" * 10**6}))) < 3000
    config = of(422, {"type": "ConfigError", "hint": "x" * 10**6, "problems": ["x" * 5000] * 2000})
    assert isinstance(config, ConfigError)
    assert config.hint is not None
    assert len(config.hint) < 3000
    assert sum(map(len, config.problems)) < 3_000_000


def test_what_to_do_is_the_servers_own() -> None:
    assert of(401, {"error": "token", "hint": "theirs"}).hint == "ask"
    assert unreachable(SERVER, "[Errno 111] Connection refused").hint == "go and look"
    assert str(unreachable(SERVER, "[Errno 111] Connection refused")) == (
        "cannot reach runtime 'pi': connection refused"
    )


def test_an_error_class_that_is_not_ours_is_not_believed() -> None:
    assert error_class("ShapeError") is ShapeError
    for name in ("Mapping", "annotations", "__name__", "DigestMismatchError", "nope", None, 3):
        assert error_class(name) is None
