from __future__ import annotations

import pytest

from nbmodel.errors import InputError
from nbmodel.inference.server import ModelAddress, Server, check_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("pi:8000", "http://pi:8000"),
        ("http://pi:8000/", "http://pi:8000"),
        ("https://pi/edge/", "https://pi/edge"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_in_full(text: str, url: str) -> None:
    assert check_url(text) == url
    assert check_url(url) == url


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://pi", "http://pi:x", "http://pi:70000", "http://u:p@pi", "pi?a=1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError):
        check_url(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://h:8000/m", ("http://h:8000", "m", "")),
        ("https://h/m/", ("https://h", "m", "")),
        ("http://h:8000/v2/models/m", ("http://h:8000", "m", "")),
        ("http://h:8000/v2/models/m/versions/3", ("http://h:8000", "m", "3")),
        ("http://h/base/m", ("http://h/base", "m", "")),
        ("http://h/base/v2/models/a%2Fb", ("http://h/base", "a/b", "")),
        ("http://[::1]:80/m", ("http://[::1]:80", "m", "")),
    ],
)
def test_an_address_of_a_model(text: str, address: tuple[str, str, str]) -> None:
    assert ModelAddress.parse(text) == ModelAddress(*address)


@pytest.mark.parametrize(
    "text", ["http://h", "http://h/", "h/m", "ftp://h/m", "http://u@h/m", "://"]
)
def test_what_is_no_address_of_a_model(text: str) -> None:
    with pytest.raises(InputError):
        ModelAddress.parse(text)


def test_a_server_is_found_by_host_port_and_path() -> None:
    server = Server("https://[::1]/my path/", "t")
    assert (server.host, server.port, server.path) == ("::1", 443, "/my%20path")
    assert server.headers == {"Host": "[::1]", "Authorization": "Bearer t"}
    assert Server("pi").port == 80
    assert "t" not in repr(Server("pi", "t")).replace("Server", "").replace("http", "")


@pytest.mark.parametrize("token", ["a\r\nX: 1", "\0", "€"])
def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(InputError, match="not an HTTP header"):
        Server("http://pi", token)


@pytest.mark.parametrize(
    ("url", "environment", "is_direct"),
    [
        pytest.param("http://pi:1", {}, True, id="plain"),
        pytest.param("https://pi:1", {}, False, id="TLS"),
        pytest.param("http://pi:1", {"http_proxy": "http://p:3128"}, False, id="a proxy"),
        pytest.param("http://pi:1", {"all_proxy": "http://p:3128"}, False, id="one for all"),
        pytest.param("http://pi:1", {"https_proxy": "http://p:3128"}, True, id="one for TLS"),
        pytest.param(
            "http://pi:1", {"http_proxy": "http://p:3128", "no_proxy": "pi"}, True, id="not for it"
        ),
        pytest.param("http://127.0.0.1:1", {"http_proxy": "http://p:3128"}, True, id="loopback"),
    ],
)
def test_a_plain_connection_is_for_where_it_reaches(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], is_direct: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Server(url).is_direct() is is_direct
