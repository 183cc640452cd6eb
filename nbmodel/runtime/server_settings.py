"""Settings of a running server that clients may read and change: logging and tracing.

Source: Triton's logging and trace extensions; ``http_server.cc`` for checks and texts.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbmodel.errors import FormatError, UnavailableError, UnsupportedError

#: Triton's name of a form of times → as ``strftime`` has it; None: each log's own.
LOG_FORMATS = {"default": None, "ISO8601": "%Y-%m-%dT%H:%M:%S"}
_FLAGS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
_MAX_INT32 = 2**31 - 1
_NUMBER = re.compile(r"\s*[+-]?[0-9]+")  # what C's stoi reads; what follows is ignored


class LogSettings:
    """What is logged, in Triton's words; a change takes effect at once.

    Args:
        logger: Whose level and handlers are changed; None for nbmodel's and its children.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("nbmodel")
        self._lock = threading.Lock()
        self._own_forms: dict[logging.Formatter, str | None] = {}  # before they were changed
        self._values: dict[str, Any] = {
            "log_file": "",
            **{name: self._logger.isEnabledFor(level) for name, level in _FLAGS.items()},
            "log_verbose_level": int(self._logger.isEnabledFor(logging.DEBUG)),
            "log_format": "default",
        }

    def get(self) -> dict[str, Any]:
        """All settings."""
        with self._lock:
            return dict(self._values)

    def update(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings; None leaves one as it is, unknown ones are ignored as in Triton.

        Returns:
            All settings.

        Raises:
            UnsupportedError: ``log_file`` cannot be changed over a network.
            FormatError: A value is of the wrong type.
            UnavailableError: There is no such format.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "log_file" in given:
            raise UnsupportedError("log file location can not be updated through network protocol")
        _check_log(given)
        with self._lock:
            self._values |= {name: value for name, value in given.items() if name in self._values}
            self._apply()
            return dict(self._values)

    def _apply(self) -> None:
        verbose = self._values["log_verbose_level"] > 0
        on = [level for name, level in _FLAGS.items() if self._values[name]]
        self._logger.setLevel(logging.DEBUG if verbose else min(on, default=logging.CRITICAL))
        datefmt = LOG_FORMATS[self._values["log_format"]]
        for handler in (*self._logger.handlers, *logging.getLogger().handlers):
            formatter = handler.formatter
            if formatter is not None:
                own = self._own_forms.setdefault(formatter, formatter.datefmt)
                formatter.datefmt = own if datefmt is None else datefmt


def _check_log(given: Mapping[str, Any]) -> None:
    for name in _FLAGS:
        if not isinstance(given.get(name, True), bool):
            raise FormatError(f"{name!r}: expected a boolean, found {given[name]!r}")
    level = given.get("log_verbose_level", 0)
    if type(level) is not int or not 0 <= level <= _MAX_INT32:
        raise FormatError(f"'log_verbose_level': expected an unsigned integer, found {level!r}")
    form = given.get("log_format", "default")
    if not isinstance(form, str):
        raise FormatError(f"'log_format': expected a string, found {form!r}")
    if form not in LOG_FORMATS:
        raise UnavailableError(f"invalid argument for --log_format, got: {form}")


@dataclass(frozen=True, slots=True)
class Trace:
    """What would be traced; tracing itself is off here.

    Attributes:
        level: ``("OFF",)``, or of ``TIMESTAMPS`` and ``TENSORS`` those wanted.
        rate: One request of so many.
        count: Traces still to make; −1 without end.
        log_frequency: Traces a file; 0 one file at the end.
    """

    level: tuple[str, ...] = ("OFF",)
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0

    def to_json(self) -> dict[str, Any]:
        """In the form of the trace extension."""
        return {
            "trace_level": list(self.level),
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
            "log_frequency": str(self.log_frequency),
            "trace_file": "",
            "trace_mode": "triton",
        }


_TRACE_NUMBERS = {"trace_rate": 0, "trace_count": -1, "log_frequency": 0}  # smallest value
_TRACE_FIELDS = {
    "trace_level": "level",
    "trace_rate": "rate",
    "trace_count": "count",
    "log_frequency": "log_frequency",
}


class TraceSettings:
    """Trace settings, for the server and for models that have their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: dict[str, Any] = {}
        self._models: dict[str, dict[str, Any]] = {}

    def get(self, model: str = "") -> Trace:
        """The settings of a model; those it has not itself are the server's."""
        with self._lock:
            return self._get(model)

    def update(self, changes: Mapping[str, Any], model: str = "") -> Trace:
        """Change settings of a model, or of the server.

        Args:
            changes: By Triton's names; numbers as text. None takes a setting back.
            model: Name of the model; empty for the server.

        Returns:
            All settings of the model or server.

        Raises:
            UnsupportedError: ``trace_file`` cannot be changed over a network.
            FormatError: A value cannot be read.
        """
        if "trace_file" in changes:
            raise UnsupportedError(
                "trace file location can not be updated through network protocol"
            )
        read = {
            _TRACE_FIELDS[name]: None if value is None else _read_trace(name, value)
            for name, value in changes.items()
            if name in _TRACE_FIELDS
        }
        with self._lock:
            own = self._models.setdefault(model, {}) if model else self._server
            own |= {name: value for name, value in read.items() if value is not None}
            for name in (name for name, value in read.items() if value is None):
                own.pop(name, None)
            return self._get(model)

    def _get(self, model: str) -> Trace:
        return replace(Trace(), **{**self._server, **self._models.get(model, {})})


def _read_trace(name: str, value: object) -> Any:
    if name == "trace_level":
        return _read_levels(value)
    if not isinstance(value, str):
        raise FormatError(f"{name!r}: expected a number as a string, found {value!r}")
    number = _NUMBER.match(value)
    if number is None:
        raise FormatError(f"Unable to parse {name!r}, got: {value}")
    smallest = _TRACE_NUMBERS[name]
    read = int(number[0]) if len(number[0]) <= 20 else _MAX_INT32 + 1
    if read > _MAX_INT32:
        raise FormatError(
            f"Unable to parse {name!r}, value is out of range [ {smallest}, {_MAX_INT32} ], "
            f"got: {value}"
        )
    if read < smallest:
        raise FormatError(f"Unable to parse {name!r}. Expecting value >= {smallest}, got:{value}")
    return read


def _read_levels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise FormatError(f"'trace_level': expected an array of strings, found {value!r}")
    if "OFF" in value and len(value) > 1:
        raise FormatError("Expect only one trace level 'OFF' is specified")
    known = tuple(level for level in ("TIMESTAMPS", "TENSORS") if level in value)
    return known or ("OFF",)
