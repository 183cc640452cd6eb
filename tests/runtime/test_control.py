"""The control plane over a real runtime, in this process."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.responses import Response
from starlette.routing import Route

from nbmodel import __version__
from nbmodel.runtime.answer import Answer, Call
from nbmodel.runtime.app import INFERENCES, DataPlaneApp, guarded_routes, make_app
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.oip import DataPlane

Entry = Callable[[str, Path], dict[str, Any]]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path / "home", name="edge")
    yield runtime
    runtime.close()


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """A client of an application that is served on loopback."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://localhost:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, trust_env=False) as client:
            yield client
        server.should_exit = True
        thread.join()


@pytest.fixture
def http(runtime: EdgeRuntime) -> Iterator[httpx.Client]:
    with served(make_app(runtime, Gate(None, frozenset()))) as client:
        yield client


def put(http: httpx.Client, config: dict[str, Any], if_match: str = "*", **params: str) -> Any:
    headers = {"If-Match": if_match}
    return http.put("/nbmodel/config", json=config, headers=headers, params=params)


def test_a_model_that_is_not_there_is_told_in_the_protocols_words(
    http: httpx.Client, runtime: EdgeRuntime, service: Entry, tmp_path: Path
) -> None:
    put(http, {"services": [service("gone", tmp_path / "gone.onnx")]})
    assert runtime.wait_settled(30)
    for method, path in (("GET", ""), ("POST", "/infer")):
        answer = http.request(method, f"/v2/models/gone{path}", json={"inputs": []})
        says = "Request for unknown model: 'gone' has no available versions"
        assert (answer.status_code, answer.json()) == (404, {"error": says})
    answer = http.get("/v2/models/gone/ready")
    assert (answer.status_code, answer.json()) == (400, {"error": "Model version not ready"})


def test_inferences_that_wait_hold_up_no_other_request() -> None:
    go_on = threading.Event()

    class Slow(DataPlane):
        def match(self, path: str) -> Call | None:
            def answer(_method: str, _body: bytes | bytearray) -> Answer:
                assert go_on.wait(30)
                return Answer(200)

            return Call(("POST",), answer, waits=True) if path == "/slow" else None

    models: Any = None
    rest = guarded_routes([Route("/other", lambda _: Response())])
    app = DataPlaneApp(Slow(models, control=None, version="1"), rest, max_input=10)
    count = INFERENCES + 5
    with served(app) as http, ThreadPoolExecutor(count) as pool:
        try:
            answers = [pool.submit(httpx.post, f"{http.base_url}/slow") for _ in range(count)]
            deadline = time.monotonic() + 10
            while sum("AnyIO" in one.name for one in threading.enumerate()) < INFERENCES:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert http.get("/other").status_code == 200
        finally:
            go_on.set()
        assert {answer.result(30).status_code for answer in answers} == {200}


def test_the_process_tells_who_it_is(http: httpx.Client) -> None:
    answer = http.get("/nbmodel/version").json()
    assert (answer["name"], answer["nbmodel"], answer["pid"]) == ("edge", __version__, os.getpid())
    assert answer["drain_s"] == 10.0


def test_a_config_is_put_and_read(
    http: httpx.Client, runtime: EdgeRuntime, service: Entry, linear_onnx: Path
) -> None:
    config = {"services": [service("linear", linear_onnx)], "mine": {"kept": 1}}
    before = http.get("/nbmodel/config").headers["etag"]
    answer = put(http, config, before)
    assert answer.status_code == 200
    assert answer.headers["etag"] != before
    read = http.get("/nbmodel/config")
    assert read.json() == config
    assert read.headers["etag"] == answer.headers["etag"]
    runtime.wait_settled(10)
    assert [entry["state"] for entry in http.get("/nbmodel/status").json()["services"]] == ["ready"]


