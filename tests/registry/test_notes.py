"""Descriptions, tags, status and names of models and versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.deployment import Deployment
from nbmodel.core.version import Version
from nbmodel.errors import (
    InputError,
    InUseError,
    ModelExistsError,
    ModelNotFoundError,
    PinConflictError,
    PublishedError,
    RefError,
)
from nbmodel.registry import Registry

Add = Callable[..., Version]


@pytest.fixture(autouse=True)
def _two(add: Add) -> None:
    add(content=b"a")
    add(content=b"b")


def test_tags_are_set_changed_and_removed(registry: Registry) -> None:
    registry.tag("digits:1", {"fruit": "apple", "site": "north"})
    tagged = registry.tag("digits:1", {"fruit": "pear"}, remove=["site", "not-there"])
    assert tagged.tags == {"fruit": "pear"}
    assert registry.resolve("digits:1").tags == {"fruit": "pear"}
    assert registry.resolve("digits:2").tags == {}


@pytest.mark.parametrize(
    ("tags", "remove"),
    [({"a b": ""}, []), ({"": "x"}, []), ({"a": "x" * 2000}, []), ({"a": "b"}, ["a"])],
    ids=["key with a space", "empty key", "long value", "set and removed"],
)
def test_a_malformed_tag_changes_nothing(
    registry: Registry, tags: dict[str, str], remove: list[str]
) -> None:
    with pytest.raises(InputError):
        registry.tag("digits:1", {"ok": "ok", **tags}, remove)
    assert registry.resolve("digits:1").tags == {}


def test_models_and_versions_have_descriptions_of_their_own(registry: Registry) -> None:
    registry.describe("digits", "handwritten digits")
    registry.describe("digits:2", "more rows")
    assert registry.model("digits").description == "handwritten digits"
    assert registry.resolve("digits:2").description == "more rows"
    assert registry.resolve("digits:1").description == ""


def test_a_published_version_takes_no_notes_but_can_be_deprecated(registry: Registry) -> None:
    assert registry.publish("digits:1").published
    with pytest.raises(PublishedError):
        registry.tag("digits:1", {"a": "b"})
    with pytest.raises(PublishedError):
        registry.describe("digits:1", "text")
    assert registry.deprecate("digits:1", "too slow").deprecated == "too slow"
    assert registry.archive("digits:1").archived
    registry.set_alias("digits:2", "champion")
    assert registry.describe("digits:2", "text").description == "text"


def test_deprecating_a_model_deprecates_its_versions_until_taken_back(registry: Registry) -> None:
    registry.deprecate("digits", "use fruits")
    registry.deprecate("digits:1", "broken")
    assert registry.model("digits").deprecated == "use fruits"
    assert registry.resolve("digits:1").deprecated == "broken"
    assert registry.resolve("digits:2").deprecated == "use fruits"
    registry.deprecate("digits", None)
    assert registry.resolve("digits:2").deprecated is None
    with pytest.raises(InputError, match="needs a message"):
        registry.deprecate("digits", "  ")


def test_archived_versions_and_models_are_left_out_of_lists(registry: Registry, add: Add) -> None:
    add("fruits")
    registry.archive("digits:1")
    assert [version.number for version in registry.versions("digits")] == [2]
    assert [version.number for version in registry.versions("digits", archived=True)] == [2, 1]
    assert registry.resolve("digits:1").archived
    registry.archive("digits")
    assert [model.name for model in registry.models()] == ["fruits"]
    assert [version.model for version in registry.versions()] == ["fruits"]
    assert [model.name for model in registry.models(archived=True)] == ["digits", "fruits"]
    assert len(registry.versions(archived=True)) == 3
    registry.restore("digits")
    registry.restore("digits:1")
    assert len(registry.versions()) == 3


def test_what_is_named_or_held_is_not_archived(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion")
    with pytest.raises(InUseError, match="alias 'champion'"):
        registry.archive("digits:1")
    registry.remove_alias("digits", "champion")
    registry.pin("digits:1", runtime="pi")
    with pytest.raises(PinConflictError, match="runtime 'pi'"):
        registry.archive("digits:1")
    with pytest.raises(PinConflictError, match="version 1"):
        registry.archive("digits")
    registry.unpin("digits", runtime="pi")
    registry.record_deployment(Deployment("pi", "vision", "digits", "1", "digits", "2026"))
    with pytest.raises(InUseError, match="vision@pi"):
        registry.archive("digits:1")
    with pytest.raises(InUseError, match="vision@pi"):
        registry.archive("digits")
    registry.remove_deployment("pi", "vision")
    registry.archive("digits:1")


def test_archiving_what_latest_follows_lets_latest_move_on(registry: Registry) -> None:
    registry.record_deployment(Deployment("pi", "vision", "digits", "latest", "digits", "2026"))
    registry.archive("digits:2")
    assert registry.wanted("digits", "pi", "latest").number == 1


def test_a_renamed_model_keeps_everything(registry: Registry) -> None:
    registry.set_alias("digits:1", "champion", why="good")
    registry.pin("digits:1", runtime="pi")
    registry.record_deployment(Deployment("pi", "vision", "digits", "latest", "digits", "2026"))
    before = registry.resolve("digits:1")
    assert registry.rename("digits", "team/numbers").name == "team/numbers"
    after = registry.resolve("team/numbers:champion")
    assert (after.digest, after.stamp) == (before.digest, before.stamp)
    assert after.model == "team/numbers"
    assert [move.why for move in registry.alias_history("team/numbers")] == ["good"]
    assert registry.pins()[0].model == "team/numbers"
    assert registry.deployments()[0].model == "team/numbers"
    assert registry.verify().is_clean
    with pytest.raises(ModelNotFoundError):
        registry.resolve("digits")


@pytest.mark.parametrize(
    ("new", "error"),
    [("fruits", ModelExistsError), ("Digits", RefError), ("x" * 10_000, RefError)],
)
def test_a_name_that_is_taken_or_malformed_changes_nothing(
    registry: Registry, add: Add, new: str, error: type[Exception]
) -> None:
    add("fruits")
    with pytest.raises(error):
        registry.rename("digits", new)
    assert [model.name for model in registry.models()] == ["digits", "fruits"]
    assert registry.rename("digits", "digits").name == "digits"


def test_numbers_of_a_name_are_never_given_again(registry: Registry, add: Add) -> None:
    registry.rename("digits", "numbers")
    assert add("digits").number == 3
    registry.delete("digits")
    assert add("digits").number == 4
    assert add("numbers").number == 3


def test_a_published_version_says_in_good_words_what_it_does_not_take(registry: Registry) -> None:
    registry.publish("digits:1")
    with pytest.raises(PublishedError, match="it takes no description"):
        registry.describe("digits:1", "x")


def test_a_name_that_is_used_again_tells_which_numbers_it_had(registry: Registry, add: Add) -> None:
    assert registry.model("digits").retired == 0
    registry.rename("digits", "numerals")
    assert add(content=b"c").number == 3
    assert registry.model("digits").retired == 2
    assert registry.model("numerals").retired == 0


def test_a_model_that_gets_its_name_back_misses_no_number(registry: Registry) -> None:
    registry.rename("digits", "numerals")
    registry.rename("numerals", "digits")
    assert registry.model("digits").retired == 0


def test_a_refused_delete_names_the_words_to_add(registry: Registry) -> None:
    registry.publish("digits:1")
    with pytest.raises(InUseError) as refused:
        registry.delete("digits:1")
    assert "delete digits:1 --force" in (refused.value.hint or "")
