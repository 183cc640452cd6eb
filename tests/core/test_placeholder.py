"""Placeholders; the texts are those of rdk's placeholder_replacement.go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.machine import Package
from nbmodel.core.placeholder import Replacement, replace_placeholders

PACKAGES = {
    "digits": Package("digits", "local/digits"),
    "tool": Package("tool", "acme/tool", "1.0.0", "module"),
}


def replace(value: Any) -> Replacement:
    return replace_placeholders(
        value,
        PACKAGES,
        folder=lambda package: f"/data/{package.type}/{package.name}",
        environment={"CAMERA": "/dev/video0", "EMPTY": ""},
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "${packages.ml_model.digits}/m.onnx", "/data/ml_model/digits/m.onnx", id="a typed one"
        ),
        pytest.param("${packages.digits}/m", "/data/ml_model/digits/m", id="an untyped is a model"),
        pytest.param("${packages.module.tool}", "/data/module/tool", id="of another type"),
        pytest.param("${environment.CAMERA}", "/dev/video0", id="a variable"),
        pytest.param("x${environment.EMPTY}y", "xy", id="a variable that is set to nothing"),
        pytest.param(
            "${packages.digits}:${environment.CAMERA}",
            "/data/ml_model/digits:/dev/video0",
            id="two in one string",
        ),
        pytest.param("$packages.digits {x} $$", "$packages.digits {x} $$", id="not a placeholder"),
        pytest.param("${unclosed", "${unclosed", id="one that is not closed"),
    ],
)
def test_replaces(text: str, expected: str) -> None:
    assert replace(text) == Replacement(expected, (), replace(text).packages)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("${}", 'invalid placeholder "${}"', id="empty"),
        pytest.param("${hello}", 'invalid placeholder "${hello}"', id="of no known kind"),
        pytest.param(
            "${packages.a.b.c}", 'invalid placeholder "${packages.a.b.c}"', id="with too many parts"
        ),
        pytest.param(
            "${packages.ml_model.nothing}",
            'failed to find a package named "nothing" for placeholder "packages.ml_model.nothing"',
            id="of a package that is not there",
        ),
        pytest.param(
            "${packages.ml_model.tool}",
            'placeholder "packages.ml_model.tool" is looking for a package of type "ml_model" but '
            'a package of type "module" was found. Try "packages.module.tool"',
            id="of the wrong type",
        ),
        pytest.param(
            "${environment.NOPE}",
            'no environment variable named "NOPE" for placeholder "environment.NOPE"',
            id="of a variable that is not set",
        ),
    ],
)
def test_an_unresolved_placeholder_stays_as_text(text: str, problem: str) -> None:
    assert replace(f"a/{text}/b") == Replacement(f"a/{text}/b", (problem,), ())


def test_all_problems_of_a_document_are_collected() -> None:
    replaced = replace(
        {"a": ["${x}", {"b": "${packages.nope}"}], "${y}": 1, "c": "${packages.digits}", "d": None}
    )
    assert replaced.problems == (
        'invalid placeholder "${x}"',
        'failed to find a package named "nope" for placeholder "packages.nope"',
    )
    assert replaced.packages == ("digits",)
    assert replaced.value["${y}"] == 1
    assert replaced.value["a"] == ["${x}", {"b": "${packages.nope}"}]


def test_what_a_placeholder_stands_for_is_not_read_again() -> None:
    replaced = replace_placeholders(
        "${environment.A}", {}, folder=lambda _: "", environment={"A": "${environment.A}"}
    )
    assert replaced == Replacement("${environment.A}", (), ())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_a_document_without_placeholders_is_unchanged(value: Any) -> None:
    if "${" not in repr(value):
        assert replace(value) == Replacement(value, (), ())
