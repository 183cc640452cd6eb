"""Histogram gradient boosting, which skl2onnx 1.20 hands to protobuf with Python's booleans.

protobuf 7 takes no boolean for an integer, so the conversion fails there. Both estimators
get skl2onnx's own converter through its own hook, with the booleans made integers on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

_MODULE = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"
_NAMES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_Conversion = Callable[[Any, Any, Any], None]


def boosting_conversions() -> dict[type, _Conversion]:
    """What ``convert_sklearn`` takes as ``custom_conversion_functions``.

    Empty while no such estimator can exist, as nobody imported their module.
    """
    module = sys.modules.get(_MODULE)
    if module is None:
        return {}
    return {getattr(module, name): _conversion(f"Sklearn{name}") for name in _NAMES}


def _conversion(alias: str) -> _Conversion:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common._registration import get_converter

        get_converter(alias)(scope, operator, _IntegerContainer(container))

    return convert


class _IntegerContainer:
    """skl2onnx's container of nodes, whose lists of booleans become lists of integers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> None:
        self._container.add_node(
            *arguments, **{name: _integers(value) for name, value in attributes.items()}
        )


def _integers(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [int(item) if isinstance(item, bool | np.bool_) else item for item in value]
