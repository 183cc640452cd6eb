"""Machine-learning models from a notebook cell to an edge device and back.

The verbs are functions here (``nbmodel.log``, ``nbmodel.deploy`` …), methods of
``nbmodel.Client``, words of ``%mlmodel`` after ``%load_ext nbmodel``, and of the
``nbmodel`` command. Importing this loads neither numpy nor IPython.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

# Name → module it comes from; loaded when it is first asked for.
_NAMES = {
    "AsyncInferenceClient": "nbmodel.inference.aio_client",
    "Client": "nbmodel.client",
    "InferenceClient": "nbmodel.inference.client",
    "NbModelError": "nbmodel.errors",
    "Quantization": "nbmodel.core.signature",
    "Reference": "nbmodel.core.reference",
    "RequestedOutput": "nbmodel.protocol.inference",
    "Signature": "nbmodel.core.signature",
    "Tensor": "nbmodel.core.signature",
}
# Methods of the default client that are functions here.
_VERBS = (
    "alias",
    "alias_history",
    "archive",
    "bench",
    "cells",
    "delete",
    "deploy",
    "deprecate",
    "describe",
    "diff",
    "do",
    "dummy_inputs",
    "export",
    "forget_remote",
    "gc",
    "import_",
    "infer",
    "lineage",
    "list",
    "log",
    "make_key",
    "package",
    "pin",
    "publish",
    "pull",
    "push",
    "redeploy",
    "remotes",
    "remove_alias",
    "rename",
    "reproduce",
    "restore",
    "rollback",
    "runtimes",
    "serve_registry",
    "set_default_remote",
    "show",
    "sign",
    "status",
    "stop_serving",
    "sync",
    "tag",
    "transfers",
    "undeploy",
    "unpin",
    "upload",
    "verify",
    "verify_signature",
)

__all__ = sorted((*_NAMES, *_VERBS, "__version__"))  # noqa: PLE0605 - a list of names


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in _VERBS:
        from nbmodel.client import default_client

        return getattr(default_client(), name)
    raise AttributeError(f"module 'nbmodel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """``%load_ext nbmodel``: register ``%mlmodel``."""
    from nbmodel.magics.mlmodel import load_ipython_extension as load

    load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """``%unload_ext nbmodel``: take ``%mlmodel`` away."""
    from nbmodel.magics.mlmodel import unload_ipython_extension as unload

    unload(ipython)
