"""A runtime that follows a registry which does everything wrong.

Whatever the registry does, the runtime answers with the version that it has; it takes a new
one as a whole or not at all; its disk keeps nothing but a part that can be gone on with; and
when the registry behaves again, the new version comes by itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nbmodel.core.golden import Golden
from nbmodel.core.manifest import FILEPATH
from nbmodel.golden import GoldenSample
from nbmodel.protocol.inference import InferRequest
from nbmodel.registry import Registry
from nbmodel.runtime import backoff, follow
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import fetch as fetch_module
from nbmodel.storage import origin as origin_module
from tests.tools import misbehaviours as wrong
from tests.tools.hostile_answers import ELSEWHERE, Answer, Asked, Fault, Kind, as_json
from tests.tools.hostile_registry import HostileRegistry
from tests.tools.laws import unowned
from tests.tools.toy_versions import MODEL, ROW, SERVICE, SIGNATURE, machine, scaling_onnx

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

PATIENCE_S = 60.0
WEIGHTS = bytearray(Random(1).randbytes(1_300_000))  # large enough for a table of its chunks


@dataclass
class Asker:
    """Somebody who asks the service all the time.

    Attributes:
        factors: What it was found to scale by.
        failures: What went wrong instead.
    """

    runtime: EdgeRuntime
    factors: set[float] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    count: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def forget(self) -> None:
        """Begin anew."""
        self.factors, self.failures, self.count = set(), [], 0

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.003):
            try:
                y = self.runtime.infer(InferRequest(SERVICE, {"x": ROW})).outputs["y"]
            except Exception as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")
            else:
                self.factors.add(float(y[0, 0] / ROW[0, 0]))
                self.count += 1


class Site:
    """A registry, and a runtime that follows it and is asked all the time."""

    def __init__(self, home: Path, registry: HostileRegistry) -> None:
        self.home = home / "runtime"
        self.registry = registry
        self._versions = Registry(home / "versions")
        self.number = 0
        self.factor = 0
        self.newest = ""
        #: What came of versions that never served, which a collector takes after its grace.
        self.excused: set[str] = set()
        self.publish()
        self.runtime = EdgeRuntime(
            self.home, name="here", environment={"NBMODEL_REGISTRY_TOKEN": "secret"}
        )
        config = machine(confirm_s=0)
        config["packages"][0]["registry"] = registry.url
        config["nbmodel"] = {"poll_s": 1}
        self.runtime.set_config(config, if_match=None)
        self.wait_serving()
        self.asker = Asker(self.runtime)

    def close(self) -> None:
        self.asker.close()
        self.runtime.close()
        self._versions.close()

    def make(self, *, same: bool = False) -> str:
        """Make the next version; the digest of its manifest.

        Args:
            same: It has the files of the one before, so that nothing is loaded; else it
                scales by its number.
        """
        self.number += 1
        if not same:
            self.factor = self.number
            at = self.number * 5000
            WEIGHTS[at : at + 4] = self.number.to_bytes(4, "big")
        sample = GoldenSample({"x": ROW}, {"y": ROW * self.factor})
        version = self._versions.add(
            MODEL,
            {
                "model.onnx": scaling_onnx(self.factor),
                "weights.bin": bytes(WEIGHTS),
                "golden.npz": sample.to_bytes(),
            },
            framework="onnx",
            model_type="other",
            signature=SIGNATURE,
            golden=Golden(),
        )
        self.newest = self.registry.take(
            MODEL, self._versions.storage, version.digest, tags=(str(self.number),)
        )
        return self.newest

    def publish(self, *, same: bool = False) -> str:
        """Make the next version, and have ``latest`` on it."""
        digest = self.make(same=same)
        self.registry.tag(MODEL, "latest", digest)
        return digest

    def manifest(self, digest: str) -> dict[str, Any]:
        """A manifest of the registry, to be changed."""
        raw = self.registry.blob(digest)
        data: dict[str, Any] = json.loads(raw)
        return data

    def fetch(self) -> Mapping[str, Any]:
        """What the runtime says of the package's fetch."""
        package = self.runtime.status()["packages"][-1]
        return dict(package["fetch"] or {})

    def status(self) -> dict[str, Any]:
        """What the runtime says of the service."""
        (service,) = self.runtime.status()["services"]
        return dict(service)

    def wait_serving(self) -> None:
        """Wait until the runtime serves the newest version, and has nothing left to do."""

        def serves() -> bool:
            status = self.runtime.status()
            return status["services"][0]["digest"] == self.newest and status["settled"]

        wait_for(serves, lambda: f"{self.status()} {self.fetch()} {self.runtime.logs(5)}")

    def wait_tried(self, kind: Kind, times: int = 2) -> None:
        """Wait until the registry was asked for such things, and the runtime failed."""

        def tried() -> bool:
            count = sum(one.kind == kind for one in self.registry.asked)
            return count >= times and self.fetch().get("error") is not None

        wait_for(tried, lambda: f"{self.fetch()} {self.registry.asked[-5:]}")

    def check_only(self, *factors: float) -> None:
        """That requests were answered all along, by these versions alone."""
        count = self.asker.count
        wait_for(lambda: self.asker.count > count, lambda: "nobody is answered")
        assert self.asker.failures == []
        assert self.asker.factors <= set(factors)

    def excuse_unused(self) -> None:
        """Let whole blobs and versions that nothing needs be, now and later."""
        left = unowned(self.home)
        assert all(one.endswith("that nothing needs") for one in left)
        self.excused.update(left)

    def check_disk(self, *, parts: int) -> None:
        """That blobs are what their names say, and nothing else lies around.

        Args:
            parts: How many parts of blobs may wait.
        """
        blobs = self.home / "blobs"
        for blob in (blobs / "blobs" / "sha256").iterdir():
            with suppress(FileNotFoundError):  # collected meanwhile
                assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name

        def strangers() -> set[str]:
            try:
                found = unowned(self.home)
            except FileNotFoundError:
                return {"something went while it was looked at"}
            # While a version comes, its blobs are here before it is.
            return {one for one in found if not (parts and one.startswith("blobs/"))} - self.excused

        def is_clean() -> bool:
            return not strangers() and len(list((blobs / "uploads").iterdir())) <= parts

        wait_for(is_clean, lambda: str(strangers()))  # a file may be on its way to its place


