"""A Python model that answers what comes over a socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from . import triton_python_backend_utils as pb_utils
from .wire import WireError, receive, send

CLASS = "TritonPythonModel"
_MODULE = "model"
_LONGEST = 2000  # characters of what is said of an error


class _RefusedError(Exception):
    """The model is not what it has to be."""


def serve(connection: socket.socket) -> None:
    """Load the model that the first message names, and answer what the others ask."""
    sys.modules["triton_python_backend_utils"] = pb_utils
    try:
        start, _ = receive(connection)
        try:
            model, config = _load(start)
        except BaseException as exc:
            send(connection, {"error": _said(exc, start["path"])}, {})
            if isinstance(exc, SystemExit | KeyboardInterrupt | Exception):
                return
            raise
        send(connection, {"config": config}, {})
        named = (str(config.get("name", "")), str(start["arguments"]["model_version"]))
        while True:
            try:
                asked, inputs = receive(connection)
            except WireError:
                break
            head, outputs = _answer(model, asked["outputs"], inputs, named, start["path"])
            _reply(connection, head, outputs)
        if hasattr(model, "finalize"):
            model.finalize()
    except (OSError, WireError):
        return  # the runtime has gone


def _load(start: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    path = Path(start["path"])
    sys.path.insert(0, str(path.parent))
    loader = SourceFileLoader(_MODULE, str(path))
    spec = spec_from_loader(_MODULE, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[_MODULE] = module
    loader.exec_module(module)
    made = getattr(module, CLASS, None)
    if made is None:
        raise _RefusedError(f"it has no class {CLASS}")
    if not callable(getattr(made, "execute", None)):
        raise _RefusedError(f"its class {CLASS} has no method 'execute'")
    config = _completed(made, start)
    model = made()
    if hasattr(model, "initialize"):
        model.initialize({**start["arguments"], "model_config": json.dumps(config)})
    return model, config


def _completed(made: Any, start: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, with what the model adds, or else what its version says."""
    config = pb_utils.ModelConfig(start["config"])
    if hasattr(made, "auto_complete_config"):
        config = made.auto_complete_config(config) or config
    found = config.as_dict()
    if pb_utils.using_decoupled_model_transaction_policy(found):
        raise _RefusedError(
            "it is decoupled, which the 'python' backend does not run: "
            "run it on a Triton server (backend 'triton')"
        )
    for side in ("input", "output"):
        if not found.get(side):
            found[side] = start["known"][side]
    found.setdefault("max_batch_size", 0)
    return found


def _answer(
    model: Any,
    wanted: list[str],
    inputs: Mapping[str, NDArray[Any]],
    named: tuple[str, str],
    path: str,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
    request = pb_utils.InferenceRequest._of(tensors, wanted, named)  # noqa: SLF001 # ours
    try:
        response = _only(model.execute([request]))
        error = response.error()
        if error is not None:
            return {"error": error.message()[:_LONGEST]}, {}
        outputs = {one.name(): one.as_numpy() for one in response.output_tensors()}
    except Exception as exc:  # noqa: BLE001 # a model may raise anything
        return {"error": _said(exc, path)}, {}
    return {}, {name: outputs[name] for name in wanted if name in outputs}


def _only(responses: object) -> pb_utils.InferenceResponse:
    """The response to the one request."""
    if not isinstance(responses, list) or len(responses) != 1:
        raise _RefusedError("'execute' gave no list of one response for one request")
    response = responses[0]
    if not isinstance(response, pb_utils.InferenceResponse):
        raise _RefusedError(f"'execute' gave a {type(response).__name__}, no InferenceResponse")
    return response


def _reply(
    connection: socket.socket, head: Mapping[str, Any], outputs: Mapping[str, NDArray[Any]]
) -> None:
    try:
        send(connection, head, outputs)
    except WireError as exc:  # found out before anything is sent
        send(connection, {"error": str(exc)}, {})


def _said(exc: BaseException, path: str) -> str:
    """What an error says, and where in the model it comes from."""
    if isinstance(exc, _RefusedError):
        return str(exc)
    with contextlib.suppress(Exception):
        traceback.print_exception(type(exc), exc, exc.__traceback__)
        sys.stderr.flush()
    lines = [one for one in traceback.extract_tb(exc.__traceback__) if one.filename == path]
    where = f" ({os.path.basename(path)}, line {lines[-1].lineno})" if lines else ""  # noqa: PTH119
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}{f': {text}' if text else ''}"[:_LONGEST] + where
