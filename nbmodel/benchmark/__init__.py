"""Measuring a model under load: a closed loop, and what is measured.

The results are values of ``nbmodel.core.benchmark``; how they look is in
``nbmodel.display.bench``.
"""

from __future__ import annotations

from nbmodel.benchmark.load import Job, run_level
from nbmodel.benchmark.measure import measure
from nbmodel.benchmark.subject import LocalSubject, ServedSubject, Subject

__all__ = [
    "Job",
    "LocalSubject",
    "ServedSubject",
    "Subject",
    "measure",
    "run_level",
]
