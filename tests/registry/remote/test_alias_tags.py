"""Which way aliases travel, and who may move one."""

from __future__ import annotations

import pytest

from nbmodel.registry.remote.alias_tags import Way, may_move, way_of

A, B, C = "aaa", "bbb", "ccc"


@pytest.mark.parametrize(
    ("here", "seen", "there", "way"),
    [
        (None, None, None, Way.NOTHING),
        (A, A, A, Way.NOTHING),
        (A, None, A, Way.NOTHING),
        (A, B, A, Way.NOTHING),
        (None, None, A, Way.TAKE),
        (A, A, B, Way.TAKE),
        (B, A, A, Way.LEAVE),
        (None, A, A, Way.LEAVE),
        (A, None, B, Way.BOTH_MOVED),
        (B, A, C, Way.BOTH_MOVED),
        (None, A, B, Way.BOTH_MOVED),
        (A, A, None, Way.GONE),
        (A, None, None, Way.NOTHING),
        (None, A, None, Way.NOTHING),
    ],
)
def test_an_alias_travels_the_way_it_moved(
    here: str | None, seen: str | None, there: str | None, way: Way
) -> None:
    assert way_of(here, seen, there) is way


@pytest.mark.parametrize(
    ("mine", "seen", "there", "may"),
    [
        (A, None, None, True),
        (A, None, A, True),
        (A, B, B, True),
        (A, B, None, True),
        (A, None, B, False),
        (A, B, C, False),
        (A, A, B, False),
    ],
)
def test_who_pushes_moves_an_alias_from_where_it_was_seen(
    mine: str, seen: str | None, there: str | None, may: bool
) -> None:
    assert may_move(mine, seen, there) is may
