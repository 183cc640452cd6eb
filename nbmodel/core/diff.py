"""What differs between two versions: files, signature, labels, metadata, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version

ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs.

    Attributes:
        name: What it is: a path, a key, ``input 'x' shape``, a label's index.
        kind: ``added`` (only the second has it), ``removed`` or ``changed``.
        old: What the first has; None where it has nothing.
        new: What the second has; None where it has nothing.
    """

    name: str
    kind: ChangeKind
    old: Any = None
    new: Any = None

    @property
    def delta(self) -> float | None:
        """``new - old`` where both are numbers, else None."""
        if isinstance(self.old, bool) or isinstance(self.new, bool):
            return None
        if isinstance(self.old, (int, float)) and isinstance(self.new, (int, float)):
            return self.new - self.old
        return None

    def __str__(self) -> str:
        if self.kind == "added":
            return f"+ {self.name}: {self.new}"
        if self.kind == "removed":
            return f"- {self.name}: {self.old}"
        return f"~ {self.name}: {self.old} → {self.new}"

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {"name": self.name, "kind": self.kind, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything that differs between two versions; each part sorted by name.

    Attributes:
        old: Reference of the first: ``digits:2``.
        new: Reference of the second.
        facts: Framework, model type, total size in bytes.
        files: By path; values are ``{"size": …, "digest": …}``.
        signature: By tensor and field; added and removed tensors as a whole.
        labels: By output and index, in order of the index; values are the labels.
        label_count: How many labels were compared.
        metadata: By key.
        metrics: By name; ``delta`` is the gain.
    """

    old: str
    new: str
    facts: tuple[Change, ...] = ()
    files: tuple[Change, ...] = ()
    signature: tuple[Change, ...] = ()
    labels: tuple[Change, ...] = ()
    metadata: tuple[Change, ...] = ()
    metrics: tuple[Change, ...] = ()
    label_count: int = 0

    @property
    def parts(self) -> dict[str, tuple[Change, ...]]:
        """The parts by name, in the order to show them."""
        return {
            "facts": self.facts,
            "files": self.files,
            "signature": self.signature,
            "labels": self.labels,
            "metadata": self.metadata,
            "metrics": self.metrics,
        }

    @property
    def is_empty(self) -> bool:
        """Whether the two say the same in every part."""
        return not any(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        parts = {name: [change.to_json() for change in part] for name, part in self.parts.items()}
        return {"old": self.old, "new": self.new, **parts, "label_count": self.label_count}


def diff_versions(old: Version, new: Version) -> Diff:
    """What changes from ``old`` to ``new``; the versions may be of different models."""
    first, second = old.manifest, new.manifest
    return Diff(
        old=old.reference,
        new=new.reference,
        facts=_changes(_facts(first), _facts(second)),
        files=_changes(_files(first), _files(second)),
        signature=_changes_of_signature(first.signature, second.signature),
        labels=_changes_of_labels(first.signature, second.signature),
        label_count=len(
            {*_labels(first.signature), *_labels(_renamed(first.signature, second.signature))}
        ),
        metadata=_changes(first.metadata, second.metadata),
        metrics=_changes(first.metrics, second.metrics),
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    found = []
    for name in sorted({*old, *new}):
        if name not in old:
            found.append(Change(name, "added", new=new[name]))
        elif name not in new:
            found.append(Change(name, "removed", old=old[name]))
        elif not _same(old[name], new[name]):
            found.append(Change(name, "changed", old[name], new[name]))
    return tuple(found)


def _same(old: object, new: object) -> bool:
    # True == 1 in Python, but a JSON true that became 1 is a change.
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "framework": manifest.framework,
        "model_type": manifest.model_type,
        "size": manifest.size,
    }


def _files(manifest: Manifest) -> dict[str, Any]:
    return {entry.path: {"size": entry.size, "digest": entry.digest} for entry in manifest.files}


def _tensors(signature: Signature) -> dict[str, Tensor]:
    inputs = {f"input {tensor.name!r}": tensor for tensor in signature.inputs}
    return inputs | {f"output {tensor.name!r}": tensor for tensor in signature.outputs}


def _tensor_facts(tensor: Tensor) -> dict[str, Any]:
    facts = tensor.to_json()
    for own in ("name", "labels", "label_kind"):  # the name is the key, labels have their part
        facts.pop(own, None)
    return facts


def _renames(old: Signature, new: Signature) -> dict[str, dict[str, str]]:
    """By side: name now → name before, of tensors at one place that are otherwise alike."""
    return {
        side: {
            after.name: before.name
            for before, after in zip(first, second, strict=False)
            if before.name not in {tensor.name for tensor in second}
            and after.name not in {tensor.name for tensor in first}
            and _tensor_facts(before) == _tensor_facts(after)
        }
        for side, first, second in (
            ("input", old.inputs, new.inputs),
            ("output", old.outputs, new.outputs),
        )
    }


def _renamed(old: Signature, new: Signature) -> Signature:
    """The new signature, with the old names of the tensors that only changed those."""
    names = _renames(old, new)
    return Signature(
        tuple(replace(t, name=names["input"].get(t.name, t.name)) for t in new.inputs),
        tuple(replace(t, name=names["output"].get(t.name, t.name)) for t in new.outputs),
    )


def _changes_of_signature(old: Signature, new: Signature) -> tuple[Change, ...]:
    found = [
        Change(f"{side} name", "changed", before, after)
        for side, names in _renames(old, new).items()
        for after, before in names.items()
    ]
    first, second = _tensors(old), _tensors(_renamed(old, new))
    for title in sorted({*first, *second}):
        if title not in first:
            found.append(Change(title, "added", new=_tensor_facts(second[title])))
        elif title not in second:
            found.append(Change(title, "removed", old=_tensor_facts(first[title])))
        else:
            fields = _changes(_tensor_facts(first[title]), _tensor_facts(second[title]))
            found += [
                Change(f"{title} {change.name}", change.kind, change.old, change.new)
                for change in fields
            ]
    return tuple(found)


def _labels(signature: Signature) -> dict[tuple[str, int], str]:
    return {
        (tensor.name, index): label
        for tensor in (*signature.inputs, *signature.outputs)
        for index, label in enumerate(tensor.labels)
    }


def _changes_of_labels(old: Signature, new: Signature) -> tuple[Change, ...]:
    first, second = _labels(old), _labels(_renamed(old, new))
    found = []
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            kind: ChangeKind = (
                "added" if key not in first else "removed" if key not in second else "changed"
            )
            tensor, index = key
            found.append(Change(f"{tensor}[{index}]", kind, first.get(key), second.get(key)))
    return tuple(found)
