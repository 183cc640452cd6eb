"""Which version of a package a runtime wants, told from its tags; no I/O.

A pusher puts these tags on a manifest: its number, its timestamp id, ``latest`` when it
is, its aliases, and ``pinned`` when the registry holds the model there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import Package
from nbmodel.core.reference import normal_stamp
from nbmodel.errors import VersionNotFoundError

LATEST = "latest"
PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """A version that is on the device.

    Attributes:
        repository: The model's name.
        digest: Of its manifest.
        follows: The tag that led to it: ``latest``, ``pinned``, an alias, a number or a
            timestamp id.
        number: Its integer, or None when no tag says it.
        stamp: Its timestamp id, or None when no tag says it.
    """

    repository: str
    digest: str
    follows: str
    number: int | None
    stamp: str | None

    @property
    def label(self) -> str:
        """What to call it: the timestamp id, else the number, else a piece of its digest."""
        if self.stamp is not None:
            return self.stamp
        return str(self.number) if self.number is not None else short_digest(self.digest)

    @property
    def reference(self) -> str:
        """What to call it where other models are spoken of, too."""
        return reference_of(self.repository, self.number, self.label)


def reference_of(model: str, number: int | None, label: str) -> str:
    """What to call a version where other models are spoken of, too.

    Args:
        model: Its model's name.
        number: Its integer, or None.
        label: Its timestamp id, or what else it is called.

    Returns:
        ``digits:3``; without a number ``digits:2026-02-28T13-36-51``.
    """
    return f"{model}:{label if number is None else number}"


def resolve(package: Package, tags_of: Mapping[str, Mapping[str, str]]) -> PackageVersion:
    """The version that a package of the machine config means.

    Args:
        package: Its ``version`` is ``latest``, a timestamp id in either form, a number or
            an alias. A registry-wide pin decides what ``latest`` means.
        tags_of: Repository → tag → manifest digest, of those on this device.

    Raises:
        VersionNotFoundError: It is not on this device.
    """
    here = [name for name in package.repositories if name in tags_of]
    if not here:
        raise VersionNotFoundError(
            f"model {package.repositories[-1]!r} is not on this device yet",
            hint="deploy it to this runtime",
        )
    repository, tags = here[0], tags_of[here[0]]
    for tag in wanted_tags(package.version):
        if tag in tags:
            return identify(repository, tags[tag], tags, follows=tag)
    near = get_close_matches(package.version, tags, n=1)
    raise VersionNotFoundError(
        f"version {package.version!r} of model {repository!r} is not on this device",
        hint=f"did you mean {near[0]!r}?" if near else f"here are {', '.join(sorted(tags)[:20])}",
    )


def wanted_tags(version: str) -> tuple[str, ...]:
    """The tags that mean a package's version, best first."""
    if version in ("", LATEST):
        return (PINNED, LATEST)
    return (normal_stamp(version) or version,)


def identify(
    repository: str, digest: str, tags: Mapping[str, str], *, follows: str
) -> PackageVersion:
    """A manifest with the number and timestamp id that tags give it."""
    own = [tag for tag, target in tags.items() if target == digest]
    return PackageVersion(
        repository=repository,
        digest=digest,
        follows=follows,
        number=max((int(tag) for tag in own if _is_number(tag)), default=None),
        stamp=max((tag for tag in own if normal_stamp(tag) == tag), default=None),
    )


def own_tags(tags: Iterable[str]) -> set[str]:
    """Those that name one version for good: numbers and timestamp ids."""
    return {tag for tag in tags if _is_number(tag) or normal_stamp(tag) == tag}


def _is_number(tag: str) -> bool:
    return tag.isascii() and tag.isdigit() and len(tag) < 10
