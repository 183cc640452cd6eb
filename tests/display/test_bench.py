from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from nbmodel.core.benchmark import Benchmark, Level
from nbmodel.display import BenchCard
from nbmodel.display.curves import Curve, Panel, curves_svg, nice_ticks

MS = 1_000_000  # nanoseconds


def card(*levels: Level, problems: dict[str, int] | None = None) -> BenchCard:
    return BenchCard.of(
        Benchmark("fruit@<edge>", "3", ("x FP32[1,2]",), True, 200, 602_312, levels, problems or {})
    )


LEVELS = (
    Level.of(1, 1.0, [MS // 2] * 2000, errors=0),
    Level.of(16, 1.0, [4 * MS] * 3900 + [40 * MS] * 100, errors=7),
)


def test_text_has_the_figures_and_bars() -> None:
    text = card(*LEVELS, problems={"queue full": 7}).text()
    for figure in ("2,000", "0.500 ms", "4.00 ms", "40 ms", "602 kB answer", "queue full"):
        assert figure in text
    assert text.count("█") > 20
    assert "<svg" not in text


def drawing_of(html: str) -> ET.Element:
    """The picture in a page."""
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', html)
    assert found is not None
    return ET.fromstring(base64.b64decode(found[1]))


def test_html_has_a_drawing_with_an_alternative() -> None:
    html = card(*LEVELS).html()
    assert "fruit@&lt;edge&gt;" in html
    assert 'alt="curves of latency and throughput: 1 at once: median 0.500 ms' in html
    assert "<svg" not in html
    assert len(drawing_of(html).findall(".//{*}polyline")) == 3


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance, as WCAG 2 has it."""
    parts = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (level / 255 for level in colour)
    ]
    return float(np.dot((0.2126, 0.7152, 0.0722), parts))


def test_curves_stand_out_on_light_and_dark_pages() -> None:
    html = base64.b64decode(str(re.findall(r"svg\+xml;base64,([^\"]*)", card(*LEVELS).html())[0]))
    colours = {tuple(map(int, one)) for one in re.findall(rb"rgb\((\d+),(\d+),(\d+)\)", html)}
    assert len(colours) == 3
    for colour in colours:
        on_white = 1.05 / (luminance(colour) + 0.05)
        on_dark = (luminance(colour) + 0.05) / (luminance((17, 17, 17)) + 0.05)
        assert min(on_white, on_dark) >= 3, "WCAG 2.1, 1.4.11"


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param((LEVELS[0],), id="one level"),
        pytest.param((LEVELS[0], Level.of(2, 1.0, [], errors=3)), id="a level without answers"),
    ],
)
def test_few_figures_are_drawn_too(levels: tuple[Level, ...]) -> None:
    assert b"nan" not in ET.tostring(drawing_of(card(*levels).html()))


def test_nothing_answered_is_said_without_a_drawing() -> None:
    silent = card(Level.of(1, 1.0, [], errors=3), problems={"<b>refused": 3})
    assert "svg" not in silent.html()
    assert "&lt;b&gt;refused" in silent.html()
    assert "3 ×: <b>refused" in silent.text()


@pytest.mark.parametrize("highest", [1e-6, 0.3, 1, 7.4, 99, 100, 101, 4232, 1e9])
def test_ticks_are_round_and_reach_the_highest(highest: float) -> None:
    ticks = nice_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert 2 <= len(ticks) <= 7
    step = ticks[1] / 10 ** math.floor(math.log10(ticks[1]))
    assert min(abs(step - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-6


def test_names_in_a_drawing_are_escaped_and_kept_apart() -> None:
    curves = [Curve("a<b", [1.0, 2.0], (1, 2, 3)), Curve("c", [1.0, 2.0], (4, 5, 6))]
    drawing = ET.fromstring(curves_svg([Panel("t & u", curves)], ["1", "2"], "n"))
    texts = {text.text: float(text.attrib["y"]) for text in drawing.findall(".//{*}text")}
    assert abs(texts["a<b"] - texts["c"]) >= 12
    assert "t & u" in texts
