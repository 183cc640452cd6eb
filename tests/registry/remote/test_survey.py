"""What tags and the manifests they are on mean."""

from __future__ import annotations

import pytest

from nbmodel.registry.remote.survey import Survey, is_alias, judge, stray_tags

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
AT = "20260228T133651.000000"
LATER = "20260228T133652.000000"


def claim(number: int, digest: str, at: str = AT) -> str:
    return f"v{number}-{at}-{digest[7:23]}"


@pytest.mark.parametrize(
    ("digests", "numbers"),
    [
        ({}, {}),
        ({claim(1, A): A, claim(2, B): B}, {A: 1, B: 2}),
        ({claim(1, A, LATER): A, claim(1, B): B}, {B: 1, A: 2}),
        ({claim(1, A): A, "1": A, "latest": A, "champion": A}, {A: 1}),
        ({claim(1, A): A, "2": A}, {A: 1}),
        ({claim(1, A): B}, {}),
        ({claim(1, A): A, claim(2, B): A}, {A: 1}),
        ({"3": A, "7": B}, {A: 3, B: 7}),
        ({claim(3, A): A, "3": B}, {A: 3, B: 4}),
        ({claim(1, A): A, "999999999": B}, {A: 1, B: 999_999_999}),
        ({"champion": A, "2026-02-28T13-36-51": B}, {}),
    ],
    ids=[
        "nothing",
        "claims",
        "the earlier claim",
        "other tags of what has a claim",
        "a number without a claim, of what has one",
        "a claim of another version",
        "a claim of another version beside a true one",
        "numbers that other tools gave",
        "a number that somebody claimed",
        "the last number",
        "aliases and stamps alone",
    ],
)
def test_tags_settle_numbers(digests: dict[str, str], numbers: dict[str, int]) -> None:
    assert judge(digests, digests, "host").numbers == numbers


def test_a_claim_that_lies_is_told_and_counts_for_nothing() -> None:
    found = judge(["x"], {claim(1, A): B, claim(2, C): C}, "registry.example")
    assert found.versions == (C,)
    assert found.doubts == (
        f"registry.example has claim {claim(1, A)} on another version than its own",
    )


def test_versions_come_by_number_and_then_the_others() -> None:
    found = judge(["x"], {"champion": C, claim(2, A): A, claim(1, B): B}, "host")
    assert found.versions == (B, A, C)
    assert found.aliases == {"champion": C}


@pytest.mark.parametrize(
    ("tags", "digests", "stray"),
    [
        ((claim(1, A), "1", "2026-02-28T13-36-51", "latest"), {claim(1, A): A}, []),
        ((claim(1, A), "1", "2"), {claim(1, A): A}, ["2"]),
        (("1", "latest", "2026-02-28T13-36-51"), {}, ["1"]),
        (("latest", "2026-02-28T13-36-51", "pinned"), {}, None),
        (("sha256-" + "a" * 64, "sha256-" + "a" * 64 + ".sig", "latest"), {}, ["latest"]),
        (("v1.0",), {"v1.0": A}, []),
    ],
    ids=[
        "all told",
        "a number that nobody claimed",
        "numbers",
        "everything",
        "not referrers",
        "seen",
    ],
)
def test_only_tags_that_may_tell_more_are_looked_at(
    tags: tuple[str, ...], digests: dict[str, str], stray: list[str] | None
) -> None:
    assert stray_tags(judge(tags, digests, "host")) == (sorted(tags) if stray is None else stray)


def test_what_is_looked_at_is_bounded() -> None:
    found = Survey(tuple(f"x{number}" for number in range(5000)), {}, {})
    assert len(stray_tags(found)) == 1000


@pytest.mark.parametrize("tag", ["champion", "v1", "v1.2.3", "sha256-abc", "_x"])
def test_aliases_are_aliases(tag: str) -> None:
    assert is_alias(tag)


@pytest.mark.parametrize(
    "tag",
    ["latest", "pinned", "3", "2026-02-28T13-36-51", claim(1, A), "sha256-" + "a" * 64, "", "a b"],
)
def test_other_tags_are_none(tag: str) -> None:
    assert not is_alias(tag)
