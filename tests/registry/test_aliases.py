"""Aliases and their history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.version import Version
from nbmodel.errors import (
    AliasConflictError,
    RefError,
    RegistryError,
    VersionNotFoundError,
)
from nbmodel.registry import Registry

Add = Callable[..., Version]


@pytest.fixture(autouse=True)
def _three(add: Add) -> None:
    for content in (b"a", b"b", b"c"):
        add(content=content)


def test_an_alias_moves_and_every_move_is_kept(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion", why="first")
    registry.set_alias("digits:2", "champion", why="better")
    registry.remove_alias("digits", "champion", why="withdrawn")
    history = registry.alias_history("digits")
    assert [(move.old, move.new, move.why) for move in history] == [
        (2, None, "withdrawn"),
        (1, 2, "better"),
        (None, 1, "first"),
    ]
    assert all(move.who and move.at.endswith("Z") for move in history)
    assert registry.model("digits").aliases == {"latest": 3}


def test_the_history_of_one_alias_leaves_others_out(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion")
    registry.set_alias("digits:1", "stable")
    assert [move.alias for move in registry.alias_history("digits", "stable")] == ["stable"]
    assert registry.alias_history("digits", "unknown") == []


def test_an_alias_that_is_there_already_makes_no_history(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion")
    again = registry.set_alias("digits:1", "champion")
    assert (again.old, again.new) == (1, 1)
    assert len(registry.alias_history("digits")) == 1


def test_a_version_lists_its_aliases_sorted_with_latest(registry: Registry) -> None:
    for alias in ("stable", "champion"):
        registry.set_alias("digits:3", alias)
    assert registry.resolve("digits:3").aliases == ("champion", "latest", "stable")
    assert registry.resolve("digits:1").aliases == ()
    assert registry.model("digits").aliases == {"champion": 3, "latest": 3, "stable": 3}


@pytest.mark.parametrize(
    ("start", "expect", "ok"),
    [
        (1, 1, True),
        (1, 2, False),
        (1, None, False),
        (None, None, True),
        (None, 1, False),
    ],
)
def test_a_move_happens_only_from_where_it_is_expected(
    registry: Registry, start: int | None, expect: int | None, ok: bool
) -> None:
    if start is not None:
        registry.set_alias(f"digits:{start}", "champion")
    if ok:
        assert registry.set_alias("digits:3", "champion", expect=expect).new == 3
    else:
        with pytest.raises(AliasConflictError):
            registry.set_alias("digits:3", "champion", expect=expect)
        aliases = registry.model("digits").aliases
        assert aliases.get("champion") == start


@pytest.mark.parametrize("alias", ["latest", "pinned", "3", "2024-02-28T13-36-51", "", "a b", "-x"])
def test_an_alias_that_reads_as_something_else_is_refused(registry: Registry, alias: str) -> None:
    with pytest.raises(RefError):
        registry.set_alias("digits:1", alias)
    assert registry.alias_history("digits") == []


def test_an_unknown_alias_cannot_be_removed(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion")
    with pytest.raises(VersionNotFoundError) as caught:
        registry.remove_alias("digits", "champoin")
    assert caught.value.hint == "did you mean 'champion'?"


def test_an_archived_version_takes_no_alias(registry: Registry) -> None:
    registry.archive("digits:1")
    with pytest.raises(RegistryError, match="digits:1 is archived"):
        registry.set_alias("digits:1", "champion")


def test_latest_is_the_newest_that_is_not_archived(registry: Registry) -> None:
    registry.archive("digits:3")
    assert registry.resolve("digits:latest").number == 2
    assert registry.model("digits").latest == 2
    registry.restore("digits:3")
    assert registry.resolve("digits:latest").number == 3
    for number in (1, 2, 3):
        registry.archive(f"digits:{number}")
    assert registry.model("digits").latest is None
    assert registry.model("digits").aliases == {}
    with pytest.raises(VersionNotFoundError, match="not archived"):
        registry.resolve("digits")
