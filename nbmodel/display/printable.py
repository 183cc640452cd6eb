"""Text from anywhere, made harmless for a reader's screen."""

from __future__ import annotations

import re

# C0 and C1 controls, which terminals obey, lone surrogates, which cannot be encoded, and
# direction overrides, which make one name look like another. Joiners stay: languages
# and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""``text`` with control characters shown as ``\x1b``, so that nothing obeys them.

    Args:
        text: From anywhere.
        keep_lines: Whether line breaks and tabs stay.
    """

    def shown(match: re.Match[str]) -> str:
        char = match.group()
        if keep_lines and char in "\n\t":
            return char
        return char.encode("unicode_escape").decode("ascii")

    return _UNSAFE.sub(shown, text)
