"""What a remote has of a model: its tags, what they are on, and the numbers that follow.

A registry says what it likes: tags are looked at only where that tells something, in a
bounded number, and a claim counts only on the version that it is of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from nbmodel.core.claim import Claim, claimant, is_claim, settle
from nbmodel.core.reference import check_alias
from nbmodel.errors import RefError, StorageError
from nbmodel.registry.remote.peer import Peer, steadily
from nbmodel.storage.remote_registry import RemoteRegistry
from nbmodel.storage.tags import check_tag

MAX_LOOKS = 50_000  # tags of a model that are looked at
_MAX_STRAY = 1_000  # of those that no claim and no number tells of
_NUMBER = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_REFERRER = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{128})(?:\..*)?", re.ASCII)
_NEVER = "99991231T235959.999999"  # later than every claim: a number that nobody claimed


@dataclass(frozen=True, slots=True)
class Survey:
    """What a remote has of a model.

    Attributes:
        tags: All of its tags, sorted.
        digests: Tag → digest of the manifest, for those that were looked at; without claims
            that are on another version than their own.
        numbers: Digest → the number that is settled for it.
        doubts: What was found wrong, a sentence each.
    """

    tags: tuple[str, ...]
    digests: Mapping[str, str]
    numbers: Mapping[str, int]
    doubts: tuple[str, ...] = field(default_factory=tuple)

    @property
    def versions(self) -> tuple[str, ...]:
        """The digests of all versions found: by number, then those without one."""
        rest = sorted(set(self.digests.values()) - set(self.numbers))
        return (*sorted(self.numbers, key=lambda digest: self.numbers[digest]), *rest)

    @property
    def claimed(self) -> set[str]:
        """The digests of the versions that have claimed a number."""
        return {digest for tag, digest in self.digests.items() if is_claim(tag)}

    @property
    def aliases(self) -> dict[str, str]:
        """Alias → digest, of those that were looked at."""
        return {tag: digest for tag, digest in self.digests.items() if is_alias(tag)}


def survey(
    peer: Peer, model: str, seen: Mapping[str, str], *, aliases: Collection[str] | None
) -> Survey:
    """Look at what a remote has of a model.

    Args:
        peer: The remote.
        model: The model.
        seen: Tags and digests of earlier times: a claim never moves, so it is not looked at
            again.
        aliases: Those to look at; None: all.

    Raises:
        TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
        CancelledError: Nobody wants to know any more.
    """
    repository = peer.remote.repository(model)
    tags = tuple(tag for tag in steadily(lambda: peer.registry.tags(repository)) if _is_tag(tag))
    claims = [tag for tag in tags if is_claim(tag)]
    digests = {tag: seen[tag] for tag in claims if tag in seen}
    named = [tag for tag in tags if is_alias(tag) and (aliases is None or tag in aliases)]
    digests |= _look(peer, repository, [*(tag for tag in claims if tag not in seen), *named])
    found = judge(tags, digests, peer.remote.host)
    stray = stray_tags(found)
    if stray:
        found = judge(tags, digests | _look(peer, repository, stray), peer.remote.host)
    return found


def judge(tags: Iterable[str], digests: Mapping[str, str], host: str) -> Survey:
    """What tags and the manifests they are on mean.

    Args:
        tags: All tags of a model.
        digests: Tag → digest, of those that were looked at.
        host: Who said so, for messages.
    """
    true: dict[str, str] = {}
    claims: list[Claim] = []
    unclaimed: list[Claim] = []
    versions: dict[str, str] = {}  # what claims call a version → its digest
    doubts: list[str] = []
    for tag, digest in sorted(digests.items()):
        claim, called = Claim.parse(tag), claimant(digest)
        if claim is not None and claim.version != called:
            doubts.append(f"{host} has claim {tag} on another version than its own")
            continue
        true[tag] = digest
        if claim is not None and versions.setdefault(called, digest) == digest:
            claims.append(claim)
        elif _NUMBER.fullmatch(tag):
            unclaimed.append(Claim(int(tag), _NEVER, called))
            versions.setdefault(called, digest)
    claimed = {claim.version for claim in claims}
    # Pushed by other tools: a number without a claim comes after every claim.
    claims += [claim for claim in unclaimed if claim.version not in claimed]
    numbers = {versions[version]: number for version, number in settle(claims).items()}
    return Survey(tuple(sorted(tags)), true, numbers, tuple(doubts))


def gone_from(found: Survey, seen: Mapping[str, str]) -> dict[str, int]:
    """The versions that had a number at a remote and are not there any more.

    Args:
        found: What the remote has.
        seen: Tag → digest, as it had them earlier.

    Returns:
        Digest → the number that the version had there.
    """
    claims = {tag: digest for tag, digest in seen.items() if is_claim(tag)}
    there = set(found.digests.values())
    if there.issuperset(claims.values()):
        return {}
    now = {tag: digest for tag, digest in found.digests.items() if is_claim(tag)}
    once = judge((), claims | now, "").numbers
    return {digest: once[digest] for digest in set(claims.values()) - there if digest in once}


def stray_tags(found: Survey) -> list[str]:
    """The tags that may be on versions that no claim tells of.

    Numbers that nobody claimed; and where there is no number at all, every tag.
    """
    taken = set(found.numbers.values())
    numbers = [tag for tag in found.tags if _NUMBER.fullmatch(tag) and int(tag) not in taken]
    if numbers or found.numbers:
        return numbers[:_MAX_STRAY]
    others = [tag for tag in found.tags if not is_claim(tag) and not _REFERRER.fullmatch(tag)]
    return [tag for tag in others if tag not in found.digests][:_MAX_STRAY]


def is_alias(tag: str) -> bool:
    """Whether a tag is an alias rather than what versions are named or described by."""
    try:
        check_alias(tag)
    except RefError:
        return False
    return _REFERRER.fullmatch(tag) is None


def _look(peer: Peer, repository: str, tags: list[str]) -> dict[str, str]:
    if len(tags) > MAX_LOOKS:
        raise StorageError(
            f"{repository} on {peer.remote.host} has {len(tags)} tags to look at, "
            f"expected at most {MAX_LOOKS}"
        )
    found = peer.each(partial(_digest, repository), tags)
    return {tag: digest for tag, digest in zip(tags, found, strict=True) if digest is not None}


def _digest(repository: str, registry: RemoteRegistry, tag: str) -> str | None:
    return steadily(lambda: registry.digest(repository, tag))


def _is_tag(text: str) -> bool:
    try:
        return bool(check_tag(text))
    except RefError:
        return False
