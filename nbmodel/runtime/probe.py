"""Trying a version out in a process of its own, before it may serve.

A model that crashes, hangs or takes all memory does so there, and a version that answers
wrongly is refused before a request reaches it. What it has to show is in ``runtime.proof``,
what keeps it in its bounds in ``runtime.confined``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbmodel.backends import load_backend
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    ConfigError,
    NbModelError,
    PluginError,
    ProbeError,
    StorageError,
    StorageUnavailableError,
    UnavailableError,
)
from nbmodel.runtime.confined import Ending, run_confined
from nbmodel.runtime.packages import Installed
from nbmodel.runtime.proc import free_memory
from nbmodel.runtime.proof import is_out_of_memory
from nbmodel.runtime.services import Source

#: What a process may ask the system for beyond what it may have: stacks of threads and
#: arenas of engines are asked for as a whole and used in part.
_ASKED_FOR = 2
_ASKED_BYTES = 256 * 1024 * 1024
_MAX_QUOTED = 400  # characters of what a child printed
#: What says nothing about a version, as the child calls it.
_PASSING = {
    PluginError.__name__: PluginError,
    StorageError.__name__: StorageUnavailableError,
    UnavailableError.__name__: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What a probe may take.

    Attributes:
        timeout_s: From its start to its end, in seconds, > 0.
        memory_bytes: Of memory for the engine and the model; None: four fifths of what the
            machine has free, where that can be found out.
        allow_non_finite: Whether NaN and infinity are answers like others.
    """

    timeout_s: float = 120.0
    memory_bytes: int | None = None
    allow_non_finite: bool = False


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What came of the probe of a version that may serve.

    Attributes:
        load_s: Seconds to load it, its engine included.
        latency_ms: Median milliseconds of a run of the golden sample, or of inputs that were
            made up; None when it was not run.
        memory_bytes: Most that loading and running it added to the memory of the process, its
            engine included; None where the platform does not tell.
        golden: How it did, in a sentence.
        note: What a person should know although it may serve; may be empty.
    """

    load_s: float
    latency_ms: float | None
    memory_bytes: int | None
    golden: str
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the status of a service."""
        return {
            "load_s": self.load_s,
            "latency_ms": self.latency_ms,
            "memory_bytes": self.memory_bytes,
            "golden": self.golden,
            "note": self.note,
        }


def probe(
    source: Source,
    limits: ProbeLimits | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _doing: None,
) -> ProbeReport:
    """Load a model in a process of its own, and let it prove itself there.

    Args:
        source: What the runtime would load, and how.
        limits: What the probe may take.
        cancelled: Asked 50 times a second; once it says yes, the process is killed.
        tell: Called with what the backend says of work that takes long.

    Raises:
        ProbeError: The version must not serve; ``reason`` says why in one word.
        ConfigError, PluginError: It cannot be loaded as it is configured, or here.
        UnavailableError, StorageError: Nothing was found out: cancelled, no process can be
            started, or what it runs in cannot be reached or has no room just now.
    """
    limits = _settled(ProbeLimits() if limits is None else limits)
    limits = replace(limits, timeout_s=limits.timeout_s + _patience_s(source))
    heard = _Heard(tell)
    ending = run_confined(
        [sys.executable, "-m", "nbmodel.runtime.probe_child"],
        _request(source, limits),
        told=heard.hear,
        timeout_s=limits.timeout_s,
        memory_bytes=limits.memory_bytes,
        cancelled=cancelled,
    )
    load_backend(source.model).tidy(source.attributes)
    report, most = heard.report, limits.memory_bytes
    if report is not None:
        if most is not None and (report.memory_bytes or 0) > most:  # between two looks
            ending = replace(ending, memory=report.memory_bytes or 0)
            raise _out_of_memory("takes too much memory", limits, ending)
        return report
    if ending.cause == "cancelled":
        raise UnavailableError("the probe was given up: the runtime has other things to do")
    if heard.refusal is not None:
        raise _refused(heard.refusal, limits, ending)
    raise _killed(heard.doing, limits, ending)


@dataclass(frozen=True, slots=True)
class _Settled(ProbeLimits):
    """Limits with nothing left open that can be found out.

    Attributes:
        is_given: Whether the memory is what somebody said, not what was free.
    """

    is_given: bool = True


def _settled(limits: ProbeLimits) -> _Settled:
    most = limits.memory_bytes
    if most is None:
        free = free_memory()
        most = None if free is None else free * 4 // 5
    return _Settled(
        limits.timeout_s, most, limits.allow_non_finite, is_given=limits.memory_bytes is not None
    )


def _patience_s(source: Source) -> float:
    """What is given to a backend that makes something before it can load."""
    try:
        return load_backend(source.model).patience_s(source.attributes)
    except Exception:  # noqa: BLE001 # a plug-in; what is wrong shows when it loads
        return 0.0


