from __future__ import annotations

import pytest

from nbmodel.runtime.own_tags import likely_numbers, likely_stamps, own_stamp

THIRD = "2026-01-03T10-00-00"
TAGS = (
    "1", "2", "3", "4", "latest", "champion", "007", "²", "9999999999",
    "2026-01-01T10-00-00", "2026-01-02T10-00-00", THIRD, "2026-01-04T10-00-00",
)  # fmt: skip


@pytest.mark.parametrize(
    ("created", "stamp"),
    [
        pytest.param("2026-02-28T13:36:51.250000Z", "2026-02-28T13-36-51", id="to the second"),
        pytest.param("2026-02-28T15:36:51+02:00", "2026-02-28T13-36-51", id="in UTC"),
        pytest.param("", None, id="none"),
        pytest.param("yesterday", None, id="no time"),
        pytest.param("1970-01-01T00:00:00Z", None, id="a clock that was not set"),
    ],
)
def test_a_time_of_creation_is_a_timestamp_id(created: str, stamp: str | None) -> None:
    assert own_stamp(created) == stamp


@pytest.mark.parametrize(
    ("created", "stamps"),
    [
        pytest.param(
            "2026-01-03T10:00:00.500000Z",
            (THIRD, "2026-01-04T10-00-00"),
            id="its own, then later ones",
        ),
        pytest.param("2026-01-05T00:00:00Z", (), id="newer than all"),
        pytest.param("", (), id="unknown"),
        pytest.param(
            "2025-01-01T00:00:00Z",
            ("2026-01-01T10-00-00", "2026-01-02T10-00-00", THIRD),
            id="only a few are looked at",
        ),
    ],
)
def test_timestamp_ids_that_may_be_a_versions(created: str, stamps: tuple[str, ...]) -> None:
    assert likely_stamps(TAGS, created) == stamps


@pytest.mark.parametrize(
    ("stamp", "numbers"),
    [
        pytest.param(THIRD, ("3", "4", "2"), id="as far from the end as its timestamp id"),
        pytest.param("2026-01-04T10-00-00", ("4", "3"), id="the last"),
        pytest.param("2026-01-01T10-00-00", ("1", "2", "4"), id="the first"),
        pytest.param(None, ("4", "3"), id="unknown: the newest"),
        pytest.param("2020-01-01T00-00-00", ("4", "3"), id="not there: the newest"),
    ],
)
def test_numbers_that_may_be_a_versions(stamp: str | None, numbers: tuple[str, ...]) -> None:
    assert likely_numbers(TAGS, stamp) == numbers


def test_numbers_that_lost_their_timestamp_ids_still_fit() -> None:
    tags = ("11", "12", "13", "2026-01-02T10-00-00", "2026-01-03T10-00-00")
    assert likely_numbers(tags, "2026-01-02T10-00-00")[0] == "12"


def test_a_repository_without_numbers() -> None:
    assert likely_numbers(("latest",), None) == ()
