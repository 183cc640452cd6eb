"""What a server that refuses a request wants to see, and what a request is about.

Sources: RFC 9110 §11.6.1 "WWW-Authenticate"; distribution project, "Token Authentication
Specification" and "Token Scope Documentation".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEADER = 16 * 1024  # characters; what is longer is no challenge

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PARAMETER = re.compile(rf"\s*({_WORD})\s*=\s*({_QUOTED}|{_WORD})\s*(?:,|$)")
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:[ \t]+|,|$)")
_TOKEN68 = re.compile(r"\s*[0-9A-Za-z._~+/-]+=*\s*(?:,|$)")
_REPOSITORY = re.compile(r"v2/(.+)/(?:blobs|manifests|tags|referrers)/[^/]+(?:/[^/]*)?")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers.

    Attributes:
        scheme: In lower case: ``basic``, ``bearer`` or another.
        parameters: Names in lower case, with what they say.
    """

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request does to a repository.

    Attributes:
        repository: Its name.
        writes: Whether it changes something; reading is always meant too.
    """

    repository: str
    writes: bool

    def __str__(self) -> str:
        return f"repository:{self.repository}:{'pull,push' if self.writes else 'pull'}"


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """What a ``WWW-Authenticate`` header offers, in its order.

    Args:
        header: Its value; several headers joined by commas. Hostile.

    Returns:
        As many as could be read; of two parameters of one name the first counts.
    """
    found: list[Challenge] = []
    if len(header) > MAX_HEADER:
        return ()
    at = 0
    while (scheme := _SCHEME.match(header, at)) is not None:
        at = scheme.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(header, at)) is not None:
            parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2]))
            at = parameter.end()
        if not parameters and (other := _TOKEN68.match(header, at)) is not None:
            # "Negotiate abc==", or the next scheme without parameters, which is not lost.
            at = other.end() if "=" in other[0] else at
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)


def scope_of(method: str, path: str) -> Scope | None:
    """What a request is about; None when that is no repository.

    Args:
        method: The HTTP method.
        path: Of the request, from ``v2/`` on.
    """
    named = _REPOSITORY.fullmatch(path)
    return None if named is None else Scope(named[1], method not in ("GET", "HEAD"))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
