"""What the words mean with which Triton refuses to load a model. Rules only.

Source: triton-inference-server/core ``filesystem/implementations/local.h``; what TensorRT says
of plans that others built (NVIDIA/TensorRT issues 564, 2176, 3130).
"""

from __future__ import annotations

import re

from nbmodel.errors import InferenceError, NbModelError, StorageUnavailableError

#: What to do where a Triton has no room.
ROOM_HINT = "free space on its machine, in /tmp and /dev/shm"
_PLAN_HINT = "build it on that device (trtexec --onnx=… --saveEngine=…), or deploy the ONNX file"
_LOG_HINT = "Triton's log says why: often a field of the configuration that it does not know"
_MODULE_HINT = (
    "install it for Triton's Python, or name a folder that has it: "
    'model_config={"parameters": {"python_path": {"string_value": "/FOLDER"}}}'
)
_NO_MODULE = re.compile(r"No module named '(?:onnxruntime|numpy)'")
_NO_MORE = "failed to poll from model repository"
_FULL = re.compile(
    r"No space left on device|errno:28|Failed to create local temp folder|"
    r"failed to open (?:text|binary) file for write"
)
_NO_GPU = re.compile(r"has kind KIND_GPU but no GPUs are available")
_OTHER_GPU = re.compile(r"incompatible device, expecting compute ([\d.]+) got compute ([\d.]+)")
_OTHER_TENSORRT = re.compile(
    r"not compatible with this version of TensorRT|expecting library version|"
    r"Version tag does not match|stdVersionRead == kSERIALIZATION_VERSION"
)
_VERSIONS = re.compile(r"expecting library version (\d[\d.]*\d) got (\d[\d.]*\d)")


def meaning(refusal: InferenceError) -> NbModelError:
    """The error that a refusal to load is: itself where its words say all that is known.

    Args:
        refusal: With Triton's words.
    """
    text = str(refusal)
    if _FULL.search(text):
        return StorageUnavailableError(f"Triton has no room for the model: {text}", hint=ROOM_HINT)
    if _NO_GPU.search(text):
        return InferenceError(
            "it is to run on a GPU, and Triton has none",
            hint='set "device" to cpu or auto; or start Triton with a GPU: a container needs '
            "--gpus all or --runtime=nvidia",
        )
    module = _NO_MODULE.search(text)
    if module is not None and refusal.hint is None:
        return InferenceError(text, hint=_MODULE_HINT)
    if text.endswith(_NO_MORE) and refusal.hint is None:
        return InferenceError(text, hint=_LOG_HINT)
    gpu = _OTHER_GPU.search(text)
    if gpu is not None:
        return _other_plan(f"for a GPU of compute capability {gpu[2]}, that of Triton has {gpu[1]}")
    if _OTHER_TENSORRT.search(text):
        versions = _VERSIONS.search(text)
        if versions is None:
            return _other_plan("with another TensorRT than Triton's")
        return _other_plan(f"with TensorRT {versions[2]}, Triton has {versions[1]}")
    return refusal


def _other_plan(how: str) -> InferenceError:
    return InferenceError(
        f"the TensorRT plan was built {how}: a plan runs on the GPU and TensorRT that built it, "
        "and on no other",
        hint=_PLAN_HINT,
    )
