"""Which view shows which model type; further ones come from entry points."""

from __future__ import annotations

from typing import Final

from nbmodel.display.views.base import View
from nbmodel.plugins import PluginTable

VIEWS: Final = PluginTable(
    kind="view",
    builtin={
        "classification": "nbmodel.display.views.classes:ClassesView",
        "multi_label_classification": "nbmodel.display.views.classes:ClassesView",
        "detection": "nbmodel.display.views.boxes:BoxesView",
        "segmentation": "nbmodel.display.views.segments:SegmentsView",
        "keypoints": "nbmodel.display.views.points:PointsView",
    },
    extras={},
)


def view_for(model_type: str) -> View | None:
    """The view of a model type, or None when its answers are plain tensors."""
    if model_type not in VIEWS.names():
        return None
    view: View = VIEWS.load(model_type)()
    return view
