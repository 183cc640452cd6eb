"""What changes while one looks: one display of a notebook, lines of a terminal, JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from nbmodel.core.event import Event
from nbmodel.display import LogLines
from nbmodel.display.live import JsonView, LinesView, NotebookView, TerminalView

EVENT = Event(1, "2026-02-28T13:36:51Z", "warning", "a", "Note", "too \x1b[31mslow")


class Pages:
    """A front end: displays by their id."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, str]] = {}
        self.count = 0

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: str, update: bool) -> None:
        assert raw
        assert update == (display_id in self.shown)
        self.shown[display_id] = bundle
        self.count += 1


def test_a_notebook_has_one_display_that_ends_as_one_line() -> None:
    pages = Pages()
    view = NotebookView(pages.display)
    view.show(LogLines(["one <b>"]), "pi: 1 & 2")
    view.tell(EVENT)
    view.show(LogLines(["one <b>", "two"]), "pi: 3")
    (bundle,) = pages.shown.values()
    assert bundle["text/plain"].splitlines() == ["pi: 3", "", "one <b>", "two"]
    page = bundle["text/html"]
    assert page.startswith('<div role="status" aria-live="polite">pi: 3</div>')
    assert "one &lt;b&gt;" in page
    view.close("pi: settled after 3.2 s")
    (bundle,) = pages.shown.values()
    assert bundle["text/plain"] == "pi: settled after 3.2 s"
    assert "<script" not in page
    assert "nbm" not in bundle["text/html"]


def test_a_page_is_drawn_anew_only_where_it_changed() -> None:
    pages = Pages()
    view = NotebookView(pages.display)
    for _ in range(5):
        view.show(LogLines(["one"]), "pi")
    assert pages.count == 1


def on_screen(written: str) -> list[str]:
    """What a terminal shows that knows of no escapes but the two it was given."""
    lines, column = [""], 0
    for char in written:
        if char == "\r":
            column = 0
        elif char == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + char + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_a_terminal_has_what_happened_above_what_is() -> None:
    stream = io.StringIO()
    view = TerminalView(stream)
    view.show(LogLines(), "0 of 2 services ready; digits fetching 41 %")
    view.show(LogLines(), "2 services ready")
    view.tell(EVENT)
    line = "2026-02-28T13:36:51Z WARNING too \\x1b[31mslow"  # nothing that a terminal obeys
    assert on_screen(stream.getvalue()) == [line, "2 services ready"]
    view.close("pi: settled")
    assert on_screen(stream.getvalue()) == [line, "pi: settled", ""]


def test_a_pipe_has_the_events_alone() -> None:
    stream = io.StringIO()
    view = LinesView(stream)
    view.show(LogLines(["x"]), "x")
    view.tell(EVENT)
    view.close("x")
    assert stream.getvalue() == "2026-02-28T13:36:51Z WARNING too \\x1b[31mslow\n"


@pytest.mark.parametrize("kind", ["lines", "json"])
def test_a_pipe_has_what_is_beside_it_when_it_changes(kind: str) -> None:
    stream, beside = io.StringIO(), io.StringIO()
    view = LinesView(stream, beside) if kind == "lines" else JsonView(stream, "nothing", beside)
    for headline in ("a probing", "a probing", "a \x1b ready"):
        view.show(LogLines(), headline)
    assert beside.getvalue() == "a probing\na \\x1b ready\n"
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("what", "lines"),
    [("states", [["x"], ["y"]]), ("events", [EVENT.to_json()]), ("nothing", [])],
)
def test_a_machine_has_an_object_a_line(what: Any, lines: list[Any]) -> None:
    stream = io.StringIO()
    view = JsonView(stream, what)
    for state in ("x", "x", "y"):
        view.show(LogLines([state]), "headline")
    view.tell(EVENT)
    view.close("x")
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == lines
