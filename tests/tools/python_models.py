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


#: A model that uses what there is of Triton's API for models that answer once.
EVERYTHING = b'''
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """``y = x + x``, FP32[-1, 2], and how long each text is, INT64[-1]."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        inputs = [
            {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]},
            {"name": "text", "data_type": "TYPE_STRING", "dims": [-1]},
        ]
        outputs = [
            {"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 2]},
            {"name": "length", "data_type": "TYPE_INT64", "dims": [-1]},
        ]
        config = auto_complete_model_config.as_dict()
        names = []
        for one in config["input"] + config["output"]:
            names.append(one["name"])
        for one in inputs:
            if one["name"] not in names:
                auto_complete_model_config.add_input(one)
        for one in outputs:
            if one["name"] not in names:
                auto_complete_model_config.add_output(one)
        auto_complete_model_config.set_max_batch_size(0)
        return auto_complete_model_config

    def initialize(self, args):
        for key in ("model_config", "model_name", "model_version", "model_repository",
                    "model_instance_name", "model_instance_kind", "model_instance_device_id"):
            assert isinstance(args[key], str), key
        config = json.loads(args["model_config"])
        assert not pb_utils.using_decoupled_model_transaction_policy(config)
        assert pb_utils.get_input_config_by_name(config, "x")["dims"] == [-1, 2]
        y = pb_utils.get_output_config_by_name(config, "y")
        self.dtype = pb_utils.triton_string_to_numpy(y["data_type"])
        path = "/".join((args["model_repository"], args["model_version"], "model.py"))
        assert "TritonPythonModel" in open(path).read()
        pb_utils.Logger.log_info("ready")

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x")
            text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            assert pb_utils.get_input_tensor_by_name(request, "none") is None
            assert x.is_cpu() and x.name() == "x"
            assert set(request.requested_output_names()) <= {"y", "length"}
            if (x.as_numpy() < 0).any():
                error = pb_utils.TritonError("no row may be negative")
                responses.append(pb_utils.InferenceResponse(output_tensors=[], error=error))
                continue
            y = (x.as_numpy() + x.as_numpy()).astype(self.dtype)
            length = np.array([len(one) for one in text], np.int64)
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[pb_utils.Tensor("y", y), pb_utils.Tensor("length", length)]
                )
            )
        return responses

    def finalize(self):
        pass
'''
