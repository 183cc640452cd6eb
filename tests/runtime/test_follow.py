"""A follower against a registry that does what the specification says, and single faults."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nbmodel.core.chunks import CHUNKS_TYPE
from nbmodel.core.machine import MachineConfig
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature
from nbmodel.core.unpinned import EMPTY, unpinned_manifest
from nbmodel.runtime import follow as follow_module
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.journal import Journal
from nbmodel.storage import MemoryStorage, OciLayout, Storage
from nbmodel.storage.access import Access
from nbmodel.storage.chunking import chunk_table
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.fetch import UPLOAD_PREFIX
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.tags import TagStore
from tests.tools import misbehaviours as wrong
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.hostile_registry import HostileRegistry

pytestmark = pytest.mark.unhurried

PLENTY = 10**12
DAYS = [f"2026-01-{day:02d}T10:00:00.000000Z" for day in range(1, 29)]
STAMPS = [f"2026-01-{day:02d}T10-00-00" for day in range(1, 29)]
WEIGHTS = Random(1).randbytes(3_000_000)
OTHER_HEAD = WEIGHTS[:2_850_000] + Random(2).randbytes(150_000)


def make(storage: Storage, files: dict[str, bytes], created: str = DAYS[0]) -> str:
    """A version, with chunk tables of its large files; the digest of its manifest."""
    tables = {}
    for path, data in files.items():
        table = chunk_table(data) if len(data) >= 1 << 20 else None
        if table is not None:
            raw = table.to_bytes()
            digest = storage.add_bytes(raw)
            tables[path] = FileEntry(f"{path}.chunks", len(raw), digest, CHUNKS_TYPE)
    manifest = Manifest(
        name="digits",
        created=created,
        files=tuple(
            FileEntry(path, len(data), storage.add_bytes(data)) for path, data in files.items()
        ),
        framework="onnx",
        model_type="other",
        signature=Signature(),
        chunks=tables,
    )
    storage.add_bytes(manifest.config_bytes())
    return storage.add_bytes(manifest.manifest_bytes())


class Registry(HostileRegistry):
    """A registry, and the versions that were made for it."""

    def __init__(self) -> None:
        super().__init__()
        self.made = MemoryStorage()

    def publish(self, number: int, *tags: str, name: str = "digits", **files: bytes) -> str:
        """Version ``number``, under its number, its timestamp id and other tags."""
        given = {path.replace("_", "."): data for path, data in files.items()}
        digest = make(self.made, given or {"m.onnx": b"%d" % number}, DAYS[number - 1])
        return self.take(name, self.made, digest, tags=(str(number), STAMPS[number - 1], *tags))

    def references(self, kind: str) -> list[str]:
        """References that were asked for, in order."""
        return [one.asked.reference for one in self.seen if one.asked.kind == kind]


class Device:
    """What of a device follows registries."""

    def __init__(self, home: Path) -> None:
        self.storage = OciLayout(home / "blobs")
        self.tags = TagStore(home / "tags")
        self.free = PLENTY
        self.token: str | None = None
        self.changed: list[str] = []
        self.seen_at_change: list[dict[str, str]] = []
        self.journal = Journal()
        self.follower: Follower = self.begin()

    def begin(self) -> Follower:
        """Start, as after a restart."""
        self.follower = Follower(
            self.storage,
            self.tags,
            self.journal,
            on_change=self._change,
            free_bytes=lambda: self.free,
            access=Access(self.token),
        )
        return self.follower

    def _change(self, name: str) -> None:
        self.changed.append(name)
        self.seen_at_change.append(self.tags.tags(name))

    def follow(self, registry: str, *versions: str, **settings: Any) -> None:
        """Follow ``digits`` as ``a``, ``b``, …, one for each version."""
        packages = [
            {"name": "abcdef"[at], "package": "local/digits", "version": version}
            for at, version in enumerate(versions or ("latest",))
        ]
        self.configure(packages, registry=registry, **settings)

    def configure(self, packages: list[dict[str, Any]], **settings: Any) -> None:
        document = {"packages": packages, "nbmodel": {"poll_s": 3600, **settings}}
        self.follower.follow(MachineConfig.from_json(document))

    def status(self, package: str = "a") -> FetchStatus:
        status = self.follower.status(package)
        assert status is not None
        return status

    def settle(self, within_s: float = 10.0) -> FetchStatus:
        """Wait until nothing is asked or fetched; how the first package is then."""
        until(lambda: not self.follower.busy, within_s)
        return self.status()

    def look(self) -> FetchStatus:
        self.follower.check_now()
        return self.settle()

    def parts(self) -> dict[str, int]:
        return dict(self.storage.abandoned(float("inf")))

    def has(self, digest: str, data: bytes) -> bool:
        return self.storage.read(digest, limit=len(data)) == data


def config_of(registry: Registry, digest: str) -> str:
    """The config's digest of a version."""
    return next(iter(blobs_of(registry.made.read(digest, limit=1 << 20))))


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.follower.close()


