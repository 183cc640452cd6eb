"""Servers are asked which notebook a kernel is of; who is slow or strange is passed over."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbmodel.provenance import sessions
from nbmodel.provenance.sessions import Server, ask, path_in, path_of_session, servers

KERNEL = "9c1f0c5e-6b1e-4a2b-8a6e-0c6a2f3b1d11"
OTHER = {"path": "other.ipynb", "name": "", "kernel": {"id": "another"}}
MINE = {"path": "work/train.ipynb", "name": "", "kernel": {"id": KERNEL}}


@contextmanager
def serving(answer: Callable[[str | None], bytes]) -> Iterator[str]:
    """A server of ``/api/sessions``; ``answer`` gets the header that says who asks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(self.headers["Authorization"])
            assert self.path == "/base/api/sessions"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_tells_the_path() -> None:
    shown = []

    def answer(who: str | None) -> bytes:
        shown.append(who)
        return json.dumps([OTHER, MINE]).encode()

    with serving(answer) as url:
        assert ask([Server(url, "secret", "/home/ada")], KERNEL) == "/home/ada/work/train.ipynb"
        assert ask([Server(url)], KERNEL) == "work/train.ipynb"
        assert ask([Server(url)], "unknown") is None
    assert shown == ["token secret", None, None]
    assert "secret" not in repr(Server("http://localhost/", "secret"))


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[7]", b"[" + b" " * 3_000_000 + b"]"])
def test_who_answers_strangely_is_passed_over(body: bytes) -> None:
    with serving(lambda _: body) as strange, serving(lambda _: json.dumps([MINE]).encode()) as url:
        nobody = Server("http://127.0.0.1:9/")
        assert ask([nobody, Server(strange), Server(url)], KERNEL) == "work/train.ipynb"


@pytest.mark.parametrize(
    ("told", "kernel", "expected"),
    [
        pytest.param([OTHER, MINE], KERNEL, "work/train.ipynb", id="its kernel"),
        pytest.param(
            [{"path": "fileId=1x", "name": "My%20model.ipynb", "kernel": {"id": "7"}}],
            None,
            "My model.ipynb",
            id="Colab",
        ),
        pytest.param([OTHER, MINE], None, None, id="one of several"),
        pytest.param([{"kernel": {"id": KERNEL}}], KERNEL, None, id="no path"),
        pytest.param([{"path": "x", "kernel": None}], KERNEL, None, id="no kernel"),
        pytest.param({"message": "Forbidden"}, KERNEL, None, id="a refusal"),
        pytest.param(None, KERNEL, None, id="nothing"),
    ],
)
def test_the_path_in_an_answer(told: Any, kernel: str | None, expected: str | None) -> None:
    assert path_in(told, kernel) == expected


def test_servers_of_this_machine_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jupyter_core", reason="needs nbmodel[notebook]")
    monkeypatch.delenv("COLAB_JUPYTER_IP", raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    told = {
        "jpserver-1.json": {"url": "http://localhost:8888/a/", "token": "t", "root_dir": "/r"},
        "nbserver-2.json": {"url": "http://127.0.0.1:8889/"},
        "jpserver-3.json": {"url": "http://elsewhere.example:8888/", "token": "t"},
        "jpserver-4.json": {"no": "url"},
    }
    import os

    for age, (name, said) in enumerate(told.items()):
        (tmp_path / name).write_text(json.dumps(said))
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "jpserver-5.json").write_text("broken")
    assert list(servers()) == [
        Server("http://localhost:8888/a/", "t", "/r"),
        Server("http://127.0.0.1:8889/"),
    ]


def test_the_server_of_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_JUPYTER_IP", "172.28.0.12")
    monkeypatch.setenv("KMP_TARGET_PORT", "9000")
    assert list(servers()) == [Server("http://172.28.0.12:9000/")]


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    sessions._looking.cache_clear()
    yield
    sessions._looking.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
def test_a_server_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, goes_on = [], threading.Event()

    def slow(_: object, kernel: str | None) -> str:
        asked.append(kernel)
        goes_on.wait(300)
        return "/late/train.ipynb"

    monkeypatch.setattr(sessions, "ask", slow)
    monkeypatch.setattr(sessions, "_kernel_id", lambda: KERNEL)
    assert path_of_session() is None
    assert path_of_session() is None
    goes_on.set()
    until = time.monotonic() + 120
    while path_of_session() is None and time.monotonic() < until:
        pass
    assert path_of_session() == "/late/train.ipynb"
    assert asked == [KERNEL]  # once


@pytest.mark.usefixtures("_asked_anew")
def test_a_failure_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise KeyError("ipykernel.connect")

    monkeypatch.setattr(sessions, "_kernel_id", broken)
    assert path_of_session() is None