class _Heard:
    """What the child has said so far."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.doing = "starting"
        self.report: ProbeReport | None = None
        self.refusal: Mapping[str, Any] | None = None

    def hear(self, said: Mapping[str, Any]) -> bool:
        """Take in a line; whether it was the last."""
        self.doing = said.get("doing", self.doing)
        if "told" in said:
            self.doing = str(said["told"])
            self._tell(self.doing)
        if "report" in said:
            self.report = ProbeReport(**said["report"])
        self.refusal = said.get("refused", self.refusal)
        return self.report is not None or self.refusal is not None


def _request(source: Source, limits: _Settled) -> dict[str, Any]:
    installed = source.installed
    most = limits.memory_bytes
    if not load_backend(source.model).runs_here:
        most = None  # a server is not kept in the bounds of its client
    return {
        "parent": os.getpid(),
        "model": source.model,
        "attributes": dict(source.attributes),
        "signature": None if installed is None else _bare(installed.manifest.signature),
        "golden": None if installed is None else _golden(installed),
        "engines": None if source.engines is None else str(source.engines),
        "allow_non_finite": limits.allow_non_finite,
        "data_bytes": None if most is None else most * _ASKED_FOR + _ASKED_BYTES,
    }


def _bare(signature: Signature) -> dict[str, Any]:
    """A signature without what is for people: labels may be thousands."""
    return {
        side: [{"name": one.name, "datatype": one.datatype, "shape": one.shape} for one in tensors]
        for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }


def _golden(installed: Installed) -> dict[str, Any] | None:
    golden = installed.manifest.golden
    if golden is None:
        return None
    if golden.path not in {entry.path for entry in installed.manifest.files}:
        # Also what keeps the path inside the folder.
        raise ProbeError(
            f"the golden sample {golden.path!r} is not among the files",
            reason="LoadFailed",
            hint="the version is damaged: make it again",
        )
    return {
        "file": str(installed.folder / golden.path),
        "rtol": golden.rtol,
        "atol": golden.atol,
    }


def _refused(refusal: Mapping[str, Any], limits: _Settled, ending: Ending) -> NbModelError:
    message, hint = str(refusal["message"]), refusal["hint"]
    if refusal["kind"] == ConfigError.__name__:
        return ConfigError(message, problems=refusal["problems"], hint=hint)
    for kind, error in _PASSING.items():
        if refusal["kind"] == kind:
            return error(message, hint=hint)
    if refusal["reason"] == "OutOfMemory":
        return _out_of_memory("asks for more memory than there is", limits, ending, message)
    return ProbeError(message, reason=refusal["reason"], hint=hint)


def _killed(doing: str, limits: _Settled, ending: Ending) -> ProbeError:
    """What became of a child that ended without a result."""
    if ending.cause == "time":
        return ProbeError(
            f"hangs: not done after {limits.timeout_s:g} s, while {doing}{_quoted(ending)}",
            reason="TimedOut",
            hint='a model that takes that long needs a larger "probe_timeout_s" in its deployment',
        )
    if ending.cause == "memory":
        return _out_of_memory(f"takes too much memory while {doing}", limits, ending)
    if ending.cause == "talk":
        return ProbeError(
            f"would not stop writing while {doing}{_quoted(ending)}",
            reason="Crashed",
            hint="its backend writes into a pipe that is not its own",
        )
    # The system kills with SIGKILL when it has no memory left; engines abort when they get none.
    if -(ending.code or 0) == getattr(signal, "SIGKILL", None):
        return _out_of_memory(f"was killed by the system while {doing}", limits, ending)
    if is_out_of_memory(ending.words):
        return _out_of_memory(f"crashes without memory while {doing}", limits, ending)
    return ProbeError(
        f"crashes while {doing}: {_name(ending.code)}{_quoted(ending)}",
        reason="Crashed",
        hint="the engine cannot run this file: try it with the engine's version it was made for",
    )


def _out_of_memory(message: str, limits: _Settled, ending: Ending, said: str = "") -> ProbeError:
    limit = "" if limits.memory_bytes is None else f"the limit is {_mebibytes(limits.memory_bytes)}"
    if limit and not limits.is_given:
        limit += ", four fifths of what was free"
    had = f"it had {_mebibytes(ending.memory)}" if ending.memory else ""
    numbers = "; ".join(part for part in (limit, had) if part)
    return ProbeError(
        f"{message}{f' ({numbers})' if numbers else ''}{f': {said}' if said else ''}"
        f"{_quoted(ending)}",
        reason="OutOfMemory",
        hint='use a smaller model, or set a larger "probe_memory_bytes" in its deployment'
        if limits.is_given
        else "use a smaller model, or free memory on this machine and ask for it again",
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _name(code: int | None) -> str:
    """How a process ended: the name of a signal, or its exit code."""
    if code is None:
        return "it cannot be ended"
    if code >= 0:
        return f"exit code {hex(code) if code > 255 else code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    return f"{number.name} ({signal.strsignal(number)})"


def _quoted(ending: Ending) -> str:
    words = " ".join(ending.words.split())
    if not words:
        return ""
    return f"; it printed: {'…' if len(words) > _MAX_QUOTED else ''}{words[-_MAX_QUOTED:]}"
