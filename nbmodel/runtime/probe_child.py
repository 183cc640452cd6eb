"""The process in which a version is tried out: ``python -m nbmodel.runtime.probe_child``.

Started by ``runtime.probe`` with a line of JSON on its standard input. It writes lines of JSON:
what it is ``doing``, and in the end a ``report`` or what it ``refused``. It ends when the
process that started it does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbmodel.backends import Known, Session, load_backend
from nbmodel.core.golden import Golden
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    ConfigError,
    GoldenSampleError,
    NbModelError,
    PluginError,
    ProbeError,
    StorageError,
    UnavailableError,
)
from nbmodel.golden import read_sample
from nbmodel.runtime.batching import has_batch_axis
from nbmodel.runtime.proc import process_memory
from nbmodel.runtime.proof import (
    Proof,
    check_signature,
    is_out_of_memory,
    prove_golden,
    prove_made_up,
)

NICE = 10  # below the requests that the old version answers meanwhile
_PR_SET_PDEATHSIG = 1
_STDIN, _STDOUT, _STDERR = range(3)

#: What is told apart of what it refuses; a refusal of another kind is about the model.
_KINDS = (ConfigError, PluginError, StorageError, UnavailableError)

Say = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Try a version out as the line on the standard input says, and end."""
    say = _own_output()
    request = json.loads(sys.stdin.buffer.readline())
    _end_with_parent(request["parent"])
    _step_back(request["data_bytes"])
    try:
        say({"report": _examined(request, say)})
    except NbModelError as exc:
        say({"refused": _refusal(exc)})
    # Nothing of an engine is asked to tidy up: that may take long, hang or crash.
    sys.stderr.flush()
    os._exit(0)


def _examined(request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    try:
        return examine(request, say)
    except NbModelError:
        raise
    except Exception as exc:  # a plug-in may raise anything
        text = f"{type(exc).__name__}: {exc}"
        reason = "OutOfMemory" if is_out_of_memory(text) else "RunFailed"
        raise ProbeError(f"its backend failed: {text}", reason=reason) from exc


def examine(request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Load a model and have it prove itself.

    Args:
        request: As ``runtime.probe`` makes it.
        say: Writes a line to the process that asked.

    Returns:
        The fields of a ``ProbeReport``.

    Raises:
        ProbeError: The model must not serve.
        ConfigError, PluginError: It cannot be loaded as it is configured, or here.
        StorageError, UnavailableError: It cannot be loaded just now.
    """

    def tell(doing: str) -> None:
        say({"doing": doing})

    before = process_memory().now
    say({"doing": "loading the model", "memory": before})
    attributes = request["attributes"]
    began = time.perf_counter()
    session = _load(request, say).plain
    load_s = time.perf_counter() - began
    own = Signature.from_json(request["signature"] or {})
    check_signature(session.signature, own)
    proof = _prove(session, own, request, tell)
    if attributes.get("max_batch_size") is None:
        tell("finding out whether it takes batches")
        has_batch_axis(session, proof.inputs)
    if not session.runs_together:
        tell("loading its other instances")
        others = [_load(request, say) for _ in range(attributes.get("instances", 1) - 1)]
        del others
    peak = process_memory().peak
    runs_here = load_backend(request["model"]).runs_here
    return {
        "load_s": load_s,
        "latency_ms": proof.latency_ms,
        "memory_bytes": max(0, peak - before) if peak and before and runs_here else None,
        "golden": proof.golden,
        "note": proof.note,
    }


def _load(request: Mapping[str, Any], say: Say) -> Session:
    signature, golden, engines = (request[key] for key in ("signature", "golden", "engines"))
    known = Known(
        None if signature is None else Signature.from_json(signature),
        None if golden is None else Path(golden["file"]),
        None if engines is None else Path(engines),
        lambda doing: say({"told": doing}),
    )
    try:
        return load_backend(request["model"]).load(request["attributes"], known)
    except (ConfigError, PluginError, StorageError, UnavailableError):
        raise  # none says anything about the model
    except NbModelError as exc:
        reason = "OutOfMemory" if is_out_of_memory(str(exc)) else "LoadFailed"
        hint = exc.hint or "is the file whole, and made for an engine of this version?"
        raise ProbeError(str(exc), reason=reason, hint=hint) from exc


def _prove(
    session: Session, own: Signature, request: Mapping[str, Any], tell: Callable[[str], None]
) -> Proof:
    if request["golden"] is None:
        return prove_made_up(session, own, allow_non_finite=request["allow_non_finite"], tell=tell)
    tell("reading its golden sample")
    given = request["golden"]
    try:
        sample = read_sample(Path(given["file"]))
    except GoldenSampleError as exc:
        raise ProbeError(
            str(exc), reason="LoadFailed", hint="the version is damaged: make it again"
        ) from exc
    return prove_golden(session, sample, Golden(rtol=given["rtol"], atol=given["atol"]), tell=tell)


def _refusal(exc: NbModelError) -> dict[str, Any]:
    return {
        "kind": next((one.__name__ for one in _KINDS if isinstance(exc, one)), ""),
        "message": str(exc),
        "hint": exc.hint,
        "reason": getattr(exc, "reason", "RunFailed"),
        "problems": list(getattr(exc, "problems", ())),
    }


def _own_output() -> Say:
    """Keep the standard output for the parent; what engines print there goes to the other."""
    ours = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)

    def say(data: Mapping[str, Any]) -> None:
        rest = json.dumps(data).encode() + b"\n"
        while rest:
            rest = rest[os.write(ours, rest) :]

    return say


def _end_with_parent(parent: int) -> None:
    """See to it that this process ends when its parent does, however that ends."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(_STDIN, 4096):  # nothing more is sent: this is the parent's end
                pass
        os._exit(1)

    threading.Thread(target=wait, name="nbmodel-parent", daemon=True).start()
    if sys.platform == "linux":  # also while an engine lets no thread run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _step_back(data_bytes: int | None) -> None:
    """Let others go first for the processor, and be the first to go when memory is short.

    Args:
        data_bytes: Memory that it may still ask the system for, or None.
    """
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError):
        os.nice(NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_bytes is not None:
        with contextlib.suppress(OSError, ValueError):
            most = process_memory().data + data_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
