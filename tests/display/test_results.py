"""What holds for every result: safe, readable everywhere, small, and of use to machines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from nbmodel import display
from nbmodel.core.graph import LineageGraph
from nbmodel.core.version import Model, Version
from nbmodel.display.base import Result
from nbmodel.errors import InputError

VOID = {"br", "img"}
# What GitHub's sanitiser leaves: a card must say the same with these alone.
ATTRIBUTES = {
    "align", "alt", "aria-label", "class", "height", "role", "scope", "src", "style", "title",
    "width",
}  # fmt: skip


class Page(HTMLParser):
    """Checks well-formedness while it reads, and keeps what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_there_is_one_of_every_class(results: list[Result]) -> None:
    shown = {type(result).__name__ for result in results}
    assert shown == set(display.__all__) - {"Result", "Progress"}


def test_text_has_no_control_characters_and_no_ragged_ends(results: list[Result]) -> None:
    for result in results:
        text = result.text()
        assert text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
        assert text == "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


def test_html_is_well_formed_and_stands_alone(results: list[Result]) -> None:
    for result in results:
        html = result.html()
        html.encode()  # no lone surrogates
        page = read(html)
        assert html.startswith('<div class="nbm"')
        for tag, attributes in page.tags:
            assert tag not in {"script", "iframe", "link", "object", "form", "a", "base"}
            assert set(attributes) <= ATTRIBUTES
            assert (attributes.get("src") or "data:image/").startswith("data:image/")
        style = re.findall("<style>(.*?)</style>", html)
        assert len(style) == 1
        assert "url(" not in style[0]
        assert "@import" not in style[0]
        selectors = re.findall(r"(?:^|})([^{}]+){", style[0])
        assert all(part.startswith(".nbm") for one in selectors for part in one.split(","))


def test_hostile_text_is_text(results: list[Result]) -> None:
    told = 0
    for result in results:
        page = read(result.html())
        assert "<script" not in result.html()
        told += "<script>alert('1')</script>" in page.words
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert told > 15, "the samples lost their hostile text"


def test_pictures_and_tables_have_words_for_those_who_cannot_see_them(
    results: list[Result],
) -> None:
    for result in results:
        for tag, attributes in read(result.html()).tags:
            if tag == "img":
                assert "alt" in attributes
                assert attributes["width"]
            if tag == "th":
                assert attributes["scope"] in ("row", "col")


def test_a_cell_stays_small(results: list[Result]) -> None:
    for result in results:
        assert len(result.html().encode()) + len(result.text().encode()) < 250_000


def test_one_bundle_has_text_and_html(results: list[Result]) -> None:
    for result in results:
        bundle = result._repr_mimebundle_()
        assert bundle == {"text/plain": result.text(), "text/html": result.html()}
        assert set(result._repr_mimebundle_(include={"text/html"})) == {"text/html"}
        assert set(result._repr_mimebundle_(exclude={"text/html"})) == {"text/plain"}
        assert str(result) == repr(result) == result.text()


def test_machines_get_json(results: list[Result]) -> None:
    for result in results:
        json.dumps(result.to_json(), allow_nan=False)


def test_a_config_is_printed_as_json_that_can_be_set_again() -> None:
    config = {"services": [{"name": "f\x7f\u202er\x1büit"}]}
    assert json.loads(display.ConfigCard(config).text()) == config


def test_a_token_is_never_shown(results: list[Result]) -> None:
    for result in results:
        shown = result.text() + result.html() + json.dumps(result.to_json())
        assert "s3cret" not in shown


def test_saved_in_every_form(results: list[Result], tmp_path: Path) -> None:
    for place, result in enumerate(results):
        page = result.save(tmp_path / f"{place}.html")
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert result.save(tmp_path / f"{place}.txt").read_text(encoding="utf-8").strip()
        data = json.loads(result.save(tmp_path / f"{place}.json").read_text(encoding="utf-8"))
        assert data == json.loads(json.dumps(result.to_json()))
        assert result.image() is None or result.image()[:2] == b"\xff\xd8"  # type: ignore[index]
        if result.picture() is None:
            with pytest.raises(InputError, match="no picture"):
                result.save(tmp_path / f"{place}.png")
        else:
            with Image.open(result.save(tmp_path / f"{place}.png")) as saved:
                assert saved.format == "PNG"
    with pytest.raises(InputError, match="cannot save"):
        results[0].save(tmp_path / "card.xlsx")


def test_a_card_is_the_value_it_shows(version: Version, model: Model, graph: LineageGraph) -> None:
    for value, card in (
        (version, display.VersionCard.of(version)),
        (model, display.ModelCard.of(model)),
        (graph, display.LineageCard.of(graph)),
    ):
        assert isinstance(card, type(value))
        for field in fields(value):
            assert getattr(card, field.name) == getattr(value, field.name)


def test_notes_add_up_and_leave_the_first_card_alone(version: Version) -> None:
    card = display.VersionCard.of(version)
    noted = card.with_notes(["one"]).with_notes(["two"])
    assert noted.text().endswith("one\ntwo")
    assert noted.digest == card.digest
    assert card.notes == ()


def test_long_tables_say_what_they_leave_out(version: Version) -> None:
    table = display.VersionTable([version] * 10_000)
    assert "9,900 more" in table.text()
    assert "9,900 more" in table.html()
    assert len(table.html()) < 250_000


def test_names_are_found_and_listed_without_loading_anything() -> None:
    code = (
        "import sys, nbmodel.display\n"
        "assert not {'numpy', 'PIL', 'IPython'} & set(sys.modules)\n"
        "from nbmodel.display import *\n"
        "assert 'matplotlib' not in sys.modules and 'IPython' not in sys.modules\n"
        "assert InferenceResult and Progress\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(display.__all__) <= set(dir(display))
    with pytest.raises(AttributeError, match="nonsense"):
        display.nonsense  # noqa: B018
