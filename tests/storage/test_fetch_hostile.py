"""Fetching a blob from a registry that does everything wrong that a network can do.

Whatever it does: what is fetched is right or not there; at most one part waits, and it helps;
an error is one of ours; time and traffic are bounded; and when the registry behaves again,
the blob comes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import httpx
import pytest

from nbmodel.core.chunks import Local, Missing, Segment
from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    DigestMismatchError,
    NbModelError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.storage import OciLayout
from nbmodel.storage import fetch as fetch_module
from nbmodel.storage import origin as origin_module
from nbmodel.storage.fetch import BlobSource, Fetched, fetch_blob
from nbmodel.storage.origin import Origin
from tests.tools import misbehaviours as wrong
from tests.tools.hostile_answers import ELSEWHERE, Answer, Asked, Fault
from tests.tools.hostile_registry import HostileRegistry

pytestmark = pytest.mark.unhurried

SIZE = 600_000
DATA = Random(4).randbytes(SIZE)
OLDER = DATA[:200_000] + Random(5).randbytes(50_000) + DATA[250_000:500_000] + b"other end"
#: Where DATA is when OLDER is there.
DELTA = ((0, 200_000), (250_000, 500_000))
MOST_S = 8.0  # of one attempt; with the timeouts below nothing takes longer
MOST_REQUESTS = 30  # of one attempt
MOST_SENT = 6 * SIZE + 4 * 1024 * 1024  # bytes of one attempt

Start = Literal["nothing", "a part", "an older blob"]
STARTS: tuple[Start, ...] = ("nothing", "a part", "an older blob")


@pytest.fixture(scope="module")
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as registry:
        registry.put(DATA)
        yield registry


@pytest.fixture
def registry(server: HostileRegistry) -> Iterator[HostileRegistry]:
    server.forget()
    yield server
    server.come_back()
    server.behave()
    server.token = None
    server.watch = lambda _: None


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_module, "_HEAD_S", 0.5)
    monkeypatch.setattr(origin_module, "_ANSWER_S", 0.5)
    monkeypatch.setattr(fetch_module, "_STALL_S", 0.5)
    monkeypatch.setattr(fetch_module, "_STALL_BYTES", 10_000)


class Site:
    """A storage that wants a blob, and what is there already."""

    def __init__(self, home: Path, registry: HostileRegistry, start: Start) -> None:
        self.storage = OciLayout(home / "blobs")
        self.registry = registry
        self.digest = registry.put(DATA)
        self.segments: tuple[Segment, ...] = ()
        if start == "a part":
            with self.storage.receive(name=self.source.upload) as writer:
                writer.write(DATA[:250_000])
        if start == "an older blob":
            older = self.storage.add_bytes(OLDER)
            self.segments = tuple(_segments(older))

    @property
    def source(self) -> BlobSource:
        return BlobSource("digits", self.digest, SIZE, self.segments)

    def fetch(
        self, *, token: str | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> Fetched:
        timeout = httpx.Timeout(0.5, connect=0.5)
        with Origin(self.registry.url, token=token, timeout=timeout, cancelled=cancelled) as origin:
            return fetch_blob(origin, self.source, self.storage, kept=True)

    def try_to_fetch(self, token: str | None = None) -> NbModelError | None:
        """Fetch within the bounds; the error, which must be one of ours."""
        self.registry.forget()
        began = time.monotonic()
        error = None
        try:
            self.fetch(token=token)
        except NbModelError as exc:
            error = exc
        assert error is None or str(error)
        assert time.monotonic() - began < MOST_S
        seen = self.registry.seen
        assert len(seen) <= MOST_REQUESTS
        assert sum(one.sent for one in seen) <= MOST_SENT
        self.check(there=error is None)
        return error

    def check(self, *, there: bool) -> None:
        """That the blob is there as a whole or not at all, and nothing else is left."""
        assert self.storage.has(self.digest) is there
        if there:
            assert self.storage.read(self.digest, limit=SIZE) == DATA
        parts = {path.name: path for path in (self.storage.root / "uploads").glob("*")}
        assert parts.keys() <= (set() if there else {self.source.upload})
        assert all(part.stat().st_size <= SIZE for part in parts.values())

    def part(self) -> bytes:
        """What waits for the rest; nothing where nothing does."""
        path = self.storage.root / "uploads" / self.source.upload
        return path.read_bytes() if path.exists() else b""


def _segments(older: str) -> Iterator[Segment]:
    at = 0
    for start, end in DELTA:
        if start > at:
            yield Missing(at, start - at)
        yield Local(older, start, start, end - start)
        at = end
    yield Missing(at, SIZE - at)


@dataclass(frozen=True)
class Case:
    """A misbehaviour, and what must come of it.

    Attributes:
        fault: What is done to answers.
        arrives: Whether the blob comes all the same; None: it may.
        error: What is raised when it does not.
        skip: Answers that are right before.
        times: Answers that are wrong; None: all until it behaves.
    """

    fault: Fault
    arrives: bool | None
    error: type[NbModelError] = StorageError
    skip: int = 0
    times: int | None = None


def _moved_here(asked: Asked, answer: Answer) -> Answer:
    return wrong.redirected(ELSEWHERE + "{path}")(asked, answer)


ANYWHERE: dict[str, Case] = {
    "a server error": Case(wrong.failing(500), False),
    "an overload": Case(wrong.failing(503), False, TargetUnreachableError),
    "an overload that says when": Case(
        wrong.failing(503, Retry_After="120"), False, TargetUnreachableError
    ),
    "too many requests": Case(
        wrong.failing(429, Retry_After="banana"), False, TargetUnreachableError
    ),
    "no such blob": Case(wrong.failing(404), False, BlobNotFoundError),
    "no token is good": Case(wrong.failing(401), False, AuthenticationError),
    "forbidden": Case(wrong.failing(403), False, AuthenticationError),
    "a status of no meaning": Case(wrong.failing(299), False),
    "no content": Case(wrong.failing(204), False),
    "a teapot": Case(wrong.failing(418), False),
    "closed at once": Case(wrong.closed, False, TargetUnreachableError),
    "silence": Case(wrong.hanging(), False, TargetUnreachableError),
    "a drip": Case(wrong.dripping(), False, TargetUnreachableError),
    "a steady drip": Case(wrong.dripping(512, 0.1), False, TargetUnreachableError),
    "cut at the first byte": Case(wrong.truncated(0), False, TargetUnreachableError),
    "cut at the first byte, once": Case(wrong.truncated(0), True, times=1),
    "cut in the middle, once": Case(wrong.truncated(0.5), True, times=1),
    "cut in the middle, twice": Case(wrong.truncated(0.5), True, times=2),
    "cut at the last byte, once": Case(wrong.truncated(1), True, times=1),
    "reset in the middle, once": Case(wrong.truncated(0.5, reset=True), True, times=1),
    "reset at the first byte": Case(wrong.truncated(0, reset=True), False, TargetUnreachableError),
    "cut at the last byte always": Case(wrong.truncated(1), None, TargetUnreachableError),
    "longer than it is": Case(wrong.longer, None),
    "without an end": Case(wrong.endless, None),
    "shorter than it is": Case(wrong.shorter, None),
    "empty": Case(wrong.empty, False),
    "in chunks": Case(wrong.in_chunks, True),
    "compressed": Case(wrong.compressed, False),
    "a captive portal": Case(wrong.captive_portal, False),
    "another protocol": Case(wrong.not_http, False, TargetUnreachableError),
    "another blob of that size": Case(wrong.saying(Random(6).randbytes(SIZE)), False, NbModelError),
    "redirected": Case(_moved_here, True),
    "redirected for good": Case(wrong.redirected(ELSEWHERE + "{path}", 301), True),
    "redirected in a circle": Case(wrong.looping, False),
    "redirected to a file": Case(wrong.redirected("file:///etc/passwd"), False, NbModelError),
    "redirected to nowhere": Case(wrong.redirected("http://127.0.0.1:1{path}"), False),
    "redirected to nonsense": Case(wrong.redirected("http://[::bad{path}"), False, NbModelError),
    "redirected to no host": Case(wrong.redirected("http:///x"), False, NbModelError),
    "redirected without saying where": Case(lambda asked, answer: Answer(307), False, NbModelError),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ANYWHERE)
def test_whatever_it_answers(
    tmp_path: Path, registry: HostileRegistry, name: str, start: Start
) -> None:
    site, case = Site(tmp_path, registry, start), ANYWHERE[name]
    registry.misbehave(case.fault, "blob", skip=case.skip, times=case.times)
    error = site.try_to_fetch()
    if case.arrives is not None:
        assert (error is None) is case.arrives, repr(error)
    assert error is None or isinstance(error, case.error | TargetUnreachableError), repr(error)
    registry.behave()
    if error is not None:
        assert site.try_to_fetch() is None


#: These are allowed, or cost no more than a saving.
HARMLESS = frozenset(wrong.WRONG_RANGES) - {"another range, called the right one"}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", wrong.WRONG_RANGES)
def test_whatever_it_makes_of_a_range(
    tmp_path: Path, registry: HostileRegistry, name: str, start: Start
) -> None:
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.WRONG_RANGES[name], "blob")
    error = site.try_to_fetch()
    if name in HARMLESS:
        assert error is None
    registry.behave()
    if error is not None:
        assert site.try_to_fetch() is None


@pytest.mark.parametrize("name", wrong.WRONG_PARTS)
def test_whatever_it_makes_of_several_ranges(
    tmp_path: Path, registry: HostileRegistry, name: str
) -> None:
    site = Site(tmp_path, registry, "an older blob")
    assert len([one for one in site.segments if isinstance(one, Missing)]) > 1
    registry.misbehave(wrong.WRONG_PARTS[name], "blob")
    error = site.try_to_fetch()
    if isinstance(error, TargetUnreachableError):  # the line was cut with megabytes on it
        error = site.try_to_fetch()
    assert error is None, "a single range, or the whole, can be had in any case"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("seed", range(12))
def test_a_wrong_byte_anywhere(
    tmp_path: Path, registry: HostileRegistry, seed: int, start: Start
) -> None:
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.corrupted(seed, bits=1 << seed % 8), "blob")
    error = site.try_to_fetch()
    assert isinstance(error, DigestMismatchError | StorageError), "never taken"
    if isinstance(error, DigestMismatchError):
        assert site.part() == b"", "what is known to be wrong is thrown away"
    registry.behave()
    assert site.try_to_fetch() is None


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("seed", range(6))
def test_a_wrong_byte_that_only_shows_after_a_cut(
    tmp_path: Path, registry: HostileRegistry, seed: int, start: Start
) -> None:
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.corrupted(seed), "blob", times=1)
    registry.misbehave(wrong.truncated(0.7), "blob", times=1)
    error = site.try_to_fetch()
    registry.behave()
    if error is not None:
        assert site.try_to_fetch() is None


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("fraction", [0, 0.001, 0.25, 0.5, 0.999, 1])
def test_a_part_that_came_is_gone_on_with(
    tmp_path: Path, registry: HostileRegistry, fraction: float, start: Start
) -> None:
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.truncated(fraction), "blob", times=1)
    registry.misbehave(wrong.failing(500), "blob", skip=1)
    # The last byte of several parts is that of a line that nobody needs.
    is_needed = (fraction, start) != (1, "an older blob")
    assert (site.try_to_fetch() is not None) is is_needed
    if not is_needed:
        return
    part = site.part()
    assert part == DATA[: len(part)]
    registry.behave()
    assert site.try_to_fetch() is None
    assert registry.sent("blob") <= SIZE - len(part) + 1024, "nothing came twice"


@pytest.mark.parametrize("start", STARTS)
def test_it_goes_away_in_the_middle_and_comes_back(
    tmp_path: Path, registry: HostileRegistry, start: Start
) -> None:
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.dripping(20_000, 0.02), "blob")
    leaving = threading.Timer(0.1, registry.vanish)
    leaving.start()
    error = site.try_to_fetch()
    leaving.join()
    assert isinstance(error, TargetUnreachableError)
    assert isinstance(site.try_to_fetch(), TargetUnreachableError), "it is still away"
    part = site.part()
    registry.come_back()
    registry.behave()
    assert site.try_to_fetch() is None
    assert registry.sent("blob") <= SIZE - len(part) + 1024


def test_a_part_that_is_not_of_the_blob_does_no_harm(
    tmp_path: Path, registry: HostileRegistry
) -> None:
    site = Site(tmp_path, registry, "nothing")
    for part in (b"\0" * 1000, DATA[:1000][::-1], DATA + b"more", b"\0" * SIZE):
        with site.storage.receive(name=site.source.upload) as writer:
            writer.write(part)
        assert site.try_to_fetch() is None
        site.storage.delete(site.digest)


def test_an_older_blob_that_was_damaged_does_no_harm(
    tmp_path: Path, registry: HostileRegistry
) -> None:
    site = Site(tmp_path, registry, "an older blob")
    (older,) = {one.blob for one in site.segments if isinstance(one, Local)}
    path = site.storage.path(older)
    path.chmod(0o644)
    path.write_bytes(b"\0" * len(OLDER))
    assert site.try_to_fetch() is None
    site.storage.delete(site.digest)
    path.write_bytes(OLDER[:100_000])
    assert site.try_to_fetch() is None
    site.storage.delete(site.digest)
    path.unlink()
    assert site.try_to_fetch() is None


# The token


@pytest.fixture
def other(registry: HostileRegistry) -> Iterator[HostileRegistry]:
    """A store of bytes at another origin, with the same content, that wants no token."""
    with HostileRegistry(shared=registry) as other:
        yield other


@pytest.mark.parametrize("start", STARTS)
def test_the_token_goes_to_the_registry_and_to_nobody_else(
    tmp_path: Path, registry: HostileRegistry, other: HostileRegistry, start: Start
) -> None:
    registry.token = "secret"
    site = Site(tmp_path, registry, start)
    registry.misbehave(wrong.redirected(other.url + "{path}"), "blob")
    assert site.try_to_fetch(token="secret") is None
    assert {one.asked.authorization for one in registry.seen} == {"Bearer secret"}
    assert {one.asked.authorization for one in other.seen} == {None}
    assert all("secret" not in str(one.asked) for one in other.seen)


def test_the_token_does_not_come_back_with_a_redirect_to_and_fro(
    tmp_path: Path, registry: HostileRegistry, other: HostileRegistry
) -> None:
    registry.token = "secret"
    site = Site(tmp_path, registry, "nothing")
    registry.misbehave(wrong.redirected(other.url + "{path}"), "blob", times=1)
    other.misbehave(wrong.redirected(registry.url + "{path}"), "blob", times=1)
    site.try_to_fetch(token="secret")
    assert {one.asked.authorization for one in other.seen} == {None}


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_right_token_nothing_comes(
    tmp_path: Path, registry: HostileRegistry, token: str | None
) -> None:
    registry.token = "secret"
    site = Site(tmp_path, registry, "nothing")
    error = site.try_to_fetch(token=token)
    assert isinstance(error, AuthenticationError)
    assert "secret" not in str(error)
    assert len(registry.asked) == 1, "a refusal is not asked for twice"


# Giving up


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(wrong.hanging(), id="while it is silent"),
        pytest.param(wrong.dripping(20_000, 0.02), id="while bytes come"),
    ],
)
def test_who_is_told_to_stop_stops(
    tmp_path: Path,
    registry: HostileRegistry,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    start: Start,
) -> None:
    monkeypatch.setattr(origin_module, "_HEAD_S", 60)
    monkeypatch.setattr(origin_module, "_ANSWER_S", 60)
    site = Site(tmp_path, registry, start)
    registry.misbehave(fault, "blob")
    stop = threading.Event()
    with Origin(registry.url, cancelled=stop.is_set) as origin:

        def end() -> None:
            stop.set()
            origin.abort()

        timer = threading.Timer(0.15, end)
        timer.start()
        began = time.monotonic()
        with pytest.raises(CancelledError):
            fetch_blob(origin, site.source, site.storage, kept=True)
        assert time.monotonic() - began < 20  # far below what it was silent for
        timer.join()
    site.check(there=False)
    registry.behave()
    assert site.try_to_fetch() is None


def test_nobody_at_the_address(tmp_path: Path, registry: HostileRegistry) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        site = Site(tmp_path, registry, "nothing")
        with (
            Origin(f"http://127.0.0.1:{free.getsockname()[1]}") as origin,
            pytest.raises(TargetUnreachableError, match=r"127\.0\.0\.1:\d+ does not answer"),
        ):
            fetch_blob(origin, site.source, site.storage, kept=True)
    site.check(there=False)


# Everything at once


def _chances(random: Random) -> Sequence[Fault]:
    """Some of everything."""
    ranges, parts = list(wrong.WRONG_RANGES.values()), list(wrong.WRONG_PARTS.values())
    return [
        wrong.truncated(random.random(), reset=random.random() < 0.5),
        wrong.corrupted(random.randrange(1000)),
        wrong.failing(random.choice([401, 404, 429, 500, 503])),
        wrong.closed,
        wrong.longer,
        wrong.shorter,
        wrong.in_chunks,
        wrong.etag_changing(honest=random.random() < 0.5),
        random.choice(ranges),
        random.choice(parts),
        _moved_here,
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_line_on_which_everything_happens(
    tmp_path: Path, registry: HostileRegistry, seed: int
) -> None:
    random = Random(seed)
    site = Site(tmp_path, registry, random.choice(STARTS))
    for _ in range(random.randrange(2, 7)):
        fault = random.choice(_chances(random))
        registry.misbehave(fault, "blob", skip=random.randrange(4), times=random.randrange(1, 3))
    for _ in range(12):
        if site.try_to_fetch() is None:
            break
    registry.behave()
    if not site.storage.has(site.digest):
        assert site.try_to_fetch() is None
    site.check(there=True)
