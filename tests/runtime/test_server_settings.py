from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from nbmodel.errors import FormatError, NbModelError, UnavailableError, UnsupportedError
from nbmodel.runtime.server_settings import LogSettings, TraceSettings


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test-log-settings")
    logger.setLevel(logging.INFO)
    handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s", datefmt=None))
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def test_log_settings_begin_as_things_are(logger: logging.Logger) -> None:
    assert LogSettings(logger).get() == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        pytest.param({}, logging.INFO, id="nothing"),
        pytest.param({"log_info": False}, logging.WARNING, id="no information"),
        pytest.param({"log_info": False, "log_warning": False}, logging.ERROR, id="errors alone"),
        pytest.param({"log_verbose_level": 1}, logging.DEBUG, id="verbose"),
        pytest.param({"log_info": None, "log_verbose_level": None}, logging.INFO, id="null"),
        pytest.param(
            {"log_info": False, "log_warning": False, "log_error": False},
            logging.CRITICAL,
            id="silence",
        ),
    ],
)
def test_log_settings_change_what_is_logged(
    logger: logging.Logger, changes: dict[str, Any], level: int
) -> None:
    settings = LogSettings(logger)
    changed = settings.update(changes)
    assert logger.level == level
    assert changed == settings.get()
    assert all(changed[key] == value for key, value in changes.items() if value is not None)


def test_a_log_keeps_its_own_format_of_times(logger: logging.Logger) -> None:
    (handler,) = logger.handlers
    handler.setFormatter(logging.Formatter("%(asctime)s", datefmt="%H:%M"))
    assert handler.formatter is not None
    settings = LogSettings(logger)
    for form in ("default", "ISO8601", "default"):
        settings.update({"log_format": form})
    assert handler.formatter.datefmt == "%H:%M"


def test_times_are_logged_in_the_format_asked_for(logger: logging.Logger) -> None:
    LogSettings(logger).update({"log_format": "ISO8601"})
    formatter = logger.handlers[0].formatter
    assert formatter is not None
    assert formatter.datefmt == "%Y-%m-%dT%H:%M:%S"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"log_file": "x"}, UnsupportedError, id="a file"),
        pytest.param({"log_info": 1}, FormatError, id="a flag that is a number"),
        pytest.param({"log_verbose_level": -1}, FormatError, id="a negative level"),
        pytest.param({"log_verbose_level": True}, FormatError, id="a level that is a flag"),
        pytest.param({"log_format": "x"}, UnavailableError, id="an unknown format"),
        pytest.param({"log_format": []}, FormatError, id="a format that is a list"),
    ],
)
def test_a_wrong_log_setting_changes_nothing(
    logger: logging.Logger, changes: dict[str, Any], error: type[NbModelError]
) -> None:
    settings = LogSettings(logger)
    before = settings.get()
    with pytest.raises(error):
        settings.update({"log_error": False, **changes})
    assert settings.get() == before


def test_trace_settings_begin_switched_off() -> None:
    assert TraceSettings().get().to_json() == {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    }


def test_a_model_has_the_servers_settings_where_it_has_none() -> None:
    settings = TraceSettings()
    settings.update({"trace_rate": "12", "log_frequency": "34"}, "m")
    settings.update({"trace_rate": "56", "trace_count": "78", "trace_level": ["TIMESTAMPS"]})
    model = settings.get("m")
    assert (model.rate, model.count, model.log_frequency) == (12, 78, 34)
    assert model.level == ("TIMESTAMPS",)
    settings.update({"trace_rate": None}, "m")
    assert settings.get("m").rate == 56
    settings.update({"trace_rate": None})
    assert settings.get("m").rate == settings.get().rate == 1000


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        pytest.param({"trace_file": "x"}, UnsupportedError, "trace file location", id="a file"),
        pytest.param({"trace_rate": 5}, FormatError, "'trace_rate'", id="a number"),
        pytest.param({"trace_rate": "x"}, FormatError, "parse 'trace_rate', got: x", id="text"),
        pytest.param({"trace_rate": "2147483648"}, FormatError, "out of range", id="too large"),
        pytest.param({"trace_rate": "9" * 99}, FormatError, "out of range", id="enormous"),
        pytest.param({"trace_count": "-2"}, FormatError, "value >= -1", id="a negative count"),
        pytest.param({"trace_level": "OFF"}, FormatError, "'trace_level'", id="no array"),
        pytest.param({"trace_level": [1]}, FormatError, "'trace_level'", id="numbers"),
        pytest.param({"trace_level": ["OFF", "TENSORS"]}, FormatError, "only one", id="off and on"),
    ],
)
def test_a_wrong_trace_setting_changes_nothing(
    changes: dict[str, Any], error: type[NbModelError], says: str
) -> None:
    settings = TraceSettings()
    with pytest.raises(error, match=says):
        settings.update({"log_frequency": "9", **changes})
    assert settings.get().log_frequency == 0
