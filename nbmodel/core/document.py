"""JSON documents from elsewhere: how deep they may nest, and bytes that identify them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 100  # levels of nesting, as in Triton; code that walks a document recurses


def is_too_deep(data: Mapping[str, Any]) -> bool:
    """Whether objects and lists are nested deeper than ``MAX_DEPTH``, found without recursion."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, Mapping) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def canonical_json(data: Mapping[str, Any]) -> bytes:
    """JSON bytes that depend on the values alone.

    Raises:
        ValueError: NaN, an infinity or half of a surrogate pair is in it.
        TypeError: Something else that JSON does not have is in it.
    """
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