def wait_for(condition: Callable[[], bool], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileRegistry]:
    with HostileRegistry(token="secret") as registry:
        yield registry


@pytest.fixture(scope="module")
def _impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backoff, "FIRST_S", 0.05)
        patch.setattr(backoff, "LONGEST_S", 0.2)
        patch.setattr(origin_module, "_HEAD_S", 0.5)
        patch.setattr(origin_module, "_ANSWER_S", 0.5)
        patch.setattr(fetch_module, "_STALL_S", 0.5)
        patch.setattr(fetch_module, "_STALL_BYTES", 10_000)
        yield


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, hostile: HostileRegistry, _impatient: None
) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"), hostile)
    yield site
    site.close()


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    """The site, settled on its newest version."""
    served.registry.forget()
    served.asker.forget()
    yield served
    served.registry.watch = lambda _: None
    served.registry.come_back()
    served.registry.behave()
    if served.status()["digest"] != served.newest or not served.runtime.settled:
        served.publish()
        served.runtime.reconcile()
        served.wait_serving()


@dataclass(frozen=True)
class Case:
    """A misbehaviour.

    Attributes:
        kind: For requests for what.
        fault: What is done to the answers.
        arrives: Whether the new version comes all the same; None: it may.
        skip: Answers that are right before.
        tries: Requests after which it is known that nothing comes.
        named: Whether the version is given its number when the registry behaves again.
    """

    kind: Kind
    fault: Fault
    arrives: bool | None = False
    skip: int = 0
    tries: int = 2
    named: bool = True


def _stuck(asked: Asked, answer: Answer) -> Answer:
    """Nothing changed, it says, whatever happened."""
    return Answer(304) if "if-none-match" in asked.headers else answer


def _circle(asked: Asked, answer: Answer) -> Answer:
    return answer.with_headers(Link=f'<{asked.path}>; rel="next"')


def _named_index(asked: Asked, answer: Answer) -> Answer:
    kind = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
    return as_json(200, index).with_headers(Content_Type=kind)


def _called_otherwise(asked: Asked, answer: Answer) -> Answer:
    return answer.with_headers(Docker_Content_Digest="sha256:" + "0" * 64)


