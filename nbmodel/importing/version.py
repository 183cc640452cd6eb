"""From an address to a version: what came, what is said of it, and whether it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbmodel.core.reference import check_name
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import InputError
from nbmodel.importing.base import Import
from nbmodel.importing.bring import bring
from nbmodel.importing.source import same_bytes, says_the_same, source_of
from nbmodel.registry import Registry
from nbmodel.source import LabelsGiven, Source


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import gave.

    Attributes:
        version: The version.
        is_new: Whether it was made now; else it was this very import already.
        notes: What else there is to know, a sentence each.
    """

    version: Version
    is_new: bool
    notes: tuple[str, ...]


def import_version(
    registry: Registry,
    uri: str,
    job: Import,
    add: Callable[..., Version],
    *,
    name: str | None,
    importer: str | None,
    model_type: str | None,
    labels: LabelsGiven,
    signature: Signature | None,
    metrics: Mapping[str, float],
    metadata: Mapping[str, Any],
    tags: Mapping[str, str],
    description: str,
    parents: Sequence[str],
    answer: Callable[[Source], Source] = lambda source: source,
) -> Imported:
    """Bring what an address means and make a version of it, unless there is that one already.

    What a person says prevails over what its source says.

    Args:
        registry: Where versions are looked up.
        uri: An address or a path.
        job: What may be brought, and where to.
        add: Makes a version: of the model's name, a source and a function that is told of
            bytes, with ``model_type``, ``parents``, ``origin`` and the words about it by name.
        name: Model name; None: what it is called there.
        importer: The name of the one to use; None: the one that the address is for.
        model_type: What the model is for; None: as its source says.
        labels: Class names.
        signature: What to say about tensors beyond what the file says.
        metrics: Numbers by name, beside those of the source.
        metadata: JSON values by name, likewise.
        tags: Words by key, likewise.
        description: Free text in place of the source's.
        parents: References of versions this one was made from.
        answer: Gives the source its golden sample.

    Raises:
        RefError: What it is called there cannot name a model.
        InputError: There is no such thing, no model or several, or nothing names it.
        NbModelError: As ``importing.bring`` and ``importing.source``.
    """
    fetched = bring(uri, job, importer)
    model = check_name(name or fetched.name) if name or fetched.name else ""
    if not model:
        raise InputError("nothing there says what the model is called", hint="--name NAME")
    source, left_out = source_of(fetched, labels=labels, signature=signature)
    source = answer(source)
    says: dict[str, Any] = {
        "metrics": {**fetched.metrics, **metrics},
        "metadata": {**fetched.metadata, **metadata},
        "tags": {**fetched.tags, **tags},
        "description": description or fetched.description,
    }
    notes = (*fetched.notes, *left_out)
    known = same_bytes(registry, model, source, job)
    whole = says | {"metadata": {**source.metadata, **says["metadata"]}}
    kind = model_type or fetched.model_type
    if known is not None:
        if not parents and says_the_same(known, source, model_type=kind, **whole):
            same = f"{known.reference} is this very import already: nothing was made"
            return Imported(known, False, (same, *notes))
        notes = (f"the same bytes as {known.reference}", *notes)
    version = add(
        model,
        source,
        lambda _: job.check(),
        model_type=kind,
        parents=parents,
        origin=fetched.origin,
        **says,
    )
    return Imported(version, True, notes)