# What is fetched, and which tags it gets


def test_a_version_comes_with_its_tags(device: Device, registry: Registry) -> None:
    digest = registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url)
    status = device.settle()
    assert (status.state, status.version, status.percent) == ("done", STAMPS[0], 100.0)
    assert status.bytes == status.total > len(WEIGHTS)
    assert device.tags.tags("digits") == {"1": digest, STAMPS[0]: digest, "latest": digest}
    assert device.changed == ["digits"]
    assert device.seen_at_change == [device.tags.tags("digits")], "all tags were set before"
    assert device.parts() == {}


def test_a_package_without_a_registry_is_nothing_to_a_follower(device: Device) -> None:
    device.configure([{"name": "a", "package": "local/digits"}])
    assert device.follower.status("a") is None
    assert not device.follower.busy


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param("latest", 3, id="the newest"),
        pytest.param("2", 2, id="a number"),
        pytest.param(STAMPS[0], 1, id="a timestamp id"),
        pytest.param("20260101100000", 1, id="a timestamp id as Viam wrote it"),
        pytest.param("champion", 2, id="an alias"),
    ],
)
def test_the_version_that_a_package_means(
    device: Device, registry: Registry, version: str, expected: int
) -> None:
    digests = [registry.publish(1), registry.publish(2, "champion"), registry.publish(3, "latest")]
    device.follow(registry.url, version)
    assert device.settle().version == STAMPS[expected - 1]
    tags = device.tags.tags("digits")
    assert tags[str(expected)] == tags[STAMPS[expected - 1]] == digests[expected - 1]
    assert set(tags.values()) == {digests[expected - 1]}, "no tag of a version that is not here"


