"""Names and references."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.reference import Reference, check_alias, check_name, normal_stamp
from nbmodel.errors import RefError

HEX = "0123456789abcdef"
DIGEST = "sha256:" + HEX * 4


@pytest.mark.parametrize(
    "name",
    ["a", "9", "digits", "fruit-detector", "a.b_c-d", "team/digits", "team-1/a.b", "x" * 200],
)
def test_names_that_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "Digits",
        "a b",
        "a__b",
        "a--b",
        "a.-b",
        "-a",
        "a-",
        ".a",
        "a/",
        "/a",
        "a//b",
        "a/b/c",
        "a.b/c",  # reads as the registry a.b
        "localhost/a",
        "../a",
        "a:b",
        "a@b",
        "ä",
        "a\n",
        "x" * 201,
        "x" * 10_000,
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(RefError) as caught:
        check_name(name)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("alias", ["champion", "v1", "v1.2.3", "A_b", "_x", "0x", "x" * 128])
def test_aliases_that_are_aliases(alias: str) -> None:
    assert check_alias(alias) == alias


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "latest",
        "pinned",
        "3",
        "007",
        "2024-02-28T13-36-51",
        "20240228133651",
        "-a",
        ".a",
        "a b",
        "a/b",
        "a:b",
        "ä",
        "x" * 129,
        "a\n",
    ],
)
def test_aliases_that_are_none(alias: str) -> None:
    with pytest.raises(RefError):
        check_alias(alias)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", Reference("digits")),
        ("team/digits", Reference("team/digits")),
        ("digits:latest", Reference("digits", alias="latest")),
        ("digits:3", Reference("digits", number=3)),
        ("digits:champion", Reference("digits", alias="champion")),
        ("digits:2024-02-28T13-36-51", Reference("digits", stamp="2024-02-28T13-36-51")),
        ("digits:20240228T133651", Reference("digits", stamp="2024-02-28T13-36-51")),
        ("digits:20240228133651", Reference("digits", stamp="2024-02-28T13-36-51")),
        (f"digits@{DIGEST}", Reference("digits", digest=DIGEST)),
        ("ghcr.io/team/digits:3", Reference("team/digits", number=3, registry="ghcr.io")),
        ("localhost/digits", Reference("digits", registry="localhost")),
        ("localhost:5000/digits", Reference("digits", registry="localhost:5000")),
        ("pi:8080/digits:3", Reference("digits", number=3, registry="pi:8080")),
        ("10.0.0.1:8080/a/b", Reference("a/b", registry="10.0.0.1:8080")),
        ("[::1]:8080/a", Reference("a", registry="[::1]:8080")),
    ],
)
def test_references_of_every_form(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert Reference.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3",
        "digits:",
        "digits:0",
        "digits:a b",
        "digits:x:y",
        "digits@",
        "digits@sha256:abc",
        "digits@sha512:" + HEX * 8,
        f"digits:3@{DIGEST}",
        "Digits:3",
        "ghcr.io/",
        "ghcr.io/a/b/c",
        "https://ghcr.io/a",
        "a" * 10_000,
        "digits:" + "a" * 10_000,
    ],
)
def test_texts_that_are_no_references(text: str) -> None:
    with pytest.raises(RefError) as caught:
        Reference.parse(text)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_reference_error(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except RefError:
        return
    assert Reference.parse(str(ref)) == ref


parts = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
names = st.lists(parts, min_size=1, max_size=3).map("-".join)
references = st.builds(
    lambda name, space, tag, registry: Reference(
        f"{space}/{name}" if space else name, registry=registry, **tag
    ),
    names,
    st.none() | parts.filter(lambda part: part != "localhost"),
    st.one_of(
        st.just({}),
        st.integers(1, 10**9 - 1).map(lambda number: {"number": number}),
        st.datetimes().map(lambda time: {"stamp": f"2026-03-01T{time:%H-%M-%S}"}),
        st.sampled_from(["champion", "v1", "latest"]).map(lambda alias: {"alias": alias}),
        st.text(HEX, min_size=64, max_size=64).map(lambda text: {"digest": f"sha256:{text}"}),
    ),
    st.none() | st.sampled_from(["ghcr.io", "pi:8080", "localhost", "[::1]:5000"]),
)


@given(references)
def test_text_and_reference_are_each_others_inverse(ref: Reference) -> None:
    assert Reference.parse(str(ref)) == ref
    assert ref.is_model == (ref.tag is None and ref.digest is None)


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2024-02-28T13-36-51", "2024-02-28T13-36-51"),
        ("20240228133651", "2024-02-28T13-36-51"),
        ("20240228T133651", "2024-02-28T13-36-51"),
        ("2024-02-28", None),
        ("2024022813365", None),
        ("champion", None),
    ],
)
def test_stamps_in_both_of_viams_forms(text: str, stamp: str | None) -> None:
    assert normal_stamp(text) == stamp


@pytest.mark.parametrize("value", [3, None, b"digits", ["digits"]], ids=repr)
def test_what_is_no_text_is_told(value: object) -> None:
    with pytest.raises(RefError, match="expected a reference such as 'digits:3', found "):
        Reference.parse(value)  # type: ignore[arg-type]
    with pytest.raises(RefError, match="expected a model name such as 'digits', found "):
        check_name(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["digits@th", "team/digits@pi-4", "digits:3@th"])
def test_a_service_of_a_runtime_is_no_model(text: str) -> None:
    with pytest.raises(RefError, match=r"expected a model, found .* a service of a runtime"):
        Reference.parse(text)
