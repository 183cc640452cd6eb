"""Models of Triton's Python backend for tests: ``y = x * factor``, FP32[-1, 2]."""

from __future__ import annotations

import zipfile
from pathlib import Path

_MODEL = """
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils

{head}


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]}})
        config.add_output({{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 2]}})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args):
        self.args = args
        {start}

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y = x * np.float32({factor})
            {body}
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
        return responses
"""


def scaling_py(
    factor: float = 2, *, body: str = "pass", start: str = "pass", head: str = ""
) -> bytes:
    """The code of a model.

    Args:
        factor: What it scales by.
        body: A statement before each answer; ``x`` and ``y`` are arrays.
        start: A statement when it is loaded; ``self.args`` is what Triton gives.
        head: Lines at the top of the module.
    """
    return _MODEL.format(factor=factor, body=body, start=start, head=head).encode()


def write_wheel(folder: Path, name: str, value: int) -> Path:
    """Write a wheel of a package with one module, whose ``VALUE`` is a number.

    Source: "Binary distribution format" of the Python Packaging User Guide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": f"VALUE = {value}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path
