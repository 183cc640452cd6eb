"""The registry as a server: who may enter, from Python, a notebook and the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel import plugins
from nbmodel.client import Client
from nbmodel.core.machine import MachineConfig
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    AuthenticationError,
    ConfigError,
    InputError,
    NbModelError,
    PluginError,
)
from nbmodel.registry import Registry
from nbmodel.registry.remote.peer import Peer
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.limits import Limits
from nbmodel.serving.server import READY, Offer, RegistryServer
from nbmodel.storage import MemoryStorage, OciLayout
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.tags import TagStore
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.storage_server import add_version

pytestmark = pytest.mark.unhurried

ANY = "0.0.0.0"


def make(root: Path, *contents: bytes) -> list[str]:
    """Versions of the model ``digits``; their digests."""
    with Registry(root) as registry:
        return [
            registry.add(
                "digits",
                {"model.bin": content},
                framework="other",
                model_type="other",
                signature=Signature(),
            ).digest
            for content in contents
        ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make(tmp_path / "home" / "registry", b"one", b"two")
    return tmp_path / "home"


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    client = Client(home)
    yield client
    client.close()


def server(home: Path, **offer: Any) -> RegistryServer:
    return RegistryServer(home / "registry", home, Offer(**offer))


def get(url: str, path: str, **options: Any) -> httpx.Response:
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        return http.get(path, **options)


# From Python


def test_it_is_served_from_a_thread_until_it_is_closed(client: Client) -> None:
    with client.serve_registry() as card:
        assert card.is_running
        assert card.url.startswith("http://127.0.0.1:")
        assert get(card.url, "/v2/_catalog").json() == {"repositories": ["digits"]}
        shown = card.text()
        assert f"nbmodel pull {card.url}/digits" in shown
        assert "read-only" in shown
        assert card.to_json()["running"] is True
    assert not card.is_running
    assert "it has ended" in card.text()
    with pytest.raises(httpx.ConnectError):
        get(card.url, "/v2/")
    card.close()  # once more is no error


def test_closing_the_client_ends_its_servers(home: Path) -> None:
    client = Client(home)
    cards = [client.serve_registry(), client.serve_registry()]
    client.close()
    assert [card.is_running for card in cards] == [False, False]


def test_the_kernel_goes_on_meanwhile(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("IPython")
    from IPython.testing.globalipapp import get_ipython, start_ipython

    shell = start_ipython() or get_ipython()
    monkeypatch.setenv("NBMODEL_HOME", str(client.home))
    shell.run_line_magic("load_ext", "nbmodel")
    card = shell.run_line_magic("mlmodel", "registry serve")
    try:
        assert threading.current_thread() is threading.main_thread()
        assert get(card.url, "/v2/digits/tags/list").json()["name"] == "digits"
    finally:
        shell.run_line_magic("mlmodel", "registry stop")
    assert not card.is_running


def test_what_other_processes_change_is_seen(home: Path) -> None:
    with server(home) as serving:
        before = get(serving.url, "/v2/digits/tags/list").json()["tags"]
        (third,) = make(home / "registry", b"three")
        assert "3" not in before
        after = get(serving.url, "/v2/digits/tags/list").json()["tags"]
        assert {"1", "2", "3", "latest"} <= set(after)
        found = get(serving.url, "/v2/digits/manifests/latest")
        assert found.headers["Docker-Content-Digest"] == third
        with Registry(home / "registry") as registry:
            registry.delete("digits:3")
        assert get(serving.url, "/v2/digits/manifests/3").status_code == 404


# Who may enter


def test_read_only_nothing_goes_in(home: Path) -> None:
    with server(home) as serving, httpx.Client(base_url=serving.url, trust_env=False) as http:
        for method, path in (
            ("POST", "/v2/digits/blobs/uploads/"),
            ("PUT", "/v2/digits/manifests/x"),
            ("DELETE", "/v2/digits/manifests/1"),
            ("PATCH", "/v2/digits/blobs/uploads/x"),
        ):
            answer = http.request(method, path)
            assert answer.status_code == 405
            assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
            assert "read-only" in answer.json()["errors"][0]["message"]


def test_off_loopback_a_token_is_made_shown_once_and_wanted(home: Path) -> None:
    first = server(home, host=ANY)
    first.close()
    assert first.new_token is not None
    assert first.token_file == home / "serving" / "token"
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    with server(home, host=ANY) as serving:
        assert serving.new_token is None
        assert serving.token == first.new_token
        refused = get(serving.url, "/v2/")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="nbmodel registry"'
        assert refused.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert serving.token not in refused.text
        bearer = {"Authorization": f"Bearer {serving.token}"}
        assert get(serving.url, "/v2/", headers=bearer).status_code == 200
        assert get(serving.url, "/v2/", auth=("anybody", serving.token)).status_code == 200
        for wrong in (f"{serving.token}x", serving.token[:-1], ""):
            assert get(serving.url, "/v2/", auth=("anybody", wrong)).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("Basic", id="nothing"),
        pytest.param("Basic !!!", id="no base 64"),
        pytest.param("Basic " + b64encode(b"no colon").decode(), id="no password"),
        pytest.param("Digest x", id="another scheme"),
        pytest.param("Bearer \xff", id="bytes beyond ASCII"),
    ],
)
def test_what_is_no_token_does_not_open(home: Path, header: str) -> None:
    with server(home, require_token=True) as serving:
        raw = [(b"Authorization", header.encode("latin-1"))]
        assert get(serving.url, "/v2/", headers=raw).status_code == 401


def test_a_registry_on_loopback_answers_to_no_other_name(home: Path) -> None:
    with server(home) as serving:
        answer = get(serving.url, "/v2/", headers={"Host": "evil.example"})
        assert answer.status_code == 403
        assert answer.json()["errors"][0]["code"] == "DENIED"


def test_open_to_a_network_is_only_what_cannot_be_written(home: Path) -> None:
    with pytest.raises(InputError, match="anybody on the network") as caught:
        server(home, host=ANY, require_token=False, read_only=False)
    assert "--no-token" in (caught.value.hint or "")
    with server(home, host=ANY, require_token=False) as serving:
        assert get(serving.url, "/v2/").status_code == 200


def test_a_token_that_others_can_read_is_refused(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others") as caught:
        server(home, token_file=file)
    assert caught.value.hint == f"chmod 600 {file}"


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        pytest.param({"port": 65536}, "port 65536", id="a port that is none"),
        pytest.param({"host": "no.such.host.invalid"}, "cannot listen", id="a host that is none"),
        pytest.param({"tls_key": Path("key.pem")}, "without a certificate", id="half of TLS"),
        pytest.param({"max_blob": 0}, "more than 0", id="no blob at all"),
        pytest.param(
            {"token_file": Path("t"), "require_token": False}, "no token wanted", id="both"
        ),
    ],
)
def test_what_cannot_be_offered_is_told(home: Path, offer: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        server(home, **offer)


def test_what_does_not_come_up_leaves_nothing_open(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[RegistryServer] = []

    def broken(self: RegistryServer) -> Any:
        opened.append(self)
        raise ConfigError("no")

    closed: list[Registry] = []
    close = Registry.close

    def closing(self: Registry) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(RegistryServer, "_make_server", broken)
    monkeypatch.setattr(Registry, "close", closing)
    with pytest.raises(ConfigError):
        server(home)
    assert closed == [opened[0]._registry]
    assert opened[0]._listener.fileno() == -1


def test_a_port_that_is_taken_is_told(home: Path) -> None:
    with server(home) as serving:
        port = httpx.URL(serving.url).port
        assert port is not None
        with pytest.raises(InputError, match="cannot listen on 127"):
            server(home, port=port)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_tls_that_cannot_be_spoken_is_told(home: Path, tmp_path: Path) -> None:
    one, other = Certificate.make(tmp_path / "one"), Certificate.make(tmp_path / "other")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        [str(OPENSSL), "rsa", "-aes256", "-passout", "pass:x", "-in", str(one.key), "-out", locked],
        check=True,
        capture_output=True,
    )
    for certificate, key in (
        (one.certificate, other.key),
        (tmp_path / "nothing.pem", None),
        (one.key, None),
        (one.certificate, locked),
    ):
        with pytest.raises(ConfigError, match="cannot speak TLS"):
            server(home, tls_cert=certificate, tls_key=key)


def test_without_the_extra_one_line_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = plugins.find_spec
    monkeypatch.setattr(
        plugins, "find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    with pytest.raises(PluginError, match="serving a registry needs uvicorn") as caught:
        server(home)
    assert caught.value.hint == "pip install 'nbmodel[runtime]'"


# Limits


def test_more_connections_than_allowed_are_turned_away(home: Path) -> None:
    with server(home, limits=Limits(max_connections=2)) as serving:
        url = httpx.URL(serving.url)
        assert url.port is not None
        held = [socket.create_connection((url.host, url.port), timeout=30) for _ in range(2)]
        try:
            for one in held:  # accepted, for they are answered
                one.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert one.recv(100).startswith(b"HTTP/1.1 200")
            assert get(serving.url, "/v2/").status_code == 503
        finally:
            for one in held:
                one.close()


def test_a_head_that_does_not_end_is_not_waited_for(home: Path) -> None:
    limits = Limits(head_timeout_s=0.3)
    with server(home, limits=limits) as serving:
        url = httpx.URL(serving.url)
        assert url.port is not None
        with socket.create_connection((url.host, url.port), timeout=60) as slow:
            slow.sendall(b"GET /v2/ HTTP/1.1\r\nHost:")
            assert slow.recv(100) == b""


def test_a_blob_larger_than_allowed_is_refused(home: Path) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": bytes(5000)})
    with (
        server(home, read_only=False, max_blob=1000) as serving,
        Distribution(serving.url) as remote,
        pytest.raises(NbModelError, match="expected at most 1000"),
    ):
        remote.push("large", here, digest, tags=["x"])


# What is pushed


def test_what_is_pushed_is_a_version(home: Path) -> None:
    here = MemoryStorage()
    digest = add_version(here, {"model.onnx": b"pushed"})
    with server(home, read_only=False) as serving:
        with Distribution(serving.url) as remote:
            remote.push("fruit", here, digest, tags=["champion"])
        with Registry(home / "registry") as registry:
            version = registry.resolve("fruit:champion")
            assert (version.number, version.digest) == (1, digest)
            assert registry.verify("fruit").problems == ()


def test_nobody_has_a_tag_of_what_is_no_model(home: Path) -> None:
    with (
        server(home, read_only=False) as serving,
        httpx.Client(base_url=serving.url, trust_env=False) as http,
    ):
        for raw in (
            b"{}",
            json.dumps({"schemaVersion": 2, "manifests": []}).encode(),
            b"\xff",
            b"[" * 100_000,
        ):
            answer = http.put(
                "/v2/fruit/manifests/x", content=raw, headers={"Content-Type": MANIFEST_TYPE}
            )
            assert answer.status_code == 400
            assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
        assert http.get("/v2/fruit/tags/list").status_code == 404


# On the command line


def test_the_command_line_serves_until_it_is_told_to_end(home: Path) -> None:
    environment = {**os.environ, "NBMODEL_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "nbmodel", "registry", "serve", "--token-file"]
    with subprocess.Popen(
        [*command, str(home / "token")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            shown = process.stdout.readline()
            ready = process.stdout.readline()
            assert shown.startswith("token, shown this once: ")
            assert ready.startswith(READY)
            url, token = ready.removeprefix(READY).strip(), shown.split()[-1]
            assert (home / "token").read_text().strip() == token
            assert get(url, "/v2/").status_code == 401
            assert get(url, "/v2/", auth=("x", token)).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def test_the_command_line_ends_what_runs_elsewhere_by_hand(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbmodel.cli import main

    monkeypatch.setenv("NBMODEL_HOME", str(home))
    assert main(["registry", "stop"]) == 2
    assert "Ctrl-C" in capsys.readouterr().err
    assert main(["registry", "serve", "--no-token", "--host", ANY, "--read-write"]) == 2
    assert "anybody on the network" in capsys.readouterr().err


# Devices, and other registries


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_device_fetches_what_it_follows(home: Path, tmp_path: Path) -> None:
    storage, tags = OciLayout(tmp_path / "blobs"), TagStore(tmp_path / "tags")
    with server(home, require_token=True) as serving:
        follower = Follower(
            storage,
            tags,
            Journal(),
            on_change=lambda _: None,
            free_bytes=lambda: 10**12,
            access=Access(serving.token),
        )
        try:
            follower.follow(
                MachineConfig.from_json(
                    {
                        "packages": [{"name": "a", "package": "local/digits", "version": "latest"}],
                        "nbmodel": {"poll_s": 3600, "registry": serving.url},
                    }
                )
            )
            until(lambda: tags.get("digits", "latest") is not None)
        finally:
            follower.close()
    with Registry(home / "registry") as registry:
        newest = registry.resolve("digits:2")
    assert tags.get("digits", "latest") == newest.digest
    assert storage.has(newest.files[0].digest)
    assert {newest.stamp, "2"} <= set(tags.tags("digits"))


def test_a_device_follows_what_was_pushed_to_a_namespace(home: Path, tmp_path: Path) -> None:
    make(tmp_path / "desk", b"three")
    storage, tags = MemoryStorage(), TagStore(tmp_path / "tags")
    with server(home, read_only=False) as serving:
        address = f"{serving.url}/fol"
        with Registry(tmp_path / "desk") as desk, Peer(Remote.parse(address)) as peer:
            desk.push(peer, Reference("digits", number=1))
            newest = desk.resolve("digits:1")
        follower = Follower(
            storage,
            tags,
            Journal(),
            on_change=lambda _: None,
            free_bytes=lambda: 10**12,
            access=Access(serving.token),
        )
        try:
            follower.follow(
                MachineConfig.from_json(
                    {
                        "packages": [{"name": "a", "package": "local/digits", "version": "latest"}],
                        "nbmodel": {"poll_s": 3600, "registry": address},
                    }
                )
            )
            until(lambda: tags.get("digits", "latest") is not None)
        finally:
            follower.close()
    assert tags.get("digits", "latest") == newest.digest
    assert storage.has(newest.files[0].digest)
    assert newest.stamp in tags.tags("digits")


@pytest.mark.parametrize("shown", [None, "bad"])
def test_a_refused_token_is_no_empty_registry(
    home: Path, tmp_path: Path, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NBMODEL_REGISTRY_TOKEN", raising=False)
    if shown is not None:
        monkeypatch.setenv("NBMODEL_REGISTRY_TOKEN", shown)
    reader = Client(tmp_path / "reader")
    with server(home, require_token=True) as serving, closing(reader):
        for ask in (
            lambda: reader.list(remote=serving.url),
            lambda: reader.sync(remote=serving.url),
        ):
            with pytest.raises(AuthenticationError, match="refused"):
                ask()


@pytest.mark.slow
def test_writers_at_the_same_time_get_numbers_that_all_agree_on(tmp_path: Path, home: Path) -> None:
    def write(root: Path, serving: RegistryServer) -> None:
        with Registry(root) as registry:
            with Peer(Remote.parse(serving.url)) as peer:
                registry.sync(peer, None)  # what is there is the same model
            for content in range(4):
                make(root, root.name.encode() + bytes([content]))
                newest = max(registry.versions("digits"), key=lambda one: one.created)
                with Peer(Remote.parse(serving.url)) as peer:
                    registry.push(peer, Reference("digits", digest=newest.digest))

    roots = [tmp_path / f"writer{number}" for number in range(3)]
    with server(home, read_only=False) as serving:
        with ThreadPoolExecutor(len(roots)) as pool:
            for done in [pool.submit(write, root, serving) for root in roots]:
                done.result()
        with Registry(home / "registry") as registry:
            there = {one.digest: one.number for one in registry.versions("digits")}
        assert len(there) == len(set(there.values())) == 2 + 3 * 4
        for root in (*roots, tmp_path / "reader"):
            with Registry(root) as registry, Peer(Remote.parse(serving.url)) as peer:
                registry.sync(peer, None)
                assert {one.digest: one.number for one in registry.versions("digits")} == there


def test_what_is_known_without_its_files_is_not_offered(home: Path, tmp_path: Path) -> None:
    with server(home) as serving, Registry(tmp_path / "other") as other:
        with Peer(Remote.parse(serving.url)) as peer:
            other.sync(peer, None)
        assert len(other.versions("digits")) == 2
        offered = other.repositories()
        assert offered.names() == []
        assert offered.tags("digits") == {}
        with Peer(Remote.parse(serving.url)) as peer:
            other.pull(peer, Reference("digits", number=1))
        assert offered.get("digits", "1") is not None
        assert offered.get("digits", "2") is None
