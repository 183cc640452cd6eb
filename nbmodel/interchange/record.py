"""What a version says of itself beside its files, so that it can come back as it was.

Exporters put this record where the other system keeps free words; importers take from it
what the files alone do not tell. It is a claim like any other: nothing in it is believed
that the files contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.golden import Golden
from nbmodel.core.model_type import check_model_type
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import FormatError, NbModelError

KEY = "nbmodel"  # under which it is kept


@dataclass(frozen=True, slots=True)
class Record:
    """What was read of one.

    Attributes:
        name: The model's name where it was exported; may be empty.
        reference: The version's; may be empty.
        signature: Inputs and outputs.
        model_type: What it is for.
        description: Free text.
        metadata: JSON values by name.
        metrics: Numbers by name.
        golden: The acceptance test; its arrays are one of the files.
    """

    name: str = ""
    reference: str = ""
    signature: Signature | None = None
    model_type: str | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    golden: Golden | None = None


def record_of(version: Version) -> dict[str, Any]:
    """The record of a version, as JSON values."""
    data: dict[str, Any] = {
        "name": version.model,
        "reference": version.reference,
        "stamp": version.stamp,
        "digest": version.digest,
        "framework": version.framework,
        "model_type": version.model_type,
        "signature": version.signature.to_json(),
        "description": version.description,
        "metadata": dict(version.metadata),
        "metrics": dict(version.metrics),
    }
    if version.manifest.golden is not None:
        data["golden"] = version.manifest.golden.to_json()
    return data


def read_record(data: object) -> Record:
    """The record in JSON values; an empty one for what is none.

    Raises:
        FormatError: It is one, and malformed.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("signature"), Mapping):
        return Record()
    golden = data.get("golden")
    try:
        return Record(
            name=str(data.get("name", ""))[:200],
            reference=str(data.get("reference", ""))[:200],
            signature=Signature.from_json(data["signature"]),
            model_type=check_model_type(str(data.get("model_type", "other"))),
            description=str(data.get("description", ""))[:100_000],
            metadata=dict(data.get("metadata", {})),
            metrics={str(key): float(value) for key, value in data.get("metrics", {}).items()},
            golden=None if golden is None else Golden.from_json(golden),
        )
    except (NbModelError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise FormatError(f"malformed record of a version: {str(exc)[:200]}") from exc
