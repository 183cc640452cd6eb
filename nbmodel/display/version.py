"""A version as a card, and versions as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nbmodel.core.digest import short_digest
from nbmodel.core.version import Version
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Code, Facts, Fold, Mono, Note, Table
from nbmodel.display.chips import version_chips
from nbmodel.display.made_with import made_facts
from nbmodel.display.origin import converted, origin
from nbmodel.display.quantity import count, file_size, listed, moment, number
from nbmodel.display.tensors import label_noun, signature_table

if TYPE_CHECKING:
    from nbmodel.registry.signing import ClaimedSignature

_MAX_ROWS = 100
_MAX_METRICS = 4  # columns of a table
_MAX_LABELS = 1000  # in a card


class VersionCard(Version, Result):
    """A version that shows everything known of it.

    Attributes:
        claims: Its signatures, by what they say of themselves.
    """

    claims: tuple[ClaimedSignature, ...] = ()

    @classmethod
    def of(cls, version: Version) -> VersionCard:
        """The card of a version; it is that version, too."""
        return cls(**{field.name: getattr(version, field.name) for field in fields(Version)})

    def with_claims(self, claims: tuple[ClaimedSignature, ...]) -> VersionCard:
        """A copy that tells of the version's signatures."""
        return self._changed(claims=claims)

    def card(self) -> Card:
        """Names, facts, signature, metrics, files, labels, who signed, where it comes from."""
        manifest = self.manifest
        chips = (Chip(self.framework), Chip(self.model_type), *version_chips(self))
        blocks: list[Block] = []
        if self.deprecated is not None:
            blocks.append(Note(f"deprecated: {self.deprecated}", "bad"))
        if self.description:
            blocks.append(Note(self.description))
        blocks.append(
            Facts(
                [
                    ("reference", Mono(self.reference)),
                    ("digest", Mono(self.digest)),
                    ("version id", (Mono(self.stamp), f"uploaded {moment(self.created)} UTC")),
                    ("size", f"{file_size(self.size)} in {count(len(self.files), 'file')}"),
                    ("tags", tuple(Chip(_tag(*pair)) for pair in sorted(self.tags.items()))),
                    ("metrics", _metrics(self.metrics)),
                    ("converted", converted(manifest.conversion)),
                    ("checked by", _golden(self)),
                    origin(manifest.lineage),
                    *made_facts(manifest.lineage),
                ]
            )
        )
        blocks.append(signature_table(self.signature))
        if self.claims:
            from nbmodel.display.signatures import claims_table

            blocks.append(claims_table(self.claims))
        blocks += _folds(self)
        return Card(self.reference, chips, blocks, kind="model version")

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {**super().to_json(), "signatures": [claim.to_json() for claim in self.claims]}

    __repr__ = Result.__str__


def _tag(key: str, value: str) -> str:
    return f"{key}={value}" if value else key


def _metrics(metrics: Mapping[str, float]) -> str:
    return " · ".join(f"{name} {number(value)}" for name, value in sorted(metrics.items()))


def _golden(version: Version) -> str:
    golden = version.manifest.golden
    if golden is None:
        return ""
    return f"its golden sample, within {number(golden.atol)} + {number(golden.rtol)} × value"


def _folds(version: Version) -> list[Block]:
    """What most readers do not need at first sight."""
    manifest = version.manifest
    folds: list[Block] = [_files(version)]
    tensors = [("output", tensor) for tensor in version.signature.outputs]
    tensors += [("input", tensor) for tensor in version.signature.inputs]
    folds += [
        _labels(label_noun(side, tensor), tensor.name, tensor.labels)
        for side, tensor in tensors
        if tensor.labels
    ]
    if version.metadata:
        rows = [(key, _json(value)) for key, value in sorted(version.metadata.items())]
        brief = listed([f"{key}={value}" for key, value in rows])
        folds.append(Fold("metadata", [Facts(rows)], brief))
    if manifest.lineage.parents:
        parents = [("parent", Mono(digest)) for digest in manifest.lineage.parents]
        short = ", ".join(map(short_digest, manifest.lineage.parents))
        folds.append(Fold("parents", [Facts(parents)], short))
    if manifest.lineage.code:
        lines = manifest.lineage.code.count("\n") + 1
        title = f"the cell that made it ({count(lines, 'line')})"
        made = manifest.lineage.provenance
        has_more = made is not None and made.packed is not None
        more = [Note(f"all cells: `show {version.reference} --source`")] if has_more else []
        folds.append(Fold(title, [Code(manifest.lineage.code, "python"), *more]))
    if manifest.lineage.packages:
        rows = sorted(manifest.lineage.packages.items())
        folds.append(Fold(f"{count(len(rows), 'package')} at that time", [Facts(rows)]))
    return folds


def _files(version: Version) -> Fold:
    rows = [
        (Mono(entry.path), file_size(entry.size), Mono(short_digest(entry.digest), entry.digest))
        for entry in version.files
    ]
    brief = ", ".join(f"{entry.path} ({file_size(entry.size)})" for entry in version.files[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    table = Table(
        ("file", ">size", "sha256"), rows[:_MAX_ROWS], left_out=max(0, len(rows) - _MAX_ROWS)
    )
    return Fold(count(len(rows), "file"), [table], brief + more)


def _labels(noun: str, tensor: str, labels: Sequence[str]) -> Fold:
    title = f"{count(len(labels), noun)} of {tensor}"
    shown = [f"{index}  {label}" for index, label in enumerate(labels[:_MAX_LABELS])]
    if len(labels) > _MAX_LABELS:
        shown.append(f"… and {len(labels) - _MAX_LABELS:,} more")
    return Fold(title, [Code("\n".join(shown))], listed(labels))


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class VersionTable(list[Version], Result):
    """Versions, in the order given; a list that shows itself.

    Args:
        versions: What is shown.
        query: What they were looked for with.
    """

    def __init__(self, versions: Iterable[Version] = (), query: str = "") -> None:
        super().__init__(versions)
        self.query = query

    def card(self) -> Card:
        """A row a version, with the metrics that they share first."""
        shown = self[:_MAX_ROWS]
        return Card(
            count(len(self), "version"),
            blocks=[versions_block(shown, left_out=len(self) - len(shown))]
            if shown
            else [Note(self._empty)],
            kind="table of",
        )

    @property
    def _empty(self) -> str:
        if self.query:
            return f"nothing matches {self.query}"
        return "none yet: log or upload a model"

    def to_json(self) -> list[dict[str, Any]]:
        """Every version, in full."""
        return [version.to_json() for version in self]

    __repr__ = Result.__str__


def versions_block(versions: Sequence[Version], *, left_out: int = 0) -> Table:
    """A table of versions; the metrics that most of them have are columns."""
    metrics = _common_metrics(versions)
    return Table(
        (
            "version",
            "",
            "uploaded (UTC)",
            "framework",
            "type",
            ">size",
            *(f">{name}" for name in metrics),
            "tags",
        ),
        [
            (
                Mono(version.reference),
                version_chips(version),
                moment(version.created),
                version.framework,
                version.model_type,
                file_size(version.size),
                *(
                    number(version.metrics[name]) if name in version.metrics else ""
                    for name in metrics
                ),
                " ".join(_tag(*pair) for pair in sorted(version.tags.items())),
            )
            for version in versions
        ],
        left_out=left_out,
    )


def _common_metrics(versions: Sequence[Version]) -> list[str]:
    counts: dict[str, int] = {}
    for version in versions:
        for name in version.metrics:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))[:_MAX_METRICS]
