"""Files that Triton has a backend for, and cannot run as they are. Rules only.

Source: "AOT Inductor Support" and "Naming Convention" of Triton's PyTorch backend, 26.05.
"""

from __future__ import annotations

import re

from nbmodel.backends.triton_config import Engine
from nbmodel.core.signature import Signature
from nbmodel.errors import NoCompatibleBackendError
from nbmodel.formats import ModelFacts

_AOTI = "torch_aoti"
_INPUT = re.compile(r"INPUT__\d+|(?:ARGS|KWARGS)(?:\[[^\]\[\"\s]+\])+")
_OUTPUT = re.compile(r"OUTPUT__\d+|RESULT(?:\[[^\]\[\"\s]+\])*")


def check_fit(engine: Engine, facts: ModelFacts, signature: Signature | None, name: str) -> None:
    """Refuse a file before anything is moved that Triton would refuse after it was.

    Args:
        engine: What Triton would run it with.
        facts: What the file says of itself.
        signature: What it takes and gives, as far as that is known.
        name: Of the file, for the message.

    Raises:
        NoCompatibleBackendError: It is a program for AOTInductor that was not compiled, or its
            tensors have names by which Triton does not find them.
    """
    if engine.platform != _AOTI:
        return
    if "compiled_for" not in facts.metadata:
        raise NoCompatibleBackendError(
            f"{name} is a torch.export archive that is not compiled; Triton's PyTorch backend runs "
            "those that AOTInductor has compiled for its machine",
            hint="torch._inductor.aoti_compile_and_package(exported, package_path='model.pt2') "
            "there; or export it to ONNX",
        )
    if signature is None:
        return
    wrong = [one.name for one in signature.inputs if _INPUT.fullmatch(one.name) is None]
    wrong += [one.name for one in signature.outputs if _OUTPUT.fullmatch(one.name) is None]
    if wrong:
        raise NoCompatibleBackendError(
            f"{name}: Triton finds the tensors of a compiled archive by INPUT__0, OUTPUT__0 and so "
            f"on, or by ARGS[0], KWARGS[name] and RESULT[name], found {', '.join(wrong[:5])}",
            hint="name them so in its signature; a service may call them otherwise by "
            "tensor_name_remappings",
        )
