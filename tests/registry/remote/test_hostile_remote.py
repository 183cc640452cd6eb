"""A remote that means no good: pushing to it, pulling from it, knowing what it has.

Whatever it answers: an error is one of ours, on one line; the registry here is sound, and
has a version as a whole or not at all; nothing is written outside of it; traffic is bounded;
no credential goes elsewhere; and when the remote behaves again, everything works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from random import Random

import httpx
import pytest

from nbmodel.core.claim import Claim
from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote
from nbmodel.core.signature import Signature
from nbmodel.errors import NbModelError
from nbmodel.registry import Registry
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.remote import peer as peer_module
from nbmodel.registry.remote.listing import list_models, list_versions
from nbmodel.registry.remote.peer import Peer
from nbmodel.registry.remote.pull import pull
from nbmodel.registry.remote.push import push
from nbmodel.registry.remote.sharing import share
from nbmodel.registry.remote.sync import sync
from nbmodel.registry.rows import version_rows
from nbmodel.storage import fetch as fetch_module
from nbmodel.storage import origin as origin_module
from nbmodel.storage import send as send_module
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.patience import IMPATIENT
from nbmodel.storage.remote_registry import RemoteRegistry
from tests.tools import misbehaviours as wrong
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.connect_proxy import tls_front
from tests.tools.hostile_answers import ELSEWHERE, Answer, Asked, Fault, Kind
from tests.tools.hostile_registry import HostileRegistry

pytestmark = pytest.mark.unhurried

TOKEN = "a-token-that-is-nobody-elses"
MOST_SENT = 24 * 1024 * 1024  # bytes of all answers to one verb
MOST_REQUESTS = 400
WEIGHTS = Random(1).randbytes(300_000)


def _impatient(remote: Remote) -> RemoteRegistry:
    access = Access(TOKEN)
    timeout = httpx.Timeout(0.5)
    return Distribution(remote.base_url, access=access, timeout=timeout, patience=IMPATIENT)


def _patient(remote: Remote) -> RemoteRegistry:
    return Distribution(remote.base_url, access=Access(TOKEN))


class Site:
    """A registry here, beside files that are nobody's business."""

    def __init__(self, home: Path, server: HostileRegistry) -> None:
        self.server = server
        self.home = home
        (home / "beside").mkdir(parents=True)
        (home / "beside" / "mine").write_text("untouched")
        self.root = home / "registry"
        self.registry = Registry(self.root)
        self.remote = Remote(server.url)

    @property
    def catalog(self) -> Catalog:
        return self.registry._catalog

    def add(self, content: bytes = WEIGHTS) -> str:
        """Make a version of the model that the remote has."""
        version = self.registry.add(
            "digits",
            {"model.onnx": content},
            framework="onnx",
            model_type="other",
            signature=Signature(),
        )
        with self.catalog.db.write() as db:
            (row,) = version_rows(db, "WHERE v.digest = ?", (version.digest,))
            share(db, self.remote, "digits", row.model_id)
        return version.reference

    def push(self, connect: Callable[[Remote], RemoteRegistry] = _patient) -> None:
        with Peer(self.remote, connect) as peer:
            push(self.catalog, peer, "digits").check()

    def pull(self, connect: Callable[[Remote], RemoteRegistry] = _patient) -> None:
        with Peer(self.remote, connect) as peer:
            pull(self.catalog, peer, Reference.parse("digits"))

    def sync(self, connect: Callable[[Remote], RemoteRegistry] = _patient) -> tuple[str, ...]:
        with Peer(self.remote, connect) as peer:
            report = sync(self.catalog, peer, "digits")
        return tuple(note for model in report.to_json()["models"] for note in model["notes"])

    def list(self, connect: Callable[[Remote], RemoteRegistry] = _patient) -> None:
        with Peer(self.remote, connect) as peer:
            list_models(self.catalog, peer)
            list_versions(self.catalog, peer, "digits")

    def check(self) -> None:
        """That everything here is sound, and nothing is anywhere else."""
        report = self.registry.verify()
        assert report.is_clean, report.problems
        outside = [path for path in self.home.rglob("*") if self.root not in path.parents]
        assert {path.name for path in outside} <= {"registry", "beside", "mine"}
        assert (self.home / "beside" / "mine").read_text() == "untouched"
        for version in self.registry.versions():
            assert version.number > 0