MANIFESTS: dict[str, Case] = {
    "errors": Case("manifest", wrong.failing(500)),
    "is overloaded": Case("manifest", wrong.failing(503)),
    "is overloaded and says for how long": Case("manifest", wrong.failing(503, Retry_After="1")),
    "is asked too often": Case("manifest", wrong.failing(429, Retry_After="1")),
    "forgets the token": Case("manifest", wrong.failing(401)),
    "forbids": Case("manifest", wrong.failing(403)),
    "knows no version": Case("manifest", wrong.failing(404)),
    "closes": Case("manifest", wrong.closed),
    "is silent": Case("manifest", wrong.hanging()),
    "drips": Case("manifest", wrong.dripping()),
    "cuts the manifest": Case("manifest", wrong.truncated(0.5)),
    "resets": Case("manifest", wrong.truncated(0.5, reset=True)),
    "has a wrong byte in the manifest": Case("manifest", wrong.corrupted(3)),
    "has a huge manifest": Case("manifest", wrong.huge),
    "has a deep manifest": Case("manifest", wrong.deep),
    "has an endless manifest": Case("manifest", wrong.endless),
    "has no manifest": Case("manifest", wrong.saying(b"null")),
    "has an empty manifest": Case("manifest", wrong.saying(b"{}")),
    "has nothing": Case("manifest", wrong.empty),
    "has words": Case("manifest", wrong.saying("höllo".encode("latin-1"))),
    "has an index of images": Case("manifest", _named_index),
    "calls the manifest otherwise": Case("manifest", _called_otherwise, None),
    "compresses": Case("manifest", wrong.compressed, None),
    "is a captive portal": Case("manifest", wrong.captive_portal),
    "is no registry": Case("manifest", wrong.not_http),
    "sends in chunks": Case("manifest", wrong.in_chunks, True),
    "moved": Case("manifest", wrong.redirected(ELSEWHERE + "{path}"), True),
    "moved in a circle": Case("manifest", wrong.looping),
    "moved to a file": Case("manifest", wrong.redirected("file:///etc/passwd")),
}

TAGS: dict[str, Case] = {
    "errors at tags": Case("tags", wrong.failing(500), None),
    "has a huge list of tags": Case("tags", wrong.huge, None),
    "has a deep list of tags": Case("tags", wrong.deep, None),
    "has an endless list of tags": Case("tags", wrong.endless, None),
    "lists tags in a circle": Case("tags", _circle, None),
    "lists no tags": Case(
        "tags", wrong.saying(b'{"name": "scale", "tags": null}'), None, named=False
    ),
    "lists numbers": Case("tags", wrong.saying(b'{"tags": [1, {}, "../x", "a b"]}'), None),
    "lists words": Case("tags", wrong.saying(b"latest"), None),
    "is silent at tags": Case("tags", wrong.hanging(), None),
    "cuts the list of tags": Case("tags", wrong.truncated(0.5), None),
}

BLOBS: dict[str, Case] = {
    "errors at blobs": Case("blob", wrong.failing(500)),
    "errors at the second blob": Case("blob", wrong.failing(500), skip=1),
    "errors at the third blob": Case("blob", wrong.failing(500), skip=2),
    "forgets the token at blobs": Case("blob", wrong.failing(401)),
    "forgets the token in the middle": Case("blob", wrong.failing(401), skip=2),
    "has no blobs": Case("blob", wrong.failing(404)),
    "is silent at blobs": Case("blob", wrong.hanging()),
    "drips at blobs": Case("blob", wrong.dripping()),
    "closes at blobs": Case("blob", wrong.closed),
    "cuts every blob at its first byte": Case("blob", wrong.truncated(0)),
    "resets every blob at its first byte": Case("blob", wrong.truncated(0, reset=True)),
    "has wrong bytes": Case("blob", wrong.corrupted(7)),
    "has wrong bytes later": Case("blob", wrong.corrupted(8), skip=1),
    "has other bytes": Case("blob", wrong.saying(b"other")),
    "has blobs without an end": Case("blob", wrong.endless, None),
    "has longer blobs": Case("blob", wrong.longer, None),
    "has shorter blobs": Case("blob", wrong.shorter, None),
    "is a captive portal at blobs": Case("blob", wrong.captive_portal),
    "has no ranges": Case("blob", wrong.whole_always, True),
    "has no several ranges": Case("blob", wrong.single_only, True),
    "has an ETag that changes": Case("blob", wrong.etag_changing(honest=True), True),
    "has its blobs elsewhere": Case("blob", wrong.redirected(ELSEWHERE + "{path}"), True),
    "has its blobs in a circle": Case("blob", wrong.looping),
    "moves ranges": Case("blob", wrong.WRONG_RANGES["another range"], True),
    "lies about ranges": Case(
        "blob", wrong.WRONG_RANGES["another range, called the right one"], True
    ),
    "lies about parts": Case("blob", wrong.WRONG_PARTS["a part that is not what it says"], True),
    "sends parts for ever": Case("blob", wrong.WRONG_PARTS["parts for ever"], True),
}

