"""What the service manager is told, by a socket as systemd has it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbmodel.runtime.notify import JournalFormatter, Notifier, is_kept_by_journal

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="there are no datagrams by path here"
)


@contextmanager
def manager(address: str | bytes) -> Iterator[socket.socket]:
    """The other end, as a service manager has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(30)
        yield listening


def said(listening: socket.socket) -> list[str]:
    return listening.recv(4096).decode().splitlines()


def falls_silent(listening: socket.socket, seconds: float) -> bool:
    """Whether, after what was sent already, nothing comes for so long."""
    listening.settimeout(seconds)
    for _ in range(20):
        try:
            listening.recv(4096)
        except TimeoutError:
            return True
    return False


@pytest.mark.parametrize("is_abstract", [False, True], ids=["a path", "an abstract name"])
def test_a_manager_hears_what_is_told_in_systemds_words(tmp_path: Path, is_abstract: bool) -> None:
    name = f"nbmodel-test-{os.getpid()}"
    if is_abstract and sys.platform != "linux":
        pytest.skip("only Linux has abstract names")
    address, bound = str(tmp_path / "notify"), str(tmp_path / "notify").encode()
    if is_abstract:
        address, bound = f"@{name}", b"\0" + name.encode()
    environment = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    with manager(bound) as listening:
        notifier = Notifier.from_environment(environment)
        assert environment == {"HOME": "/"}  # a child would speak for this process
        assert (notifier.is_listened_to, notifier.watchdog_s) == (True, 30.0)
        notifier.ready("ready on\nhttp://x")
        assert said(listening) == ["READY=1", "STATUS=ready on http://x"]
        notifier.status("2 services ready")
        notifier.status("2 services ready")
        notifier.alive()
        notifier.stopping()
        assert said(listening) == ["STATUS=2 services ready"]
        assert said(listening) == ["WATCHDOG=1"]
        assert said(listening) == ["STOPPING=1", "STATUS=ending"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"},
        {"NOTIFY_SOCKET": "/nowhere/notify"},
        {"NOTIFY_SOCKET": "/" + "long" * 100},
    ],
    ids=["no manager", "one of another machine", "one that is gone", "no address at all"],
)
def test_without_a_manager_that_listens_it_goes_on(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment)
    notifier.ready("ready")
    notifier.alive()
    notifier.stopping()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9" * 30},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
    ids=["none", "0", "negative", "no number", "endless", "of another process"],
)
def test_signs_of_life_are_given_only_where_they_are_wanted(variables: dict[str, str]) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/x", **variables}).watchdog_s is None


def test_a_manager_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")):
        notifier = Notifier(str(tmp_path / "notify"))
        began = time.monotonic()
        for _ in range(5000):  # more than any queue takes
            notifier.alive()
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_the_journal_is_told_how_bad_each_line_is(level: str, priority: int) -> None:
    record = logging.makeLogRecord(
        {"levelno": getattr(logging, level), "msg": "one\ntwo %s", "args": ("x",)}
    )
    lines = JournalFormatter("%(message)s").format(record)
    assert lines == f"<{priority}>one\n<{priority}>two x"
    assert is_kept_by_journal({"JOURNAL_STREAM": "8:1234"})
    assert not is_kept_by_journal({})


@pytest.fixture
def started(
    tmp_path: Path, linear_onnx: Path, service: Callable[[str, Path], dict[str, Any]]
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A runtime under a manager that wants a sign of life within 0.6 s."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    address = str(tmp_path / "notify")
    config = tmp_path / "machine.json"
    config.write_text(json.dumps({"services": [service("linear", linear_onnx)]}))
    words = ["runtime", "start", "--home", str(tmp_path / "home"), "--config", str(config)]
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "600000",
        "JOURNAL_STREAM": "8:1234",
    }
    with manager(address) as listening, (tmp_path / "journal").open("wb") as kept:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbmodel", *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=kept,
        )
        with process:
            yield process, listening
            process.kill()


@pytest.mark.unhurried
def test_a_runtime_says_when_it_is_ready_that_it_lives_and_when_it_ends(
    started: tuple[subprocess.Popen[bytes], socket.socket], tmp_path: Path
) -> None:
    process, listening = started
    ready = said(listening)
    assert ready[0] == "READY=1"
    assert ready[1].startswith("STATUS=ready on http://127.0.0.1:")
    alive, statuses = [], []
    while len(alive) < 5 or "STATUS=1 service ready" not in statuses:
        for line in said(listening):
            (alive if line == "WATCHDOG=1" else statuses).append(line)
            if line == "WATCHDOG=1":
                alive[-1] = str(time.monotonic())
    times = list(map(float, alive))
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.6
    process.terminate()
    while "STOPPING=1" not in (lines := said(listening)):
        assert lines == ["WATCHDOG=1"]
    assert process.wait(30) == 0
    lines = (tmp_path / "journal").read_text().splitlines()
    assert all(re.match("<[2-7]>", line) for line in lines)
    assert any(re.fullmatch(r"<6>nbmodel \S+ is ready on http://127.*", line) for line in lines)
    assert "<6>told to end" in lines


@pytest.mark.unhurried
def test_a_runtime_that_hangs_gives_no_sign_of_life(
    started: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    process, listening = started
    while said(listening) != ["WATCHDOG=1"]:
        pass
    process.send_signal(signal.SIGSTOP)
    assert falls_silent(listening, 1.2)
    process.send_signal(signal.SIGCONT)
    listening.settimeout(30)
    while said(listening) != ["WATCHDOG=1"]:
        pass


@pytest.mark.unhurried
def test_there_is_no_sign_of_life_without_the_thread_that_follows_the_config(
    tmp_path: Path,
) -> None:
    pytest.importorskip("starlette", reason="pip install 'nbmodel[runtime]'")
    import asyncio

    from nbmodel.runtime.edge import EdgeRuntime
    from nbmodel.runtime.server import keep_alive

    runtime = EdgeRuntime(tmp_path / "home")
    with manager(str(tmp_path / "notify")) as listening:
        notifier = Notifier(str(tmp_path / "notify"), watchdog_s=0.05)
        loop = asyncio.new_event_loop()
        task = loop.create_task(keep_alive(notifier, runtime))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            assert said(listening) == ["WATCHDOG=1"]
            runtime.close()  # ends the thread
            assert not runtime.is_alive
            assert falls_silent(listening, 0.3)
        finally:
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.close()
            runtime.close()
