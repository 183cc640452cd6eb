"""Deployments on a device whose power is cut after any change of its disk.

A real runtime is watched while a client deploys to it; what its disk holds after each of its
calls, with and without what it did not synchronise, is what a runtime is started on again.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.core.digest import is_digest
from nbmodel.core.machine import MachineConfig
from nbmodel.storage import MemoryStorage
from tests.tools import powercut
from tests.tools.device import PATIENCE_S, Device
from tests.tools.hostile_registry import HostileRegistry
from tests.tools.powercut import Cut, Disk, Tree, cuts, differences, read_calls, traced
from tests.tools.restart import AFTER, started_again
from tests.tools.toy_versions import MODEL, SERVICE, Toy, machine, toy

if sys.platform != "linux" or powercut.why_not() is not None:
    pytest.skip(f"{powercut.why_not()}", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

#: Told from, not relied on, and written without being synchronised.
LOGS = frozenset({"runtime.log", "events.jsonl", "lock"})
#: Files whose rests are removed, or gone on with only when they turn out to be right.
SCRATCH = re.compile(r"(?<=/)\.new-[^/]*$|^\.new-[^/]*$|(?<=uploads/)(?!fetch-)[^/]*$")
BLOBS = "blobs/blobs/sha256/"
CONFIRM_S = 0.3
PARTS = 4  # of one scenario, so that they can be spread over processes


@dataclass(frozen=True, slots=True)
class Promise:
    """What a client was told, or may yet be told.

    Attributes:
        begin_ns: When it asked for it.
        end_ns: When it was told so.
        about: ``tag latest``, ``config``, ``version``.
        value: What it is from then on.
    """

    begin_ns: int
    end_ns: int
    about: str
    value: object


@dataclass(slots=True)
class Story:
    """What happens to a device, and what its client is told meanwhile."""

    device: Device
    storage: MemoryStorage
    registry: HostileRegistry
    promises: list[Promise] = field(default_factory=list)

    def push(self, version: Toy, *tags: str, runs: Toy | None = None) -> None:
        about = {f"tag {tag}": version.digest for tag in (*version.tags, *tags)}
        with self._comes_to_run(runs), self._promised(**about):
            self.device.push(self.storage, version, *tags)

    def publish(self, version: Toy, *, runs: Toy | None = None) -> None:
        tags = (*version.tags, "latest")
        self.registry.take(MODEL, self.storage, version.digest, tags=tags)
        with self._comes_to_run(runs):
            self.device.remote.reconcile()

    def untag(self, tag: str, *, runs: Toy) -> None:
        with self._comes_to_run(runs), self._promised(**{f"tag {tag}": None}):
            self.device.remote.distribution.delete_tag(MODEL, tag)

    def configure(self, config: dict[str, Any], *, runs: Toy | None = None) -> None:
        etag = MachineConfig.from_json(config).etag
        with self._comes_to_run(runs), self._promised(config=etag):
            self.device.configure(config)

    def roll_back(self, *, runs: Toy) -> None:
        with self._comes_to_run(runs):
            self.device.remote.rollback(SERVICE)

    @contextmanager
    def _comes_to_run(self, version: Toy | None) -> Iterator[None]:
        if version is None:
            yield
            return
        with self._promised(version=version.factor, current=version.digest):
            yield
            self.device.wait_committed(version)

    @contextmanager
    def _promised(self, **about: object) -> Iterator[None]:
        begin_ns = time.time_ns()
        yield
        end_ns = time.time_ns()
        self.promises += [Promise(begin_ns, end_ns, key, value) for key, value in about.items()]


_STORAGE = MemoryStorage()
FIRST, SECOND = toy(_STORAGE, 1, 2), toy(_STORAGE, 2, 3)
WRONG = toy(_STORAGE, 3, 4, golden=5)
CONFIG = machine(confirm_s=CONFIRM_S)


def first_version(story: Story) -> None:
    story.push(FIRST, "latest")
    story.configure(CONFIG, runs=FIRST)


def new_version(story: Story) -> None:
    story.push(SECOND, "latest", runs=SECOND)


def from_a_registry(story: Story) -> None:
    story.publish(FIRST)
    story.configure(following(story.registry), runs=FIRST)


def new_in_the_registry(story: Story) -> None:
    story.publish(SECOND, runs=SECOND)


def following(registry: HostileRegistry) -> dict[str, Any]:
    """The config, which has packages come from a registry."""
    return {**CONFIG, "nbmodel": {"registry": registry.url, "min_free_bytes": 0}}


def wrong_version(story: Story) -> None:
    story.push(WRONG, "latest")
    story.device.wait(lambda status: bool(status.get("error")))


def new_config(story: Story) -> None:
    story.push(SECOND)
    story.configure(machine("2", confirm_s=CONFIRM_S), runs=SECOND)


def pinned(story: Story) -> None:
    story.push(SECOND, "pinned", runs=SECOND)
    story.untag("pinned", runs=FIRST)


def rolled_back(story: Story) -> None:
    story.roll_back(runs=FIRST)


def removed(story: Story) -> None:
    story.configure({"packages": [], "services": []})
    deadline = time.monotonic() + PATIENCE_S
    while story.device.status() or not story.device.remote.status()["settled"]:
        assert time.monotonic() < deadline


Part = Callable[[Story], None]

#: What happened before, what happens now, and what may serve whenever the power is cut.
SCENARIOS: dict[str, tuple[Sequence[Part], Part, set[float | None]]] = {
    "the first version": ([], first_version, {None, 2}),
    "a new version": ([first_version], new_version, {2, 3}),
    "a version that answers wrongly": ([first_version], wrong_version, {2}),
    "a new version by a new config": ([first_version], new_config, {2, 3}),
    "pinned and unpinned": ([first_version], pinned, {2, 3}),
    "a new version in a registry": ([from_a_registry], new_in_the_registry, {2, 3}),
    "rolled back": ([first_version, new_version], rolled_back, {2, 3}),
    "removed": ([first_version], removed, {None, 2}),
}


@dataclass(frozen=True, slots=True)
class Record:
    """Every power cut of a scenario, and what the client was told."""

    cuts: tuple[Cut, ...]
    promises: tuple[Promise, ...]

    def trees(self) -> dict[str, tuple[Tree, list[Cut]]]:
        """What disks may hold, each with the power cuts that leave it."""
        found: dict[str, tuple[Tree, list[Cut]]] = {}
        for cut in self.cuts:
            found.setdefault(cut.tree.key(SCRATCH), (cut.tree, []))[1].append(cut)
        return found

    def allowed(self, about: str, cut: Cut) -> set[object] | None:
        """What something may be at a power cut; None where nothing was said of it yet."""
        ours = [promise for promise in self.promises if promise.about == about]
        # Begun before the last call there: anything that this call may have done is allowed.
        asked = [promise for promise in ours if promise.begin_ns < cut.end_ns]
        told = [promise for promise in asked if promise.end_ns < cut.begin_ns]
        if not told:
            return None
        return {told[-1].value, *(promise.value for promise in asked[len(told) :])}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Record]:
    """What happens in a scenario, played once."""
    known: dict[str, Record] = {}

    def play(name: str) -> Record:
        before, now, _ = SCENARIOS[name]
        folder = tmp_path_factory.mktemp("scenario")
        home, log = folder / "home", folder / "log"
        log.mkdir()
        with HostileRegistry() as registry:  # it is gone when the device starts again
            return watched(before, now, home, log, registry)

    def watched(
        before: Sequence[Part], now: Part, home: Path, log: Path, registry: HostileRegistry
    ) -> Record:
        with Device(home) as device:
            for part in before:
                part(Story(device, _STORAGE, registry))
            device.stop()
        disk = Disk.read(home, ignored=LOGS)
        with Device(home, under=lambda command: traced(command, log)) as device:
            story = Story(device, _STORAGE, registry)
            now(story)
            device.stop()
        found = tuple(cuts(disk, read_calls(log)))
        assert differences(disk, home) == []
        return Record(found, tuple(story.promises))

    def remembered(name: str) -> Record:
        if name not in known:
            known[name] = play(name)
        return known[name]

    return remembered


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_after_a_power_cut_the_old_or_the_new_version_serves(
    record: Callable[[str], Record], tmp_path: Path, scenario: str, part: int
) -> None:
    played, (_, _, may_serve) = record(scenario), SCENARIOS[scenario]
    for index, (tree, where) in enumerate(played.trees().values()):
        if index % PARTS != part:
            continue
        home = tmp_path / str(index)
        tree.write(home)
        outcome = started_again(home, deploy=index % 8 == part)
        said = f"{where[0]}: {outcome}"
        # It may not have begun with anything, but what once serves goes on.
        assert set(outcome.factors) <= may_serve, said
        assert None not in outcome.factors[1:] or scenario == "removed", said
        assert outcome.unowned == (), said
        assert outcome.after in (None, AFTER), said
        for cut in where:
            versions = played.allowed("version", cut)
            assert versions is None or outcome.settled in versions, f"{cut}: {outcome}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_client_was_told_stays_over_a_power_cut(
    record: Callable[[str], Record], scenario: str
) -> None:
    played = record(scenario)
    for cut in played.cuts:
        for about in {promise.about for promise in played.promises} - {"version"}:
            allowed = played.allowed(about, cut)
            found = kept(cut.tree, about)
            assert allowed is None or found in allowed, f"{about} at {cut}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_file_is_there_as_a_whole_or_not_at_all(
    record: Callable[[str], Record], scenario: str
) -> None:
    for tree, where in record(scenario).trees().values():
        blobs = {node for path, (node, _) in tree.files.items() if path.startswith(BLOBS)}
        for path, (node, content) in tree.files.items():
            said = f"{path} at {where[0]}"
            if SCRATCH.search(path) or "/.new-" in path:
                continue  # not there yet
            if path.startswith(BLOBS):
                assert hashlib.sha256(content).hexdigest() == path.removeprefix(BLOBS), said
            elif path.endswith(".json"):
                json.loads(content)
            elif path.startswith("tags/"):
                assert is_digest(content.decode()), said
            elif path.startswith("packages/"):
                assert node in blobs, said
            elif path.startswith("models/"):
                assert b"\0" not in content, said


def kept(tree: Tree, about: str) -> str | None:
    """What is on a disk of what a client was told."""
    if about == "config":
        return etag(tree)
    if about == "current":
        return current(tree)
    return tag(tree, about.removeprefix("tag "))


def current(tree: Tree) -> str | None:
    services = json.loads(tree.files["state.json"][1])["services"]
    record = services.get(SERVICE, {}).get("current")
    return None if record is None else str(record["digest"])


def etag(tree: Tree) -> str | None:
    file = tree.files.get("config.json")
    return None if file is None else MachineConfig.from_json(json.loads(file[1])).etag


def tag(tree: Tree, name: str) -> str | None:
    file = tree.files.get(f"tags/{MODEL}/{name}")
    return None if file is None else file[1].decode()
