"""Registries that want to know who comes: a real one, with passwords, tokens and TLS."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import (
    AuthenticationError,
    ConfigError,
    NbModelError,
    TargetUnreachableError,
)
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.journal import Journal
from nbmodel.storage import MemoryStorage, OciLayout, send
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.tags import TagStore
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.storage_server import add_version
from tests.tools.token_server import Asked, TokenServer

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed"),
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
]

# bcrypt of "open sesame", made by crypt(3) of libxcrypt.
HTPASSWD = "Aladdin:$2b$04$3OI9ljyXXSQgCuEtjE8psuhXRUUL8q5wutsG7Uufpf0EaMfL4GSu2\n"
AUTH = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617's example
SECRETS = ("open sesame", AUTH)
LARGE = bytes(range(256)) * 5000


@pytest.fixture(autouse=True)
def _nothing_is_shown(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        for secret in SECRETS:
            assert secret not in record.getMessage()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[str]:
    """A registry that wants a password and speaks TLS."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
    with docker_registry(folder, auth=auth, certificate=certificate) as url:
        yield url


@pytest.fixture
def tokens(certificate: Certificate) -> Iterator[TokenServer]:
    with TokenServer(certificate, f"Basic {AUTH}", identity_token="identity") as tokens:
        yield tokens


@pytest.fixture
def registry(tmp_path: Path, tokens: TokenServer) -> Iterator[str]:
    """A registry that wants tokens of that service."""
    with docker_registry(tmp_path / "registry", auth=tokens.settings) as url:
        yield url


def access(folder: Path, url: str, **entry: str) -> Access:
    """With a login for one registry."""
    config = {"auths": {httpx.URL(url).netloc.decode(): entry}}
    (folder / "config.json").write_text(json.dumps(config))
    return Access.of({"DOCKER_CONFIG": str(folder)})


def refused(remote: Distribution, action: Callable[[], object] | None = None) -> str:
    with remote, pytest.raises(AuthenticationError) as caught:
        (remote.check if action is None else action)()
    error: NbModelError = caught.value
    for secret in (*SECRETS, "wrong"):
        assert secret not in f"{error} {error.hint} {error!r}"
    return f"{error} {error.hint}"


def goes_and_comes(remote: Distribution) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"large.onnx": LARGE, "small.txt": b"small"})
    remote.check()
    remote.push("team/digits", here, digest, tags=["1"])
    assert remote.tags("team/digits") == ("1",)
    assert remote.pull("team/digits", "1", there) == digest


# A password, and TLS


