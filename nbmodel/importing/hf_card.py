"""What a repository of the Hugging Face layout says of its model, beside the weights.

Source: the hub's documentation, "Model Cards" (the YAML at the head of ``README.md``);
``PretrainedConfig`` of transformers for ``id2label``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbmodel.errors import NbModelError
from nbmodel.importing.documents import read_json, read_yaml, text

_HEAD = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_MAX_README = 1 << 20  # bytes
_KEPT = ("license", "language", "tags", "pipeline_tag", "library_name", "datasets", "base_model")
#: The hub's tasks, in our words.
TASKS: Mapping[str, str] = {
    "image-classification": "classification",
    "text-classification": "classification",
    "audio-classification": "classification",
    "zero-shot-image-classification": "classification",
    "tabular-classification": "classification",
    "object-detection": "detection",
    "image-segmentation": "segmentation",
    "mask-generation": "segmentation",
    "keypoint-detection": "keypoints",
    "tabular-regression": "regression",
    "time-series-forecasting": "regression",
    "depth-estimation": "regression",
    "feature-extraction": "embedding",
    "image-feature-extraction": "embedding",
    "sentence-similarity": "embedding",
    "text-generation": "text",
    "text2text-generation": "text",
    "translation": "text",
    "summarization": "text",
    "question-answering": "text",
    "fill-mask": "text",
    "automatic-speech-recognition": "audio",
    "audio-to-audio": "audio",
    "text-to-speech": "audio",
}


def read_card(folder: Path, scratch: Path) -> tuple[dict[str, Any], str | None]:
    """The facts at the head of ``README.md``, and the model type that its task is.

    What cannot be read is left out: a card is for people.

    Args:
        folder: With the files.
        scratch: Where a file may be made.
    """
    try:
        with (folder / "README.md").open("rb") as file:
            found = _HEAD.search(file.read(_MAX_README).decode(errors="replace"))
        if found is None:
            return {}, None
        head = scratch / "card.yaml"
        head.write_text(found[1], encoding="utf-8")
        (data,) = read_yaml(head)
    except (OSError, ValueError, NbModelError):
        return {}, None
    if not isinstance(data, Mapping):
        return {}, None
    facts = {key: _plain(data[key]) for key in _KEPT if data.get(key)}
    return facts, TASKS.get(text(data.get("pipeline_tag"), 80))


def read_labels(folder: Path) -> dict[str, int] | None:
    """The classes that ``config.json`` enumerates; None where it has none, or only numbers."""
    try:
        config = read_json(folder / "config.json")
        names = config.get("id2label")
        labels = {str(name): int(index) for index, name in names.items()}
    except (NbModelError, OSError, ValueError, TypeError, AttributeError):
        return None
    is_made_up = all(re.fullmatch(r"LABEL_\d+", name) for name in labels)
    return None if is_made_up or len(labels) != len(names) else labels


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [text(one, 200) for one in value[:100]]
    return text(value, 500)
