from __future__ import annotations

import json
from typing import Any

import pytest

from nbmodel.errors import InputError
from nbmodel.fleet.options import StartOptions
from nbmodel.runtime.limits import Limits

GUARDED = StartOptions(
    http="127.0.0.1:8000",
    grpc="[::1]:8001",
    require_token=True,
    limits=Limits(max_request_bytes=1000, drain_s=0.5),
)
WORDS = (
    "--http 127.0.0.1:8000 --require-token --grpc [::1]:8001 --max-request-bytes 1000 --drain-s 0.5"
)


@pytest.mark.parametrize("options", [StartOptions(), GUARDED], ids=["default", "guarded"])
def test_options_are_the_same_after_json(options: StartOptions) -> None:
    assert StartOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_what_is_not_by_default_is_told_in_words() -> None:
    assert " ".join(GUARDED.words()) == WORDS
    assert StartOptions().words() == []
    without = GUARDED.words(without={"http", "drain_s"})
    assert " ".join(without) == "--require-token --grpc [::1]:8001 --max-request-bytes 1000"


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"workers": 2}, {"workers": 2}, id="one option"),
        pytest.param({"require_token": False}, {"require_token": False}, id="a flag taken back"),
        pytest.param({"grpc": "off"}, {"grpc": None}, id="gRPC ended"),
        pytest.param(
            {"maintenance_hook": "/may i"}, {"maintenance_hook": "/may i"}, id="a hook asked"
        ),
        pytest.param({"maintenance_hook": "off"}, {"maintenance_hook": None}, id="none asked"),
        pytest.param(
            {"drain_s": 3.0},
            {"limits": Limits(max_request_bytes=1000, drain_s=3.0)},
            id="one limit",
        ),
    ],
)
def test_only_what_is_given_changes(given: dict[str, Any], changes: dict[str, Any]) -> None:
    changed = GUARDED.changed(given)
    names = (
        "http", "require_token", "grpc", "workers", "server_name", "limits", "maintenance_hook"
    )  # fmt: skip
    assert {name: getattr(changed, name) for name in names} == {
        name: getattr(GUARDED, name) for name in names
    } | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param({"no_such": 1}, "no such option of a runtime: no_such", id="unknown"),
        pytest.param({"require_token": 1}, "'require_token' must be a bool, found 1", id="kind"),
        pytest.param({"http": None}, "'http' must be a str, found None", id="no address"),
        pytest.param({"grpc": "here"}, "not an address", id="not an address"),
        pytest.param({"max_headers": "9"}, "--max-headers must be a whole number", id="limit"),
        pytest.param(["http"], "expected an object of options", id="not an object"),
    ],
)
def test_options_that_cannot_be_kept_to_are_refused(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StartOptions.from_json(data)
