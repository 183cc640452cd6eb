"""How much a runtime takes, as a value and as options."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from click.testing import CliRunner

from nbmodel.commands.runtime import start
from nbmodel.errors import InputError
from nbmodel.runtime.limits import DEFAULT_LIMITS, Budget, Limits, SharedBudget, option_of


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_request_bytes", 0, "--max-request-bytes must be a whole number greater than 0"),
        ("max_request_bytes", 1.5, "found 1.5"),
        ("max_headers", True, "found True"),
        ("max_connections", -1, "found -1"),
        ("head_timeout_s", 0, "--head-timeout-s must be a number greater than 0, found 0"),
        ("drain_s", float("nan"), "found nan"),
        ("idle_timeout_s", float("inf"), "found inf"),
        ("idle_timeout_s", "1", "found '1'"),
    ],
)
def test_what_is_no_limit_is_told(name: str, value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Limits(**{name: value})


def test_a_request_may_be_as_large_as_tritons_by_default() -> None:
    assert DEFAULT_LIMITS.max_request_bytes == 1 << 26


def test_each_is_an_option_with_its_help_and_default() -> None:
    text = " ".join(CliRunner().invoke(start, ["--help"]).output.split())
    for limit in fields(Limits):
        assert option_of(limit.name) in text
        assert limit.metadata["help"] in text
        assert f"[default: {limit.default}]" in text


@pytest.mark.parametrize("kind", [Budget, SharedBudget])
def test_a_budget_has_room_for_one_of_any_size_and_for_what_fits(kind: type[Budget]) -> None:
    budget = kind(10)
    assert budget.take(25)
    assert not budget.take(1)
    budget.give_back(25)
    assert budget.take(4)
    assert budget.take(6)
    assert not budget.take(1)
    assert budget.taken == 10