def test_the_newest_moves(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest")
    device.follow(registry.url, poll_s=1)
    device.settle()
    second = registry.publish(2, "latest")
    until(lambda: device.changed == ["digits", "digits"])
    assert device.tags.get("digits", "latest") == second


def test_a_registry_pin_comes_before_the_newest_and_goes_again(
    device: Device, registry: Registry
) -> None:
    first, second = registry.publish(1), registry.publish(2, "latest")
    registry.tag("digits", "pinned", first)
    device.follow(registry.url)
    device.settle()
    tags = device.tags.tags("digits")
    assert tags["pinned"] == first
    assert "latest" not in tags, "what is not here has no tag"
    registry.untag("digits", "pinned")
    device.look()
    tags = device.tags.tags("digits")
    assert "pinned" not in tags
    assert tags["latest"] == second


def test_a_tag_of_a_pin_that_says_that_nothing_is_pinned_is_passed_over(
    device: Device, registry: Registry
) -> None:
    first, second = registry.publish(1), registry.publish(2, "latest")
    registry.tag("digits", "pinned", first)
    device.follow(registry.url)
    device.settle()
    registry.put(EMPTY)
    registry.tag("digits", "pinned", registry.put(unpinned_manifest()))
    device.look()
    tags = device.tags.tags("digits")
    assert tags["latest"] == second
    assert "pinned" not in tags
    registry.tag("digits", "pinned", first)
    device.look()
    assert device.tags.tags("digits")["pinned"] == first


def test_what_did_not_change_is_not_sent_again(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest")
    device.follow(registry.url)
    device.settle()
    registry.forget()
    device.look()
    asked = [(one.asked.reference, one.status) for one in registry.seen]
    assert asked[-1] == ("latest", 304)
    assert {status for _, status in asked} == {304, 404}
    assert device.changed == ["digits"]


def test_a_version_that_is_named_for_good_needs_no_network(
    device: Device, registry: Registry
) -> None:
    registry.publish(1)
    device.follow(registry.url, "1")
    device.settle()
    device.follower.close()
    registry.vanish()
    device.begin()
    device.follow(registry.url, "1")
    status = device.settle()
    assert (status.state, status.error) == ("done", None)


def test_a_tag_that_somebody_else_moved_is_moved_back(device: Device, registry: Registry) -> None:
    first = registry.publish(1, "latest")
    device.follow(registry.url)
    device.settle()
    device.tags.set("digits", "latest", make(device.storage, {"m.onnx": b"pushed"}))
    device.look()
    assert device.tags.get("digits", "latest") == first
    assert device.changed == ["digits", "digits"]


def test_a_blob_that_went_comes_again(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url)
    device.settle()
    (large,) = (digest for digest, size, _ in device.storage.digests() if size == len(WEIGHTS))
    device.storage.delete(large)
    device.changed.clear()
    assert device.look().state == "done"
    assert device.has(large, WEIGHTS)
    assert device.changed == ["digits"], "what lacked it may run now, though no tag moved"


def test_a_config_that_was_damaged_here_comes_again(device: Device, registry: Registry) -> None:
    digest = registry.publish(1, "latest")
    device.follow(registry.url)
    device.settle()
    device.tags.delete("digits", "latest")
    config = device.storage.path(config_of(registry, digest))
    config.chmod(0o644)
    config.write_bytes(b"{}")
    device.follower.check_now()
    until(lambda: device.tags.get("digits", "latest") == digest)


def test_versions_without_own_tags_are_called_by_their_time(
    device: Device, registry: Registry
) -> None:
    digest = make(registry.made, {"m.onnx": b"foreign"}, DAYS[4])
    registry.take("digits", registry.made, digest, tags=("latest",))
    device.follow(registry.url)
    assert device.settle().version == STAMPS[4]
    assert device.tags.tags("digits") == {STAMPS[4]: digest, "latest": digest}


def test_a_registry_that_lists_no_tags_is_followed(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest")
    registry.misbehave(wrong.failing(405), "tags")
    device.follow(registry.url)
    assert device.settle().version == STAMPS[0]


def test_a_number_that_could_not_be_asked_for_comes_later(
    device: Device, registry: Registry
) -> None:
    digest = registry.publish(1, "latest")
    registry.misbehave(wrong.failing(503), "tags")
    device.follow(registry.url)
    device.settle()
    assert device.tags.tags("digits") == {STAMPS[0]: digest, "latest": digest}, "it serves already"
    registry.behave()
    device.look()
    assert device.tags.get("digits", "1") == digest
    assert device.changed == ["digits", "digits"]


def test_own_tags_are_looked_for_with_few_requests(device: Device, registry: Registry) -> None:
    for number in range(1, 25):
        registry.publish(number, *(["champion"] if number == 9 else []))
    device.follow(registry.url, "champion")
    device.settle()
    tags = device.tags.tags("digits")
    assert tags["9"] == tags[STAMPS[8]] == tags["champion"]
    assert len(registry.references("manifest")) < 10


def test_the_repository_may_be_the_name_alone_or_with_its_namespace(
    device: Device, registry: Registry
) -> None:
    digest = registry.publish(1, "latest", name="team/digits")
    device.configure([{"name": "a", "package": "team/digits", "registry": registry.url}])
    device.settle()
    assert device.tags.get("team/digits", "latest") == digest


def test_a_namespace_of_a_registry(device: Device, registry: Registry) -> None:
    device.follow(f"{registry.url}/lab/")
    status = device.settle()
    assert {tuple(one.path.split("/")[1:3]) for one in registry.asked} == {("v2", "lab")}
    assert status.state == "failed"
    digest = registry.publish(1, "latest", name="lab/digits")
    device.look()
    assert device.settle().state == "done"
    assert device.tags.get("digits", "latest") == digest


def test_a_registry_that_refuses_what_it_does_not_have_is_asked_for_the_name_alone(
    device: Device, registry: Registry
) -> None:
    def refuse(asked: Any, answer: Any) -> Any:
        return wrong.failing(403)(asked, answer) if asked.name == "local/digits" else answer

    registry.misbehave(refuse, "manifest")
    registry.publish(1, "latest")
    device.follow(registry.url)
    assert device.settle().state == "done"


def test_a_model_that_is_refused_does_not_become_another_one(
    device: Device, registry: Registry
) -> None:
    def refuse(asked: Any, answer: Any) -> Any:
        return wrong.failing(403)(asked, answer) if asked.name == "team/digits" else answer

    registry.misbehave(refuse, "manifest")
    registry.publish(1, "latest", name="digits")
    device.configure([{"name": "a", "package": "team/digits", "registry": registry.url}])
    status = device.settle()
    assert status.state == "failed"
    assert "NBMODEL_REGISTRY_TOKEN" in str(status.hint)


def test_an_address_that_is_none_keeps_no_runtime_from_starting(
    device: Device, registry: Registry
) -> None:
    registry.publish(1, "latest")
    packages = [
        {"name": name, "package": "local/digits", "registry": url}
        for name, url in (("a", "http://xn--a"), ("b", registry.url))
    ]
    device.configure(packages)
    status = device.settle()
    assert "not the address of a server" in str(status.error)
    assert device.status("b").state == "done"


@pytest.mark.parametrize(
    "where", ["http://xn--/", "http://[::1", "//x:y/"], ids=["a label", "brackets", "a port"]
)
def test_a_redirect_or_link_to_no_address_is_an_error_like_others(
    device: Device, registry: Registry, where: str
) -> None:
    registry.publish(1, "latest")
    registry.misbehave(
        lambda asked, answer: answer.with_headers(Link=f'<{where}>; rel="next"'), "tags"
    )
    registry.misbehave(wrong.redirected(where), "blob")
    device.follow(registry.url)
    assert device.settle().state == "failed"
    assert "Error:" not in str(device.status().error), "no error of a library"
    registry.behave()
    assert device.look().version == STAMPS[0]


def test_two_registries_for_one_repository_are_a_contradiction(
    device: Device, registry: Registry
) -> None:
    registry.publish(1, "latest")
    with Registry() as other:
        other.publish(2, "latest")
        packages = [
            {"name": name, "package": "local/digits", "registry": url}
            for name, url in (("a", registry.url), ("b", other.url))
        ]
        device.configure(packages)
        device.settle()
        assert device.status("a").state == "done"
        error = device.status("b").error
        assert error is not None
        assert "two registries" in error
        assert device.tags.tags("digits").keys() == {"1", STAMPS[0], "latest"}


# What goes wrong


def test_nobody_there(device: Device) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    device.follow(url)
    status = device.settle()
    assert status.state == "failed"
    assert "does not answer" in str(status.error)
    assert status.retry_in_s is not None
    assert 0 <= status.retry_in_s <= 1
    assert not status.terminal


def test_a_version_that_is_here_stays_done_without_a_network(
    device: Device, registry: Registry
) -> None:
    registry.publish(1, "latest")
    device.follow(registry.url)
    device.settle()
    registry.vanish()
    status = device.look()
    assert status.state == "done"
    assert "does not answer" in str(status.error)
    registry.come_back()
    assert device.look().error is None


def test_failures_are_told_once(device: Device, registry: Registry) -> None:
    device.follow(registry.url)
    device.settle()
    device.look()
    lines = [line for line in device.journal.lines(10) if "cannot be fetched" in line]
    assert len(lines) == 1
    assert "has no digits:latest" in lines[0]


def test_it_comes_by_itself_when_the_registry_is_back(device: Device, registry: Registry) -> None:
    digest = registry.publish(1, "latest")
    registry.vanish()
    device.follow(registry.url)
    device.settle()
    registry.come_back()
    until(lambda: device.tags.get("digits", "latest") == digest)
    assert device.status().attempt >= 2


def test_a_package_that_cannot_be_fetched_keeps_no_other_from_it(
    device: Device, registry: Registry
) -> None:
    registry.publish(1, "latest")
    device.follow(registry.url, "nothing", "latest")
    device.settle()
    assert (device.status("a").state, device.status("b").state) == ("failed", "done")


def test_what_is_no_model_is_not_fetched(device: Device, registry: Registry) -> None:
    digest = registry.publish(1, m_onnx=WEIGHTS)
    manifest = json.loads(registry.made.read(digest, limit=1 << 20))
    config = b'{"nbmodel": 3}'
    manifest["config"].update(digest=registry.put(config), size=len(config))
    registry.tag("digits", "latest", registry.put(json.dumps(manifest).encode()))
    device.follow(registry.url)
    status = device.settle()
    assert status.state == "failed"
    assert "nbmodel" in str(status.error)
    assert registry.sent("blob") < 100_000
    assert device.tags.tags("digits") == {}


def test_wrong_bytes_are_given_up_for_an_hour(
    device: Device, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "backoff_s", lambda failures, draw: 0.01)
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    registry.misbehave(wrong.corrupted(3), "blob")
    device.follow(registry.url)
    until(lambda: (device.status().retry_in_s or 0) > 60)
    assert device.status().attempt == follow_module.MAX_MISMATCHES
    assert device.parts() == {}
    registry.behave()
    assert device.look().state == "done", "whoever asks does not wait"


def test_what_came_before_a_restart_is_gone_on_with(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    registry.misbehave(wrong.dripping(64 * 1024, 0.02), "blob")
    device.follow(registry.url)
    until(lambda: device.status().bytes > 1_000_000)
    device.follower.close()
    (came,) = device.parts().values()
    assert came > 900_000
    registry.behave()
    device.begin()
    device.follow(registry.url)
    assert device.settle().state == "done"
    assert f"bytes={came}-" in [one.asked.range for one in registry.seen]
    assert device.parts() == {}
    (line,) = (one for one in device.journal.lines(99) if "is here after" in one)
    assert line.endswith(f", {came} fetched before")
    assert f", {len(WEIGHTS) - came} bytes fetched, 0 found in versions here" in line


def test_a_server_that_closes_after_each_answer_is_followed(
    device: Device, registry: Registry
) -> None:
    for kind in ("manifest", "tags", "blob"):
        registry.misbehave(lambda asked, answer: answer.with_headers(Connection="close"), kind)
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url)
    device.settle()
    registry.publish(2, "latest", m_onnx=OTHER_HEAD)
    assert (device.look().state, device.status().error) == ("done", None)


def test_only_what_is_missing_is_fetched(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url)
    device.settle()
    registry.forget()
    registry.publish(2, "latest", m_onnx=OTHER_HEAD)
    status = device.look()
    assert status.state == "done"
    assert registry.sent("blob") < 0.08 * len(OTHER_HEAD)
    assert status.reused > 0.92 * len(OTHER_HEAD)


def test_other_metadata_alone_fetches_no_weights(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url)
    device.settle()
    registry.forget()
    registry.publish(2, "latest", m_onnx=WEIGHTS)
    assert device.look().version == STAMPS[1]
    assert registry.sent("blob") < 1000, "the config alone"


# The disk


def test_what_does_not_fit_is_not_begun_until_it_does(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.free = len(WEIGHTS)
    device.follow(registry.url, poll_s=1, min_free_bytes=1_000_000)
    status = device.settle()
    assert (status.state, status.terminal, status.retry_in_s) == ("failed", True, None)
    assert "does not fit" in str(status.error)
    assert "1000000 are to stay free" in str(status.error)
    assert registry.references("blob") == []
    device.free = len(WEIGHTS) + 2_000_000
    until(lambda: device.status().state == "done")


def test_parts_of_what_nobody_wants_make_room(device: Device, registry: Registry) -> None:
    with device.storage.receive(name=f"{UPLOAD_PREFIX}old") as writer:
        writer.write(b"x" * 1000)
    with device.storage.receive(name="pushed") as writer:
        writer.write(b"x")
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.free = 0
    device.follow(registry.url)
    device.settle()
    assert device.parts().keys() == {"pushed"}, "what others upload is theirs"


def test_what_came_already_needs_no_more_room(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    registry.misbehave(wrong.dripping(64 * 1024, 0.02), "blob")
    device.follow(registry.url, min_free_bytes=0)
    until(lambda: device.status().bytes > 2_000_000)
    device.follower.close()
    registry.behave()
    device.free = 1_500_000
    device.begin()
    device.follow(registry.url, min_free_bytes=0)
    assert device.settle().state == "done"


def test_a_disk_that_fills_up_meanwhile_is_left_alone(
    device: Device, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "ROOM_EVERY", 100_000)
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    free = iter([PLENTY, PLENTY, 0])
    device.follower.close()
    device.follower = Follower(
        device.storage,
        device.tags,
        device.journal,
        on_change=device.changed.append,
        free_bytes=lambda: next(free, 0),
    )
    device.follow(registry.url)
    status = device.settle()
    assert (status.state, status.terminal) == ("failed", True)
    assert len(device.parts()) <= 1
    assert device.changed == []


def test_parts_go_when_all_is_here(device: Device, registry: Registry) -> None:
    with device.storage.receive(name=f"{UPLOAD_PREFIX}old") as writer:
        writer.write(b"x")
    registry.publish(1, "latest")
    device.follow(registry.url)
    until(lambda: device.parts() == {})


def test_old_parts_go_while_something_is_missing(
    device: Device, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device.storage.receive(name=f"{UPLOAD_PREFIX}old") as writer:
        writer.write(b"x")
    monkeypatch.setattr(follow_module, "TIDY_EVERY_S", 0.0)
    device.follow(registry.url)
    device.settle()
    assert len(device.parts()) == 1, "it may be gone on with"
    monkeypatch.setattr(follow_module, "PART_AGE_S", -1.0)
    device.follower.check_now()
    until(lambda: device.parts() == {})


# The line


def test_it_stays_below_its_bandwidth(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    began = time.monotonic()
    device.follow(registry.url, max_bytes_per_s=4_000_000)
    assert device.settle().state == "done"
    assert 0.6 < time.monotonic() - began < 20


def test_progress_is_told(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    device.follow(registry.url, max_bytes_per_s=6_000_000)
    seen = set()
    while device.follower.busy:
        status = device.status()
        assert 0 <= status.bytes <= status.total or status.total == 0
        seen.add((status.state, status.percent))
        time.sleep(0.01)
    assert len({percent for state, percent in seen if state == "fetching"}) >= 2


def test_who_waits_for_long_lets_others_go_first(
    device: Device, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "TURN_S", 0.5)
    registry.publish(1, "large", m_onnx=WEIGHTS)
    registry.publish(2, "small")
    registry.misbehave(wrong.dripping(64 * 1024, 0.1), "blob")
    device.follow(registry.url, "large", "small")
    until(lambda: device.status("b").state == "done")
    assert device.status("a").state == "fetching"
    until(lambda: device.status("a").state == "done")


@pytest.mark.parametrize("kind", ["manifest", "blob"])
def test_closing_does_not_wait_for_a_registry_that_hangs(
    device: Device, registry: Registry, kind: Any
) -> None:
    registry.publish(1, "latest", m_onnx=WEIGHTS)
    asked = threading.Event()
    registry.watch = lambda what: asked.set() if what.kind == kind else None
    registry.misbehave(wrong.hanging(), kind)
    device.follow(registry.url)
    assert asked.wait(10)
    began = time.monotonic()
    device.follower.close()
    assert time.monotonic() - began < 10


def test_another_wish_ends_what_is_fetched_for_the_last_one(
    device: Device, registry: Registry
) -> None:
    registry.publish(1, m_onnx=WEIGHTS)
    second = registry.publish(2)
    asked = threading.Event()
    registry.watch = lambda what: asked.set() if what.kind == "blob" else None
    registry.misbehave(wrong.hanging(), "blob", times=1)
    device.follow(registry.url, "1")
    assert asked.wait(10)
    device.follow(registry.url, "2")
    until(lambda: device.tags.get("digits", "2") == second)
    assert device.tags.get("digits", "1") is None


def test_who_is_asked_during_a_look_looks_again(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest")
    moved: list[str] = []

    def move(asked: Any) -> None:
        if asked.kind == "tags" and not moved:
            moved.append(registry.publish(2, "latest"))
            device.follower.check_now()

    registry.watch = move
    device.follow(registry.url)
    until(lambda: bool(moved) and device.tags.get("digits", "latest") == moved[0])


def test_a_token_is_shown(device: Device, registry: Registry) -> None:
    registry.publish(1, "latest")
    registry.token = "secret"
    device.follow(registry.url)
    status = device.settle()
    assert "refused a request without token" in str(status.error)
    device.follower.close()
    device.token = "secret"
    device.begin()
    device.follow(registry.url)
    assert device.settle().state == "done"


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_foreign_registry_is_followed(device: Device, tmp_path: Path) -> None:
    made = MemoryStorage()
    other = bytearray(WEIGHTS)
    for at in range(0, len(other), 300_000):
        other[at] ^= 1
    with docker_registry(tmp_path / "registry") as url, Distribution(url) as remote:
        first = make(made, {"m.onnx": WEIGHTS}, DAYS[0])
        remote.push("digits", made, first, tags=["1", STAMPS[0], "latest"])
        device.follow(url)
        assert device.settle().state == "done"
        second = make(made, {"m.onnx": bytes(other)}, DAYS[1])
        remote.push("digits", made, second, tags=["2", STAMPS[1], "latest"])
        status = device.look()
        assert (status.state, status.version) == ("done", STAMPS[1])
        assert status.reused > 0.7 * len(other), "several ranges with one request"
        assert device.tags.get("digits", "latest") == second
