"""A program that is asked whether a version may be taken up now."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from nbmodel.errors import DeployError, InputError, UnavailableError
from nbmodel.runtime.maintenance import Candidate, MaintenanceHook
from nbmodel.runtime.server import check_hook

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="hooks here are shell scripts")


TWO = Candidate("digits-left", "lab/digits", 2, "sha256:" + "2" * 64)
THREE = Candidate("digits-left", "lab/digits", 3, "sha256:" + "3" * 64)


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    return tmp_path / "may i"


def says(hook: Path, script: str) -> None:
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)


@pytest.mark.parametrize(("script", "answer"), [("exit 0", True), ("exit 1", False)])
def test_its_exit_status_is_the_answer(hook: Path, script: str, answer: bool) -> None:
    says(hook, script)
    assert MaintenanceHook(hook)(TWO) is answer


def test_one_that_is_killed_says_no(hook: Path) -> None:
    says(hook, "kill -9 $$")
    assert MaintenanceHook(hook)(TWO) is False


def test_an_answer_holds_for_a_while(hook: Path, tmp_path: Path) -> None:
    says(hook, f"echo x >> '{tmp_path}/asked'; exit 0")
    patient = MaintenanceHook(hook, again_s=60)
    assert [patient(TWO) for _ in range(3)] == [True] * 3
    assert (tmp_path / "asked").read_text() == "x\n"
    says(hook, "exit 1")
    assert patient(TWO) is True
    assert MaintenanceHook(hook, again_s=0)(TWO) is False


def test_an_answer_is_about_one_version(hook: Path) -> None:
    says(hook, 'test "$NBMODEL_VERSION" = 2')
    patient = MaintenanceHook(hook, again_s=60)
    assert (patient(TWO), patient(THREE), patient(TWO)) == (True, False, True)


def test_it_is_told_what_waits(hook: Path, tmp_path: Path) -> None:
    says(
        hook,
        'printf "%s\\n" "$NBMODEL_SERVICE" "$NBMODEL_MODEL" "$NBMODEL_VERSION" "$NBMODEL_DIGEST"'
        f" > '{tmp_path}/told'",
    )
    assert MaintenanceHook(hook)(TWO) is True
    told = (tmp_path / "told").read_text().splitlines()
    assert told == ["digits-left", "lab/digits", "2", "sha256:" + "2" * 64]
    assert MaintenanceHook(hook)(Candidate("by path")) is True
    assert (tmp_path / "told").read_text().splitlines() == ["by path", "", "", ""]


def test_one_that_hangs_is_waited_for_once(hook: Path, tmp_path: Path) -> None:
    says(hook, f"echo x >> '{tmp_path}/asked'; sleep 60")
    patient = MaintenanceHook(hook, timeout_s=0.5, again_s=60)
    for version in (TWO, THREE, TWO):
        with pytest.raises(UnavailableError, match="no answer"):
            patient(version)
    assert (tmp_path / "asked").read_text() == "x\n"


def test_one_that_hangs_is_ended_with_all_it_started(hook: Path, tmp_path: Path) -> None:
    says(hook, f"sleep 60 & echo $! > '{tmp_path}/child'; wait")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no answer within 0\.5 s"):
        MaintenanceHook(hook, timeout_s=0.5)(TWO)
    assert time.monotonic() - began < 10
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody has asked for yet has ended all the same
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_secrets_of_the_runtime_are_not_told(hook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_REGISTRY_TOKEN", "s3cret")
    monkeypatch.setenv("OTHER", "x")
    says(hook, 'test -z "$NBMODEL_REGISTRY_TOKEN" && test "$OTHER" = x')
    assert MaintenanceHook(hook)(TWO) is True


def test_one_that_cannot_be_run_is_told_at_the_start_and_later(hook: Path) -> None:
    with pytest.raises(InputError, match="no program"):
        check_hook(hook)
    hook.write_text("not a program")
    with pytest.raises(InputError, match="no program") as caught:
        check_hook(hook)
    assert caught.value.hint == f"chmod +x {hook}"
    hook.chmod(0o755)
    assert check_hook(hook) == hook
    hook.unlink()
    with pytest.raises(DeployError, match="cannot run"):
        MaintenanceHook(hook)(TWO)
