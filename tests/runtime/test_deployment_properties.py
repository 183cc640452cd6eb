"""Whatever is done to a device, in whatever order, it runs what a simple model says."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nbmodel.errors import ConfigConflictError, DeployError
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import MemoryStorage
from nbmodel.storage.manifests import blobs_of
from tests.tools.hostile_answers import Answer, Kind
from tests.tools.hostile_registry import HostileRegistry
from tests.tools.laws import unowned
from tests.tools.powercut import Disk
from tests.tools.restart import PATIENCE_S, collect, factor, is_steady
from tests.tools.toy_versions import MODEL, SERVICE, Toy, machine, stamp_of, toy

CONFIRM_S = 0.05
LONG_S = 600.0  # no version is committed so soon

_STORAGE = MemoryStorage()
GOOD = {number: toy(_STORAGE, number, number + 1) for number in (1, 2, 3)}
BAD = {
    4: toy(_STORAGE, 4, 5, golden=6),
    5: toy(_STORAGE, 5, 6, files={"model.onnx": b"no model"}),
}
VERSIONS = {**GOOD, **BAD}

numbers = st.sampled_from(sorted(VERSIONS))
good_numbers = st.sampled_from(sorted(GOOD))


@dataclass(frozen=True, slots=True)
class Model:
    """What should be true of a device. Versions are their numbers.

    Attributes:
        tags: Tag that moves → version.
        wants: What its config says of the package; None: the config is empty.
        current: The version that is committed.
        before: The one that was before.
        failed: Versions that are not tried again.
    """

    tags: dict[str, int] = field(default_factory=dict)
    wants: str | None = None
    current: int | None = None
    before: int | None = None
    failed: frozenset[int] = frozenset()

    def with_tag(self, tag: str, version: int | None) -> Model:
        tags = {name: number for name, number in self.tags.items() if name != tag}
        return replace(self, tags=tags if version is None else {**tags, tag: version})

    @property
    def wanted(self) -> int | None:
        """The version that the config means, if it is on the device."""
        if self.wants == "latest":
            return next((self.tags[tag] for tag in ("pinned", "latest") if tag in self.tags), None)
        # It was pushed with the config, and is kept as long as that names it.
        return next((number for number in VERSIONS if self.wants in VERSIONS[number].tags), None)

    def settled(self) -> Model:
        """The device has done what it can."""
        if self.wants is None:
            return replace(self, current=None, before=None, failed=frozenset())
        wanted = self.wanted
        if wanted is None or wanted == self.current or wanted in self.failed:
            return self
        if wanted in BAD:
            return replace(self, failed=self.failed | {wanted})
        return replace(self, current=wanted, before=self.current)

    def forgiven(self) -> Model:
        """A person asks for what failed to be tried again."""
        return replace(self, failed=frozenset())


class DeviceMachine(RuleBasedStateMachine):
    """A device and the model of it, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="nbmodel-"))
        self.starts = 0
        self.home = self.folder / "0"
        self.model = Model()
        self.runtime = self.started()

    def teardown(self) -> None:
        self.runtime.close()
        collect(self.home)
        try:
            assert unowned(self.home) == []
        finally:
            shutil.rmtree(self.folder)

    def started(self) -> EdgeRuntime:
        return EdgeRuntime(self.home, name="here", environment={})

    # What a client does

    @initialize(number=good_numbers)
    def deploy_first(self, number: int) -> None:
        self.push(number)
        self.configure("latest")

    @rule(number=numbers)
    def push(self, number: int) -> None:
        self.put(VERSIONS[number], "latest")
        self.expect(self.model.with_tag("latest", number))

    @rule(number=numbers)
    def push_aside(self, number: int) -> None:
        self.put(VERSIONS[number])
        self.expect(self.model)

    @rule(number=numbers)
    def pin(self, number: int) -> None:
        self.put(VERSIONS[number], "pinned")
        self.expect(self.model.with_tag("pinned", number))

    @rule()
    def unpin(self) -> None:
        self.runtime.tags.delete(MODEL, "pinned")
        self.runtime.tags_changed(MODEL)
        self.expect(self.model.with_tag("pinned", None))

    @rule(wants=st.sampled_from(["latest", "1", "2", "3", "4", "99"]))
    def configure(self, wants: str) -> None:
        if (
            wants.isdecimal() and int(wants) in VERSIONS
        ):  # as a client that deploys does; there is no 99
            self.put(VERSIONS[int(wants)])
        self.runtime.set_config(machine(wants, confirm_s=CONFIRM_S), if_match=None)
        model = self.model if wants == self.model.wants else self.model.forgiven()
        self.expect(replace(model, wants=wants))

    @precondition(lambda self: self.model.wants is not None)
    @rule()
    def undeploy(self) -> None:
        self.runtime.set_config({"packages": [], "services": []}, if_match=None)
        self.expect(replace(self.model, wants=None, tags={}))  # nobody needs them any more

    @rule()
    def ask_again(self) -> None:
        self.runtime.reconcile()
        self.expect(self.model.forgiven())

    @precondition(lambda self: self.model.wants is not None)
    @rule()
    def roll_back(self) -> None:
        before = self.model.before
        if before is None:
            with pytest.raises(DeployError, match="no earlier version"):
                self.runtime.rollback(SERVICE)
            self.expect(self.model)
            return
        self.runtime.rollback(SERVICE)
        self.expect(replace(self.model, wants=stamp_of(before)).forgiven())

    @precondition(lambda self: self.model.wants is not None)
    @rule(first=st.sampled_from(["latest", "99"]), second=st.sampled_from(["latest", "98"]))
    def two_change_the_config(self, first: str, second: str) -> None:
        _, etag = self.runtime.config
        plan = self.runtime.set_config(machine(first, confirm_s=CONFIRM_S), if_match=etag)
        if plan.changed:
            with pytest.raises(ConfigConflictError):
                self.runtime.set_config(machine(second, confirm_s=CONFIRM_S), if_match=etag)
        model = self.model if first == self.model.wants else self.model.forgiven()
        self.expect(replace(model, wants=first))

    # What happens to the device

    @rule()
    def restart(self) -> None:
        self.runtime.close()
        self.runtime = self.started()
        self.expect(self.model)

    @rule()
    def kill(self) -> None:
        self.killed()
        self.expect(self.model)

    @precondition(lambda self: self.model.wants is not None and self.model.current is not None)
    @rule(number=good_numbers)
    def kill_while_provisional(self, number: int) -> None:
        if number in (self.model.current, self.model.before):
            return  # one that was committed before need not prove itself again
        self.put(VERSIONS[number])
        self.runtime.set_config(machine(str(number), confirm_s=LONG_S), if_match=None)
        self.wait_until(lambda: factor(self.runtime) == VERSIONS[number].factor)
        self.killed()
        model = replace(self.model.forgiven(), wants=str(number))
        self.expect(replace(model, failed=frozenset([number])))
        # It is tried again when its service is changed.
        self.configure("latest")

    # Inside

    def put(self, version: Toy, *tags: str) -> None:
        """What a push does, without the network."""
        for digest in (*blobs_of(version.raw), version.digest):
            self.runtime.storage.add_bytes(_STORAGE.read(digest, limit=10**6))
        for tag in (*version.tags, *tags):
            self.runtime.tags.set(MODEL, tag, version.digest)
        self.runtime.tags_changed(MODEL)

    def killed(self) -> None:
        """The runtime ends without a word; another one goes on with what was on its disk."""
        self.starts += 1
        after = self.folder / str(self.starts)
        self.wait_until(lambda: is_copied(self.home, after))
        self.runtime.close()
        shutil.rmtree(self.home)
        self.home = after
        self.runtime = self.started()

    def expect(self, model: Model) -> None:
        """The device comes to be as the model says, and serves one or the other until then."""
        before, after = self.model, model.settled()
        may_serve = {factor_of(before), factor_of(after)}
        if before.wants is None or after.wants is None or factor_of(before) is None:
            may_serve.add(None)
        self.model = after

        def look() -> bool:
            is_ready = self.runtime.ready  # asked first: what it says of then is true of now
            served = factor(self.runtime)
            assert not is_ready or served in may_serve, (served, before, after)
            return self.runtime.settled and is_steady(self.runtime)

        self.wait_until(look)

    def wait_until(self, is_so: object) -> None:
        assert callable(is_so)
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.runtime.status()
            time.sleep(0.005)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        model = self.model
        assert factor(self.runtime) == factor_of(model), (model, *self.runtime.logs(20))
        kept = json.loads((self.home / "state.json").read_bytes())["services"].get(SERVICE, {})
        assert digest_in(kept.get("current")) == digest_of(model.current), model
        assert digest_in(kept.get("rollback")) == digest_of(model.before), model
        assert kept.get("provisional") is None, model


