from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nbmodel.errors import DeployError, InputError, StorageUnavailableError, TargetUnreachableError
from nbmodel.fleet import local
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import OUTPUT_FILE, is_running, start_local, stop_local
from nbmodel.fleet.remote import RemoteRuntime

pytestmark = pytest.mark.unhurried


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Known]:
    runtime = start_local("edge", tmp_path / "home")
    assert runtime.pid is not None
    yield runtime
    if is_running(runtime.pid):
        os.kill(runtime.pid, signal.SIGKILL)


def test_a_runtime_starts_and_ends(runtime: Known) -> None:
    assert runtime.pid is not None
    assert runtime.is_local
    with RemoteRuntime(runtime.url) as remote:
        assert remote.version()["pid"] == runtime.pid
    assert os.getsid(runtime.pid) != os.getsid(0)  # no Ctrl+C of ours reaches it
    assert stop_local(runtime)
    assert not is_running(runtime.pid)
    assert not stop_local(runtime)


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailableError, match=r"cannot make .*/file/home"):
        start_local("edge", tmp_path / "file" / "home")
    (tmp_path / "home" / OUTPUT_FILE).mkdir(parents=True)
    with pytest.raises(StorageUnavailableError, match=r"cannot write .*/home"):
        start_local("edge", tmp_path / "home")


def test_off_loopback_its_token_is_known(tmp_path: Path) -> None:
    runtime = start_local("edge", tmp_path, http="0.0.0.0:0")
    try:
        with RemoteRuntime(runtime.url, token=runtime.token) as remote:
            assert remote.version()["pid"] == runtime.pid
        assert runtime.token is not None
    finally:
        stop_local(runtime)


def test_another_process_is_left_alone(runtime: Known) -> None:
    assert runtime.pid is not None
    for other in (replace(runtime, pid=os.getpid()), replace(runtime, name="other")):
        with pytest.raises(DeployError, match="left alone"):
            stop_local(other)
    assert is_running(runtime.pid)


def test_a_runtime_of_elsewhere_is_not_stopped() -> None:
    with pytest.raises(DeployError, match="not started here"):
        stop_local(Known("pi", "http://pi:1"))


def test_the_end_is_waited_for_as_long_as_the_runtime_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaf = "import signal, time; signal.signal(15, 1); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)

    class Version(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"pid": process.pid, "name": "edge", "drain_s": 0.3}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(local, "TIDY_S", 0.2)
    with process, HTTPServer(("127.0.0.1", 0), Version) as server:
        assert process.stdout is not None
        process.stdout.readline()  # from here on, it does not hear SIGTERM
        threading.Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(DeployError, match=r"did not end within 0\.5 s"):
            stop_local(Known("edge", url, pid=process.pid))
        process.kill()


def test_a_runtime_that_died_leaves_no_zombie(runtime: Known) -> None:
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGKILL)
    while True:
        try:
            with RemoteRuntime(runtime.url) as remote:
                remote.version()
        except TargetUnreachableError:
            break
    assert not stop_local(runtime)
    with pytest.raises(ChildProcessError):
        os.waitpid(runtime.pid, os.WNOHANG)


def test_one_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    before = set(local._children)
    with pytest.raises(DeployError, match="not ready within 0 s"):
        start_local("edge", tmp_path, timeout_s=0)
    assert set(local._children) == before


def test_a_start_that_fails_tells_what_the_runtime_said(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"'edge' ended with status 1 .*no-such-file"):
        start_local("edge", tmp_path, config=tmp_path / "no-such-file.json")


def test_a_name_is_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        start_local("a b", tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_token_stays_the_same_over_a_restart(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        runtime = start_local("edge", tmp_path, require_token=True)
        tokens.append(runtime.token)
        stop_local(runtime)
    assert tokens[0] == tokens[1] is not None


def test_a_token_is_kept_from_the_command_line(guarded: Known) -> None:
    assert guarded.home is not None
    assert guarded.token is not None
    assert guarded.token not in (guarded.home / "output.log").read_text()
    line = Path(f"/proc/{guarded.pid}/cmdline")
    if line.exists():
        assert guarded.token not in line.read_text()
    for file in ("token", "output.log"):
        assert stat.S_IMODE((guarded.home / file).stat().st_mode) == 0o600
