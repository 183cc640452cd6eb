"""Runtimes as services: what is put in place, asked of systemd, and undone."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from nbmodel import config as settings
from nbmodel.errors import DeployError, InputError
from nbmodel.fleet import installation
from nbmodel.fleet.installation import Systemd, service_unit, user_for
from nbmodel.fleet.known import Known, KnownRuntimes
from nbmodel.fleet.options import StartOptions
from nbmodel.fleet.runtimes import Runtimes
from nbmodel.runtime.limits import Limits
from nbmodel.runtime.systemd import HEAD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is Linux's")

AT_8080 = StartOptions(http="0.0.0.0:8080", limits=Limits(drain_s=5))


def nothing(_name: str) -> Iterable[str]:
    return ()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``systemctl`` was asked: a program of that name that writes its words down."""
    said = tmp_path / "asked"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {shlex.quote(str(said))}\n'
        'case "$*" in *broken*) echo "Job for $3 failed." >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(installation, "BOOTED", tmp_path)
    return said


@pytest.fixture
def runtimes(tmp_path: Path) -> Runtimes:
    return Runtimes(tmp_path / "nbmodel", on_up=nothing)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    return tmp_path / "config" / "systemd" / "user"


def test_a_service_of_the_user_is_written_started_and_known(
    asked: Path, units: Path, runtimes: Runtimes, tmp_path: Path
) -> None:
    card = runtimes.install("edge", user=True, http="127.0.0.1:8099", drain_s=3.0)
    unit = (units / "nbmodel-edge.service").read_text()
    assert unit.startswith(HEAD)
    (command,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(command.removeprefix("ExecStart="))
    assert words[:7] == [
        sys.executable,
        "-m",
        "nbmodel",
        "runtime",
        "start",
        "edge",
        "--foreground",
    ]
    assert " ".join(words[-4:]) == "--http 127.0.0.1:8099 --drain-s 3.0"
    assert asked.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable nbmodel-edge.service",
        "--user restart nbmodel-edge.service",
    ]
    assert card.state == "running"
    assert "nbmodel runtime uninstall edge --user" in card.text()
    known = KnownRuntimes(tmp_path / "nbmodel").get("edge")
    assert (known.url, known.pid) == ("http://127.0.0.1:8099", None)


def test_taking_it_away_undoes_all_of_that(
    asked: Path, units: Path, runtimes: Runtimes, tmp_path: Path
) -> None:
    runtimes.install("edge", user=True)
    asked.unlink()
    card = runtimes.uninstall("edge", user=True)
    assert not (units / "nbmodel-edge.service").exists()
    assert asked.read_text().splitlines() == [
        "--user disable --now nbmodel-edge.service",
        "--user daemon-reload",
    ]
    assert (card.state, KnownRuntimes(tmp_path / "nbmodel").list()) == ("removed", ())
    with pytest.raises(DeployError, match="no unit"):
        runtimes.uninstall("edge", user=True)


def test_a_unit_of_somebody_else_is_left_alone(
    asked: Path, units: Path, runtimes: Runtimes
) -> None:
    units.mkdir(parents=True)
    file = units / "nbmodel-edge.service"
    file.write_text("[Service]\nExecStart=/bin/true\n")
    for verb in (runtimes.install, runtimes.uninstall):
        with pytest.raises(DeployError, match="not made by nbmodel"):
            verb("edge", user=True)
    assert file.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert not asked.exists()


def test_a_service_that_does_not_start_is_told_in_systemds_words(
    asked: Path, runtimes: Runtimes
) -> None:
    del asked
    with pytest.raises(DeployError, match="failed: Job for nbmodel-broken") as caught:
        runtimes.install("broken", user=True)
    assert caught.value.hint is None or "journalctl --user" in caught.value.hint


def test_without_systemd_nothing_is_written_and_the_unit_can_be_seen(
    asked: Path, units: Path, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installation, "BOOTED", tmp_path / "nowhere")
    with pytest.raises(DeployError, match="systemd does not run this machine") as caught:
        runtimes.install("edge", user=True)
    assert "--print" in str(caught.value.hint)
    with pytest.raises(DeployError, match="so nothing was uninstalled"):
        runtimes.uninstall("edge", user=True)
    text = runtimes.install("edge", user=True, print_only=True).text()
    assert text.startswith(HEAD.strip())
    assert "\nExecStart=" in text
    assert not units.exists()
    assert not asked.exists()


