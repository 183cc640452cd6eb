"""Values of settings, as a person types them after ``name=``."""

from __future__ import annotations

import json


def as_typed(value: object) -> str:
    """A value as the command line takes it: text as it is, everything else as JSON.

    Text that would be read as JSON (``true``, ``3``) has its quotes.

    Args:
        value: Of JSON's kinds; others are shown as their text.
    """
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return value
    return json.dumps(value, ensure_ascii=False, default=str)
