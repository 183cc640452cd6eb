"""From the line behind ``%mlmodel`` to words: quotes, ``{name}`` and ``$name``, ``;``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from nbmodel.errors import InputError


def split_line(line: str, namespace: Mapping[str, Any]) -> list[str]:
    """The words of a line, as a shell would split it, with kernel values filled in.

    ``{expression}`` and ``$name`` become the text of their value; a word that is a JSON
    object stays as it is, as does what cannot be evaluated. A ``;`` at the end, which
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
    if "{" not in word and "$" not in word:
        return word
    from IPython.utils.text import DollarFormatter

    try:
        expanded: str = DollarFormatter().vformat(word, args=(), kwargs=dict(namespace))
    except Exception:  # noqa: BLE001 - as IPython does: what is no expression is text
        return word
    return expanded
