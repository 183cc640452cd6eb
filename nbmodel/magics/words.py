"""From the line behind ``%mlmodel`` to words: quotes, ``{name}`` and ``$name``, ``;``."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from nbmodel.errors import InputError

_DOLLAR = re.compile(r"\$([A-Za-z_]\w*)")


def split_line(line: str, namespace: Mapping[str, Any]) -> list[str]:
    """The words of a line, as a shell would split it, with kernel values filled in.

    ``{expression:format}``, as in an f-string, and ``$name`` become the text of their
    value; a word that is JSON stays as it is, as does what cannot be evaluated. A ``;`` at the end, which
    tells IPython to show nothing, is not part of the words.

    Args:
        line: What follows ``%mlmodel``.
        namespace: Variables of the kernel.

    Raises:
        InputError: A quote is not closed.
    """
    try:
        words = shlex.split(line.rstrip().rstrip(";"))
    except ValueError as exc:
        raise InputError(f"cannot read {line.strip()!r}: {exc}", hint="close the quote") from exc
    return [word if _is_json(word) else _expand(word, namespace) for word in words]


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
