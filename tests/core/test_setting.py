"""Values of settings, as they are typed."""

from __future__ import annotations

import pytest

from nbmodel.commands.options import typed_pairs
from nbmodel.core.setting import as_typed

VALUES = {
    "true": True,
    "null": None,
    "3": 3,
    "0.5": 0.5,
    "gpu": "gpu",
    "Mon-Fri 02:00-04:00": "Mon-Fri 02:00-04:00",
    '"true"': "true",
    '"3"': "3",
    '["tensorrt", "cpu"]': ["tensorrt", "cpu"],
    '{"a": {"b": "ä"}}': {"a": {"b": "ä"}},
}


@pytest.mark.parametrize(("typed", "value"), VALUES.items(), ids=VALUES)
def test_a_value_is_shown_as_what_can_be_typed(typed: str, value: object) -> None:
    assert as_typed(value) == typed
    assert typed_pairs([f"name={typed}"], "--attribute") == {"name": value}


def test_text_that_nests_too_deep_for_json_is_text() -> None:
    assert as_typed("[" * 100_000) == "[" * 100_000
