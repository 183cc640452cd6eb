"""Pushes and pulls of 200 MB that are cut: the line, the client, the registry.

The registry is the CNCF's, and the server of a runtime. Bytes are counted on the line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nbmodel.storage import OciLayout
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.send import CHUNK
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.relay import Relay
from tests.tools.storage_server import Device, Server

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

SIZE = 200_000_000
TENTHS = [pytest.param(n * SIZE // 10, id=f"at {n * 10} %") for n in range(1, 10)]
THIRDS = [pytest.param(n * SIZE // 10, id=f"at {n * 10} %") for n in (1, 5, 9)]
HEADS = 1_000_000  # bytes of heads and questions, and of what was read ahead
NAME = "team/digits"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuts")


@pytest.fixture(scope="module")
def here(folder: Path) -> OciLayout:
    return OciLayout(folder / "here")


@pytest.fixture(scope="module")
def digest(here: OciLayout) -> str:
    with here.receive() as writer:
        piece = os.urandom(1_000_000)
        for number in range(SIZE // len(piece)):
            writer.write(number.to_bytes(8, "big") + piece[8:])
        digest = writer.digest
        writer.commit(digest)
    return digest


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[str]:
    """The CNCF's registry on a free port."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(folder / "registry") as url:
        yield url


@pytest.fixture(scope="module")
def device(folder: Path) -> Iterator[Device]:
    server = Server()
    yield Device(folder / "device", server, max_blob=SIZE)
    server.stop()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """One of its own for each test: there the blob is not."""
    return f"{NAME}-{abs(hash(request.node.name)):x}"


def push(url: str, repository: str, here: OciLayout, digest: str, sessions: Path) -> int:
    done: list[int] = []
    with Distribution(url, sessions=sessions) as remote:
        remote.push_blob(repository, here, digest, progress=done.append)
        assert remote.has_blob(repository, digest)
    assert sum(done) == SIZE, "progress takes back what is sent again"
    return sum(done)


def child(verb: str, url: str, repository: str, root: Path, digest: str) -> subprocess.Popen[bytes]:
    """A client in a process of its own, which can be killed."""
    words = [verb, url, repository, str(root), digest, str(SIZE)]
    return subprocess.Popen([sys.executable, "-m", "tests.storage.test_cuts", *words], cwd=ROOT)


