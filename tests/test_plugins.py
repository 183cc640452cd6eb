"""Plug-in tables, and what is said when something is not there."""

from __future__ import annotations

import pytest

from nbmodel.errors import PluginError
from nbmodel.plugins import PluginTable, require

TABLE = PluginTable(
    kind="backend",
    builtin={"here": "fractions:Fraction", "away": "no_such_package:Thing"},
    extras={"away": "runtime"},
)


def test_a_plug_in_is_loaded_by_name() -> None:
    from fractions import Fraction

    assert TABLE.load("here") is Fraction


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        pytest.param("heer", "unknown backend 'heer'", "did you mean 'here'?", id="misspelt"),
        pytest.param("xyzzy", "unknown backend 'xyzzy'", "known: here, away", id="unheard of"),
        pytest.param(
            "away",
            "backend 'away' needs no_such_package, which is not installed",
            "pip install 'nbmodel[runtime]'",
            id="not installed",
        ),
    ],
)
def test_what_is_missing_says_what_to_do(name: str, message: str, hint: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        TABLE.load(name)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_a_requirement_is_checked_without_importing_it() -> None:
    require("a test", "fractions", extra="notebook")
    with pytest.raises(PluginError, match="a test needs no_such_package") as caught:
        require("a test", "fractions", "no_such_package", extra="notebook")
    assert caught.value.hint == "pip install 'nbmodel[notebook]'"
