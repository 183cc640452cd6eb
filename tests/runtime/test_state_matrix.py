"""Every state of a deployment, and what may happen to a device in it.

A real runtime is deployed to; in the state it goes on as it should, or the disk takes nothing,
or the process is killed, or it hangs there. Meanwhile it must answer as the old version or the
new one, a runtime that is started on what is left must too, and it must take another version.

Source: Mender's ``state_test`` for the shape: the states times normal, error, killed, hang.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import NbModelError
from nbmodel.storage import MemoryStorage
from tests.tools.device import PATIENCE_S, Device
from tests.tools.restart import AFTER, started_again
from tests.tools.toy_versions import SERVICE, Toy, hanging_onnx, machine, toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does"),
]

CONFIRM_S = 0.3
HANG_S = 0.5  # as long as a runtime is looked at that hangs
CONFIG = machine(confirm_s=CONFIRM_S, probe_timeout_s=20)
_STORAGE = MemoryStorage()
#: By what they scale by.
VERSIONS = {float(one + 1): toy(_STORAGE, one, one + 1) for one in (1, 2, 3)}
WRONG = toy(_STORAGE, 4, 5, golden=6)
HANGING = toy(_STORAGE, 5, 1, files={"model.onnx": hanging_onnx()})

Action = Callable[[Device], None]


def deploy(version: Toy) -> Action:
    return lambda device: device.push(_STORAGE, version, "latest")


NEXT = deploy(VERSIONS[3])


def roll_back(device: Device) -> None:
    device.remote.rollback(SERVICE)


@dataclass(frozen=True, slots=True)
class Case:
    """What happens in a state.

    Attributes:
        state: As ``faulty_runtime`` calls it.
        fault: As it does; ``none``: all is well.
        action: What leads to the state.
        before: What the versions scale by that were deployed before, the last one serving.
        during: What may serve as long as the process lives.
        then: What may serve in the end, in the same process; None: it does not live on.
        again: What may serve in the end when a runtime is started again.
    """

    state: str
    fault: str
    action: Action
    before: tuple[float, ...]
    during: frozenset[float]
    then: frozenset[float] | None
    again: frozenset[float]

    def __str__(self) -> str:
        happens = {"none": "as it should", "error": "fails", "kill": "killed", "hang": "hangs"}
        return f"{self.state} {happens[self.fault]}"


def row(
    state: str,
    *,
    action: Action = NEXT,
    before: tuple[float, ...] = (2,),
    new: float = 3,
    error: set[float],
    error_again: set[float],
    killed: set[float],
) -> Iterator[Case]:
    """The cases of a state: what serves after an error, after a start after it, after a kill."""
    old = before[-1]
    both, only_new = frozenset({old, new}), frozenset({new})
    yield Case(state, "none", action, before, both, only_new, only_new)
    yield Case(state, "error", action, before, both, frozenset(error), frozenset(error_again))
    yield Case(state, "kill", action, before, both, None, frozenset(killed))
    yield Case(state, "hang", action, before, both, None, frozenset(killed))


CASES = (
    # A push that breaks off is the client's to repeat.
    *row("fetching", error={2}, error_again={2}, killed={2}),
    # A file that cannot be linked is copied.
    *row("unpacking", error={3}, error_again={3}, killed={3}),
    *row("probing", error={2, 3}, error_again={2, 3}, killed={3}),
    # It is provisional by then: what was running when the power went is to blame.
    *row("loading", error={2}, error_again={2, 3}, killed={2}),
    *row("activating", error={2, 3}, error_again={2, 3}, killed={3}),
    *row("committing", error={2, 3}, error_again={2, 3}, killed={2}),
    *row(
        "rolling_back",
        action=deploy(WRONG),
        new=2,
        error={2},
        error_again={2},
        killed={2},
    ),
    *row(
        "reconfiguring",
        action=roll_back,
        before=(2, 3),
        new=2,
        error={3},
        error_again={3},
        killed={3},
    ),
    *row(
        "cleaning_up",
        action=deploy(VERSIONS[4]),
        before=(2, 3),
        new=4,
        error={4},
        error_again={4},
        killed={4},
    ),
)


@pytest.fixture(scope="module")
def home_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A home whose device was given versions, one after the other; the caller's own."""
    known: dict[tuple[float, ...], Path] = {}

    def made(versions: tuple[float, ...]) -> Path:
        home = tmp_path_factory.mktemp("before") / "home"
        with Device(home) as device:
            device.push(_STORAGE, VERSIONS[versions[0]], "latest")
            device.configure(CONFIG)
            for factor in versions:
                device.push(_STORAGE, VERSIONS[factor], "latest")
                device.wait_committed(VERSIONS[factor])
            device.stop()
        return home

    def copied(versions: tuple[float, ...], to: Path) -> Path:
        if versions not in known:
            known[versions] = made(versions)
        shutil.copytree(known[versions], to, symlinks=True)
        return to

    return copied


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_old_or_the_new_version_serves(
    home_with: Callable[..., Path], project_root: Path, tmp_path: Path, case: Case
) -> None:
    home = home_with(case.before, tmp_path / "home")
    mark = tmp_path / "now"
    program = [sys.executable, "-m", "tests.tools.faulty_runtime"]
    program += [case.state, case.fault, str(mark), str(home)]
    with Device(home, program=program, environment={"PYTHONPATH": str(project_root)}) as device:
        device.wait(lambda status: status["state"] == "ready")
        if case.fault != "none":
            mark.touch()
        acting = threading.Thread(target=act, args=(case.action, device))
        acting.start()
        seen = watched(device, case.fault, acting, mark)
        acting.join(PATIENCE_S)
        assert set(seen) <= case.during, seen
        if case.then is not None:
            assert seen[-1] in case.then, json.dumps(device.status(), indent=1)
            device.stop()
    outcome = started_again(home, deploy=True)
    assert outcome.settled in case.again, outcome
    assert set(outcome.factors) <= case.during, outcome
    assert outcome.unowned == ()
    assert outcome.after == AFTER, outcome


def act(action: Action, device: Device) -> None:
    with suppress(NbModelError):  # what fails, or whose device is gone
        action(device)


def watched(device: Device, fault: str, acting: threading.Thread, mark: Path) -> list[float]:
    """What a device answers until the action is over and it has settled, or it was ended."""
    seen: list[float] = []
    begun = time.monotonic()
    hung_since = None
    while True:
        try:
            seen.append(device.answer())
        except NbModelError:
            assert fault == "kill", "it must answer as long as it lives"
            assert device.process.wait(PATIENCE_S) == -signal.SIGKILL
            return seen
        assert time.monotonic() < begun + PATIENCE_S, f"{fault}: {device.status()}"
        if mark.exists():
            continue
        if fault == "hang":
            hung_since = hung_since or time.monotonic()
            if time.monotonic() > hung_since + HANG_S:
                device.kill()
                return seen
        elif not acting.is_alive() and fault != "kill" and is_steady(device):
            return [*seen, device.answer()]


def is_steady(device: Device) -> bool:
    status = device.remote.status()
    phases = {entry.get("phase") for entry in status["services"]}
    return status["settled"] and phases <= {"ready", "failed", "stopped", "waiting"}
