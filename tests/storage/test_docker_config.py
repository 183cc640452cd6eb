"""Credentials in files and from helpers, as ``docker login`` and ``podman login`` leave them."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.credential import Credential
from nbmodel.errors import AuthenticationError
from nbmodel.storage.credential_helper import ask_helper
from nbmodel.storage.docker_config import config_files, find_credential

HOST = "registry.example.com:5000"
# What docker and podman write for Aladdin with "open sesame".
AUTH = {"auth": "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
ALADDIN = Credential("Aladdin", "open sesame")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"HOME": str(home), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}


def write(path: Path, config: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config))


def helper(environment: Mapping[str, str], name: str, script: str) -> None:
    path = Path(environment["PATH"].partition(":")[0]) / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def says(username: str, secret: str) -> str:
    answer = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    return f"echo '{answer}'"


# Files


@pytest.mark.parametrize(
    ("given", "place"),
    [
        pytest.param({}, "home/.docker/config.json", id="docker"),
        pytest.param({"DOCKER_CONFIG": "d"}, "d/config.json", id="docker, told where"),
        pytest.param({"XDG_RUNTIME_DIR": "r"}, "r/containers/auth.json", id="podman"),
        pytest.param({}, "home/.config/containers/auth.json", id="podman, for good"),
        pytest.param({"XDG_CONFIG_HOME": "c"}, "c/containers/auth.json", id="podman, told where"),
        pytest.param({"REGISTRY_AUTH_FILE": "a/f"}, "a/f", id="podman, told the file"),
    ],
)
def test_where_credentials_are(
    tmp_path: Path, environment: dict[str, str], given: dict[str, str], place: str
) -> None:
    environment |= {name: str(tmp_path / value) for name, value in given.items()}
    assert find_credential(HOST, environment) is None
    write(tmp_path / place, {"auths": {HOST: AUTH}})
    assert find_credential(HOST, environment) == ALADDIN


def test_without_a_home_nothing_is_looked_at() -> None:
    assert list(config_files({})) == []


@pytest.mark.parametrize(
    ("host", "name", "found"),
    [
        (HOST, HOST, True),
        (HOST, f"https://{HOST}", True),
        (HOST, f"https://{HOST}/v1/", True),
        (HOST, f"http://{HOST}/", True),
        (HOST, "registry.example.com", False),
        (HOST, f"{HOST}/team", False),
        (HOST, f"{HOST}.evil.example", False),
        ("example.com", HOST, False),
        ("registry-1.docker.io", "https://index.docker.io/v1/", True),
        ("registry-1.docker.io", "docker.io", True),
        ("docker.io.evil.example", "https://index.docker.io/v1/", False),
    ],
)
def test_an_entry_is_for_its_registry(
    home: Path, environment: dict[str, str], host: str, name: str, found: bool
) -> None:
    write(home / ".docker/config.json", {"auths": {name: AUTH}})
    assert find_credential(host, environment) == (ALADDIN if found else None)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"username": "u", "password": "p"}, Credential("u", "p"), id="in the clear"),
        pytest.param(
            {**AUTH, "identitytoken": "i"},
            Credential("Aladdin", "open sesame", "i"),
            id="an identity token",
        ),
        pytest.param(
            {"auth": b64encode("ü:p:q".encode()).decode()}, Credential("ü", "p:q"), id="colons"
        ),
        pytest.param({}, None, id="a mark that somebody logged in"),
    ],
)
def test_what_an_entry_says(
    home: Path, environment: dict[str, str], entry: Any, expected: Credential | None
) -> None:
    write(home / ".docker/config.json", {"auths": {HOST: entry}})
    assert find_credential(HOST, environment) == expected


@pytest.mark.parametrize(
    ("config", "why"),
    [
        pytest.param('{"auths": hunter2', "is not a JSON object", id="no JSON"),
        pytest.param("[" * 100_000, "is not a JSON object", id="deep"),
        pytest.param([], "is not a JSON object", id="a list"),
        pytest.param({"auths": ["hunter2"]}, "auths of .* is no table", id="auths"),
        pytest.param({"auths": {HOST: "hunter2"}}, "is no table", id="an entry"),
        pytest.param({"auths": {HOST: {"auth": "hunter2!"}}}, "is not base64 of", id="auth"),
        pytest.param({"auths": {HOST: {"auth": "aHVudGVyMg=="}}}, "is not base64", id="no colon"),
        pytest.param({"auths": {HOST: {"auth": 5}}}, "is not made of words", id="a number"),
        pytest.param({"credsStore": 5}, "credsStore of .* is no name", id="a store"),
        pytest.param({"credHelpers": {HOST: "../x"}}, "no name of a credential", id="a path"),
        pytest.param({"credHelpers": {HOST: "a b;c"}}, "no name of a credential", id="a command"),
        pytest.param({"credsStore": "gone"}, "docker-credential-gone .* is not inst", id="missing"),
    ],
)
def test_what_cannot_be_used_says_so_and_shows_nothing(
    home: Path, environment: dict[str, str], config: Any, why: str
) -> None:
    write(home / ".docker/config.json", config)
    with pytest.raises(AuthenticationError, match=why) as caught:
        find_credential(HOST, environment)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_damaged_file_is_named_with_what_to_do(home: Path, environment: dict[str, str]) -> None:
    write(home / ".docker/config.json", "no JSON")
    with pytest.raises(AuthenticationError) as caught:
        find_credential(HOST, environment)
    assert str(home / ".docker/config.json") in str(caught.value)
    assert caught.value.hint is not None
    for word in ("mend that file", "`docker login`", "NBMODEL_REGISTRY_TOKEN"):
        assert word in caught.value.hint


def test_an_empty_file_says_nothing(home: Path, environment: dict[str, str]) -> None:
    write(home / ".docker/config.json", "")
    assert find_credential(HOST, environment) is None


# Helpers


def test_a_helper_is_told_the_server_on_its_standard_input(environment: dict[str, str]) -> None:
    helper(
        environment,
        "echo",
        'read server; test "$1" = get && test -z "$NBMODEL_REGISTRY_TOKEN" && '
        'printf \'{"Username":"%s","Secret":"%s"}\' "$server" "$CLOUD"',
    )
    environment |= {"CLOUD": "c", "NBMODEL_REGISTRY_TOKEN": "t"}
    assert ask_helper("echo", "a;$(id)", environment) == Credential("a;$(id)", "c")


def test_a_helper_for_the_registry_goes_before_the_store(
    home: Path, environment: dict[str, str]
) -> None:
    helper(environment, "one", says("one", "1"))
    helper(environment, "all", says("all", "2"))
    config = {"auths": {HOST: AUTH}, "credHelpers": {HOST: "one"}, "credsStore": "all"}
    write(home / ".docker/config.json", config)
    assert find_credential(HOST, environment) == Credential("one", "1")
    assert find_credential("other.example", environment) == Credential("all", "2")


def test_a_store_that_knows_nothing_leaves_it_to_the_file(
    home: Path, environment: dict[str, str]
) -> None:
    helper(environment, "all", "echo 'credentials not found in native keychain'; exit 1")
    write(home / ".docker/config.json", {"auths": {HOST: AUTH}, "credsStore": "all"})
    assert find_credential(HOST, environment) == ALADDIN
    assert find_credential("other.example", environment) is None


def test_a_helper_may_give_an_identity_token(environment: dict[str, str]) -> None:
    helper(environment, "acr", says("<token>", "refresh"))
    assert ask_helper("acr", HOST, environment) == Credential("", identity_token="refresh")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        pytest.param("echo hunter2; exit 3", r"failed for .* \(status 3\)", id="it fails"),
        pytest.param("echo hunter2", "answered with no username", id="no JSON"),
        pytest.param('echo \'{"Username":"hunter2"}\'', "answered with no username", id="half"),
        pytest.param("yes hunter2", "more than 262144 bytes", id="without end"),
        pytest.param("sleep 60 & wait", "gave no answer within 0.5 s", id="it hangs"),
        pytest.param("sleep 60 & exit 0", "gave no answer within 0.5 s", id="its child hangs"),
    ],
)
def test_a_bad_helper(environment: dict[str, str], script: str, why: str) -> None:
    helper(environment, "bad", script)
    began = time.monotonic()
    with pytest.raises(AuthenticationError, match=why) as caught:
        ask_helper("bad", HOST, environment, timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_nobody_waits_for_a_helper_any_more(environment: dict[str, str]) -> None:
    helper(environment, "slow", "sleep 60")
    stop = threading.Event()
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(CancelledError):
        ask_helper("slow", HOST, environment, cancelled=stop.is_set)
    timer.join()
