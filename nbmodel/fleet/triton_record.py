"""What a Triton is given to remember of a service: a parameter of its model's configuration.

So whoever asks that Triton, from whichever notebook, learns which version it runs, and when
Triton forgets the model it forgets this too. Rules only: nothing here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import NbModelError

KEY = "nbmodel"  # of the parameter
MAX_TEXT = 1 << 20  # characters; a signature with more labels than that goes without them


@dataclass(frozen=True, slots=True)
class Ran:
    """A version, as somebody knows it who has not got it.

    Attributes:
        model: Name of its model.
        number: In the model, ≥ 1.
        stamp: Its timestamp id.
        digest: Of its manifest.
    """

    model: str
    number: int
    stamp: str
    digest: str

    @classmethod
    def of(cls, version: Version) -> Ran:
        """What a version of the registry is."""
        return cls(version.model, version.number, version.stamp, version.digest)

    @property
    def reference(self) -> str:
        """``digits:3``."""
        return f"{self.model}:{self.number}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the value back."""
        return {
            "model": self.model,
            "number": self.number,
            "stamp": self.stamp,
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, data: Any) -> Ran:
        """The value that ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        return cls(str(data["model"]), int(data["number"]), str(data["stamp"]), str(data["digest"]))


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a service.

    Attributes:
        version: What it runs.
        model_type: What that is for.
        signature: What it takes and gives, with its labels.
        at: When it was put there; UTC, ISO 8601.
        attributes: What its deployment asked for besides the version.
        before: What it ran before; None: nothing.
    """

    version: Ran
    model_type: str
    signature: Signature
    at: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    before: Ran | None = None

    def in_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A model configuration with this in it."""
        text = _text(self)
        if len(text) > MAX_TEXT:
            text = _text(replace(self, signature=_bare(self.signature)))
        parameters = {**config.get("parameters", {}), KEY: {"string_value": text}}
        return {**config, "parameters": parameters}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Record | None:
        """What a model configuration remembers; None where it is nothing of ours."""
        try:
            data = json.loads(config["parameters"][KEY]["string_value"])
            before = data["before"]
            return cls(
                Ran.from_json(data["version"]),
                str(data["model_type"]),
                Signature.from_json(data["signature"]),
                str(data["at"]),
                dict(data["attributes"]),
                None if before is None else Ran.from_json(before),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, NbModelError):
            return None


def _text(record: Record) -> str:
    data = {
        "version": record.version.to_json(),
        "model_type": record.model_type,
        "signature": record.signature.to_json(),
        "at": record.at,
        "attributes": dict(record.attributes),
        "before": None if record.before is None else record.before.to_json(),
    }
    return json.dumps(data)


def _bare(signature: Signature) -> Signature:
    """A signature without labels."""
    outputs = tuple(replace(tensor, labels=()) for tensor in signature.outputs)
    return replace(signature, outputs=outputs)
