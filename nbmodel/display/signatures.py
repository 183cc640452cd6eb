"""Signatures of a version: made, or checked; and keys that were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.version import Version, parse_time
from nbmodel.display.base import Result
from nbmodel.display.card import Card, Cell, Chip, Facts, Mono, Note, Table
from nbmodel.display.quantity import count, file_size, moment
from nbmodel.registry.key_files import KeyFiles
from nbmodel.registry.signing import ClaimedSignature
from nbmodel.signing.check import Signed, SignedBy

_NOT_CHECKED = "not checked: `verify` with --public-key or --root does that"


@dataclass(frozen=True, repr=False)
class SignatureCard(Result):
    """A version that was signed, or whose signatures were checked.

    Attributes:
        reference: The version.
        digest: Of its manifest.
        by: Whose signatures count; of a version that was signed, the one made.
        is_checked: Whether they were checked, rather than made.
        files: How many files they are of.
        bytes: Bytes of files that were read and checked; 0 where none had to be.
        is_read: Whether all files were here to be read; of a version that was signed, True.
        covers_version: Whether what the version says of its files is signed with them.
        unsigned: Files of the version that no signature is of.
        output: Where the signature was written besides, or None.
    """

    reference: str
    digest: str
    by: tuple[SignedBy, ...]
    is_checked: bool
    files: int
    bytes: int = 0
    is_read: bool = True
    covers_version: bool = True
    unsigned: tuple[str, ...] = ()
    output: Path | None = None

    @classmethod
    def of(cls, version: Version, signed: tuple[Signed, ...], read: int) -> SignatureCard:
        """The card of signatures that were checked.

        Args:
            version: The version.
            signed: Its signatures that count, at least one.
            read: Bytes of files that were read and checked.
        """
        paths = [entry.path for entry in version.files]
        unsigned = set(paths).intersection(*(one.statement.unsigned(paths) for one in signed))
        return cls(
            version.reference,
            version.digest,
            tuple(dict.fromkeys(one.by for one in signed)),
            True,
            len(paths) - len(unsigned),
            read,
            version.files_on is None,
            any(one.statement.manifest is not None for one in signed),
            tuple(sorted(unsigned)),
        )

    def card(self) -> Card:
        """Who signed what."""
        scope = count(self.files, "file")
        if self.covers_version:
            scope += ", and what the version says of them"
        facts: list[tuple[str, Cell]] = [
            ("signed by", _signers(self.by)),
            ("signed", scope),
            ("digest", Mono(short_digest(self.digest), self.digest)),
        ]
        if self.bytes:
            facts.append(("read", file_size(self.bytes)))
        if self.output is not None:
            facts.append(("written to", Mono(str(self.output))))
        blocks: list[Any] = [Facts(facts)]
        if self.unsigned:
            blocks.append(Note(f"not signed: {', '.join(self.unsigned[:10])}", "warn"))
        if self.is_checked and not self.is_read:
            blocks.append(Note("its files are not here: their digests are signed", "warn"))
        if self.is_checked and not self.covers_version:
            blocks.append(Note("its tensors, labels and golden sample are not signed", "warn"))
        chip = Chip("signature is good", "good") if self.is_checked else Chip("signed", "good")
        return Card(self.reference, [chip], blocks, kind="signature of")

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "by": [one.to_json() for one in self.by],
            "checked": self.is_checked,
            "files": self.files,
            "bytes": self.bytes,
            "read": self.is_read,
            "covers_version": self.covers_version,
            "unsigned": list(self.unsigned),
            "output": None if self.output is None else str(self.output),
        }

    __repr__ = Result.__str__


@dataclass(frozen=True, repr=False)
class KeyCard(Result):
    """A pair of keys that was made.

    Attributes:
        made: Where they are.
    """

    made: KeyFiles

    def card(self) -> Card:
        """Where the halves are, and who gets which."""
        secret = "wants its password" if self.made.is_encrypted else "not encrypted"
        return Card(
            f"key {self.made.hint[:12]}",
            [Chip(self.made.curve)],
            [
                Facts(
                    [
                        (
                            "private",
                            (Mono(str(self.made.private)), f"keep it to yourself; {secret}"),
                        ),
                        ("public", (Mono(str(self.made.public)), "for those who check")),
                        ("key", Mono(self.made.hint)),
                    ]
                )
            ],
            kind="key",
        )

    def to_json(self) -> dict[str, Any]:
        """All but the keys themselves."""
        return {
            "private": str(self.made.private),
            "public": str(self.made.public),
            "key": self.made.hint,
            "curve": self.made.curve,
            "encrypted": self.made.is_encrypted,
        }

    __repr__ = Result.__str__


def claims_table(claims: tuple[ClaimedSignature, ...]) -> Table:
    """What the signatures of a version say of themselves, a row each."""
    rows = [
        (
            _signer(claim.by) if claim.by is not None else Chip(claim.problem or "", "bad"),
            moment(parse_time(claim.created)) if claim.created else "",
            Mono(short_digest(claim.digest), claim.digest),
        )
        for claim in claims
    ]
    return Table(("signed by", "at (UTC)", "signature"), rows, title=f"signatures, {_NOT_CHECKED}")


def _signers(by: tuple[SignedBy, ...]) -> Cell:
    return tuple(part for one in by for part in _signer(one))


def _signer(by: SignedBy) -> tuple[Any, ...]:
    if by.subject is not None:
        return (by.subject, Mono(by.key[:12], by.key)) if by.key else (by.subject,)
    return ("key", Mono(by.key[:12], by.key)) if by.key else (str(by),)
