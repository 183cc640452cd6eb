"""Claims: how many writers give numbers to versions on a registry without a referee.

Tags of a registry have no compare-and-swap: of two writers that push ``3`` at once, one
is overwritten. So every push also sets a tag that only it can have, and the number in it
is a claim. Who reads the tags settles the claims by a law that gives everybody the same
answer, whatever the order in which the tags came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from nbmodel.core.digest import check_digest

MAX_NUMBER = 999_999_999  # what a reference can write
#: Numbers above are nobody's next: one who claims the last ones must not end the counting.
FAR = MAX_NUMBER - 1_000_000
_TAG = re.compile(
    r"v([1-9]\d{0,8})-((\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.\d{6})-([0-9a-f]{16})", re.ASCII
)
_TIME = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """That one version wants one number.

    Ordered as claims are judged: by number, then time, then version.

    Attributes:
        number: The version number wanted, 1 to ``MAX_NUMBER``.
        time: When it was pushed, UTC, ``YYYYMMDDThhmmss.ffffff``.
        version: The first 16 hex digits of the digest of the version's manifest.
    """

    number: int
    time: str
    version: str

    @classmethod
    def of(cls, number: int, digest: str, at: datetime) -> Claim:
        """The claim of a version, made now.

        Args:
            number: The version number wanted, 1 to ``MAX_NUMBER``.
            digest: Of the version's manifest, ``sha256:…``.
            at: When, with its time zone.

        Raises:
            ManifestError: ``digest`` is none.
        """
        return cls(number, at.astimezone(timezone.utc).strftime(_TIME), claimant(digest))

    @classmethod
    def parse(cls, tag: str) -> Claim | None:
        """The claim that a tag makes, or None for any other tag.

        A law: ``Claim.parse(claim.tag) == claim``, and ``Claim.parse(tag).tag == tag``.
        """
        match = _TAG.fullmatch(tag)
        if match is None:
            return None
        try:
            year, month, day, hour, minute, second = map(int, match.groups()[2:8])
            datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        except ValueError:
            return None
        return cls(int(match[1]), match[2], match[9])

    @property
    def tag(self) -> str:
        """``v3-20260228T133651.250000-0123456789abcdef``."""
        return f"v{self.number}-{self.time}-{self.version}"


def is_claim(tag: str) -> bool:
    """Whether a tag makes a claim."""
    return Claim.parse(tag) is not None


def claimant(digest: str) -> str:
    """What claims call a version: the first 16 hex digits of its manifest's digest.

    Raises:
        ManifestError: ``digest`` is none.
    """
    return check_digest(digest, "a version").partition(":")[2][:16]


def settle(claims: Iterable[Claim]) -> Mapping[str, int]:
    """The number of every version that has a claim.

    Each number goes to its earliest claim. Who wins none gets, in the order of the claims,
    the smallest number above its own claim that is free. A version with several claims
    holds the greatest number that it wins, and none of its other claims stand in anyone's way:
    who lost a number and then claimed another keeps that when the winner is deleted.

    Laws: every version gets exactly one number and no two the same; the order of
    ``claims`` does not matter; claims of further versions, with numbers above all that were
    given, change nothing that was given; a version that then claims what it was given keeps it,
    also when other versions go with their claims, if it lost no greater number.

    Args:
        claims: All there are, in any order; the same one twice counts once.

    Returns:
        What claims call a version → its number. A number above ``MAX_NUMBER`` is possible
        where somebody claimed the last ones, and then no reference can write it.
    """
    judged = sorted(set(claims))
    held: dict[str, int] = {}
    taken: set[int] = set()
    for claim in sorted(judged, key=lambda one: -one.number):  # of one number still the earliest
        if claim.number not in taken and claim.version not in held:
            held[claim.version] = claim.number
            taken.add(claim.number)
    free: dict[int, int] = {}  # a number that was tried → where to go on: long runs stay cheap
    for claim in judged:
        if claim.version not in held:
            number = _next_free(claim.number, taken, free)
            held[claim.version] = number
            taken.add(number)
    return held


def next_number(given: Iterable[int]) -> int:
    """The number that the next version should have: one above all that are given.

    Those above ``FAR`` do not count.
    """
    return max((number for number in given if number <= FAR), default=0) + 1


def _next_free(number: int, taken: set[int], free: dict[int, int]) -> int:
    """The smallest number from this one on that is not taken."""
    passed = []
    while number in taken:
        passed.append(number)
        number = free.get(number, number + 1)
    for one in passed:
        free[one] = number
    return number
