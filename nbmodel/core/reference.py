"""References: how a person names a model or one of its versions.

The grammar is OCI's, with three kinds of tag: digits are a version number, a timestamp
is a version's id, anything else is an alias.

Source: OCI distribution specification, "Pulling manifests" (name and tag grammar).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbmodel.core.claim import is_claim
from nbmodel.core.digest import is_digest
from nbmodel.errors import RefError

MAX_NAME = 200  # characters; Viam's limit for package names, below OCI's 255
MAX_REPOSITORY = 255  # characters; what registries take for a host and a repository together
_PART = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
# No dot in a namespace: "a.b/c" is registry a.b, as every container tool reads it.
_NAME = re.compile(rf"(?:(?!localhost/)[a-z0-9]+(?:[_-][a-z0-9]+)*/)?{_PART}")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")
_COMPACT_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T?(\d\d)(\d\d)(\d\d)")
_HOST = re.compile(
    r"localhost(?::\d+)?"  # the one bare word that is a host
    r"|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d+)?"
    r"|[A-Za-z0-9-]+:\d+"
    r"|\[[0-9a-fA-F:]+\](?::\d+)?"
)
# "latest" moves by itself; "pinned" is how a registry pin travels to a runtime as a tag.
RESERVED_ALIASES = frozenset({"latest", "pinned"})


def check_name(name: str) -> str:
    """Return ``name`` unchanged when it can name a model.

    Raises:
        RefError: It is no text, empty, too long, or not ``[namespace/]name`` in lower case.
    """
    _check_text(name, "a model name such as 'digits'")
    if len(name) > MAX_NAME:
        raise RefError(
            f"model name of {len(name)} characters, expected at most {MAX_NAME}: {name[:40]!r}…",
            hint="choose a shorter name",
        )
    if _NAME.fullmatch(name) is None:
        raise RefError(
            f"not a model name: {name!r}",
            hint="lower-case letters and digits, joined by single '.', '_' or '-', "
            "optionally as namespace/name; for example 'digits' or 'team/fruit-detector'",
        )
    return name


def check_repository(name: str) -> str:
    """Return ``name`` unchanged when a registry can have a repository of that name.

    Wider than ``check_name``: a registry may hold models below namespaces of any depth.

    Raises:
        RefError: It is too long, or not of OCI's grammar.
    """
    if len(name) > MAX_REPOSITORY or _REPOSITORY.fullmatch(name) is None:
        raise RefError(
            f"not a repository: {_shown(name)}",
            hint="lower-case words joined by '/', each with digits, '.', '_' or '-' inside",
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` unchanged when a person may set it.

    Raises:
        RefError: It is reserved, looks like a version number or timestamp, or is malformed.
    """
    if alias in RESERVED_ALIASES:
        raise RefError(
            f"alias {alias!r} is reserved",
            hint="'latest' moves by itself; use `pin` to hold a name at a version",
        )
    if alias.isdigit() or normal_stamp(alias) is not None or is_claim(alias):
        raise RefError(
            f"not an alias: {alias!r} reads as a version",
            hint="aliases start with a letter, for example 'champion'",
        )
    if _TAG.fullmatch(alias) is None:
        raise RefError(
            f"not an alias: {alias!r}",
            hint="letters, digits, '.', '_' and '-', at most 128, for example 'champion'",
        )
    return alias


def normal_stamp(text: str) -> str | None:
    """The version id ``YYYY-MM-DDThh-mm-ss`` that ``text`` means, or None.

    Viam's older ``YYYYMMDDHHMMSS`` is accepted too.
    """
    if _STAMP.fullmatch(text):
        return text
    match = _COMPACT_STAMP.fullmatch(text)
    return "{}-{}-{}T{}-{}-{}".format(*match.groups()) if match else None


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, or one version of it, as a person wrote it.

    At most one of ``number``, ``stamp``, ``alias`` and ``digest`` is set; none of them
    means the model, which stands for its pinned or latest version where a version is
    wanted. ``str()`` gives the text back, in canonical form:
    ``parse(str(ref)) == ref``.

    Attributes:
        name: ``name`` or ``namespace/name``.
        number: The version's integer, 1 or more.
        stamp: The version's timestamp id, ``YYYY-MM-DDThh-mm-ss``.
        alias: A movable name, ``latest`` included.
        digest: The digest of the version's manifest.
        registry: ``host[:port]`` of a remote registry, or None for the local one.
    """

    name: str
    number: int | None = None
    stamp: str | None = None
    alias: str | None = None
    digest: str | None = None
    registry: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference such as ``digits``, ``digits:3``, ``host/team/digits@sha256:…``.

        Raises:
            RefError: It is no text, or fits none of the forms.
        """
        _check_text(text, "a reference such as 'digits:3'")
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            if digest and ":" not in digest:
                raise RefError(
                    f"expected a model, found {_shown(text)}, which names a service of a runtime",
                    hint="forms: digits, digits:latest, digits:3, digits:champion, digits@sha256:…",
                )
            raise RefError(
                f"malformed digest in {_shown(text)}",
                hint="a digest is sha256: and 64 hex digits; aliases follow a ':'",
            )
        registry = None
        head, slash, tail = rest.partition("/")
        if slash and _HOST.fullmatch(head):
            registry, rest = head, tail
        name, colon, tag = rest.partition(":")
        if colon and at:
            raise RefError(f"both a tag and a digest in {_shown(text)}", hint="give one of them")
        check_name(name)
        if at:
            return cls(name, digest=digest, registry=registry)
        if not colon:
            return cls(name, registry=registry)
        if tag.isdigit() and len(tag) < 10:
            if int(tag) < 1:
                raise RefError(f"version numbers start at 1, found {_shown(text)}")
            return cls(name, number=int(tag), registry=registry)
        stamp = normal_stamp(tag)
        if stamp is not None:
            return cls(name, stamp=stamp, registry=registry)
        if _TAG.fullmatch(tag) is None:
            raise RefError(
                f"not a reference: {_shown(text)}",
                hint="forms: digits, digits:latest, digits:3, digits:champion, digits@sha256:…",
            )
        return cls(name, alias=tag, registry=registry)

    @property
    def is_model(self) -> bool:
        """Whether it names a model rather than one version."""
        return self.number is None and not (self.stamp or self.alias or self.digest)

    @property
    def tag(self) -> str | None:
        """What follows the ``:``, or None."""
        return str(self.number) if self.number is not None else self.stamp or self.alias

    def __str__(self) -> str:
        host = f"{self.registry}/" if self.registry else ""
        if self.digest:
            return f"{host}{self.name}@{self.digest}"
        return f"{host}{self.name}:{self.tag}" if self.tag else f"{host}{self.name}"


def _check_text(value: object, expected: str) -> None:
    if not isinstance(value, str):
        found = repr(value)
        found = found if len(found) <= 80 else found[:77] + "…"
        raise RefError(f"expected {expected}, found {found}")


def _shown(text: str) -> str:
    """``text`` quoted and cut to a length that fits a message."""
    return repr(text if len(text) <= 80 else text[:77] + "…")
