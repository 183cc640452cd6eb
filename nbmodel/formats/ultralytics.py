"""What Ultralytics writes into the files that it exports: a JSON object about the model.

Source: ultralytics/engine/exporter.py (https://github.com/ultralytics/ultralytics).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from nbmodel.core.document import canonical_json
from nbmodel.core.labels import labels_by_index
from nbmodel.errors import InputError

MAX_NOTES = 1 << 20  # bytes
_MAX_TEXT = 4096  # characters of one value that are worth keeping beside the model
#: ``task`` → model type.
TASKS = {
    "detect": "detection",
    "obb": "detection",
    "classify": "classification",
    "segment": "segmentation",
    "pose": "keypoints",
}


def read_notes(text: str | bytes) -> dict[str, Any] | None:
    """The object, or None when the text is none, or has what JSON cannot pass on."""
    with suppress(ValueError, RecursionError):
        notes = json.loads(text)
        canonical_json(notes)
        if isinstance(notes, dict):
            return notes
    return None


def labels_of(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names in index order; empty when it has none."""
    names = notes.get("names")
    if isinstance(names, dict) and all(isinstance(name, str) for name in names.values()):
        with suppress(ValueError, InputError):
            return labels_by_index({int(index): name for index, name in names.items()})
    return ()


def metadata_of(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What else it says that is short, without class names."""
    return {
        str(key): value
        for key, value in notes.items()
        if key != "names" and len(json.dumps(value)) <= _MAX_TEXT
    }
