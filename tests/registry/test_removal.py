"""Deleting, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.deployment import Deployment
from nbmodel.core.lineage import Lineage
from nbmodel.core.version import Version
from nbmodel.errors import InUseError, ModelNotFoundError, VersionNotFoundError
from nbmodel.registry import Registry

Add = Callable[..., Version]


def test_a_deleted_version_is_gone_and_its_number_with_it(registry: Registry, add: Add) -> None:
    add(content=b"a" * 1000)
    add(content=b"b")
    deleted = registry.delete("digits:2")
    assert (deleted.model, deleted.numbers, deleted.whole) == ("digits", (2,), False)
    with pytest.raises(VersionNotFoundError):
        registry.resolve("digits:2")
    assert add(content=b"c").number == 3
    assert registry.verify().is_clean


def test_bytes_that_others_need_are_not_freeable(registry: Registry, add: Add) -> None:
    add(content=b"a" * 1000)
    add("fruits", content=b"a" * 1000)
    assert registry.delete("digits").freeable < 1000  # its config alone
    registry.gc(grace_s=0)
    assert registry.verify().is_clean
    assert registry.delete("fruits").freeable > 1000


def test_every_use_is_named(registry: Registry, add: Add) -> None:
    parent = add(content=b"a")
    add("fruits", content=b"b", lineage=Lineage(parents=(parent.digest,)))
    registry.set_alias("digits:1", "champion")
    registry.pin("digits:1")
    registry.pin("digits:1", runtime="pi")
    registry.record_deployment(Deployment("nano", "vision", "digits", "latest", "d", "2026"))
    registry.publish("digits:1")
    for ref in ("digits:1", "digits"):
        with pytest.raises(InUseError) as caught:
            registry.delete(ref)
        assert str(caught.value) == (
            f"{ref} is in use: digits:1 has alias 'champion'; "
            "digits:1 is pinned for the registry; digits:1 is pinned for runtime 'pi'; "
            "digits:1 runs in vision@nano; digits:1 is a parent of fruits:1; "
            "digits:1 is published"
        )
    assert registry.resolve("digits:1").published


def test_latest_alone_does_not_stand_in_the_way(registry: Registry, add: Add) -> None:
    add(content=b"a")
    add(content=b"b")
    registry.delete("digits:2")
    assert registry.resolve("digits:latest").number == 1
    registry.delete("digits:1")
    assert registry.model("digits").versions == 0
    assert registry.model("digits").latest is None
    assert registry.versions("digits") == []
    assert [model.name for model in registry.models()] == ["digits"]


def test_children_that_go_too_do_not_stand_in_the_way(registry: Registry, add: Add) -> None:
    parent = add(content=b"a")
    add(content=b"b", lineage=Lineage(parents=(parent.digest,)))
    assert registry.delete("digits").numbers == (1, 2)
    with pytest.raises(ModelNotFoundError):
        registry.model("digits")


def test_force_takes_aliases_and_pins_too(registry: Registry, add: Add) -> None:
    add(content=b"a")
    add(content=b"b")
    registry.set_alias("digits:1", "champion")
    registry.pin("digits:1", runtime="pi")
    deleted = registry.delete("digits:1", force=True)
    assert (deleted.aliases, deleted.pins) == (("champion",), ("runtime 'pi'",))
    assert registry.pins() == []
    assert registry.model("digits").aliases == {"latest": 2}
    assert [(move.old, move.new) for move in registry.alias_history("digits")] == [
        (1, None),
        (None, 1),
    ]
    registry.record_deployment(Deployment("pi", "vision", "digits", "latest", "d", "2026"))
    registry.delete("digits", force=True)
    assert registry.deployments() == []