def test_an_unchanged_config_is_not_sent_again(http: httpx.Client) -> None:
    etag = http.get("/nbmodel/config").headers["etag"]
    answer = http.get("/nbmodel/config", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_a_dry_run_changes_nothing(http: httpx.Client, service: Entry, linear_onnx: Path) -> None:
    before = http.get("/nbmodel/config")
    config = {"services": [service("linear", linear_onnx)]}
    answer = http.put("/nbmodel/config", json=config, params={"dry_run": "true"})
    assert answer.status_code == 200
    assert "linear" in answer.text
    after = http.get("/nbmodel/config")
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_a_config_is_not_replaced_blindly(http: httpx.Client) -> None:
    answer = http.put("/nbmodel/config", json={})
    assert answer.status_code == 428
    assert "If-Match" in answer.json()["error"]


def test_a_config_that_changed_meanwhile_is_kept(http: httpx.Client) -> None:
    etag = http.get("/nbmodel/config").headers["etag"]
    assert put(http, {"first": 1}, etag).status_code == 200
    answer = put(http, {"second": 2}, etag)
    assert answer.status_code == 412
    assert answer.json()["type"] == "ConfigConflictError"
    assert http.get("/nbmodel/config").json() == {"first": 1}


def test_an_invalid_config_is_refused_whole_with_all_its_problems(http: httpx.Client) -> None:
    put(http, {"good": 1})
    answer = put(http, {"services": [{"name": ""}], "packages": [{"name": "a b"}]})
    assert answer.status_code == 422
    data = answer.json()
    assert data["type"] == "ConfigError"
    assert len(data["problems"]) >= 3
    assert http.get("/nbmodel/config").json() == {"good": 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"{", 400, id="malformed JSON"),
        pytest.param(b"[]", 400, id="a list"),
        pytest.param(b"\xff", 400, id="not UTF-8"),
        pytest.param(b"[" * 100_000, 400, id="deep"),
        pytest.param(b'"' + b"a" * 5_000_000 + b'"', 400, id="too large"),
    ],
)
def test_a_body_that_is_no_object_is_refused(http: httpx.Client, body: bytes, status: int) -> None:
    answer = http.put("/nbmodel/config", content=body, headers={"If-Match": "*"})
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "type"}


@pytest.mark.parametrize("if_match", ["abc", '"a", "b"', ""])
def test_an_if_match_that_is_no_etag_is_refused(http: httpx.Client, if_match: str) -> None:
    assert put(http, {}, if_match).status_code == 400


def test_a_service_tells_its_signature(
    http: httpx.Client, runtime: EdgeRuntime, service: Entry, linear_onnx: Path
) -> None:
    put(http, {"services": [service("linear", linear_onnx)]})
    runtime.wait_settled(10)
    data = http.get("/nbmodel/services/linear").json()
    assert (data["ready"], data["version"]) == (True, "1")
    assert data["signature"]["inputs"][0]["name"] == "x"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nbmodel/services/nope"),
        ("POST", "/nbmodel/services/nope/do"),
        ("POST", "/nbmodel/services/nope/rollback"),
    ],
)
def test_an_unknown_service_is_named(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path, json={"command": "stats"})
    assert answer.status_code == 404
    assert "nope" in answer.json()["error"]
    assert answer.json()["type"] == "TargetError"


