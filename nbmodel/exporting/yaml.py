"""Writing YAML: block style, every text quoted, so that no reader takes ``no`` for false.

Source: YAML 1.2.2, 5.7 "Escaped Characters", 8.2 "Block Collection Styles".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def to_yaml(data: Mapping[str, Any]) -> str:
    """A document of a mapping of JSON values, in its order.

    Raises:
        TypeError: Something in it is no JSON value.
    """
    return "\n".join(_mapping(data, 0)) + "\n"


def _mapping(data: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for key, value in data.items():
        lead = f"{'  ' * depth}{_key(str(key))}:"
        lines += _under(lead, value, depth)
    return lines


def _under(lead: str, value: Any, depth: int) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [lead, *_mapping(value, depth + 1)]
    if isinstance(value, list) and value:
        return [lead, *(line for one in value for line in _item(one, depth + 1))]
    return [f"{lead} {_scalar(value)}"]


def _item(value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        first, *rest = _mapping(value, depth + 1)
        return [f"{pad}- {first.lstrip()}", *rest]
    if isinstance(value, list) and value:
        return [f"{pad}-", *(line for one in value for line in _item(one, depth + 1))]
    return [f"{pad}- {_scalar(value)}"]


def _key(key: str) -> str:
    is_plain = key and set(key) <= _PLAIN and key.lower() not in _WORDS
    return key if is_plain else _quoted(key)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value, allow_nan=False)
    if value in ({}, []):
        return "{}" if isinstance(value, Mapping) else "[]"
    raise TypeError(f"not a JSON value: {type(value).__name__}")


def _quoted(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return f"\\{char}"
    if 0x20 <= code < 0x7F:
        return char
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