@pytest.fixture(scope="module")
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry(token=TOKEN) as server:
        yield server


@pytest.fixture
def remote(server: HostileRegistry, tmp_path: Path) -> Iterator[HostileRegistry]:
    """A remote that has two versions of ``digits``, pushed by somebody else."""
    server.behave()
    for tag in server.tags("digits"):
        server.untag("digits", tag)
    other = Site(tmp_path / "other", server)
    other.add()
    other.add(WEIGHTS[:100_000] + b"different")
    other.push()
    other.registry.close()
    server.forget()
    yield server
    server.behave()
    server.watch = lambda _: None


@pytest.fixture
def site(remote: HostileRegistry, tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site", remote)
    yield site
    site.registry.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    _hurry(monkeypatch)


def _hurry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(origin_module, "_HEAD_S", 0.5)
    patch.setattr(origin_module, "_ANSWER_S", 0.5)
    patch.setattr(fetch_module, "_STALL_S", 0.5)
    patch.setattr(send_module, "PATIENCE", IMPATIENT)
    patch.setattr(peer_module, "_PAUSES_S", ())


ANSWERS: dict[str, Fault] = {
    "a server error": wrong.failing(500),
    "an overload": wrong.failing(503, Retry_After="86400"),
    "too many requests": wrong.failing(429, Retry_After="banana"),
    "not found": wrong.failing(404),
    "forbidden": wrong.failing(403),
    "another token is wanted": wrong.failing(
        401, WWW_Authenticate='Bearer realm="http://127.0.0.1:9/token",service="x"'
    ),
    "a challenge of nonsense": wrong.failing(401, WWW_Authenticate="\x7f" * 9000),
    "a status of no meaning": wrong.failing(299),
    "closed": wrong.closed,
    "silence": wrong.hanging(),
    "a drip": wrong.dripping(1, 0.2),
    "cut in the middle": wrong.truncated(0.5),
    "cut at the first byte": wrong.truncated(0, reset=True),
    "without an end": wrong.endless,
    "longer than it is": wrong.longer,
    "shorter than it is": wrong.shorter,
    "nothing": wrong.empty,
    "a byte is another": wrong.corrupted(3),
    "compressed": wrong.compressed,
    "a hotel": wrong.captive_portal,
    "not HTTP": wrong.not_http,
    "64 MB": wrong.huge,
    "nested deeply": wrong.deep,
    "no JSON": wrong.saying(b"\xff\xfe{"),
    "an empty object": wrong.saying(b"{}"),
    "a list": wrong.saying(b"[]"),
    "null": wrong.saying(b"null"),
    "a number of a million digits": wrong.saying(b'{"tags":[' + b"9" * 1_000_000 + b"]}"),
    "to where it was asked for": wrong.looping,
    "to another protocol": wrong.redirected("file:///etc/passwd"),
    "to no address": wrong.redirected("http://[::1"),
    "to a port where nobody is": wrong.redirected("http://127.0.0.1:9{path}"),
}
VERBS_ABOUT: dict[Kind, tuple[str, ...]] = {
    "tags": ("sync", "list"),
    "manifest": ("sync", "push"),
    "blob": ("pull",),
    "upload": ("push",),
}


def _error(action: Callable[[], object]) -> str | None:
    """What is said of an error, which is of ours and fit to be shown; None without one."""
    try:
        action()
    except NbModelError as exc:
        error = exc
    else:
        return None
    said, shown = str(error), f"{error} {error.hint}"
    assert len(said.splitlines()) == 1, said
    assert len(shown) < 3000
    assert TOKEN not in shown
    assert said.isprintable(), repr(said)
    return said


def _attempt(site: Site, verb: str, *, most_requests: int = MOST_REQUESTS) -> str | None:
    """Do something within the bounds; the error's text, which is of one line."""
    site.server.forget()
    said = _error(lambda: getattr(site, verb)(_impatient))
    seen = site.server.seen
    assert len(seen) <= most_requests
    assert sum(one.sent for one in seen) <= MOST_SENT
    site.check()
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_it_answers(site: Site, name: str) -> None:
    site.add(b"mine")
    with pytest.MonkeyPatch.context() as patch:
        _hurry(patch)
        for kind, verbs in VERBS_ABOUT.items():
            print(kind)
            site.server.misbehave(ANSWERS[name], kind)
            for verb in verbs:
                _attempt(site, verb)
            site.server.behave()
    for verb in ("sync", "push", "pull"):
        getattr(site, verb)()
    site.check()
    assert {one.number for one in site.registry.versions("digits")} == {1, 2, 3}


# -- what it says about versions ----------------------------------------------------------------


def _manifest(server: HostileRegistry, change: Callable[[dict], object]) -> str:  # type: ignore[type-arg]
    """A manifest like that of version 1, changed; its digest."""
    data = json.loads(server.blob(server.tags("digits")["1"]))
    change(data)
    return server.put(json.dumps(data).encode())


def _claim(server: HostileRegistry, number: int, digest: str) -> str:
    tag = f"v{number}-20200101T000000.000000-{digest.partition(':')[2][:16]}"
    assert Claim.parse(tag)
    server.tag("digits", tag, digest)
    return tag


def _title(path: str) -> Callable[[dict], object]:  # type: ignore[type-arg]
    def change(data: dict) -> None:  # type: ignore[type-arg]
        names = data["layers"][0]["annotations"]
        names.update({"org.opencontainers.image.title": path, "org.cncf.model.filepath": path})

    return change


def _set(key: str, value: object) -> Callable[[dict], object]:  # type: ignore[type-arg]
    def change(data: dict) -> None:  # type: ignore[type-arg]
        data["layers"][0][key] = value

    return change


LIES: dict[str, Callable[[dict], object]] = {  # type: ignore[type-arg]
    "a path out of the folder": _title("../../beside/mine"),
    "a path from the root": _title("/etc/passwd"),
    "a path with a backslash": _title("..\\mine"),
    "a path of a control character": _title("a\x00b"),
    "a path that is no text": _title(["x"]),  # type: ignore[arg-type]
    "a path of a megabyte": _title("x" * 1_000_000),
    "a negative size": _set("size", -1),
    "a size of fractions": _set("size", 1.5),
    "a size beyond all": _set("size", 2**70),
    "a size that is the largest": _set("size", 2**63 - 1),
    "another size": _set("size", 7),
    "another digest": _set("digest", digest_of(b"nobody has this")),
    "a digest that is a path": _set("digest", "sha256:../../../etc/passwd"),
    "a digest of another kind": _set("digest", "md5:d41d8cd98f00b204e9800998ecf8427e"),
    "no layers": lambda data: data.pop("layers"),
    "layers without number": lambda data: data.update(layers=[data["layers"][0]] * 3),
    "no config": lambda data: data.pop("config"),
    "a config that is a file": lambda data: data.update(
        config={**data["config"], "digest": data["layers"][0]["digest"]}
    ),
    "a config without end": lambda data: data["config"].update(size=2**62),
}


@pytest.mark.parametrize("name", LIES)
def test_whatever_it_says_of_a_version(site: Site, hurried: None, name: str) -> None:
    liar = _manifest(site.server, LIES[name])
    _claim(site.server, 3, liar)
    site.server.tag("digits", "3", liar)
    assert _attempt(site, "pull"), "the newest is the lie"
    site.sync()
    honest = {one.number: one for one in site.registry.versions("digits")}
    assert {1, 2} <= honest.keys()
    with Peer(site.remote, _patient) as peer:
        pull(site.catalog, peer, Reference.parse("digits:2"))
    out = site.home / "beside" / "out"
    site.registry.extract("digits:2", out)
    assert (out / "model.onnx").read_bytes() == WEIGHTS[:100_000] + b"different"


def test_a_manifest_that_is_too_large_is_not_read_to_its_end(site: Site, hurried: None) -> None:
    large = site.server.put(b" " * (MAX_MANIFEST + 1))
    _claim(site.server, 3, large)
    assert _attempt(site, "pull")
    _attempt(site, "sync")


def test_a_claim_on_another_version_than_its_own_counts_for_nothing(site: Site) -> None:
    first, second = (site.server.tags("digits")[number] for number in ("1", "2"))
    stolen = f"v9-20200101T000000.000000-{first.partition(':')[2][:16]}"
    site.server.tag("digits", stolen, second)
    notes = site.sync()
    assert any("on another version than its own" in note for note in notes)
    assert {one.number: one.digest for one in site.registry.versions()} == {1: first, 2: second}
    site.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param([f"x{number}" for number in range(600)], id="many"),
        pytest.param(["../../x", "a/b", "", "x" * 5000, "\x1b[31m", "é"], id="no tags"),
        pytest.param([f"{number}" for number in range(5, 1500)], id="many numbers"),
        pytest.param(
            [f"v{number}-20200101T000000.000000-0123456789abcdef" for number in range(5, 300)],
            id="many claims of one",
        ),
        pytest.param(
            [f"v999999999-20200101T000000.{number:06}-0123456789abcdef" for number in range(300)],
            id="claims of the last number",
        ),
    ],
)
def test_whatever_tags_it_lists(site: Site, hurried: None, tags: list[str]) -> None:
    honest = site.server.tags("digits")
    for tag in tags:
        site.server.tag("digits", tag, honest["1"])
    site.add(b"mine")
    for verb in ("sync", "pull", "push"):
        site.server.forget()
        _error(getattr(site, verb))
        assert sum(one.sent for one in site.server.seen) <= MOST_SENT
        site.check()
    assert all(one.number < 2**31 for one in site.registry.versions())


