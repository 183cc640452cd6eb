from __future__ import annotations

import pytest

from nbmodel.core.machine import Package
from nbmodel.errors import VersionNotFoundError
from nbmodel.runtime.resolve import own_tags, reference_of, resolve

ONE, TWO, BARE = ("sha256:" + digit * 64 for digit in "123")
TAGS = {
    "1": ONE,
    "2026-02-28T13-36-51": ONE,
    "champion": ONE,
    "2": TWO,
    "2026-03-01T00-00-00": TWO,
    "latest": TWO,
    "foreign": BARE,
}


def package(version: str) -> Package:
    return Package("digits", "local/digits", version)


@pytest.mark.parametrize(
    ("version", "number", "follows"),
    [
        pytest.param("latest", 2, "latest", id="latest"),
        pytest.param("", 2, "latest", id="empty means latest"),
        pytest.param("1", 1, "1", id="a number"),
        pytest.param("champion", 1, "champion", id="an alias"),
        pytest.param("2026-02-28T13-36-51", 1, "2026-02-28T13-36-51", id="a timestamp id"),
        pytest.param("20260228133651", 1, "2026-02-28T13-36-51", id="Viam's older timestamp"),
        pytest.param("20260228T133651", 1, "2026-02-28T13-36-51", id="the same with a T"),
    ],
)
def test_finds_the_version(version: str, number: int, follows: str) -> None:
    found = resolve(package(version), {"digits": TAGS})
    assert (found.number, found.follows) == (number, follows)


@pytest.mark.parametrize(
    ("version", "number"),
    [
        pytest.param("latest", 1, id="what follows latest is held"),
        pytest.param("2", 2, id="what names a version is not"),
    ],
)
def test_a_registry_wide_pin(version: str, number: int) -> None:
    assert resolve(package(version), {"digits": {**TAGS, "pinned": ONE}}).number == number


@pytest.mark.parametrize(
    ("version", "label"),
    [
        pytest.param("1", "2026-02-28T13-36-51", id="by its timestamp id"),
        pytest.param("foreign", "333333333333", id="by its digest when nothing else is known"),
    ],
)
def test_a_version_has_a_label(version: str, label: str) -> None:
    assert resolve(package(version), {"digits": TAGS}).label == label


def test_a_version_with_a_number_alone_is_called_by_it() -> None:
    tags = {"7": ONE, "latest": ONE}
    assert resolve(package("latest"), {"digits": tags}).label == "7"


def test_a_repository_of_the_whole_name_is_preferred() -> None:
    team = Package("fruit", "team/fruit")
    one, two = {"latest": ONE}, {"latest": TWO}
    assert resolve(team, {"team/fruit": one, "fruit": two}).digest == ONE
    assert resolve(team, {"fruit": two}).digest == TWO


@pytest.mark.parametrize(
    ("version", "tags_of", "message", "hint"),
    [
        pytest.param("latest", {}, "model 'digits' is not on this device yet", "deploy", id="none"),
        pytest.param(
            "3", {"digits": TAGS}, "version '3' of model 'digits'", "here are 1, 2", id="a number"
        ),
        pytest.param(
            "champoin",
            {"digits": TAGS},
            "version 'champoin'",
            "did you mean 'champion'",
            id="a slip",
        ),
    ],
)
def test_a_version_that_is_not_here(
    version: str, tags_of: dict[str, dict[str, str]], message: str, hint: str
) -> None:
    with pytest.raises(VersionNotFoundError, match=message) as missing:
        resolve(package(version), tags_of)
    assert hint in str(missing.value.hint)


def test_tags_that_stay_with_a_version() -> None:
    assert own_tags([*TAGS, "pinned"]) == {
        "1",
        "2",
        "2026-02-28T13-36-51",
        "2026-03-01T00-00-00",
    }


@pytest.mark.parametrize(
    ("number", "label", "expected"),
    [
        (3, "2026-02-28T13-36-51", "digits:3"),
        (3, "3", "digits:3"),
        (None, "2026-02-28T13-36-51", "digits:2026-02-28T13-36-51"),
    ],
)
def test_a_version_is_told_from_those_of_other_models(
    number: int | None, label: str, expected: str
) -> None:
    assert reference_of("digits", number, label) == expected
