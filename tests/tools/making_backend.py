"""A backend for tests, which makes something of a model before it loads it, as TensorRT does.

A model of it is a JSON object: ``{"parts": 3, "seconds": 0.5}``, the seconds of each part.
What it does is ``y = 2x`` for x FP32[-1,2]. It is found as ``bad_backend`` is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import Backend, Known, Session, file_attributes
from nbmodel.core.signature import Signature, Tensor

SIGNATURE = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),))


class MakingBackend(Backend):
    """Runs models that something is made of first, once."""

    name = "making"
    formats = ("onnx",)
    attributes = file_attributes("")

    def patience_s(self, attributes: Mapping[str, Any]) -> float:
        return 60.0

    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        return []

    def _subject(self, attributes: Mapping[str, Any]) -> str:
        return Path(attributes["model_path"]).name

    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:
        model = json.loads(Path(attributes["model_path"]).read_bytes())
        assert known.engines is not None
        made = known.engines / "made"
        if not made.exists():
            for part in range(1, model["parts"] + 1):
                known.tell(f"making part {part} of {model['parts']}")
                time.sleep(model["seconds"])
            known.engines.mkdir(exist_ok=True)
            made.touch()
        return MadeSession(SIGNATURE, name="made")


class MadeSession(Session):
    """A model that something was made of."""

    runs_on = "made"
    note = "runs on what was made"

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        return {"y": np.float32(2) * inputs["x"]}

    def _close(self) -> None:
        pass


def install_making_backend(folder: Path) -> Path:
    """Make a distribution of the backend in a folder that is then one to import from."""
    (folder / "nbmodel_making_backend.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    info = folder / "nbmodel_making_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nbmodel-making-backend\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[nbmodel.backends]\nmaking = nbmodel_making_backend:MakingBackend\n"
    )
    return folder