def is_copied(home: Path, to: Path) -> bool:
    """Copy a home, unless something is written meanwhile: a kill would leave something else."""
    try:
        before = Disk.read(home).tree()
        is_still = Disk.read(home).tree().key() == before.key()
    except FileNotFoundError:
        return False
    if is_still:
        before.write(to)
    return is_still


def factor_of(model: Model) -> float | None:
    return None if model.current is None else VERSIONS[model.current].factor


def digest_in(record: dict[str, str] | None) -> str | None:
    return None if record is None else record["digest"]


def digest_of(number: int | None) -> str | None:
    return None if number is None else VERSIONS[number].digest


class RegistryMachine(RuleBasedStateMachine):
    """A device that follows a registry, which is not always there, and the model of both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="nbmodel-"))
        self.home = self.folder / "home"
        self.registry = HostileRegistry()
        self.is_there = True
        self.published: dict[str, int] = {}  # tag → version, in the registry
        self.model = Model(wants="latest")
        self.runtime = self.started()
        config = machine(confirm_s=CONFIRM_S)
        config["nbmodel"] = {"registry": self.registry.url, "min_free_bytes": 0}
        self.runtime.set_config(config, if_match=None)

    def teardown(self) -> None:
        self.runtime.close()
        self.registry.close()
        collect(self.home)
        try:
            assert unowned(self.home) == []
        finally:
            shutil.rmtree(self.folder)

    def started(self) -> EdgeRuntime:
        return EdgeRuntime(self.home, name="here", environment={})

    @initialize(number=good_numbers)
    def publish_first(self, number: int) -> None:
        self.publish(number)

    @rule(number=numbers)
    def publish(self, number: int) -> None:
        self.put(number, "latest")

    @rule(number=numbers)
    def pin(self, number: int) -> None:
        self.put(number, "pinned")

    @precondition(lambda self: "pinned" in self.published)
    @rule()
    def unpin(self) -> None:
        self.registry.untag(MODEL, "pinned")
        del self.published["pinned"]
        self.look()

    @rule()
    def disconnect(self) -> None:
        self.registry.vanish()
        self.is_there = False
        self.look()

    @rule()
    def connect(self) -> None:
        self.registry.come_back()
        self.is_there = True
        self.look()

    @rule(kind=st.sampled_from(["tags", "manifest", "blob"]), status=st.sampled_from([401, 500]))
    def refuse(self, kind: Kind, status: int) -> None:
        """It answers with errors for a while, and then as it should."""
        self.registry.misbehave(lambda _asked, _answer: Answer(status), kind)
        was_there, self.is_there = self.is_there, False
        self.runtime.reconcile()
        time.sleep(0.05)
        self.registry.behave()
        self.is_there = was_there
        self.look()

    @rule()
    def restart(self) -> None:
        self.runtime.close()
        self.runtime = self.started()
        self.look()

    def put(self, number: int, tag: str) -> None:
        version = VERSIONS[number]
        self.registry.take(MODEL, _STORAGE, version.digest, tags=(*version.tags, tag))
        self.published[tag] = number
        self.look()

    def look(self) -> None:
        """The device asks its registry, and comes to be as the model says."""
        self.runtime.reconcile()
        model = self.model.forgiven()
        if self.is_there:
            model = replace(model, tags=dict(self.published))
        before, self.model = self.model, model.settled()
        may_serve = {factor_of(before), factor_of(self.model)}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            is_ready = self.runtime.ready  # asked first: what it says of then is true of now
            served, status = factor(self.runtime), self.runtime.status()
            assert not is_ready or served in may_serve or served is None is factor_of(before), (
                served,
                before,
            )
            if served == factor_of(self.model) and status["settled"] and is_steady(self.runtime):
                return
            assert time.monotonic() < deadline, (self.model, status)
            time.sleep(0.005)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        kept = json.loads((self.home / "state.json").read_bytes())["services"].get(SERVICE, {})
        assert digest_in(kept.get("current")) == digest_of(self.model.current), self.model
        assert digest_in(kept.get("rollback")) == digest_of(self.model.before), self.model


@pytest.mark.slow
@pytest.mark.unhurried
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", [DeviceMachine, RegistryMachine])
def test_a_device_does_what_its_model_says(kind: type[RuleBasedStateMachine], number: int) -> None:
    # No shrinking: a step takes as long as a deployment.
    chosen = settings(
        max_examples=5,
        stateful_step_count=12,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    sequences = type(f"{kind.__name__}{number}", (kind,), {})
    run_state_machine_as_test(seed(number)(sequences), settings=chosen)  # type: ignore[no-untyped-call]
