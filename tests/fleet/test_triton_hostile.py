"""A server that answers as no Triton does: a status says what can be said, an error the rest."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("tritonclient.http", reason="pip install 'nbmodel[triton]'")

from nbmodel.display import StatusCard
from nbmodel.errors import NbModelError
from nbmodel.fleet.triton_record import KEY
from nbmodel.fleet.triton_runtime import TritonRuntime

Serve = Callable[[dict[str, Any]], TritonRuntime]
STATS, CONFIG = "/v2/models/stats", "/v2/models/m/config"
ROW = {"name": "m", "version": "1"}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that answers paths with what is given, and know it as a Triton."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = answers.get(self.path, {})
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815 # as http.server asks for them

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    runtimes = []

    def start(given: dict[str, Any]) -> TritonRuntime:
        answers.update(given)
        runtimes.append(TritonRuntime(f"triton+http://127.0.0.1:{server.server_port}", name="odd"))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.close()
    server.shutdown()
    thread.join()
    server.server_close()


def stats(**fields: Any) -> dict[str, Any]:
    return {STATS: {"model_stats": [{**ROW, **fields}]}, CONFIG: {"backend": "python"}}


ODD: dict[str, dict[str, Any]] = {
    "nothing at all": {},
    "statistics that are no list": {STATS: {"model_stats": {"m": 1}}},
    "a row that is no object": {STATS: {"model_stats": [None, 3, "m", []]}},
    "a row without a name": {STATS: {"model_stats": [{}]}},
    "a name that is no text": {STATS: {"model_stats": [{"name": {"a": 1}, "version": []}]}},
    "a version that is no number": stats(version="newest"),
    "counts that are none": stats(inference_count="many", inference_stats=7),
    "endless counts": stats(inference_count=float("inf"), execution_count="9" * 9_999),
    "durations that are none": stats(inference_stats={"success": [], "fail": {"count": {}}}),
    "a backend that is no text": {**stats(), CONFIG: {"backend": {"a": 1}}},
    "a configuration that is none": {**stats(), CONFIG: []},
    "a configuration that is no JSON": {**stats(), CONFIG: b"<html>"},
    "a record that is none": {
        **stats(),
        CONFIG: {"parameters": {KEY: {"string_value": "[" * 50_000}}},
    },
    "an index that is no list": {"/v2/repository/index": {"models": 1}},
    "an index of odd rows": {"/v2/repository/index": [1, {}, {"name": 3, "state": {}}]},
}


@pytest.mark.parametrize("answers", ODD.values(), ids=ODD)
def test_a_status_of_odd_answers_can_be_shown(answers: dict[str, Any], serve: Serve) -> None:
    runtime = serve(answers)
    status = runtime.status()
    assert status["services"] == []
    card = StatusCard(status).named("odd")
    assert "odd" in card.text()
    json.dumps(card.to_json())


BROKEN: dict[str, dict[str, Any]] = {
    "no JSON": {STATS: b"<html>"},
    "deep JSON": {STATS: b"[" * 100_000},
    "a list": {STATS: []},
    "metadata that is none": {"/v2": b"hello"},
}


@pytest.mark.parametrize("answers", BROKEN.values(), ids=BROKEN)
def test_what_is_no_triton_is_an_error_with_its_words(
    answers: dict[str, Any], serve: Serve
) -> None:
    with pytest.raises(NbModelError, match="is it a Triton server"):
        serve(answers).status()


METADATA: dict[str, Any] = {
    "inputs that are no list": {"inputs": 7},
    "a tensor without a name": {"inputs": [{"datatype": "FP32", "shape": [1]}]},
    "a datatype that is none": {"inputs": [{"name": "x", "datatype": "FP33", "shape": [1]}]},
    "a shape that is none": {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]},
    "a shape below every other": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-7]}]},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_metadata_that_is_none_is_an_error(metadata: dict[str, Any], serve: Serve) -> None:
    runtime = serve({**stats(), "/v2/models/m": metadata})
    with pytest.raises(NbModelError, match="metadata of a model cannot be read"):
        runtime.metadata("m")
