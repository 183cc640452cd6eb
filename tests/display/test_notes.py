"""A card with further sentences is the same card."""

from __future__ import annotations

import pytest

from nbmodel.core.pin import Pin
from nbmodel.core.version import AliasMove
from nbmodel.display import AliasCard, ConfigCard, ModelTable, PackageCard, PinCard
from nbmodel.display.base import Result

PIN = Pin(model="digits", number=1, runtime=None, at="2026-02-28T13:36:51Z", who="ada", why="")
MOVE = AliasMove("champion", "2026-02-28T13:36:51Z", "ada", None, 1)


@pytest.mark.parametrize(
    "card",
    [
        pytest.param(PinCard.of(PIN), id="a pin"),
        pytest.param(PinCard.of(PIN, removed=True), id="a pin that was taken away"),
        pytest.param(AliasCard.of("digits", MOVE), id="an alias"),
        pytest.param(PackageCard({"package": "local/digits"}), id="a mapping"),
        pytest.param(ModelTable(), id="a list"),
    ],
)
def test_notes_are_added_and_nothing_is_lost(card: Result) -> None:
    noted = card.with_notes(["edge runs digits:1"])
    assert type(noted) is type(card)
    assert noted.to_json() == card.to_json()
    assert noted.text().startswith(card.text().rstrip())
    assert "edge runs digits:1" in noted.text()
    assert "edge runs digits:1" in noted.html()
    assert noted.with_notes(["and more"]).notes == ("edge runs digits:1", "and more")
    assert card.notes == ()


def test_no_card_loses_anything_when_notes_are_added(results: list[Result]) -> None:
    for card in results:
        noted = card.with_notes(["one more"])
        assert type(noted) is type(card)
        assert noted.to_json() == card.to_json()
        assert noted.notes == (*card.notes, "one more")
        assert noted.text().rstrip().startswith(card.text().rstrip())
        # The text of a config is JSON, to be put back as it is.
        assert noted.text().endswith("one more") or isinstance(card, ConfigCard)
        assert noted.html().count("one more") == 1
