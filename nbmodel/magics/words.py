"""From the line behind ``%mlmodel`` to words: quotes, brackets, ``{name}``, ``$name``, ``;``.

A shell would take ``X[["petal width"]]`` apart and its quotes away. Here brackets hold a
word together as they hold an expression together, and what is in them stays as typed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from nbmodel.errors import InputError

_DOLLAR = re.compile(r"\$([A-Za-z_]\w*)")


def split_line(line: str, namespace: Mapping[str, Any]) -> list[str]:
    """The words of a line, with kernel values filled in.

    Words are those of a shell, except that an expression in brackets needs no quotes.
    ``{expression:format}``, as in an f-string, and ``$name`` become the text of their
    value; a word that is JSON stays as it is, as does what cannot be evaluated. A ``;``
    at the end, which tells IPython to show nothing, is not part of the words.

    Args:
        line: What follows ``%mlmodel``.
        namespace: Variables of the kernel.

    Raises:
        InputError: A quote is not closed.
    """
    text = line.rstrip().rstrip(";")
    try:
        words = _split(text)
        if words is None:  # a bracket that nothing closes is a character like others
            words = shlex.split(text)
    except ValueError as exc:
        raise InputError(f"cannot read {line.strip()!r}: {exc}", hint="close the quote") from exc
    return [word if _is_json(word) else _expand(word, namespace) for word in words]


def _split(text: str) -> list[str] | None:
    """The words; None when a bracket is not closed.

    Raises:
        ValueError: A quote is not closed.
    """
    words: list[str] = []
    word: list[str] | None = None
    depth = 0
    place = 0
    while place < len(text):
        char = text[place]
        if char.isspace() and not depth:
            if word is not None:
                words.append("".join(word))
            word, place = None, place + 1
            continue
        word = [] if word is None else word
        end = _quoted(text, place) if char in "\"'" else place + 1
        if char == "\\" and not depth:
            end = min(place + 2, len(text))
        piece = text[place:end]
        # Outside of brackets quotes are the shell's, inside they are Python's.
        word.append("".join(shlex.split(piece)) if not depth and char in "\"'\\" else piece)
        depth += (char in "([{") - (char in ")]}" and depth > 0)
        place = end
    if word is not None:
        words.append("".join(word))
    return None if depth else words


def _quoted(text: str, start: int) -> int:
    """Where the quoted part that begins at ``start`` ends, behind the closing quote."""
    quote, place = text[start], start + 1
    while place < len(text):
        if text[place] == "\\" and quote == '"':
            place += 1
        elif text[place] == quote:
            return place + 1
        place += 1
    raise ValueError("No closing quotation")


def _is_json(word: str) -> bool:
    if not word.startswith(("{", "[")):
        return False
    try:
        json.loads(word)
    except ValueError:
        return False
    return True


def _expand(word: str, namespace: Mapping[str, Any]) -> str:
    def dollar(match: re.Match[str]) -> str:
        name = match[1]
        return str(namespace[name]) if name in namespace else match[0]

    word = _DOLLAR.sub(dollar, word)
    if "{" not in word:
        return word
    # As an f-string: IPython's own formatter takes slices for format specifications.
    literal = "f" + repr(word)
    try:
        return str(eval(literal, dict(namespace)))  # noqa: S307 - the user's own kernel
    except Exception:  # noqa: BLE001 - as IPython does: what is no expression is text
        return word
