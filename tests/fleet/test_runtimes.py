"""The verbs on runtimes, with processes of their own."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nbmodel.cli import main
from nbmodel.errors import AuthenticationError, DeployError, InputError, TargetUnreachableError
from nbmodel.fleet.known import FILE, Known
from nbmodel.fleet.local import is_running
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.runtimes import Runtimes
from nbmodel.runtime.limits import Limits

pytestmark = pytest.mark.unhurried

BROKEN = {
    "services": [
        {
            "name": name,
            "api": "rdk:service:mlmodel",
            "model": "onnx_cpu",
            "attributes": {"model_path": f"/no/{name}.onnx"},
        }
        for name in ("one", "two")
    ]
}


@pytest.fixture
def runtimes(tmp_path: Path) -> Iterator[Runtimes]:
    runtimes = Runtimes(tmp_path, on_up=lambda _: ())
    yield runtimes
    for known in runtimes._known.list():
        if known.is_local:
            runtimes.remove(known.name)
    runtimes.close()


def _known(runtimes: Runtimes, name: str = "edge") -> Known:
    return runtimes._known.get(name)


def test_a_runtime_is_started_again_as_it_was(runtimes: Runtimes, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    runtimes.start(
        "edge",
        home=home,
        grpc="127.0.0.1:0",
        require_token=True,
        limits=Limits(max_request_bytes=1000, drain_s=0.5),
    )
    first = _known(runtimes)
    (row,) = runtimes.list()
    grpc = row["grpc"]
    runtimes.stop("edge")
    started = runtimes.start("edge", limits={"drain_s": 0.25})
    again = _known(runtimes)
    assert (again.url, again.token, again.home) == (first.url, first.token, home)
    with RemoteRuntime(again.url) as stranger, pytest.raises(AuthenticationError):
        stranger.status()
    version = runtimes.get("edge").version()
    assert version["grpc"] == grpc != ""
    assert version["drain_s"] == 0.25
    assert grpc in started.text()
    words = ["--require-token", "--grpc", "127.0.0.1:0", "--max-request-bytes", "1000"]
    assert started.to_json()[0]["reused"] == [*words, "--home", str(home)]
    assert " ".join(words) in started.text()
    runtimes.stop("edge")
    taken = socket.create_server(("127.0.0.1", int(first.url.rpartition(":")[2])))
    with taken:  # a port that another has by now does not keep it from starting
        runtimes.start("edge", grpc="off", require_token=False)
    last = _known(runtimes)
    assert last.url != first.url
    assert (last.token, last.grpc) == (None, None)
    assert last.options is not None
    assert last.options.limits == Limits(max_request_bytes=1000, drain_s=0.25)


def test_one_that_is_known_runs_in_the_foreground_where_it_was_and_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Runtimes(tmp_path, on_up=lambda _: ())) as runtimes:
        runtimes.start("edge", home=tmp_path / "elsewhere", limits={"drain_s": 0.5})
        with pytest.raises(InputError, match="is running"):
            runtimes.in_foreground("edge", {})
        runtimes.stop("edge")
        url = _known(runtimes).url
    asked: dict[str, Any] = {}
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path))
    monkeypatch.setattr("nbmodel.runtime.server.serve", lambda **options: asked.update(options))
    monkeypatch.setattr("nbmodel.runtime.server.leave", lambda: None)
    assert main(["runtime", "start", "edge", "--foreground", "--server-name", "triton"]) == 0
    assert asked["home"] == tmp_path / "elsewhere"
    assert f"http://{asked['http']}" == url
    assert (asked["limits"].drain_s, asked["server_name"]) == (0.5, "triton")
    assert main(["runtime", "start", "other", "--foreground"]) == 0
    assert (asked["home"], asked["http"]) == (None, "127.0.0.1:0")


def test_an_entry_without_options_keeps_its_token(runtimes: Runtimes, tmp_path: Path) -> None:
    runtimes.start("edge", require_token=True)
    runtimes.stop("edge")
    file = tmp_path / FILE
    data = json.loads(file.read_text())
    for entry in data["runtimes"]:
        del entry["options"], entry["grpc"]
    file.write_text(json.dumps(data))
    runtimes.start("edge")
    with RemoteRuntime(_known(runtimes).url) as stranger, pytest.raises(AuthenticationError):
        stranger.status()


def test_a_token_is_shown_once_and_its_file_then(runtimes: Runtimes) -> None:
    started = runtimes.start("edge", http="0.0.0.0:0")
    known = _known(runtimes)
    assert known.token is not None
    assert known.home is not None
    for shown in (started.text(), started.html(), json.dumps(started.to_json())):
        assert known.token in shown
        assert str(known.home) in shown
    runtimes.stop("edge")
    again = runtimes.start("edge")
    assert str(known.home / "token") in again.text()
    for result in (again, runtimes.list()):
        assert known.token not in result.text() + json.dumps(result.to_json())


def test_services_that_failed_are_marked_at_once(runtimes: Runtimes, tmp_path: Path) -> None:
    config = tmp_path / "machine.json"
    config.write_text(json.dumps(BROKEN))
    for table in (runtimes.start("edge", config=config), runtimes.list()):
        assert "2 of 2 failed: see `status edge`" in table.text()
        assert table.to_json()[0]["failed"] == ["one", "two"]


def test_one_that_never_came_up_leaves_nothing(runtimes: Runtimes, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeployError, match="in use"):
            runtimes.start("zz", http=f"127.0.0.1:{port}")
    assert not (tmp_path / "runtimes" / "zz").exists()
    assert list(runtimes.list()) == []


def test_a_name_is_not_moved_to_another_address_without_being_told_to(
    runtimes: Runtimes,
) -> None:
    runtimes.start("edge")
    runtimes.start("other")
    there = _known(runtimes, "other").url
    with pytest.raises(InputError, match=r"'edge' is at .* already") as caught:
        runtimes.add("edge", there, replace=True)
    assert "`runtime remove edge` first" in str(caught.value.hint)  # it runs, and has a home here
    (note,) = runtimes.add("third", there).notes
    assert "is known as other too" in note
    with pytest.raises(InputError, match=r"'third' is at .* already") as caught:
        runtimes.add("third", _known(runtimes).url)
    assert "--replace" in str(caught.value.hint)
    assert runtimes.add("third", _known(runtimes).url, replace=True)[0]["state"] == "ready"


def test_one_that_is_down_is_stopped_and_has_a_log(runtimes: Runtimes) -> None:
    runtimes.start("edge")
    known = _known(runtimes)
    assert known.home is not None
    assert known.pid is not None
    runtimes.stop("edge")
    assert not is_running(known.pid)
    (row,) = runtimes.list()
    assert row["state"] == "stopped"
    assert "error" not in row
    lines = runtimes.logs("edge", lines=500)
    assert any(line.endswith(f"ready on {known.url}") for line in lines)
    assert str(known.home) in lines.text()
    with (known.home / "output.log").open("a") as file:
        file.write("Segmentation fault\n")
    assert list(runtimes.logs("edge", lines=1)) == ["Segmentation fault"]
    removed = runtimes.remove("edge")
    assert f"its files stay in {known.home}" in removed.text()
    assert (known.home / "runtime.log").exists()


def test_one_elsewhere_that_is_away_has_no_log_here(runtimes: Runtimes) -> None:
    runtimes._known.add(Known("pi", "http://127.0.0.1:9"))
    with pytest.raises(TargetUnreachableError):
        runtimes.logs("pi")
    assert runtimes.list()[0]["state"] == "unreachable"


def test_a_config_is_answered_with_what_it_changes(runtimes: Runtimes, linear_config: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    runtimes.start("edge")
    wanted = json.loads(linear_config.read_text())
    before = runtimes.config("edge")
    for is_dry in (True, False):
        plan = runtimes.set_config("edge", linear_config, dry_run=is_dry)
        (step,) = plan["steps"]
        assert (step["service"], step["action"]) == ("linear", "start")
        assert plan.to_json()["dry_run"] is is_dry
        assert "model_path" not in plan.text()
        assert dict(runtimes.config("edge")) == (dict(before) if is_dry else wanted)
    runtimes._settle(_known(runtimes))
    gone = runtimes.set_config("edge", {"service": []}, dry_run=True)
    assert [step["action"] for step in gone["steps"]] == ["stop"]
    assert "neither 'services' nor 'packages'" in gone.text()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param(["--http", "127.0.0.1:0"], {"http": "127.0.0.1:0"}, id="the default, given"),
        pytest.param(["--no-require-token"], {"require_token": False}, id="a flag taken back"),
        pytest.param(["--grpc", "off"], {"grpc": "off"}, id="gRPC ended"),
        pytest.param(["--drain-s", "3"], {"limits": {"drain_s": 3.0}}, id="a limit"),
    ],
)
def test_the_command_line_passes_on_what_is_on_it(
    words: list[str],
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path))
    passed: dict[str, Any] = {}
    monkeypatch.setattr(Runtimes, "start", lambda _self, _name, **options: passed.update(options))
    assert main(["runtime", "start", "edge", *words]) == 0
    assert passed == {"config": None, "limits": {}} | given


def test_a_config_that_is_wrong_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path))
    config = tmp_path / "machine.json"
    config.write_text('{"services": [{"name": "a"}, {"name": "b"}]}')
    assert main(["runtime", "start", "edge", "--config", str(config)]) == 1
    told = capsys.readouterr().err
    assert "2 problems" in told
    assert told.count("services.1: expected an api") == 1


def test_a_plan_needs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path))
    assert main(["runtime", "config", "edge", "--dry-run"]) == 2


def test_an_option_that_cannot_be_used_starts_nothing(runtimes: Runtimes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an address"):
        runtimes.start("edge", grpc="nowhere")
    with pytest.raises(InputError, match="no such option"):
        runtimes.start("edge", limits={"max_everything": 1})
    assert not (tmp_path / "runtimes").exists()