def killed(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(60) == -signal.SIGKILL, "it was through before it was killed"


def wait_until_idle(device: Device) -> None:
    """Until the server saw the end of the connection, and let go of the upload."""
    deadline = time.monotonic() + 30
    uploads = device.storage.root / "uploads"
    while len(list(device.storage.abandoned(float("inf")))) < len(list(uploads.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# A push to what goes on anywhere


@pytest.mark.parametrize("at", TENTHS)
def test_a_push_to_a_runtime_that_is_cut_goes_on_at_the_byte(
    at: int, device: Device, here: OciLayout, digest: str, repository: str, tmp_path: Path
) -> None:
    if device.storage.has(digest):
        device.storage.delete(digest)
    with Relay(device.url) as relay:
        relay.cut_up = at
        push(relay.url, repository, here, digest, tmp_path)
        assert relay.cut_up is None
        assert relay.up < SIZE + HEADS + CHUNK
    device.storage.check(digest)


@pytest.mark.parametrize("at", THIRDS)
def test_a_client_that_was_killed_amid_a_push_to_a_runtime_goes_on_at_the_byte(
    at: int, device: Device, here: OciLayout, digest: str, repository: str, folder: Path
) -> None:
    if device.storage.has(digest):
        device.storage.delete(digest)
    with Relay(device.url) as relay:
        relay.cut_up = at
        process = child("push", relay.url, repository, here.root, digest)
        relay.on_cut = process.kill
        killed(process)
        wait_until_idle(device)
        # Through the same address: that of the upload is of it.
        push(relay.url, repository, here, digest, here.root / "sessions")
        assert relay.up < SIZE + HEADS + CHUNK
    device.storage.check(digest)
    assert list((here.root / "sessions").glob("*.json")) == []


# A push to the CNCF's registry


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_push_that_is_cut_between_two_chunks_goes_on_there(
    number: int, registry: str, here: OciLayout, digest: str, repository: str, tmp_path: Path
) -> None:
    with Relay(registry) as relay:
        relay.cut_before = (b"PATCH ", lambda seen: seen == number)
        push(relay.url, repository, here, digest, tmp_path)
        assert relay.cut_before is None
        assert relay.up < SIZE + HEADS


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_client_that_was_killed_between_two_chunks_goes_on_there(
    number: int, registry: str, here: OciLayout, digest: str, repository: str
) -> None:
    with Relay(registry) as relay:
        relay.cut_before = (b"PATCH ", lambda seen: seen == number)
        process = child("push", relay.url, repository, here.root, digest)
        relay.on_cut = lambda: (process.kill(), process.wait())
        killed(process)
        push(relay.url, repository, here, digest, here.root / "sessions")
        assert relay.up < SIZE + HEADS


def test_a_registry_that_was_killed_between_two_chunks_is_gone_on_with(
    tmp_path: Path, here: OciLayout, digest: str
) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(docker_registry(tmp_path / "registry", secret="s"))
        relay = second.enter_context(Relay(url))

        def replace() -> None:
            first.close()
            relay.lead_to(second.enter_context(docker_registry(tmp_path / "registry", secret="s")))

        relay.cut_before = (b"PATCH ", lambda seen: seen == 3)
        relay.on_cut = replace
        push(relay.url, NAME, here, digest, tmp_path / "sessions")
        assert relay.up < SIZE + HEADS


@pytest.mark.parametrize("at", TENTHS)
def test_a_push_that_is_cut_amid_a_chunk_is_through_after_that(
    at: int, registry: str, here: OciLayout, digest: str, repository: str, tmp_path: Path
) -> None:
    """This registry cannot go on there: what it then wants to be shown was in no answer."""
    with Relay(registry) as relay:
        relay.cut_up = at
        push(relay.url, repository, here, digest, tmp_path)
        assert relay.cut_up is None
        assert relay.up < SIZE + at + HEADS, "it begins anew once, and no more"


# A pull


@pytest.fixture
def pushed(registry: str, here: OciLayout, digest: str, tmp_path: Path) -> str:
    push(registry, NAME, here, digest, tmp_path / "sessions")
    return registry


def pull(url: str, digest: str, there: OciLayout) -> None:
    done: list[int] = []
    with Distribution(url) as remote:
        remote.pull_blobs(NAME, there, {digest: SIZE}, progress=done.append)
    assert sum(done) == SIZE
    there.check(digest)


@pytest.mark.parametrize("at", TENTHS)
def test_a_pull_that_is_cut_goes_on_at_the_byte(
    at: int, pushed: str, digest: str, tmp_path: Path
) -> None:
    with Relay(pushed) as relay:
        relay.cut_down = at
        pull(relay.url, digest, OciLayout(tmp_path / "there"))
        assert relay.cut_down is None
        assert relay.down < SIZE + CHUNK


@pytest.mark.parametrize("at", THIRDS)
def test_a_client_that_was_killed_amid_a_pull_goes_on_at_the_byte(
    at: int, pushed: str, digest: str, tmp_path: Path
) -> None:
    there = OciLayout(tmp_path / "there")
    with Relay(pushed) as relay:
        relay.cut_down = at
        process = child("pull", relay.url, NAME, there.root, digest)
        relay.on_cut = process.kill
        killed(process)
        pull(relay.url, digest, there)
        assert relay.down < SIZE + CHUNK


def test_a_registry_that_was_killed_amid_a_pull_is_gone_on_with(
    tmp_path: Path, here: OciLayout, digest: str
) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(docker_registry(tmp_path / "registry"))
        push(url, NAME, here, digest, tmp_path / "sessions")
        relay = second.enter_context(Relay(url))

        def replace() -> None:
            first.close()
            relay.lead_to(second.enter_context(docker_registry(tmp_path / "registry")))

        relay.cut_down, relay.on_cut = SIZE // 2, replace
        pull(relay.url, digest, OciLayout(tmp_path / "there"))
        assert relay.down < SIZE + CHUNK


if __name__ == "__main__":
    verb, url, repository, root, digest, size = sys.argv[1:]
    storage = OciLayout(Path(root))
    with Distribution(url, sessions=storage.root / "sessions") as remote:
        if verb == "push":
            remote.push_blob(repository, storage, digest)
        else:
            remote.pull_blobs(repository, storage, {digest: int(size)})
