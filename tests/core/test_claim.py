"""Claims of numbers, and the law that settles them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from nbmodel.core.claim import FAR, MAX_NUMBER, Claim, claimant, next_number, settle
from nbmodel.core.reference import _TAG as OCI_TAG
from nbmodel.errors import ManifestError

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)
EARLY, LATER, LAST = (f"20260228T13365{second}.000000" for second in (1, 2, 3))


def claim(number: int, time: str, version: str) -> Claim:
    return Claim(number, time, version)


versions = st.sampled_from([f"{number:016x}" for number in range(12)])
times = st.integers(0, 10**16).map(
    lambda us: datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
)
few_claims = st.lists(
    st.builds(Claim, st.integers(1, 9), st.sampled_from([EARLY, LATER, LAST]), versions)
)


def test_a_claim_is_written_as_a_tag() -> None:
    at = datetime(2026, 2, 28, 14, 36, 51, 250, timezone(timedelta(hours=1)))
    made = Claim.of(3, "sha256:" + "0123456789abcdef" * 4, at)
    assert made.tag == "v3-20260228T133651.000250-0123456789abcdef"
    assert OCI_TAG.fullmatch(made.tag)


@over(st.integers(1, MAX_NUMBER), times, st.text("0123456789abcdef", min_size=64, max_size=64))
def test_every_claim_is_read_back_from_its_tag(number: int, at: datetime, digest: str) -> None:
    made = Claim.of(number, f"sha256:{digest}", at)
    assert Claim.parse(made.tag) == made
    assert OCI_TAG.fullmatch(made.tag)


@over(st.text())
def test_what_reads_as_a_claim_is_written_the_same(tag: str) -> None:
    read = Claim.parse(tag)
    assert read is None or read.tag == tag


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "3",
        "latest",
        "v3",
        "2026-02-28T13-36-51",
        "v0-20260228T133651.000250-0123456789abcdef",
        "v03-20260228T133651.000250-0123456789abcdef",
        "v1000000000-20260228T133651.000250-0123456789abcdef",
        "v٣-20260228T133651.000250-0123456789abcdef",
        "v3-20260230T133651.000250-0123456789abcdef",
        "v3-20260228T253651.000250-0123456789abcdef",
        "v3-20260228T133651-0123456789abcdef",
        "v3-20260228T133651.000250-0123456789ABCDEF",
        "v3-20260228T133651.000250-0123456789abcde",
        "v3-20260228T133651.000250-0123456789abcdef\n",
        "V3-20260228T133651.000250-0123456789abcdef",
    ],
)
def test_other_tags_are_no_claims(tag: str) -> None:
    assert Claim.parse(tag) is None


def test_a_version_is_called_by_its_digest() -> None:
    assert claimant("sha256:" + "0123456789abcdef" * 4) == "0123456789abcdef"
    with pytest.raises(ManifestError, match="malformed digest"):
        claimant("0123456789abcdef")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], {}),
        ([claim(1, EARLY, A)], {A: 1}),
        ([claim(7, EARLY, A)], {A: 7}),
        ([claim(1, LATER, A), claim(1, EARLY, B)], {B: 1, A: 2}),
        ([claim(1, EARLY, B), claim(1, EARLY, A)], {A: 1, B: 2}),
        (
            [claim(1, EARLY, A), claim(1, LATER, B), claim(1, LAST, C), claim(2, LAST, D)],
            {A: 1, D: 2, B: 3, C: 4},
        ),
        ([claim(3, EARLY, A), claim(3, LATER, B), claim(5, LAST, B)], {A: 3, B: 5}),
        ([claim(3, EARLY, A), claim(5, EARLY, A), claim(3, LATER, B)], {A: 5, B: 3}),
        ([claim(3, LATER, A), claim(5, EARLY, A), claim(3, EARLY, B)], {B: 3, A: 5}),
        (
            [claim(2, EARLY, A), claim(2, LATER, B), claim(2, LAST, B), claim(9, LAST, C)],
            {A: 2, B: 3, C: 9},
        ),
        (
            [claim(MAX_NUMBER, EARLY, A), claim(MAX_NUMBER, LATER, B)],
            {A: MAX_NUMBER, B: MAX_NUMBER + 1},
        ),
    ],
    ids=[
        "nothing",
        "alone",
        "a gap stays",
        "the earlier wins",
        "of one time the smaller digest wins",
        "who loses passes over what others claim",
        "who lost and claims again gets that",
        "what it does not need is another's",
        "its second claim counts when the first is lost",
        "lost twice is lost once",
        "the last number",
    ],
)
def test_claims_are_settled(claims: list[Claim], expected: dict[str, int]) -> None:
    assert settle(claims) == expected
    assert settle(reversed(claims)) == expected


@over(few_claims, st.randoms())
def test_everybody_settles_the_same_way(claims: list[Claim], random: object) -> None:
    shuffled = [*claims, *claims[:3]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert settle(shuffled) == settle(claims)


@over(few_claims)
def test_every_version_gets_one_number_of_its_own(claims: list[Claim]) -> None:
    settled = settle(claims)
    assert set(settled) == {one.version for one in claims}
    assert len(set(settled.values())) == len(settled)
    for version, number in settled.items():
        assert number >= min(one.number for one in claims if one.version == version)


@over(few_claims)
def test_each_number_that_is_claimed_goes_to_one_that_claims_it(claims: list[Claim]) -> None:
    settled = settle(claims)
    by_number = {number: version for version, number in settled.items()}
    for number in {one.number for one in claims}:
        rivals = {one.version for one in claims if one.number == number}
        holder = by_number.get(number)
        elsewhere = {
            version
            for version in rivals
            if any(
                one.version == version and one.number == settled[version] > number for one in claims
            )
        }
        assert holder in rivals - elsewhere or rivals == elsewhere


@over(few_claims, st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=9))
def test_later_numbers_of_further_versions_change_nothing(
    claims: list[Claim], further: list[tuple[int, int]]
) -> None:
    settled = settle(claims)
    above = max(settled.values(), default=0)
    new = [claim(above + step, EARLY, f"{255 - who:016x}") for step, who in further]
    after = settle([*claims, *new])
    assert {version: after[version] for version in settled} == settled


@over(few_claims, st.sets(versions))
def test_claiming_what_one_was_given_keeps_it(claims: list[Claim], who: set[str]) -> None:
    settled = settle(claims)
    again = [claim(settled[version], LAST, version) for version in who if version in settled]
    assert settle([*claims, *again]) == settled


@over(few_claims, st.sets(versions))
def test_what_was_claimed_as_it_was_given_stays_when_others_are_deleted(
    claims: list[Claim], gone: set[str]
) -> None:
    claims = list({one.version: one for one in claims}.values())  # as those who push do
    settled = settle(claims)
    claims = [*claims, *(claim(number, LAST, version) for version, number in settled.items())]
    left = [one for one in claims if one.version not in gone]
    assert settle(left) == {one: number for one, number in settled.items() if one not in gone}


def test_ten_thousand_claims_of_one_number_are_settled_at_once() -> None:
    claims = [claim(1, EARLY, f"{version:016x}") for version in range(10_000)]
    assert settle(claims) == {f"{version:016x}": version + 1 for version in range(10_000)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [((), 1), ((1,), 2), ((7, 2), 8), ((MAX_NUMBER, 1, 2), 3), ((FAR,), FAR + 1)],
    ids=["none", "one", "a gap stays", "the last number does not count", "far"],
)
def test_the_next_number_is_above_all(given: tuple[int, ...], expected: int) -> None:
    assert next_number(given) == expected
