"""A model of Triton's Python backend that runs an ONNX file with ONNX Runtime.

This file is copied as ``model.py`` beside the model's own, for servers without the
``onnxruntime`` backend, and is run by Triton alone. The Python inside Triton's Python backend
needs ``numpy`` and ``onnxruntime``; it takes no notice of ``PYTHONPATH``. In ``settings.json``
beside this file are ``file``, the ONNX file to run, ``python_path``, folders in which modules
are looked for first, and ``scalars``, tensors whose one dimension is Triton's alone.
"""

# mypy: ignore-errors
# ruff: noqa: B905, BLE001, E402, PTH100, PTH112, PTH118, PTH120, PTH123 # also for Pythons older than those of nbmodel

import json
import os
import sys

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "settings.json")) as file:
    SETTINGS = json.load(file)
for folder in SETTINGS["python_path"]:
    if not os.path.isdir(folder):
        raise ValueError(f"python_path: {folder} is no folder on Triton's machine")
sys.path[:0] = SETTINGS["python_path"]

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Load the file, on the GPU where this is an instance of one."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        threads = parameters.get("intra_op_thread_count", {"string_value": "1"})
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = int(threads["string_value"])
        options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            device = {"device_id": int(args["model_instance_device_id"])}
            providers.insert(0, ("CUDAExecutionProvider", device))
        folder = os.path.join(args["model_repository"], args["model_version"])
        path = os.path.join(folder, SETTINGS["file"])
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.texts = [one.name for one in self.session.get_inputs() if one.type == "tensor(string)"]

    def execute(self, requests):
        """Answer requests, each by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Answer one request; an error of ONNX Runtime becomes its answer."""
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        for name in feed.keys() & set(SETTINGS["scalars"]):
            feed[name] = feed[name].reshape(())
        outputs = list(request.requested_output_names())
        try:
            for name in self.texts:
                texts = [item.decode() for item in feed[name].flat]
                feed[name] = np.array(texts, dtype=object).reshape(feed[name].shape)
            arrays = self.session.run(outputs, feed)
        except Exception as exc:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc)))
        tensors = [
            pb_utils.Tensor(name, encoded(np.atleast_1d(array)))
            for name, array in zip(outputs, arrays)
        ]
        return pb_utils.InferenceResponse(tensors)


def encoded(array):
    """An array as Triton carries it: texts as bytes."""
    if array.dtype != object:
        return array
    items = [item.encode() if isinstance(item, str) else item for item in array.flat]
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found.reshape(array.shape)
