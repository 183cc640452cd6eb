"""Lists of models and versions; the query language itself is tested in core."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.version import Version
from nbmodel.errors import InputError, ModelNotFoundError
from nbmodel.registry import Registry

Add = Callable[..., Version]


@pytest.fixture(autouse=True)
def _models(registry: Registry, add: Add) -> None:
    add("digits", b"a", metrics={"acc": 0.8}, tags={"fruit": "no"})
    add("digits", b"bb", metrics={"acc": 0.95}, metadata={"depth": 3})
    add("team/apples", b"ccc", framework="tflite", model_type="detection", tags={"fruit": "yes"})
    registry.set_alias("digits:1", "champion")
    registry.pin("digits:2")


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("", ["team/apples:1", "digits:2", "digits:1"]),
        ("framework=onnx and metrics.acc > 0.9", ["digits:2"]),
        ("tag:fruit", ["team/apples:1", "digits:1"]),
        ("tag:fruit and not alias:champion", ["team/apples:1"]),
        ("tag.fruit=yes", ["team/apples:1"]),
        ("alias:latest", ["team/apples:1", "digits:2"]),
        ("type=detection or metadata.depth=3", ["team/apples:1", "digits:2"]),
        ("pinned=true", ["digits:2"]),
        ("size > 2B", ["team/apples:1"]),
        ("apple", ["team/apples:1"]),
        ("age < 1h", ["team/apples:1", "digits:2", "digits:1"]),
        ("number=1 digits", ["digits:1"]),
    ],
)
def test_a_query_selects_versions_newest_first(
    registry: Registry, query: str, versions: list[str]
) -> None:
    assert [found.reference for found in registry.versions(query=query)] == versions


def test_a_model_is_listed_when_any_version_matches(registry: Registry) -> None:
    assert [model.name for model in registry.models("metrics.acc < 0.9")] == ["digits"]
    assert [model.name for model in registry.models("fruit")] == []
    assert [model.name for model in registry.models()] == ["digits", "team/apples"]


def test_a_model_without_versions_is_found_by_what_it_has(registry: Registry) -> None:
    registry.delete("team/apples:1")
    assert [model.name for model in registry.models("apples")] == ["team/apples"]
    assert [model.name for model in registry.models("framework=tflite")] == []


def test_archived_ones_are_found_only_when_asked_for(registry: Registry) -> None:
    registry.archive("team/apples")
    assert registry.models("apples") == []
    assert len(registry.models("apples", archived=True)) == 1
    assert registry.versions(query="archived=true") == []
    assert len(registry.versions(query="archived=true", archived=True)) == 1
    assert len(registry.versions("team/apples")) == 1  # it was asked for by name


def test_a_query_within_a_model_and_a_model_that_is_not_there(registry: Registry) -> None:
    assert [found.number for found in registry.versions("digits", "metrics.acc < 0.9")] == [1]
    with pytest.raises(ModelNotFoundError):
        registry.versions("zebra")
    with pytest.raises(InputError, match="character 11"):
        registry.versions(query="framework=")
