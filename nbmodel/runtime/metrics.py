"""What a runtime counts, in the text format of Prometheus, under Triton's names.

Source: Prometheus' "Exposition formats", 0.0.4; Triton's ``docs/user_guide/metrics.md``.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbmodel.runtime.statistics import ModelStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NS_A_US = 1000


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric with a value for each model.

    Attributes:
        name: As Triton has it.
        kind: ``counter`` or ``gauge``.
        help: One line.
        value: Of a model.
    """

    name: str
    kind: str
    help: str
    value: Callable[[ModelStatistics], int]


_METRICS = (
    _Metric(
        "nv_inference_request_success",
        "counter",
        "Number of successful inference requests, all batch sizes",
        lambda model: model.success.count,
    ),
    _Metric(
        "nv_inference_request_failure",
        "counter",
        "Number of failed inference requests, all batch sizes",
        lambda model: model.fail.count,
    ),
    _Metric(
        "nv_inference_count",
        "counter",
        "Number of inferences performed",
        lambda model: model.inference_count,
    ),
    _Metric(
        "nv_inference_exec_count",
        "counter",
        "Number of model executions performed",
        lambda model: model.execution_count,
    ),
    _Metric(
        "nv_inference_request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds",
        lambda model: model.success.ns // _NS_A_US,
    ),
    _Metric(
        "nv_inference_queue_duration_us",
        "counter",
        "Cumulative inference queuing duration in microseconds",
        lambda model: model.queue.ns // _NS_A_US,
    ),
    _Metric(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Cumulative compute input duration in microseconds",
        lambda model: model.compute_input.ns // _NS_A_US,
    ),
    _Metric(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Cumulative compute inference duration in microseconds",
        lambda model: model.compute_infer.ns // _NS_A_US,
    ),
    _Metric(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Cumulative inference compute output duration in microseconds",
        lambda model: model.compute_output.ns // _NS_A_US,
    ),
    _Metric(
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model",
        lambda model: model.pending,
    ),
)


def prometheus(models: Sequence[ModelStatistics], *, version: str) -> str:
    """The text that a Prometheus server scrapes.

    Args:
        models: Statistics of every model.
        version: nbmodel's.
    """
    lines: list[str] = []
    for metric in _METRICS:
        lines += _head(metric.name, metric.kind, metric.help)
        for model in models:
            labels = _labels({"model": model.name, "version": model.version})
            lines.append(f"{metric.name}{labels} {metric.value(model)}")
    lines += _process()
    info = _labels({"version": version, "python": platform.python_version()})
    lines += [*_head("nbmodel_build_info", "gauge", "What runs"), f"nbmodel_build_info{info} 1"]
    return "\n".join(lines) + "\n"


def _process() -> Iterable[str]:
    times = os.times()
    yield from _head(
        "process_cpu_seconds_total", "counter", "Total user and system CPU time in seconds"
    )
    yield f"process_cpu_seconds_total {times.user + times.system}"
    resident = _resident_bytes()
    if resident is not None:
        yield from _head("process_resident_memory_bytes", "gauge", "Resident memory size in bytes")
        yield f"process_resident_memory_bytes {resident}"


def _resident_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    # Elsewhere only the most it ever was is known: bytes on macOS, KiB on the BSDs.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return (f"# HELP {name} {text}", f"# TYPE {name} {kind}")


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
