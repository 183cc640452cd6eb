"""Registries and object stores behind a proxy that tunnels, with a private authority."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbmodel.errors import AuthenticationError, NbModelError, TargetUnreachableError
from nbmodel.storage import MemoryStorage, object_store
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.remote_registry import RemoteRegistry, open_registry
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.connect_proxy import ConnectProxy, connect_proxy, tls_front
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.object_server import object_server
from tests.tools.storage_server import add_version

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
]

HOST, PASSWORD = "registry.example", "hunter2-of-the-proxy"
# bcrypt of "open sesame", made by crypt(3) of libxcrypt.
HTPASSWD = "Aladdin:$2b$04$3OI9ljyXXSQgCuEtjE8psuhXRUUL8q5wutsG7Uufpf0EaMfL4GSu2\n"
AUTH = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617's example


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, authority: Certificate) -> Iterator[int]:
    """Where a registry is that speaks TLS, calls itself ``HOST`` and wants a password."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
    own = authority.issue(folder / "own", HOST)
    with docker_registry(folder, auth=auth, certificate=own) as url:
        yield httpx.URL(url).port or 0


@pytest.fixture
def proxy(
    port: int, authority: Certificate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConnectProxy]:
    """It alone knows where ``HOST`` is."""
    _no_proxies(monkeypatch)
    monkeypatch.setenv("NBMODEL_CA_FILE", str(authority.certificate))
    with connect_proxy({f"{HOST}:443": port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        yield proxy


def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NBMODEL_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def access(folder: Path) -> Access:
    (folder / "config.json").write_text(json.dumps({"auths": {HOST: {"auth": AUTH}}}))
    return Access.of({"DOCKER_CONFIG": str(folder)})


def goes_and_comes(remote: RemoteRegistry) -> None:
    here, there = MemoryStorage(), MemoryStorage()
    digest = add_version(here, {"large.onnx": bytes(range(256)) * 9000, "small.txt": b"small"})
    remote.push("team/digits", here, digest, tags=["1"])
    assert remote.tags("team/digits") == ("1",)
    assert remote.pull("team/digits", "1", there) == digest


def refused(remote: RemoteRegistry) -> str:
    with remote, pytest.raises(NbModelError) as caught:
        remote.tags("digits")
    said = f"{caught.value} {caught.value.hint}"
    assert len(str(caught.value).splitlines()) == 1
    assert not any(secret in said for secret in (PASSWORD, AUTH, "open sesame"))
    return said


def test_a_registry_behind_a_tunnel(tmp_path: Path, proxy: ConnectProxy) -> None:
    with open_registry(f"https://{HOST}", access=access(tmp_path)) as remote:
        goes_and_comes(remote)
    assert set(proxy.targets) == {f"{HOST}:443"}
    assert AUTH not in "".join(proxy.heads), "the proxy sees no credential of the registry"
    assert "authorization:" not in "".join(proxy.heads).lower()


def test_a_proxy_that_wants_a_password(
    tmp_path: Path, port: int, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = "Basic " + b64encode(f"me:{PASSWORD}".encode()).decode()
    with connect_proxy({f"{HOST}:443": port}, credential=credential) as strict:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{strict.port}")
        with open_registry(f"https://{HOST}", access=access(tmp_path)) as remote:
            goes_and_comes(remote)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}-not@127.0.0.1:{strict.port}")
        said = refused(open_registry(f"https://{HOST}", access=access(tmp_path)))
    assert "407" in said or "Proxy Authentication" in said


@pytest.mark.parametrize("status", ["403 Forbidden", "502 Bad Gateway", "200"])
def test_a_proxy_that_does_not_tunnel(
    tmp_path: Path, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    with connect_proxy({}, refuse=status) as strict:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{strict.port}")
        said = refused(open_registry(f"https://{HOST}", access=access(tmp_path)))
    assert f"{HOST} does not answer" in said


def test_a_proxy_that_is_not_there(
    tmp_path: Path, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:9")
    assert f"{HOST} does not answer" in refused(open_registry(f"https://{HOST}"))


def test_an_authority_that_nobody_named_is_not_believed(
    tmp_path: Path, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NBMODEL_CA_FILE")
    assert "NBMODEL_CA_FILE" in refused(open_registry(f"https://{HOST}", access=access(tmp_path)))


def test_a_certificate_for_another_host_is_not_believed(
    tmp_path: Path, port: int, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect_proxy({"other.example:443": port}) as other:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{other.port}")
        said = refused(open_registry("https://other.example", access=access(tmp_path)))
    assert "other.example" in said


def test_this_machine_is_not_behind_a_proxy(tmp_path: Path, port: int, proxy: ConnectProxy) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {f"127.0.0.1:{port}": {"auth": AUTH}}})
    )
    login = Access.of({"DOCKER_CONFIG": str(tmp_path)})
    with Distribution(f"https://127.0.0.1:{port}", access=login) as remote:
        goes_and_comes(remote)
    assert proxy.heads == []


def test_an_object_store_behind_a_tunnel_with_a_private_authority(
    tmp_path: Path, authority: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    _no_proxies(monkeypatch)
    monkeypatch.setattr(object_store, "_RETRIES", 1)
    certificate = authority.issue(tmp_path / "own", "localstack.example")
    with object_server() as server, tls_front(httpx.URL(server.url).port or 0, certificate) as port:
        name = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:40]
        address = server.make_bucket(name) + "/team"
        environment = {**server.environment, "AWS_ENDPOINT_URL": "https://localstack.example"}
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        with connect_proxy({"localstack.example:443": port}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            with pytest.raises((TargetUnreachableError, AuthenticationError)):
                open_registry(address).tags("digits")
            monkeypatch.setenv("NBMODEL_CA_FILE", str(authority.certificate))
            with open_registry(address) as remote:
                goes_and_comes(remote)
            assert set(proxy.targets) == {"localstack.example:443"}
            assert "authorization:" not in "".join(proxy.heads).lower()
