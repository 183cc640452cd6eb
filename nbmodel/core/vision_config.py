"""What a vision service of a machine config says: Viam's eleven attributes as one value.

Source: viamrobotics/rdk ``services/vision/mlvision/ml_model.go`` (``MLModelConfig``), error
texts included. Viam stops at the first thing that is wrong, and ignores what it does not
know; here everything wrong is told at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

#: Every attribute that a vision service may have.
ATTRIBUTES = (
    "mlmodel_name",
    "remap_input_names",
    "remap_output_names",
    "xmin_ymin_xmax_ymax_order",
    "input_image_mean_value",
    "input_image_std_dev",
    "input_image_bgr",
    "default_minimum_confidence",
    "label_confidences",
    "label_path",
    "camera_name",
)
#: Names that a vision service looks for among a model's tensors.
INPUT_NAMES = ("image",)
OUTPUT_NAMES = ("location", "category", "score", "probability")

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """How a vision service turns pictures into tensors, and tensors into what is in them.

    Attributes:
        model: Name of the model service that it uses.
        input_names: Name that vision services expect → the model's own.
        output_names: The same for outputs.
        box_order: Which coordinate is at each place of a box: 0 xmin, 1 ymin, 2 xmax,
            3 ymax; None: as the model says, else ``(1, 0, 3, 2)``.
        mean: Of a channel, in 0..1, in the order the model takes channels; only for float
            inputs.
        std: As ``mean``; not 0.
        bgr: Whether the model takes blue first.
        minimum_confidence: Lowest score that counts; 0: all count.
        label_confidences: Label in lower case → lowest score that counts. When there are
            any, they replace ``minimum_confidence``, and other labels do not count.
        label_path: File with the names of classes; empty: those of the model.
        camera: The camera that clients use who name none; may be empty.
    """

    model: str
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_names: Mapping[str, str] = field(default_factory=dict)
    box_order: tuple[int, ...] | None = None
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF
    bgr: bool = False
    minimum_confidence: float = 0.0
    label_confidences: Mapping[str, float] = field(default_factory=dict)
    label_path: str = ""
    camera: str = ""

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> tuple[VisionConfig, tuple[str, ...]]:
        """What attributes say, and everything wrong with them, one sentence each.

        Whether the model service, the camera and the label file exist is not looked at.

        Args:
            attributes: JSON values; None counts as left out.
        """
        reader = _Reader({name: value for name, value in attributes.items() if value is not None})
        config = cls(
            model=reader.text("mlmodel_name"),
            input_names=reader.names("remap_input_names", INPUT_NAMES),
            output_names=reader.names("remap_output_names", OUTPUT_NAMES),
            box_order=reader.box_order("xmin_ymin_xmax_ymax_order"),
            mean=reader.channels("input_image_mean_value"),
            std=reader.channels("input_image_std_dev"),
            bgr=reader.flag("input_image_bgr"),
            minimum_confidence=reader.number("default_minimum_confidence"),
            label_confidences=reader.confidences("label_confidences"),
            label_path=reader.text("label_path"),
            camera=reader.text("camera_name"),
        )
        if not config.model and "mlmodel_name" not in reader.wrong:
            reader.refuse("mlmodel_name", "mlmodel_name cannot be empty")
        if 0 in config.std:
            reader.refuse(
                "input_image_std_dev",
                "input_image_std_dev is not allowed to have 0 values, will cause division by 0",
            )
        reader.unknown()
        return config, tuple(reader.problems)


class _Reader:
    """Reads attributes, and collects what is wrong instead of stopping at it."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._attributes = attributes
        self.problems: list[str] = []
        self.wrong: set[str] = set()

    def refuse(self, name: str, problem: str) -> None:
        self.wrong.add(name)
        self.problems.append(problem)

    def unknown(self) -> None:
        for name in self._attributes:
            if name not in ATTRIBUTES:
                near = get_close_matches(name, ATTRIBUTES, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ATTRIBUTES)}"
                self.refuse(name, f"attribute {name!r} is unknown to a vision service; {advice}")

    def text(self, name: str) -> str:
        value = self._attributes.get(name, "")
        if isinstance(value, str):
            return value
        self._mistyped(name, "text", value)
        return ""

    def flag(self, name: str) -> bool:
        value = self._attributes.get(name, False)
        if isinstance(value, bool):
            return value
        self._mistyped(name, "true or false", value)
        return False

    def number(self, name: str) -> float:
        value = self._attributes.get(name, 0.0)
        if _is_number(value):
            return float(value)
        self._mistyped(name, "a number", value)
        return 0.0

    def names(self, name: str, expected: tuple[str, ...]) -> dict[str, str]:
        """Expected name → the model's, from the attribute's ``{model's: expected}``."""
        found: dict[str, str] = {}
        for own, role in self._mapping(name).items():
            if not isinstance(role, str):
                self._mistyped(f"{name}.{own}", "text", role)
            elif role not in expected:
                # Configs also name tensors that nobody looks for; a slip is no such name.
                for near in get_close_matches(role, expected, n=1, cutoff=0.8):
                    self.refuse(
                        name, f"{name} maps tensor {own!r} to {role!r}; did you mean {near!r}?"
                    )
            elif role in found:
                self.refuse(
                    name, f"{name} maps two tensors to {role!r}: {found[role]!r} and {own!r}"
                )
            else:
                found[role] = own
        return found

    def confidences(self, name: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for label, value in self._mapping(name).items():
            if not _is_number(value):
                self._mistyped(f"{name}.{label}", "a number", value)
            elif label.lower() in found:
                self.refuse(name, f"{name} has label {label!r} twice, letter case apart")
            else:
                found[label.lower()] = float(value)
        return found

    def box_order(self, name: str) -> tuple[int, ...] | None:
        entries = self._list(name)
        if not entries:
            return None
        shown = "[" + " ".join(map(str, entries)) + "]"
        model = self._attributes.get("mlmodel_name", "")
        what = f'attribute {name} for model "{model}"'
        if len(entries) != 4:
            self.refuse(name, f"{what} must have only 4 entries in the list. Got {shown}")
            return None
        if not all(type(entry) is int for entry in entries) or sorted(entries) != [0, 1, 2, 3]:
            self.refuse(
                name,
                f"{what} can only have entries 0, 1, 2 and 3, and only one instance of each. "
                f"Got {shown}",
            )
            return None
        return tuple(entries)

    def channels(self, name: str) -> tuple[float, float, float]:
        values = self._list(name)
        if not values:
            return _HALF
        if not all(map(_is_number, values)):
            self._mistyped(name, "a list of numbers", values)
            return _HALF
        if len(values) < 3:
            self.refuse(
                name,
                f"{name} attribute must have at least 3 values, one for each color channel",
            )
            return _HALF
        return float(values[0]), float(values[1]), float(values[2])

    def _list(self, name: str) -> list[Any]:
        value = self._attributes.get(name, [])
        if isinstance(value, list):
            return value
        self._mistyped(name, "a list of numbers", value)
        return []

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = self._attributes.get(name, {})
        if isinstance(value, Mapping):
            return value
        self._mistyped(name, "an object", value)
        return {}

    def _mistyped(self, name: str, expected: str, value: object) -> None:
        self.refuse(
            name.partition(".")[0], f"attribute {name!r}: expected {expected}, found {value!r}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
