"""Remotes as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote, locate
from nbmodel.errors import InputError, NbModelError, RefError


@pytest.mark.parametrize(
    ("text", "base_url", "namespace", "shown"),
    [
        ("registry.example", "https://registry.example", "", None),
        ("registry.example/", "https://registry.example", "", "registry.example"),
        ("registry.example/team", "https://registry.example", "team", None),
        ("ghcr.io/org/team.a/x__y", "https://ghcr.io", "org/team.a/x__y", None),
        ("registry:5000", "https://registry:5000", "", None),
        ("localhost", "http://localhost", "", None),
        ("localhost:5000/team", "http://localhost:5000", "team", None),
        ("127.0.0.1:5000", "http://127.0.0.1:5000", "", None),
        ("127.8.9.1", "http://127.8.9.1", "", None),
        ("[::1]:5000", "http://[::1]:5000", "", None),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000", "", None),
        ("http://registry.lan/team", "http://registry.lan", "team", None),
        ("https://localhost:5000", "https://localhost:5000", "", None),
        ("https://registry.example/team/", "https://registry.example", "team", "…"),
        ("HTTP://registry", "http://registry", "", "http://registry"),
        ("https://registry", "https://registry", "", None),
        ("Registry.Example:443/team", "https://registry.example:443", "team", "…"),
        ("s3://bucket", "s3://bucket", "", None),
        ("s3://bucket/Team/models/", "s3://bucket/Team/models", "", "s3://bucket/Team/models"),
        ("GS://bucket/team", "gs://bucket/team", "", "gs://bucket/team"),
        ("az://container/team", "az://container/team", "", None),
        ("file:///srv/team%20models", "file:///srv/team%20models", "", None),
    ],
)
def test_remotes_that_are_remotes(
    text: str, base_url: str, namespace: str, shown: str | None
) -> None:
    remote = Remote.parse(text)
    assert (remote.base_url, remote.namespace) == (base_url, namespace)
    if shown != "…":
        assert str(remote) == (shown or text)
    assert Remote.parse(str(remote)) == remote


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "team",
        "team/digits",
        "/team",
        "registry.example//team",
        "registry.example/Team",
        "registry.example/team/../x",
        "registry.example/team:3",
        "registry.example/team@sha256:00",
        "registry.example/team?x=1",
        "registry.example/team#x",
        "registry.example:0",
        "registry.example:65536",
        "registry.example:port",
        "registry.example:",
        "-registry.example",
        "reg istry.example",
        "ftp://registry.example",
        "https://",
        "file:///",
        "file://host/team",
        "s3://",
        "s3:///team",
        "s3://bucket/../team",
        "s3://bucket/%2e%2e/team",
        "s3://bucket?x=1",
        "s3://b@cket/team",
        "s3://bücket/team",
        "s3://bucket/" + "x" * 1000,
        "registry.example/" + "x/" * 200 + "x",
        "x" * 10_000 + ".example",
        "räksmörgås.example",
        "registry.example\n.evil",
    ],
)
def test_remotes_that_are_none(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Remote.parse(text)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["https://me:hunter2@registry.example/team", "me:hunter2@registry.example"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InputError, match="name or password") as caught:
        Remote.parse(text)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@given(st.text())
def test_any_text_is_a_remote_or_an_error_of_one_line(text: str) -> None:
    try:
        remote = Remote.parse(text)
    except NbModelError as exc:
        message = str(exc)
    else:
        message = "fine"
        assert Remote.parse(str(remote)) == remote
    assert len(message.splitlines()) == 1


def test_a_model_has_a_repository_below_the_namespace() -> None:
    assert Remote.parse("localhost:5000").repository("team/digits") == "team/digits"
    remote = Remote.parse("ghcr.io/org")
    assert remote.repository("digits") == "org/digits"
    assert remote.repository("team/digits") == "org/team/digits"
    with pytest.raises(RefError):
        remote.repository("../digits")
    with pytest.raises(InputError, match="expected at most 255"):
        Remote.parse("ghcr.io/" + "x" * 100).repository("y" * 200)


@pytest.mark.parametrize(
    ("repository", "model"),
    [
        ("org/digits", "digits"),
        ("org/team/digits", "team/digits"),
        ("org/team/more/digits", None),
        ("other/digits", None),
        ("organ/digits", None),
        ("org/", None),
        ("org/../digits", None),
        ("org/Digits", None),
    ],
)
def test_repositories_below_the_namespace_are_models(repository: str, model: str | None) -> None:
    assert Remote.parse("ghcr.io/org").model(repository) == model


KNOWN = tuple(
    map(
        Remote.parse,
        ("ghcr.io/org", "ghcr.io", "ghcr.io/org/deep", "http://registry.lan", "s3://bucket/models"),
    )
)
DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "remote", "reference"),
    [
        ("ghcr.io/org/digits:3", "ghcr.io/org", "digits:3"),
        ("ghcr.io/org/deep/digits", "ghcr.io/org/deep", "digits"),
        ("ghcr.io/org/more/digits:champion", "ghcr.io/org", "more/digits:champion"),
        ("ghcr.io/other/digits", "ghcr.io", "other/digits"),
        ("ghcr.io/a/b/c/digits:3", "ghcr.io/a/b/c", "digits:3"),
        (f"localhost:5000/digits@{DIGEST}", "localhost:5000", f"digits@{DIGEST}"),
        ("localhost/team/digits", "localhost/team", "digits"),
        ("registry.lan/digits:latest", "http://registry.lan", "digits:latest"),
        ("https://registry.lan/digits:latest", "registry.lan", "digits:latest"),
        ("http://other.lan:5000/digits:7", "http://other.lan:5000", "digits:7"),
        ("s3://bucket/models/team/digits:3", "s3://bucket/models", "team/digits:3"),
        ("s3://other/models/digits", "s3://other/models", "digits"),
        ("file:///srv/models/digits:3", "file:///srv/models", "digits:3"),
    ],
)
def test_references_with_a_registry_are_of_a_remote(text: str, remote: str, reference: str) -> None:
    assert locate(text, KNOWN) == (Remote.parse(remote), Reference.parse(reference))


@pytest.mark.parametrize("text", ["digits", "digits:3", "team/digits:3", f"digits@{DIGEST}", "a.b"])
def test_references_without_a_registry_are_of_none(text: str) -> None:
    assert locate(text, KNOWN) is None


@pytest.mark.parametrize(
    "text",
    [
        "ghcr.io/",
        "ghcr.io/org/",
        "ghcr.io/Org/digits",
        "http://ghcr.io",
        "https://me:hunter2@ghcr.io/digits",
        "s3://bucket",
        "localhost:5000/../digits",
        "localhost:5000/digits:3:4",
        "localhost:5000/digits@sha256:12",
    ],
)
def test_references_with_a_registry_and_nothing_in_it_are_refused(text: str) -> None:
    with pytest.raises(NbModelError) as caught:
        locate(text, KNOWN)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3://bucket/models", "gs://bucket", "file:///srv/models"])
def test_an_object_store_is_a_remote(text: str) -> None:
    remote = Remote.parse(f"{text}/")
    assert str(remote) == remote.host == remote.base_url == text
    assert remote.repository("team/digits") == "team/digits"
