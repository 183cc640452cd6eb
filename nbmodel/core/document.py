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


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON parser's pairs; for ``object_pairs_hook``.

    Readers disagree about which of two equal keys counts, and checks may have seen the other.

    Raises:
        ValueError: A key is given twice.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return made


def canonical_json(data: Mapping[str, Any]) -> bytes:
    """JSON bytes that depend on the values alone.

    Raises:
        ValueError: NaN, an infinity or half of a surrogate pair is in it.
        TypeError: Something else that JSON does not have is in it.
    """
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
