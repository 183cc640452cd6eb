"""One client for every server of the Open Inference Protocol, waiting and awaiting.

``client`` and ``aio_client`` are what callers see. Below them: ``questions`` and ``known``
are rules without I/O, ``http1`` is the bytes of HTTP, ``connection`` and ``aio_connection``
are sockets, ``channel`` and ``aio_channel`` choose between those and httpx. Importing this
package loads nothing but this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbmodel.inference.aio_client import AsyncInferenceClient as AsyncInferenceClient
    from nbmodel.inference.client import InferenceClient as InferenceClient

_HOMES = {
    "AsyncInferenceClient": "aio_client",
    "InferenceClient": "client",
}

__all__ = ["AsyncInferenceClient", "InferenceClient"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
