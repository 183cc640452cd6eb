"""Numbers here, once a remote has settled its own."""

from __future__ import annotations

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from nbmodel.core.claim import MAX_NUMBER
from nbmodel.registry.remote.numbering import plan_numbers


@pytest.mark.parametrize(
    ("present", "wanted", "given", "expected"),
    [
        ({}, {}, (), {}),
        ({10: 1, 11: 2}, {}, (2,), {10: 1, 11: 2}),
        ({10: 1, 11: 2}, {10: 1}, (2,), {10: 1, 11: 2}),
        ({10: 1, 11: 2}, {10: 2, 11: 1}, (2,), {10: 2, 11: 1}),
        ({10: 1, 11: -1}, {11: 1}, (1,), {10: 2, 11: 1}),
        ({10: 1, 11: 2, 12: -1, 13: -2}, {12: 1, 13: 2}, (2,), {10: 3, 11: 4, 12: 1, 13: 2}),
        ({10: 1}, {10: 5}, (1,), {10: 5}),
        ({10: -1, 11: -2}, {}, (), {10: 1, 11: 2}),
        ({10: 1, 11: -1}, {}, (7,), {10: 1, 11: 8}),
        ({10: 1, 11: -1}, {11: 1}, (MAX_NUMBER,), {10: 2, 11: 1}),
    ],
    ids=[
        "nothing",
        "nothing is settled",
        "what has its number keeps it",
        "two change places",
        "one gives way",
        "several give way in their order",
        "one moves",
        "new ones without a number count on",
        "numbers given out are not given again",
        "somebody has the last number",
    ],
)
def test_numbers_are_planned(
    present: dict[int, int], wanted: dict[int, int], given: tuple[int, ...], expected: object
) -> None:
    assert plan_numbers(present, wanted, given) == expected


numbers = st.dictionaries(st.integers(1, 12), st.integers(1, 20), max_size=8)


@over(numbers, numbers, st.sets(st.integers(1, 30)))
def test_every_version_has_a_number_of_its_own(
    present: dict[int, int], wanted: dict[int, int], given: set[int]
) -> None:
    present = _distinct(present)
    wanted = {one: number for one, number in _distinct(wanted).items() if one in present}
    planned = plan_numbers(present, wanted, given)
    assert set(planned) == set(present)
    assert len(set(planned.values())) == len(planned)
    assert all(planned[one] == number for one, number in wanted.items())
    for one, number in planned.items():
        moved = number != present[one] and one not in wanted
        assert not moved or number > max({*given, *present.values()})


def _distinct(numbers: dict[int, int]) -> dict[int, int]:
    return {one: number for number, one in {number: one for one, number in numbers.items()}.items()}