CASES = {**MANIFESTS, **TAGS, **BLOBS, "says that nothing changed": Case("manifest", _stuck, None)}


@pytest.mark.parametrize("name", CASES)
def test_a_registry_that(site: Site, name: str) -> None:
    case, old = CASES[name], site.factor
    site.registry.misbehave(case.fault, case.kind, skip=case.skip)
    site.publish(same=case.kind != "blob")
    site.runtime.reconcile()
    if case.arrives:
        site.wait_serving()
    elif case.arrives is None:
        time.sleep(0.3)
    else:
        site.wait_tried(case.kind, case.skip + case.tries)
        site.check_only(old)
        site.check_disk(parts=1)
    site.registry.behave()
    site.wait_serving()
    if case.named:
        wait_for(lambda: site.status()["number"] == site.number, lambda: "it has no number")
    site.check_only(old, site.factor)
    site.check_disk(parts=0)
    fetch = site.fetch()
    assert (fetch["state"], fetch["error"]) == ("done", None)


# It goes away, and comes back


@pytest.mark.parametrize("at", [("manifest", 1), ("blob", 1), ("blob", 2), ("blob", 3)])
def test_a_registry_that_goes_away(site: Site, at: tuple[Kind, int]) -> None:
    kind, number = at
    old, gone, seen = site.factor, threading.Event(), []

    def leave(asked: Asked) -> None:
        seen.append(asked.kind)
        if seen.count(kind) == number and not gone.is_set():
            gone.set()
            threading.Thread(target=site.registry.vanish).start()
            time.sleep(0.05)

    site.publish()
    site.registry.watch = leave
    site.runtime.reconcile()
    wait_for(gone.is_set, lambda: str(seen))
    wait_for(lambda: site.fetch()["error"] is not None, lambda: str(site.fetch()))
    site.check_only(old)
    site.check_disk(parts=1)
    assert "127.0.0.1" in site.fetch()["error"]
    site.registry.come_back()
    site.wait_serving()
    site.check_only(old, site.factor)
    site.check_disk(parts=0)


def test_nothing_comes_twice_over_a_broken_line(site: Site) -> None:
    site.registry.misbehave(wrong.truncated(0.9), "blob", times=2)
    site.publish()
    site.runtime.reconcile()
    site.wait_serving()
    assert site.registry.sent("blob") < 0.5 * len(WEIGHTS), "most of it was here"


# What it has is wrong


def _with_layer(site: Site, of: str, **changes: Any) -> str:
    """A manifest like another one, whose layer of weights is changed."""
    data = site.manifest(of)
    layer = next(one for one in data["layers"] if one["annotations"][FILEPATH] == "weights.bin")
    path = changes.pop("path", None)
    layer.update(changes)
    if path is not None:
        layer["annotations"] = {FILEPATH: path}
    return site.registry.put(json.dumps(data).encode())


def _with_config(site: Site, digest: str, content: bytes, size: int | None = None) -> str:
    data = site.manifest(digest)
    data["config"]["digest"] = site.registry.put(content)
    data["config"]["size"] = len(content) if size is None else size
    return site.registry.put(json.dumps(data).encode())


def _with_layers(site: Site, digest: str, count: int) -> str:
    data = site.manifest(digest)
    data["layers"] = [
        {**data["layers"][0], "annotations": {FILEPATH: f"{n}.bin"}} for n in range(count)
    ]
    return site.registry.put(json.dumps(data).encode())


def _of_other_chunks(site: Site, digest: str, change: Callable[[bytes], bytes]) -> str:
    """A manifest like another one, whose table of chunks is changed."""
    data = site.manifest(digest)
    tables = [one for one in data["layers"] if "chunks" in one["mediaType"]]
    assert tables, "a large file has a table"
    for layer in tables:
        content = change(site.registry.blob(layer["digest"]))
        layer["digest"], layer["size"] = site.registry.put(content), len(content)
    return site.registry.put(json.dumps(data).encode())