def test_a_folder_that_cannot_be_written_to_is_told_with_what_to_type(
    asked: Path, tmp_path: Path
) -> None:
    del asked
    (tmp_path / "file").write_text("")
    systemd = Systemd(is_user=False, units=tmp_path / "file" / "units")
    unit = service_unit("edge", AT_8080, is_user=False, run_as="root")
    with pytest.raises(DeployError, match="cannot") as caught:
        systemd.install(unit)
    assert caught.value.hint is None or "sudo" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http": "127.0.0.1:0"}, "needs a port"),
        ({"grpc": "127.0.0.1:0"}, "needs a port"),
        ({"http": "nonsense"}, "not an address"),
        ({"no_such": 1}, "no such option"),
        ({"run_as": "ada"}, "--run-as"),
        ({"config": "/no/such/file"}, "no such machine config"),
        ({"maintenance_hook": "/no/such/hook"}, "no program"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_not_start_is_not_installed(
    asked: Path, runtimes: Runtimes, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        runtimes.install("edge", user=True, **options)  # type: ignore[arg-type]
    for name in ("../edge", "a/b", ""):
        with pytest.raises(InputError, match="not a name"):
            runtimes.install(name, user=True)
        with pytest.raises(InputError, match="not a name"):
            runtimes.uninstall(name, user=True)
    assert not asked.exists()


def test_a_runtime_that_was_started_here_before_goes_on_as_a_service(
    asked: Path, runtimes: Runtimes, tmp_path: Path
) -> None:
    del asked
    home = tmp_path / "its home"
    before = Known("edge", "http://127.0.0.1:9", pid=2**22 + 1, home=home)
    KnownRuntimes(tmp_path / "nbmodel").add(before)
    card = runtimes.install("edge", user=True)
    assert card.home == str(home)


def test_a_service_of_the_machine_has_a_user_that_can_read_its_python(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("")
    program.chmod(0o755)
    is_open = all(
        part.stat().st_mode & 0o001
        for file in (program, Path(settings.__file__).resolve())
        for part in file.parents
    )
    if is_open:
        assert user_for(program, asked=None) is None
    elif os.getuid() == 0:
        with pytest.raises(InputError, match="should not be root"):
            user_for(program, asked=None)
    assert user_for(program, asked="root") == "root"
    with pytest.raises(InputError, match="no user 'nobody-of-that-name'"):
        user_for(program, asked="nobody-of-that-name")


def test_what_lies_among_temporary_files_is_not_seen_by_a_user_of_its_own(
    asked: Path, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nbmodel.fleet.installation.user_for", lambda *_, asked, **__: asked)
    monkeypatch.setattr("nbmodel.runtime.systemd._TEMPORARY", (tmp_path,))
    config = tmp_path / "machine.json"
    config.write_text("{}")
    with pytest.raises(InputError, match=f"alone does not see {config}"):
        runtimes.install("edge", config=config)
    (warning,) = runtimes.install("edge", config=config, print_only=True).warnings
    assert f"does not see {config}" in warning
    assert "--run-as USER" in warning
    unit = runtimes.install("edge", config=config, run_as="root", print_only=True)
    assert unit.warnings == ()
    assert "PrivateTmp=no" in unit.text()
    assert not asked.exists()


def test_a_unit_is_shown_also_where_it_could_not_run(
    asked: Path, runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> str | None:
        raise InputError("only root can read it", hint="put it elsewhere")

    monkeypatch.setattr("nbmodel.fleet.installation.user_for", refused)
    with pytest.raises(InputError, match="only root"):
        runtimes.install("edge")
    card = runtimes.install("edge", print_only=True)
    assert "only root can read it; put it elsewhere" in card.warnings
    assert card.text().rstrip() == card.unit.rstrip()
    assert not asked.exists()
