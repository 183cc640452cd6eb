"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbmodel.backends.base import FileBackend, Session, file_attributes
from nbmodel.backends.onnx_session import OnnxSession, import_engine, open_engine


class OnnxCpu(FileBackend):
    """Runs ``.onnx`` files with ONNX Runtime's CPU provider; Viam's ``onnx-cpu``."""

    name = "onnx_cpu"
    formats = ("onnx",)
    attributes = file_attributes(".onnx")

    def _load(self, path: Path, attributes: Mapping[str, Any]) -> Session:
        onnxruntime = import_engine(self.name)
        engine = open_engine(onnxruntime, path, threads=attributes.get("num_threads", 1))
        return OnnxSession(engine, name=path.name)