@pytest.mark.slow
def test_pages_of_tags_without_an_end_are_left(site: Site, hurried: None) -> None:
    def endless(asked: Asked, answer: Answer) -> Answer:
        number = len(site.server.asked)
        body = json.dumps({"name": "digits", "tags": [f"p{number}-{at}" for at in range(1000)]})
        following = f'</v2/digits/tags/list?last={number}>; rel="next"'
        return Answer(200, {"Link": following}, body.encode())

    site.server.misbehave(endless, "tags")
    for verb in ("sync", "push"):  # which looks a few times, each at most at 100 pages
        _attempt(site, verb, most_requests=3000)


@pytest.mark.parametrize("moved", ["1", "2", "latest", "all"])
def test_tags_that_move_while_it_is_asked(site: Site, moved: str) -> None:
    """What is pulled is one version as a whole, whichever."""
    first, second = (site.server.tags("digits")[number] for number in ("1", "2"))
    names = list(site.server.tags("digits")) if moved == "all" else [moved]

    def move(asked: Asked) -> None:
        for name in names:
            there = site.server.tags("digits").get(name, first)
            site.server.tag("digits", name, second if there == first else first)

    site.server.watch = move
    for _ in range(2):
        with Peer(site.remote, _patient) as peer:
            for ref in ("digits:1", "digits:latest"):
                _error(partial(pull, site.catalog, peer, Reference.parse(ref)))
        assert {one.digest for one in site.registry.versions()} <= {first, second}
        site.check()


