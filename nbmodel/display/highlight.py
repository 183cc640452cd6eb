"""Which pieces of code are what, so that they can have colours."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Literal

Language = Literal["", "python", "diff"]
Kind = Literal["keyword", "text", "number", "comment", "magic", "added", "removed", "place"]

MAX_HIGHLIGHTED = 64 * 1024  # characters; what is longer is shown plain

_PREFIX = r"(?:[rR][bBfFtT]?|[bBfFtT][rR]?|[uU])?"
_PYTHON = re.compile(
    rf"""
      (?P<comment>\#[^\n]*)
    | (?P<text>{_PREFIX}(?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)
        |\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?))
    | (?P<magic>^[ \t]*(?:%%?|!!?)[^\n]*)
    | (?P<number>\b\d[\w.]*)
    | (?P<keyword>\b(?:{"|".join(keyword.kwlist)})\b)
    | (?P<word>[^\W\d]\w*)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_DIFF = re.compile(
    r"""
      (?P<place>^(?:diff|index|---|\+\+\+|@@)[^\n]*)
    | (?P<added>^\+[^\n]*)
    | (?P<removed>^-[^\n]*)
    """,
    re.VERBOSE | re.MULTILINE,
)
_RULES: Mapping[str, re.Pattern[str]] = {"python": _PYTHON, "diff": _DIFF}


def pieces(text: str, language: Language) -> Iterator[tuple[str, str]]:
    """Text in pieces with what each is, a ``Kind`` or empty; together they are the text.

    Args:
        text: Code, as it may be in a cell: with magics, or broken off.
        language: What it is; empty: nothing is known of it.
    """
    rule = _RULES.get(language)
    if rule is None or len(text) > MAX_HIGHLIGHTED:
        yield text, ""
        return
    place = 0
    for found in rule.finditer(text):
        kind = found.lastgroup or ""
        if kind == "word":
            continue
        if found.start() > place:
            yield text[place : found.start()], ""
        yield found.group(), kind
        place = found.end()
    if place < len(text):
        yield text[place:], ""
