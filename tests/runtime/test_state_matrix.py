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

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import InferenceError, NbModelError
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.storage import MemoryStorage
from tests.tools.device import PATIENCE_S, Device
from tests.tools.restart import AFTER, started_again
from tests.tools.toy_versions import (
    SERVICE,
    Toy,
    hanging_onnx,
    machine,
    picky_onnx,
    sticky_onnx,
    toy,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does"),
]

CONFIRM_S = 0.3
LONG_S = 600.0  # nothing is committed so soon
HANG_S = 0.5  # as long as a runtime is looked at that hangs
CONFIG = machine(confirm_s=CONFIRM_S, probe_timeout_s=20)
_STORAGE = MemoryStorage()
#: By what they scale by.
VERSIONS = {float(one + 1): toy(_STORAGE, one, one + 1) for one in (1, 2, 3)}
WRONG = toy(_STORAGE, 4, 5, golden=6)
HANGING = toy(_STORAGE, 5, 1, files={"model.onnx": hanging_onnx()})
PICKY = toy(_STORAGE, 6, 7, files={"model.onnx": picky_onnx(7)})
STICKY = toy(_STORAGE, 7, 8, files={"model.onnx": sticky_onnx(8)})

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
    # A full disk takes a config all the same, in the place of what was set aside for it.
    *row(
        "reconfiguring",
        action=roll_back,
        before=(2, 3),
        new=2,
        error={2},
        error_again={2},
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


# Provisional


def test_provisional_as_it_should(home_with: Callable[..., Path], tmp_path: Path) -> None:
    with Device(home_with((2,), tmp_path / "home")) as device:
        device.configure(machine(confirm_s=1))
        device.push(_STORAGE, VERSIONS[3], "latest")
        status = device.wait(lambda status: status["phase"] == "provisional")
        assert status["provisional"]["number"] == 2
        assert device.answer() == 3
        device.wait_committed(VERSIONS[3])
        assert device.status()["rollback"]["number"] == 1
        device.stop()
    assert started_again(tmp_path / "home", deploy=False).factors == (3,)


def test_provisional_fails(home_with: Callable[..., Path], tmp_path: Path) -> None:
    home = home_with((2,), tmp_path / "home")
    with Device(home) as device:
        device.configure(machine(confirm_s=LONG_S, max_failure_rate=0.1, min_requests=5))
        device.push(_STORAGE, PICKY, "latest")
        device.wait(lambda status: status["phase"] == "provisional")
        assert device.answer() == 7
        for _ in range(20):
            with suppress(InferenceError):
                device.remote.infer(SERVICE, {"x": np.array([[9, 9]], np.float32)})
        status = device.wait(lambda status: status["failed"] is not None)
        device.wait(lambda status: status["phase"] == "failed")
        assert "requests failed" in status["failed"]["reason"]
        assert device.answer() == 2
        device.kill()
    outcome = started_again(home, deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((2,), (), AFTER)


def test_provisional_killed(home_with: Callable[..., Path], tmp_path: Path) -> None:
    home = home_with((2,), tmp_path / "home")
    with Device(home) as device:
        device.configure(machine(confirm_s=LONG_S))
        device.push(_STORAGE, VERSIONS[3], "latest")
        device.wait(lambda status: status["phase"] == "provisional")
        assert device.answer() == 3
        device.kill()
    with Device(home) as device:
        status = device.wait(lambda status: status["phase"] == "failed")
        assert "ended while it was provisional" in status["failed"]["reason"]
        assert device.answer() == 2
        # A person may ask for it again.
        device.remote.reconcile()
        device.wait(lambda status: status["phase"] == "provisional")
        assert device.answer() == 3


def test_provisional_hangs(home_with: Callable[..., Path], tmp_path: Path) -> None:
    home = home_with((2,), tmp_path / "home")
    with Device(home) as device:
        device.configure(machine(confirm_s=LONG_S))
        device.push(_STORAGE, STICKY, "latest")
        device.wait(lambda status: status["phase"] == "provisional")
        assert device.answer() == 8
        asking = threading.Thread(target=ask_for_ever, args=(device.remote.url,))
        asking.start()
        time.sleep(HANG_S)
        device.kill()  # as a watchdog does, when the process says no more that it lives
        asking.join(PATIENCE_S)
    with Device(home) as device:
        status = device.wait(lambda status: status["phase"] == "failed")
        assert status["failed"]["digest"] == STICKY.digest
        assert device.answer() == 2
        device.stop()
    outcome = started_again(home, deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((2,), (), AFTER)


def ask_for_ever(url: str) -> None:
    with RemoteRuntime(url) as remote, suppress(NbModelError):
        remote.infer(SERVICE, {"x": np.array([[1000, 1000]], np.float32)})


# Out of loops


def test_a_first_version_that_kills_the_runtime_again_and_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Device(home) as device:
        device.push(_STORAGE, VERSIONS[2], "latest")
        device.configure(machine(confirm_s=LONG_S))
        device.wait(lambda status: status["phase"] == "provisional")
        device.kill()
    for _ in range(2):
        with Device(home) as device:
            device.wait(lambda status: status["phase"] == "provisional")
            assert device.answer() == 2, "there is nothing to go back to"
            device.kill()
    with Device(home) as device:
        status = device.wait(lambda status: status["phase"] == "failed")
        assert "ended 3 times in a row while it was provisional" in status["failed"]["reason"]
        assert status["state"] == "failed"
        device.configure(CONFIG)
        device.push(_STORAGE, VERSIONS[3], "latest")
        device.wait_committed(VERSIONS[3])


def test_a_device_that_is_killed_again_and_again_comes_up(
    home_with: Callable[..., Path], tmp_path: Path
) -> None:
    home = home_with((2, 3), tmp_path / "home")
    for _ in range(4):
        with Device(home) as device:
            device.wait(lambda status: status["state"] == "ready")
            assert device.answer() == 3
            device.kill()
    outcome = started_again(home, deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((3,), (), AFTER)


# A model that hangs


def test_a_version_that_hangs_is_refused(home_with: Callable[..., Path], tmp_path: Path) -> None:
    home = home_with((2,), tmp_path / "home")
    with Device(home) as device:
        device.configure(machine(confirm_s=CONFIRM_S, probe_timeout_s=3))
        device.push(_STORAGE, HANGING, "latest")
        device.wait(lambda status: status["phase"] == "probing")
        assert device.answer() == 2
        status = device.wait(lambda status: status["phase"] == "failed")
        assert status["failed"]["digest"] == HANGING.digest
        assert device.answer() == 2
        device.push(_STORAGE, VERSIONS[3], "latest")
        device.wait_committed(VERSIONS[3])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("end", [Device.kill_alone, Device.stop], ids=["killed", "ended"])
def test_nothing_is_left_running_when_a_runtime_ends_while_it_probes(
    home_with: Callable[..., Path], tmp_path: Path, end: Callable[[Device], None]
) -> None:
    home = home_with((2,), tmp_path / "home")
    with Device(home) as device:
        device.configure(machine(confirm_s=CONFIRM_S, probe_timeout_s=3))
        device.push(_STORAGE, HANGING, "latest")
        device.wait(lambda status: status["phase"] == "probing")
        while not device.children():
            time.sleep(0.01)
        children = device.children()
        end(device)
        deadline = time.monotonic() + PATIENCE_S
        while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
    outcome = started_again(home, deploy=False)
    assert outcome.factors == (2,)
