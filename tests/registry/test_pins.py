"""Pins, and which version a runtime is to run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.version import Version
from nbmodel.errors import InputError, PinConflictError, RegistryError, VersionNotFoundError
from nbmodel.registry import Registry

Add = Callable[..., Version]


@pytest.fixture(autouse=True)
def _three(registry: Registry, add: Add) -> None:
    for content in (b"a", b"b", b"c"):
        add(content=content)
    registry.set_alias("digits:2", "champion")


def test_a_pinned_name_stays_while_latest_moves_on(registry: Registry, add: Add) -> None:
    pin = registry.pin("digits:1", why="the others are worse")
    add(content=b"d")
    assert (pin.number, pin.runtime, pin.why) == (1, None, "the others are worse")
    assert registry.resolve("digits").number == 1
    assert registry.resolve("digits").pinned
    assert registry.resolve("digits:latest").number == 4
    assert registry.model("digits").pin == 1
    assert registry.unpin("digits") == pin
    assert registry.resolve("digits").number == 4
    assert registry.model("digits").pin is None


@pytest.mark.parametrize(
    ("pins", "runtime", "selector", "number"),
    [
        ({}, "pi", "latest", 3),
        ({}, "pi", "", 3),
        ({}, "pi", "champion", 2),
        ({}, "pi", "1", 1),
        ({None: 1}, "pi", "latest", 1),
        ({None: 1}, "pi", "champion", 1),
        ({None: 1, "pi": 2}, "pi", "latest", 2),
        ({None: 1, "pi": 2}, "nano", "latest", 1),
        ({"pi": 2}, "nano", "latest", 3),
    ],
)
def test_a_runtimes_pin_goes_before_the_registrys_before_the_selector(
    registry: Registry,
    pins: dict[str | None, int],
    runtime: str,
    selector: str,
    number: int,
) -> None:
    for scope, pinned in pins.items():
        registry.pin(f"digits:{pinned}", runtime=scope)
    assert registry.wanted("digits", runtime, selector).number == number


def test_a_runtimes_pin_leaves_the_name_alone(registry: Registry) -> None:
    registry.pin("digits:1", runtime="pi")
    assert registry.resolve("digits").number == 3
    assert not registry.resolve("digits:1").pinned


def test_pins_are_listed_by_model_and_scope(registry: Registry, add: Add) -> None:
    add("apples")
    registry.pin("digits:1", runtime="pi")
    registry.pin("digits:2")
    registry.pin("apples:1")
    assert [(pin.model, pin.runtime, pin.number) for pin in registry.pins()] == [
        ("apples", None, 1),
        ("digits", None, 2),
        ("digits", "pi", 1),
    ]
    assert [pin.model for pin in registry.pins("apples")] == ["apples"]


def test_pinning_again_moves_the_pin(registry: Registry) -> None:
    registry.pin("digits:1")
    registry.pin("digits:2")
    assert [pin.number for pin in registry.pins()] == [2]


def test_what_is_not_pinned_cannot_be_unpinned(registry: Registry) -> None:
    registry.pin("digits:1", runtime="pi")
    with pytest.raises(PinConflictError) as caught:
        registry.unpin("digits")
    assert caught.value.hint == "pinned for runtime 'pi'"


def test_an_archived_version_and_a_nameless_runtime_take_no_pin(registry: Registry) -> None:
    registry.archive("digits:1")
    with pytest.raises(RegistryError, match="archived"):
        registry.pin("digits:1")
    with pytest.raises(InputError, match="needs a name"):
        registry.pin("digits:2", runtime="")


def test_a_selector_that_is_gone_is_an_error(registry: Registry) -> None:
    with pytest.raises(VersionNotFoundError):
        registry.wanted("digits", "pi", "challenger")