@pytest.mark.parametrize(
    ("method", "path", "status", "keys"),
    [
        pytest.param("GET", "/", 404, {"error", "hint"}, id="the root"),
        pytest.param("GET", "/nbmodel", 404, {"error", "hint"}, id="an unknown path"),
        pytest.param("GET", "/nbmodel/services", 404, {"error", "hint"}, id="no name"),
        pytest.param("DELETE", "/nbmodel/config", 405, {"error"}, id="another verb"),
        pytest.param("GET", "/nbmodel/logs?lines=x", 400, {"error", "type"}, id="in letters"),
        pytest.param(
            "GET", "/nbmodel/logs?line=1", 400, {"error", "hint", "type"}, id="another parameter"
        ),
        pytest.param(
            "PUT", "/nbmodel/config?dry_run=maybe", 400, {"error", "type"}, id="no yes, no no"
        ),
    ],
)
def test_every_error_is_json(
    http: httpx.Client, method: str, path: str, status: int, keys: set[str]
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == keys
    if status == 404:
        assert "GET /nbmodel/status" in answer.json()["hint"]


def test_reconcile_is_accepted(http: httpx.Client) -> None:
    assert http.post("/nbmodel/reconcile").status_code == 202
    assert http.post("/nbmodel/reconcile", params={"retry": "false"}).status_code == 202
    for wrong in ({"retry": "maybe"}, {"again": "true"}):
        assert http.post("/nbmodel/reconcile", params=wrong).status_code == 400


def test_what_the_gate_refuses_reaches_nothing(runtime: EdgeRuntime) -> None:
    with served(make_app(runtime, Gate("s3cret", None))) as http:
        for path in ("/nbmodel/config", "/v2", "/v2/", "/v2/models/a", "/v2/a/tags/list", "/nope"):
            answer = http.get(path)
            assert answer.status_code == 401
            assert set(answer.json()) == {"error", "hint"}
        assert http.get("/v2/health/live").status_code == 200
        assert http.get("/nbmodel/config", headers={"Authorization": "Bearer s3cret"}).is_success


def test_a_request_that_is_too_large_is_refused(runtime: EdgeRuntime) -> None:
    with served(make_app(runtime, Gate(None, None), max_input=10)) as http:
        answer = http.post("/v2/models/a/infer", content=b"x" * 11)
        assert answer.status_code == 413
        assert "it has 11 bytes" in answer.json()["error"]
        assert "send fewer rows" in answer.json()["hint"]
        chunks = http.post("/v2/models/a/infer", content=iter([b"x" * 6, b"x" * 6]))
        assert chunks.status_code == 413
        assert "10 bytes" in chunks.json()["error"]
        assert http.get("/v2/health/live").status_code == 200


def events(http: httpx.Client, **params: Any) -> Any:
    answer = http.get("/nbmodel/events", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_events_say_what_happened_since_a_number(
    http: httpx.Client, runtime: EdgeRuntime, service: Entry, tmp_path: Path
) -> None:
    put(http, {"services": [service("gone", tmp_path / "gone.onnx")]})
    assert runtime.wait_settled(30)
    told = events(http)
    assert [event["seq"] for event in told["events"]] == list(range(1, told["last"] + 1))
    assert {"config replaced"} < {event["text"] for event in told["events"]}
    assert events(http, since=told["last"]) == {"events": [], "last": told["last"]}
    # Of a log that began anew, so that who asks can begin anew, too.
    assert events(http, since=told["last"] + 5, wait_s=30)["last"] == told["last"]


def test_who_waits_for_an_event_has_it_at_once_and_holds_no_thread(
    http: httpx.Client, runtime: EdgeRuntime
) -> None:
    assert runtime.wait_settled(30)
    last = events(http)["last"]
    began = time.monotonic()
    assert events(http, since=last, wait_s=0.3)["events"] == []
    assert 0.3 <= time.monotonic() - began < 5
    with (
        ThreadPoolExecutor(60) as pool,
        httpx.Client(
            base_url=http.base_url, trust_env=False, limits=httpx.Limits(max_connections=100)
        ) as many,
    ):
        waiting = [pool.submit(events, many, since=last, wait_s=30) for _ in range(60)]
        time.sleep(0.3)
        assert http.get("/nbmodel/version").status_code == 200
        began = time.monotonic()
        runtime.journal.warn("digits: too slow", service="digits", type="RolledBack")
        told = [one.result()["events"] for one in waiting]
        assert time.monotonic() - began < 5
    (event,) = told[0]
    assert all(one == told[0] for one in told)
    assert {key: event[key] for key in ("seq", "level", "service", "type", "text")} == {
        "seq": last + 1,
        "level": "warning",
        "service": "digits",
        "type": "RolledBack",
        "text": "digits: too slow",
    }


@pytest.mark.parametrize(
    "params",
    [
        {"since": "-1"},
        {"since": "x"},
        {"wait_s": "31"},
        {"wait_s": "-1"},
        {"wait_s": "nan"},
        {"wait": "1"},
    ],
    ids=str,
)
def test_a_question_for_events_that_makes_no_sense_is_refused(
    http: httpx.Client, params: dict[str, str]
) -> None:
    answer = http.get("/nbmodel/events", params=params)
    assert (answer.status_code, answer.json()["type"]) == (400, "InputError")
