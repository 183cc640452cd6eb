"""What servers ask for, and what requests are about."""

from __future__ import annotations

import time

import pytest

from nbmodel.core.challenge import MAX_HEADER, Challenge, Scope, parse_challenges, scope_of
from nbmodel.core.credential import Credential

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param('Basic realm="a"', [("basic", {"realm": "a"})], id="basic"),
        pytest.param(
            f'{HUB},scope="repository:samalba/my-app:pull,push"',  # the specification's example
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:samalba/my-app:pull,push",
                    },
                )
            ],
            id="bearer",
        ),
        pytest.param(
            # RFC 9110 §11.6.1
            'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
            [
                ("basic", {"realm": "simple"}),
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
            id="two, with quotes",
        ),
        pytest.param("Basic", [("basic", {})], id="no parameters"),
        pytest.param(
            'Negotiate, Basic realm="a"',
            [("negotiate", {}), ("basic", {"realm": "a"})],
            id="a scheme of one word before",
        ),
        pytest.param(
            'NTLM TlRMTVNT==, Basic realm="a"',
            [("ntlm", {}), ("basic", {"realm": "a"})],
            id="one with data before",
        ),
        pytest.param(
            "BEARER Realm=https://a, SERVICE = b",
            [],
            id="an unquoted address is none",
        ),
        pytest.param(
            'bearer REALM = "r" , Service=s',
            [("bearer", {"realm": "r", "service": "s"})],
            id="case",
        ),
        pytest.param('Basic realm="a", realm="b"', [("basic", {"realm": "a"})], id="twice"),
        pytest.param("", [], id="nothing"),
        pytest.param("Basic " + "x" * MAX_HEADER, [], id="too long"),
    ],
)
def test_what_is_offered(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [one for one in parse_challenges(header) if one.parameters or expected]
    assert found == [Challenge(scheme, parameters) for scheme, parameters in expected]


@pytest.mark.parametrize("piece", ["a ", "a,", 'a="', "a=b,", '\\"', " ", ",", "a = ", '"\\'])
def test_a_hostile_header_costs_no_time(piece: str) -> None:
    header = ("Bearer " + piece * MAX_HEADER)[:MAX_HEADER]
    began = time.perf_counter()
    parse_challenges(header)
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "v2/", None),
        ("GET", "v2/_catalog", None),
        ("GET", "v2/digits/tags/list", "repository:digits:pull"),
        ("HEAD", "v2/team/digits/blobs/sha256:ab", "repository:team/digits:pull"),
        ("POST", "v2/team/digits/blobs/uploads/", "repository:team/digits:pull,push"),
        ("PATCH", "v2/digits/blobs/uploads/1-2-3", "repository:digits:pull,push"),
        ("PUT", "v2/digits/manifests/latest", "repository:digits:pull,push"),
        ("GET", "v2/tags/manifests/1", "repository:tags:pull"),
    ],
)
def test_what_a_request_is_about(method: str, path: str, expected: str | None) -> None:
    scope = scope_of(method, path)
    assert (None if scope is None else str(scope)) == expected


def test_a_scope_that_writes_is_another() -> None:
    assert Scope("a", writes=True) != Scope("a", writes=False)


def test_a_credential_shows_its_name_only() -> None:
    credential = Credential("Aladdin", "open sesame")
    assert credential.basic == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 §2
    assert repr(credential) == "Credential(username='Aladdin')"
    assert Credential("", identity_token="t").secrets == ("t", "Og==")