ABSENT = "sha256:" + hashlib.sha256(b"nobody has this").hexdigest()
CONTENTS: dict[str, Callable[[Site, str], str]] = {
    "a path above": lambda s, d: _with_layer(s, d, path="../../evil"),
    "a path from the root": lambda s, d: _with_layer(s, d, path="/tmp/evil"),
    "a path of Windows": lambda s, d: _with_layer(s, d, path="C:\\evil"),
    "a path through a folder": lambda s, d: _with_layer(s, d, path="a/../../evil"),
    "a path with a control character": lambda s, d: _with_layer(s, d, path="a\x00b"),
    "a path with half a character": lambda s, d: _with_layer(s, d, path="\ud800"),
    "a path that is there": lambda s, d: _with_layer(s, d, path="model.onnx"),
    "a path inside a file": lambda s, d: _with_layer(s, d, path="model.onnx/x"),
    "no path": lambda s, d: _with_layer(s, d, path=""),
    "a size that is too large": lambda s, d: _with_layer(s, d, size=len(WEIGHTS) + 1),
    "a size that is too small": lambda s, d: _with_layer(s, d, size=len(WEIGHTS) - 1),
    "a size below nothing": lambda s, d: _with_layer(s, d, size=-1),
    "a size that is text": lambda s, d: _with_layer(s, d, size="1"),
    "a size that no disk has": lambda s, d: _with_layer(s, d, size=2**61),
    "a blob that is not there": lambda s, d: _with_layer(s, d, digest=ABSENT),
    "a digest that is none": lambda s, d: _with_layer(s, d, digest="sha256:../../../etc/passwd"),
    "a digest of another kind": lambda s, d: _with_layer(s, d, digest="md5:" + "0" * 32),
    "a config that is no JSON": lambda s, d: _with_config(s, d, b"{"),
    "a config of a list": lambda s, d: _with_config(s, d, b"[]"),
    "a deep config": lambda s, d: _with_config(s, d, b"[" * 100_000 + b"]" * 100_000),
    "a config of 64 MB": lambda s, d: _with_config(s, d, b" " * 64_000_000),
    "a config of another size": lambda s, d: _with_config(s, d, b"{}", 3),
    "two thousand files": lambda s, d: _with_layers(s, d, 2000),
    "no files": lambda s, d: _with_layers(s, d, 0),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_version_that_has(site: Site, tmp_path: Path, name: str) -> None:
    old, digest = site.factor, site.make(same=True)
    bad = CONTENTS[name](site, digest)
    site.registry.tag(MODEL, "latest", bad)
    site.runtime.reconcile()

    def is_refused() -> bool:
        return bool(site.fetch().get("error") or site.status().get("error"))

    wait_for(is_refused, lambda: f"{site.fetch()} {site.status()}")
    site.check_only(old)
    assert not Path("/tmp/evil").exists()
    assert not list(site.home.parent.rglob("evil"))
    site.publish(same=True)
    site.wait_serving()
    site.check_only(old, site.factor)
    site.excuse_unused()


TABLES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda table: b"",
    "half a table": lambda table: table[: len(table) // 2],
    "noise": lambda table: Random(2).randbytes(len(table)),
    "a table with a wrong byte": lambda table: table[:200] + bytes([table[200] ^ 1]) + table[201:],
    "a table with its end before its start": lambda table: table[:40] + table[40:][::-1],
    "the table twice": lambda table: table + table,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_version_whose_chunks_are(site: Site, name: str) -> None:
    """The table only saves bytes: a wrong one may cost them, and nothing else."""
    old, digest = site.factor, site.make()
    site.newest = _of_other_chunks(site, digest, TABLES[name])
    site.registry.tag(MODEL, "latest", site.newest)
    site.runtime.reconcile()
    site.wait_serving()
    site.check_only(old, site.factor)
    site.check_disk(parts=0)


# Tags that move


@pytest.mark.parametrize("at", [("manifest", 1), ("blob", 1), ("blob", 3)])
def test_a_tag_that_moves_while_its_version_comes(site: Site, at: tuple[Kind, int]) -> None:
    kind, number = at
    old, moved, seen = site.factor, threading.Event(), []
    site.publish()
    middle = site.factor
    newest = site.make()

    def move(asked: Asked) -> None:
        seen.append(asked.kind)
        if seen.count(kind) == number and not moved.is_set():
            moved.set()
            site.registry.tag(MODEL, "latest", newest)

    site.registry.watch = move
    site.runtime.reconcile()
    wait_for(moved.is_set, lambda: str(seen))
    site.wait_serving()
    site.check_only(old, middle, site.factor)
    site.excuse_unused()
    site.check_disk(parts=0)


def test_a_tag_that_never_stands_still(site: Site) -> None:
    old, digests = site.factor, [site.make() for _ in range(6)]
    count = iter(range(10**9))

    def move(asked: Asked) -> None:
        if asked.kind == "manifest":
            site.registry.tag(MODEL, "latest", digests[next(count) % len(digests)])

    site.registry.watch = move
    site.runtime.reconcile()
    time.sleep(1.5)
    site.registry.watch = lambda _: None
    site.registry.tag(MODEL, "latest", digests[-1])
    site.wait_serving()
    site.check_only(*range(old, site.factor + 1))
    site.excuse_unused()
    site.check_disk(parts=0)


def test_a_tag_that_is_gone_takes_no_version_away(site: Site) -> None:
    site.registry.untag(MODEL, "latest")
    site.runtime.reconcile()
    wait_for(lambda: site.fetch().get("error") is not None, lambda: str(site.fetch()))
    site.check_only(site.factor)
    assert site.status()["state"] == "ready"


# Several registries


def test_a_silent_registry_does_not_keep_others_from_their_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "TURN_S", 0.2)
    data, _ = site.runtime.config
    with HostileRegistry(shared=site.registry) as silent:
        silent.misbehave(wrong.hanging(), "manifest")
        other = {"name": "other", "package": "local/other", "type": "ml_model"}
        packages = [{**other, "version": "latest", "registry": silent.url}, *data["packages"]]
        site.runtime.set_config({**data, "packages": packages}, if_match=None)
        for _ in range(3):
            site.publish(same=True)
            wait_for(lambda: site.status()["digest"] == site.newest, lambda: str(site.status()))
        (first, _) = site.runtime.status()["packages"]
        assert "does not answer" in first["fetch"]["error"]
        assert first["fetch"]["attempt"] > 1
        site.runtime.set_config(data, if_match=None)
        site.wait_serving()


# The token


def test_the_token_goes_nowhere_else(site: Site) -> None:
    with HostileRegistry(shared=site.registry) as other:
        for kind in ("manifest", "blob", "tags"):
            site.registry.misbehave(wrong.redirected(other.url + "{path}"), kind)  # type: ignore[arg-type] # a kind
        site.publish()
        site.runtime.reconcile()
        site.wait_serving()
        assert other.seen
        assert {one.asked.authorization for one in other.seen} == {None}
        site.registry.behave()
    assert all("secret" not in line for line in site.runtime.logs(1000))
    assert "secret" not in json.dumps(site.runtime.status())


def test_a_registry_with_a_wrong_token_is_asked_gently(site: Site) -> None:
    site.registry.token = "another"
    site.publish()
    site.runtime.reconcile()
    wait_for(lambda: site.fetch().get("error") is not None, lambda: str(site.fetch()))
    assert "refused the token" in site.fetch()["error"]
    site.registry.token = "secret"
    site.wait_serving()


# A restart in the middle


@pytest.mark.usefixtures("_impatient")
def test_a_runtime_that_ends_while_a_version_comes(
    tmp_path: Path, hostile: HostileRegistry
) -> None:
    site = Site(tmp_path, hostile)
    try:
        old, digest = site.factor, site.newest
        site.registry.misbehave(wrong.dripping(30_000, 0.02), "blob")
        site.publish()
        site.registry.forget()
        site.runtime.reconcile()
        wait_for(lambda: bool(site.registry.seen), lambda: "")
        time.sleep(0.2)
        site.asker.close()
        began = time.monotonic()
        site.runtime.close()
        assert time.monotonic() - began < 5
        site.registry.vanish()
        site.runtime = EdgeRuntime(site.home, environment={"NBMODEL_REGISTRY_TOKEN": "secret"})
        site.asker = Asker(site.runtime)
        wait_for(lambda: site.status()["state"] == "ready", lambda: str(site.status()))
        assert site.status()["digest"] == digest, "it boots without its registry"
        site.asker.forget()
        site.check_only(old)
        site.registry.behave()
        site.registry.come_back()
        site.wait_serving()
        site.check_only(old, site.factor)
        site.check_disk(parts=0)
    finally:
        hostile.come_back()
        hostile.behave()
        site.close()
        shutil.rmtree(site.home)