def test_a_password_over_tls(
    tmp_path: Path, secured: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBMODEL_CA_FILE", str(certificate.certificate))
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    with Distribution(secured, access=access(tmp_path, secured, auth=AUTH)) as remote:
        goes_and_comes(remote)


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"username": "Aladdin", "password": "wrong"}, "the credential of Aladdin"),
        ({}, "a request without token or login"),
        ({"identitytoken": "wrong"}, "the identity token"),
    ],
)
def test_a_wrong_password_says_whose(
    tmp_path: Path,
    secured: str,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    entry: dict[str, str],
    shown: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    said = refused(Distribution(secured, access=access(tmp_path, secured, **entry)))
    assert f"refused {shown}: authentication required" in said
    assert "docker login 127.0.0.1:" in said
    assert "NBMODEL_REGISTRY_TOKEN" in said


def test_a_password_that_changed_is_looked_up_again(
    tmp_path: Path, secured: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with Distribution(
        secured, access=access(tmp_path, secured, username="a", password="wrong")
    ) as remote:
        with pytest.raises(AuthenticationError):
            remote.check()
        access(tmp_path, secured, auth=AUTH)
        remote.check()


def test_an_authority_that_nobody_named_is_not_believed(tmp_path: Path, secured: str) -> None:
    with (
        Distribution(secured, access=access(tmp_path, secured, auth=AUTH)) as remote,
        pytest.raises(TargetUnreachableError, match="CERTIFICATE_VERIFY_FAILED") as caught,
    ):
        remote.check()
    assert "NBMODEL_CA_FILE" in str(caught.value.hint)


@pytest.mark.parametrize("variable", ["NBMODEL_CA_FILE", "SSL_CERT_FILE"])
def test_a_file_of_authorities_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "none.pem").write_text("none")
    monkeypatch.setenv(variable, str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"no certificates can be read from .*none\.pem"):
        Distribution("https://127.0.0.1:1")


# Tokens


def test_tokens_are_asked_for_once_and_kept(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    with Distribution(registry, access=access(tmp_path, registry, auth=AUTH)) as remote:
        goes_and_comes(remote)
        scopes = [asked.parameters.get("scope", [""]) for asked in tokens.asked]
        # In what order the registry names the actions changes from one answer to the next.
        assert [sorted(re.split("[:,]", scope)) for (scope,) in scopes] == [
            [""],
            sorted(["repository", "team/digits", "pull"]),
            sorted(["repository", "team/digits", "pull", "push"]),
        ]
        assert {tuple(asked.parameters["service"]) for asked in tokens.asked} == {
            ("test-registry",)
        }


def test_anybody_reads_where_anybody_may(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    with Distribution(registry, access=access(tmp_path, registry, auth=AUTH)) as remote:
        goes_and_comes(remote)
    here = MemoryStorage()
    digest = add_version(here, {"other.onnx": b"other"})
    with Distribution(registry, access=Access()) as remote:
        remote.pull("team/digits", "1", MemoryStorage())
        said = refused(remote, lambda: remote.push("team/digits", here, digest, tags=["2"]))
    assert "refused a request without token or login" in said


def test_an_identity_token_is_posted(tmp_path: Path, registry: str, tokens: TokenServer) -> None:
    login = access(tmp_path, registry, auth=AUTH, identitytoken="identity")
    with Distribution(registry, access=login) as remote:
        goes_and_comes(remote)
    assert {asked.method for asked in tokens.asked} == {"POST"}
    assert {asked.authorization for asked in tokens.asked} == {None}
    assert tokens.asked[-1].parameters["grant_type"] == ["refresh_token"]


def test_a_token_that_ends_is_replaced_before_it_is_sent(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    def briefly(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        token = tokens.token(asked.parameters.get("scope", []), ("pull", "push"))
        return 200, {}, json.dumps({"token": token, "expires_in": 1e-9}).encode()

    tokens.answer = briefly
    with Distribution(registry, access=access(tmp_path, registry, auth=AUTH)) as remote:
        goes_and_comes(remote)
    assert len(tokens.asked) > 5


def test_a_token_that_is_refused_is_replaced_once_also_amid_a_push(
    tmp_path: Path, registry: str, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "CHUNK", 300_000)
    monkeypatch.setattr(send, "CHUNKED_FROM", 600_000)
    here = MemoryStorage()
    digest = here.add_bytes(LARGE)
    sent: list[int] = []
    stale = iter([2])

    class Forgetting(httpx.HTTPTransport):
        """Spoils the token of one request in the middle."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PATCH" and sent and next(stale, None):
                request.headers["Authorization"] = "Bearer stale"
            return super().handle_request(request)

    login = access(tmp_path, registry, auth=AUTH)
    with Distribution(registry, access=login, transport=Forgetting()) as remote:
        assert remote.push_blob("digits", here, digest, progress=sent.append).sent == len(LARGE)
        assert sum(sent) == len(LARGE)
        assert remote.has_blob("digits", digest)
    assert len(tokens.asked) == 3  # to look, to push, and once more


def test_a_wrong_password_at_the_service_is_not_tried_twice(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    login = access(tmp_path, registry, username="Aladdin", password="wrong")
    said = refused(Distribution(registry, access=login))
    assert "refused the credential of Aladdin (401): incorrect username or password" in said
    assert len(tokens.asked) == 1


def test_a_token_in_the_environment_goes_before_a_login(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    environment = dict(access(tmp_path, registry, auth=AUTH).environment)
    given = Access.of({**environment, "NBMODEL_REGISTRY_TOKEN": "wrong"})
    assert "refused the token" in refused(Distribution(registry, access=given))
    token = tokens.token(["repository:digits:pull"], ("pull",))
    given = Access.of({**environment, "NBMODEL_REGISTRY_TOKEN": token})
    with Distribution(registry, access=given) as remote:
        assert remote.tags("digits") == ()
    assert tokens.asked == []


ECHO = {"errors": [{"message": f"you said open sesame, {AUTH}"}]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param((200, {}, b"{}"), "answered with no token", id="nothing"),
        pytest.param((200, {}, b"[1]"), "answered with no token", id="a list"),
        pytest.param((200, {}, b'{"token": "a\\r\\nb"}'), "answered with no token", id="lines"),
        pytest.param((200, {}, b'{"token": "' + b"a" * 300_000), "with no token", id="endless"),
        pytest.param((200, {}, b'{"token": "a"}'), "refused the credential of", id="a bad token"),
        pytest.param((403, {}, json.dumps(ECHO).encode()), "you said …, …", id="an echo"),
        pytest.param((307, {"Location": "{url}"}, b""), "(307)", id="a redirect"),
    ],
)
def test_a_service_that_does_wrong(
    tmp_path: Path,
    registry: str,
    tokens: TokenServer,
    answer: tuple[int, dict[str, str], bytes],
    why: str,
) -> None:
    status, headers, body = answer
    location = {name: value.format(url=tokens.url) for name, value in headers.items()}
    tokens.answer = lambda _: (status, location, body)
    assert why in refused(Distribution(registry, access=access(tmp_path, registry, auth=AUTH)))
    assert len(tokens.asked) == 1


def test_a_service_that_is_away_may_be_there_later(
    tmp_path: Path, registry: str, tokens: TokenServer
) -> None:
    tokens.answer = lambda _: (503, {}, b"")
    with Distribution(registry, access=access(tmp_path, registry, auth=AUTH)) as remote:
        with pytest.raises(TargetUnreachableError, match="token service"):
            remote.check()
        tokens.answer = lambda _: None
        remote.check()


# Registries that want what is not theirs


def challenging(header: str, seen: list[httpx.Request]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        headers = {"WWW-Authenticate": header}
        return httpx.Response(401, headers=headers, stream=httpx.ByteStream(b"{}"))

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        ("http://auth.example/token", "without TLS, auth.example; expected https"),
        ("https://u:p@auth.example/token", "is no address"),
        ("file:///etc/passwd", "is no address"),
        ("/token", "is no address"),
        ("https://[::", "is no address"),
        ("", "is no address"),
    ],
)
def test_a_realm_that_no_credential_goes_to(tmp_path: Path, realm: str, why: str) -> None:
    seen: list[httpx.Request] = []
    login = access(tmp_path, "https://a.example", auth=AUTH)
    transport = challenging(f'Bearer realm="{realm}"', seen)
    said = refused(Distribution("https://a.example", access=login, transport=transport))
    assert why in said
    assert len(seen) == 1


def test_a_credential_does_not_follow_a_redirect(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given = request.headers.get("Authorization")
        seen.append((request.url.host, given))
        if request.url.host == "a.example":
            if given is None:
                headers = {"WWW-Authenticate": "Basic realm=a"}
                return httpx.Response(401, headers=headers, stream=httpx.ByteStream(b""))
            headers = {"Location": "https://b.example/x"}
            return httpx.Response(307, headers=headers, stream=httpx.ByteStream(b""))
        # Nobody asked it who comes.
        said = {"WWW-Authenticate": "Basic realm=b"}
        return httpx.Response(401, headers=said, stream=httpx.ByteStream(b"{}"))

    login = access(tmp_path, "https://a.example", auth=AUTH)
    transport = httpx.MockTransport(answer)
    remote = Distribution("https://a.example", access=login, transport=transport)
    refused(remote, lambda: remote.manifest("digits", "1"))
    assert seen == [
        ("a.example", None),
        ("a.example", f"Basic {AUTH}"),
        ("b.example", None),
    ]


def test_a_credential_of_one_registry_is_not_for_another(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []
    login = access(tmp_path, "https://a.example", auth=AUTH)
    transport = challenging("Basic realm=a", seen)
    refused(Distribution("https://b.example", access=login, transport=transport))
    assert [request.headers.get("Authorization") for request in seen] == [None]


# A device


def test_a_device_follows_with_a_login(tmp_path: Path, registry: str, tokens: TokenServer) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"m.onnx": LARGE})
    login = access(tmp_path, registry, auth=AUTH)
    with Distribution(registry, access=login) as remote:
        remote.push("digits", here, digest, tags=["1", "latest"])
    tokens.asked.clear()
    came = threading.Event()
    tags = TagStore(tmp_path / "tags")
    follower = Follower(
        OciLayout(tmp_path / "blobs"),
        tags,
        Journal(),
        on_change=lambda _: came.set(),
        free_bytes=lambda: 10**12,
        access=login,
    )
    package = {"name": "d", "package": "local/digits", "version": "latest"}
    try:
        follower.follow(
            MachineConfig.from_json(
                {"packages": [{**package, "type": "ml_model", "registry": registry}]}
            )
        )
        assert came.wait(20)
        assert tags.get("digits", "latest") == digest
    finally:
        follower.close()
    assert {asked.authorization for asked in tokens.asked} == {f"Basic {AUTH}"}


# A proxy


def test_a_registry_behind_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone knows where ``registry.example`` is."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = httpx.URL(self.path).raw_path.decode()
            headers = {
                name: self.headers[name] for name in ("Authorization",) if self.headers[name]
            }
            answer = httpx.get(url + path, headers=headers, trust_env=False)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "r", "path": str(tmp_path / "htpasswd")}}
    with docker_registry(tmp_path / "registry", auth=auth) as url:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        login = access(tmp_path, "http://registry.example", auth=AUTH)
        try:
            with Distribution("http://registry.example", access=login) as remote:
                assert remote.tags("digits") == ()
        finally:
            server.shutdown()
            server.server_close()
    assert set(asked) == {"http://registry.example/v2/digits/tags/list?n=1000"}