# -- where it sends its clients -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tags", "manifest", "blob"])
def test_the_token_does_not_follow_a_redirect(site: Site, hurried: None, kind: Kind) -> None:
    """To another port of the same host, which may be another's."""
    with HostileRegistry(shared=site.server) as elsewhere:
        site.server.misbehave(wrong.redirected(elsewhere.url + "{path}"), kind)
        site.pull()
        assert elsewhere.asked
        assert {one.authorization for one in elsewhere.asked} == {None}
        assert all(TOKEN not in str(one.headers) for one in elsewhere.asked)
    site.check()


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_the_token_does_not_leave_tls(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same registry without TLS, where others could read it on the way."""
    certificate = Certificate.make(tmp_path / "certificate")
    monkeypatch.setenv("NBMODEL_CA_FILE", str(certificate.certificate))
    _, _, port = site.server.url.rpartition(":")
    with tls_front(int(port), certificate) as secured:
        site.remote = Remote(f"https://127.0.0.1:{secured}")

        def downgraded(asked: Asked, answer: Answer) -> Answer:
            if asked.path.startswith(ELSEWHERE):
                return answer
            return Answer(307, {"Location": f"{site.server.url}{ELSEWHERE}{asked.path}"})

        site.server.misbehave(downgraded, "blob")
        assert _error(site.pull), "the registry wants it there, too"
        led = [one for one in site.server.asked if one.path.startswith(ELSEWHERE)]
        assert led
        assert {one.authorization for one in led} == {None}
        site.server.behave()
        site.pull()
    site.check()


def test_the_token_does_not_follow_an_upload(site: Site, hurried: None) -> None:
    with HostileRegistry(shared=site.server) as elsewhere:

        def away(asked: Asked, answer: Answer) -> Answer:
            where = f"{elsewhere.url}/v2/digits/blobs/uploads/none"
            return answer.with_headers(Location=where) if asked.method == "POST" else answer

        site.add(b"mine")
        site.server.misbehave(away, "upload")
        assert _attempt(site, "push")
        assert elsewhere.asked
        assert {one.authorization for one in elsewhere.asked} == {None}


@pytest.mark.parametrize(
    "location",
    ["", "file:///etc/passwd", "http://[::1", "ftp://127.0.0.1/x", "//", "http://", "\x00"],
)
def test_an_upload_that_leads_nowhere(site: Site, hurried: None, location: str) -> None:
    def away(asked: Asked, answer: Answer) -> Answer:
        return answer.with_headers(Location=location) if asked.method == "POST" else answer

    site.add(b"mine")
    site.server.misbehave(away, "upload")
    assert _attempt(site, "push")


def test_an_upload_that_it_only_claims_to_have_is_noticed(site: Site, hurried: None) -> None:
    def swallow(asked: Asked, answer: Answer) -> Answer:
        return Answer(201) if asked.method == "PUT" else answer

    site.add(b"mine")
    before = set(site.server.tags("digits"))
    site.server.misbehave(swallow, "upload")
    _attempt(site, "push")
    site.server.behave()
    site.push()
    site.check()
    assert before < set(site.server.tags("digits"))


def test_who_is_told_to_stop_stops(site: Site) -> None:
    for verb, stopped_at in (("pull", 3), ("sync", 2), ("push", 4)):
        calls = iter(range(1000))

        def cancelled(calls: Iterator[int] = calls, stopped_at: int = stopped_at) -> bool:
            return next(calls) >= stopped_at

        site.add(os.urandom(10))
        with Peer(site.remote, _patient, cancelled=cancelled) as peer:
            verbs = {
                "pull": partial(pull, site.catalog, peer, Reference.parse("digits:1")),
                "sync": partial(sync, site.catalog, peer, "digits"),
                "push": partial(push, site.catalog, peer, "digits"),
            }
            with pytest.raises(CancelledError):
                verbs[verb]()
        site.check()
