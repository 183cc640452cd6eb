"""Children with a time and a memory of their own, whatever they do with them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from nbmodel.errors import UnavailableError
from nbmodel.runtime.confined import (
    MAX_TALK,
    MAX_WORDS,
    Ending,
    child_environment,
    run_confined,
)

TIMEOUT_S = 30.0


def run(code: str, *, said: list[Mapping[str, Any]] | None = None, **options: Any) -> Ending:
    """Run a piece of Python; ``{"last": …}`` is the last line that is waited for."""

    def told(line: Mapping[str, Any]) -> bool:
        if said is not None:
            said.append(line)
        return "last" in line

    settings: dict[str, Any] = {
        "request": {},
        "timeout_s": TIMEOUT_S,
        "memory_bytes": None,
        "cancelled": lambda: False,
        **options,
    }
    return run_confined([sys.executable, "-S", "-c", code], told=told, **settings)


@pytest.mark.parametrize(
    ("code", "cause", "exit_code"),
    [
        pytest.param("", "ended", 0, id="nothing to do"),
        pytest.param("raise SystemExit(7)", "ended", 7, id="a code of its own"),
        pytest.param("import os; os.write(1, b'x' * 2**21)", "talk", None, id="one endless line"),
        pytest.param(
            "import os\nwhile True: os.write(1, b'{}\\n' * 1000)", "talk", None, id="endless lines"
        ),
        pytest.param(
            "import time; print('{\"last\": 1}', flush=True); time.sleep(3600)",
            "done",
            None,
            id="a result, and no end",
        ),
    ],
)
def test_how_it_ended(code: str, cause: str, exit_code: int | None) -> None:
    ending = run(code)
    assert ending.cause == cause
    if exit_code is not None:
        assert ending.code == exit_code


def test_lines_are_told_and_rubbish_is_not() -> None:
    said: list[Mapping[str, Any]] = []
    run("""print('{"a": 1}\\nrubbish\\n[1]\\n\\n{"b": 2}\\n{"cut": ')""", said=said)
    assert said == [{"a": 1}, {"b": 2}]


def test_the_end_of_what_it_printed_is_kept() -> None:
    words = run(
        f"import sys; sys.stderr.write('x' * {2 * MAX_WORDS} + '\\x1b[31m the engine\\nis gone')"
    ).words
    assert words.endswith("x [31m the engine\nis gone")
    assert len(words) <= MAX_WORDS


def test_a_child_that_does_not_listen_holds_nobody_up() -> None:
    began = time.monotonic()
    ending = run("import time; time.sleep(3600)", request={"long": "x" * MAX_TALK}, timeout_s=0.3)
    assert ending.cause == "time"
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_child_that_closes_its_output_and_goes_on_is_killed() -> None:
    began = time.monotonic()
    assert run("import os, time; os.close(1); time.sleep(3600)").cause == "time"
    assert time.monotonic() - began < TIMEOUT_S / 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")
def test_memory_counts_from_what_it_says_it_has() -> None:
    code = (
        "import json, re, time\n"
        "ballast = bytearray(60 << 20)\n"
        "found = re.search(r'VmRSS:\\s*(\\d+)', open('/proc/self/status').read())\n"
        "print(json.dumps({'memory': int(found[1]) << 10}), flush=True)\n"
        "more = bytearray(%d << 20)\n"
        "time.sleep(0.2)"
    )
    assert run(code % 10, memory_bytes=40 << 20).cause == "ended"
    ending = run(code % 80, memory_bytes=40 << 20)
    assert ending.cause == "memory"
    assert 40 << 20 < ending.memory < 90 << 20


def test_nobody_waits_once_it_is_cancelled() -> None:
    began = time.monotonic()
    assert run("import time; time.sleep(3600)", cancelled=lambda: True).cause == "cancelled"
    assert time.monotonic() - began < 10


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(UnavailableError, match="no process can be started"):
        run_confined(
            ["/nowhere/python"],
            {},
            told=lambda _: False,
            timeout_s=1,
            memory_bytes=None,
            cancelled=lambda: False,
        )


def test_without_threads_nothing_is_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(UnavailableError, match="no thread can be started"):
        run("import time; time.sleep(3600)")


@pytest.mark.parametrize(
    ("name", "value", "stays"),
    [
        pytest.param("PATH", "/usr/bin", True, id="where programs are"),
        pytest.param("LD_LIBRARY_PATH", "/opt/engine", True, id="where libraries are"),
        pytest.param("OMP_NUM_THREADS", "2", True, id="what engines read"),
        pytest.param("HTTP_PROXY", "http://proxy:3128", True, id="an address"),
        pytest.param("NBMODEL_TOKEN", "x", False, id="a token"),
        pytest.param("NBMODEL_REGISTRY_TOKEN", "x", False, id="another token"),
        pytest.param("AWS_SECRET_ACCESS_KEY", "x", False, id="a key"),
        pytest.param("aws_access_key_id", "x", False, id="a key's name"),
        pytest.param("PGPASSWORD", "x", False, id="a password"),
        pytest.param("DATABASE_URL", "postgres://me:pw@db/x", False, id="a password in an address"),
        pytest.param("PIP_INDEX_URL", "https://ghp_x@index/simple", False, id="a user's secret"),
    ],
)
def test_what_looks_like_a_secret_stays_here(name: str, value: str, stays: bool) -> None:
    assert (name in child_environment({name: value}, [])) is stays


def test_what_can_be_imported_here_can_be_there() -> None:
    kept = child_environment({"PYTHONPATH": "/old"}, ["", "/plugins"])
    assert kept["PYTHONPATH"] == os.pathsep.join([os.curdir, "/plugins"])


def test_a_request_arrives_as_it_was_sent() -> None:
    said: list[Mapping[str, Any]] = []
    request = {"text": "ä\n" * 100_000, "number": 1.5}
    code = "import json, sys; print(json.dumps({'last': json.loads(sys.stdin.readline())}))"
    run(code, request=request, said=said)
    assert json.loads(json.dumps(said[-1]))["last"] == request
