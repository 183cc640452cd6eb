import stat
from pathlib import Path

import pytest

from nbmodel.core.address import is_loopback
from nbmodel.errors import ConfigError
from nbmodel.runtime.auth import Gate, ensure_token, hostname

LOCAL = Gate(None, frozenset({"pi.lan"}))
NETWORK = Gate("s3cret", None)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:80", "127.8.8.8", "localhost:9", "[::1]:80", "a.localhost", "PI.lan:1"]
)
def test_a_runtime_on_loopback_answers_to_its_names(host: str) -> None:
    assert LOCAL.refusal("GET", "/v2", {"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:8123",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::1",
        "10.0.0.1",
    ],
)
def test_a_runtime_on_loopback_answers_to_no_other_name(host: str) -> None:
    refusal = LOCAL.refusal("GET", "/v2", {"host": host})
    assert refusal is not None
    assert refusal.status == 403


def test_a_request_without_a_host_is_refused_on_loopback() -> None:
    assert LOCAL.refusal("GET", "/v2", {}) is not None


@pytest.mark.parametrize(
    ("method", "origin", "passes"),
    [
        pytest.param("POST", "http://evil.example", False, id="a foreign page posts"),
        pytest.param("POST", "null", False, id="a file or sandbox posts"),
        pytest.param("POST", "http://localhost:2", False, id="another local server's page posts"),
        pytest.param("POST", "http://localhost:1", True, id="its own page posts"),
        pytest.param("POST", "https://localhost:1", True, id="its own page posts through TLS"),
        pytest.param("POST", "http://[", False, id="no origin at all"),
        # It cannot read the answer, and nothing changes.
        pytest.param("GET", "http://evil.example", True, id="a foreign page gets"),
    ],
)
def test_web_pages_of_others_change_nothing(method: str, origin: str, passes: bool) -> None:
    headers = {"host": "localhost:1", "origin": origin}
    assert (LOCAL.refusal(method, "/nbmodel/reconcile", headers) is None) is passes


@pytest.mark.parametrize(
    ("authorization", "passes"),
    [
        pytest.param("Bearer s3cret", True, id="the token"),
        pytest.param("bearer s3cret", True, id="the scheme in lower case"),
        pytest.param("Bearer s3cre", False, id="a part of it"),
        pytest.param("Bearer s3cret2", False, id="more than it"),
        pytest.param("Bearer ", False, id="nothing"),
        pytest.param("Bearer s\xe9cret", False, id="letters beyond ASCII"),
        pytest.param("Basic YW55Ym9keTpzM2NyZXQ=", True, id="as anybody's password"),
        pytest.param("Basic YW55Ym9keTpzM2NyZXQ", False, id="as one cut short"),
        pytest.param("Basic YW55Ym9keTp3cm9uZw==", False, id="another password"),
        pytest.param("Basic czNjcmV0", False, id="a name without a password"),
        pytest.param("Basic s3cret", False, id="what is no base 64"),
        pytest.param("Digest s3cret", False, id="another scheme"),
        pytest.param("s3cret", False, id="no scheme"),
        pytest.param(None, False, id="no header"),
    ],
)
def test_a_token_is_wanted(authorization: str | None, passes: bool) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    refusal = NETWORK.refusal("GET", "/nbmodel/status", headers)
    assert (refusal is None) is passes
    if refusal is not None:
        assert refusal.status == 401
        assert refusal.headers["WWW-Authenticate"] == 'Basic realm="nbmodel runtime", Bearer'
        assert "s3cret" not in refusal.error + refusal.hint


def test_health_needs_no_token() -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert NETWORK.refusal("GET", path, {}) is None
    assert NETWORK.refusal("GET", "/v2/health/live/", {}) is not None


def test_a_gate_does_not_show_its_token() -> None:
    assert "s3cret" not in repr(NETWORK)


def test_a_token_is_made_once_and_private(tmp_path: Path) -> None:
    token, is_new = ensure_token(tmp_path)
    assert is_new
    assert len(token) >= 43  # 256 bits in base64
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert ensure_token(tmp_path) == (token, False)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_token(tmp_path)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="read by others") as caught:
        ensure_token(tmp_path)
    assert caught.value.hint == f"chmod 600 {tmp_path / 'token'}"


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    with pytest.raises(ConfigError, match="empty"):
        ensure_token(tmp_path)


@pytest.mark.parametrize(
    ("netloc", "host"),
    [("A.b:1", "a.b"), ("[::1]:1", "::1"), ("::1", ""), ("", ""), ("[x", ""), ("u@h:1", "h")],
)
def test_the_host_of_a_netloc(netloc: str, host: str) -> None:
    assert hostname(netloc) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "local", "localhost.x"])
def test_what_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)
