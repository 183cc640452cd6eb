"""Label files: every shape people have, and no index ever shifts."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.labels import (
    MAX_LABELS,
    format_labels,
    labels_by_index,
    labels_from_map,
    parse_labels,
)
from nbmodel.errors import InputError


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("cat\ndog\n", ("cat", "dog"), id="one label a line"),
        pytest.param("cat\ndog", ("cat", "dog"), id="no line break at the end"),
        pytest.param("cat\r\ndog\r\n", ("cat", "dog"), id="lines end as on Windows"),
        pytest.param("cat\rdog\r", ("cat", "dog"), id="lines end as on old Macs"),
        pytest.param("cat,dog, bird", ("cat", "dog", "bird"), id="one line is split at commas"),
        pytest.param("cat dog  bird\n", ("cat", "dog", "bird"), id="one line without commas is split at spaces"),
        pytest.param("teddy bear, cat", ("teddy bear", "cat"), id="commas win over spaces"),
        pytest.param("cat,,dog", ("cat", "", "dog"), id="nothing between two commas keeps its index"),
        pytest.param("cat\n", ("cat",), id="a single word is a single label"),
        pytest.param("cat\n\ndog\n", ("cat", "", "dog"), id="a blank line keeps its index"),
        pytest.param("\ncat\ndog\n", ("", "cat", "dog"), id="a blank line at the start keeps its index"),
        pytest.param("cat\ndog\n\n \n", ("cat", "dog"), id="blank lines at the end are dropped"),
        pytest.param("cat, dog\n\n", ("cat", "dog"), id="one line and blank lines are one line"),
        pytest.param("tench, Tinca tinca\ngoldfish\n", ("tench, Tinca tinca", "goldfish"), id="commas stay when there are several lines"),
        pytest.param(" cat \n\tdog\n", ("cat", "dog"), id="white space around a label is dropped"),
        pytest.param("\ufeffcat\ndog", ("cat", "dog"), id="a byte order mark in text is dropped"),
        pytest.param("", (), id="an empty file has no labels"),
        pytest.param("\n \n", (), id="a file of blank lines has no labels"),
        pytest.param("0 person\n1 bicycle\n3 car", ("person", "bicycle", "", "car"), id="index and name, with a gap"),
        pytest.param("0  person\n1\tbicycle", ("person", "bicycle"), id="index and name, wide apart"),
        pytest.param("0: cat\n1: big dog\n", ("cat", "big dog"), id="index, colon and name"),
        pytest.param("0:cat\n1:dog\n", ("cat", "dog"), id="index, colon and name without a space"),
        pytest.param("2: b\n0: a\n", ("a", "", "b"), id="index and colon in any order"),
        pytest.param("0: teddy bear", ("teddy bear",), id="one line with index and colon"),
        pytest.param("0: cat\n1:\n", ("cat", ""), id="index and colon with no name"),
        pytest.param("0\n1\n2\n", ("0", "1", "2"), id="digits alone are names"),
        pytest.param("0 1 2 3", ("0", "1", "2", "3"), id="digits on one line are names"),
        pytest.param("1 euro\n2 euro\n50 cent", ("1 euro", "2 euro", "50 cent"), id="amounts are names"),
        pytest.param("10:30\n11:30", ("10:30", "11:30"), id="times are names"),
        pytest.param("90210 Beverly Hills\n94103 San Francisco", ("90210 Beverly Hills", "94103 San Francisco"), id="postal codes are names"),
        pytest.param("0 cat\n0 dog", ("0 cat", "0 dog"), id="one index twice is no index"),
        pytest.param("0 cat\ndog", ("0 cat", "dog"), id="a line without an index makes all names"),
        pytest.param("3D printer\n2D plot", ("3D printer", "2D plot"), id="a digit inside a word is no index"),
    ],
)  # fmt: skip
def test_every_shape_of_a_label_file(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels
    assert parse_labels(text.encode()) == labels


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(codecs.BOM_UTF8 + "Äpfel\nBäume".encode(), id="UTF-8 with a mark"),
        pytest.param("Äpfel\nBäume".encode("utf-16"), id="UTF-16 with a mark"),
        pytest.param(codecs.BOM_UTF16_BE + "Äpfel\nBäume".encode("utf-16-be"), id="big-endian UTF-16"),
    ],
)  # fmt: skip
def test_bytes_are_what_their_mark_says(data: bytes) -> None:
    assert parse_labels(data) == ("Äpfel", "Bäume")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(b"cat\n\xff\xfedog", "0xff at byte 4", id="not UTF-8"),
        pytest.param(b"cat\0dog", "NUL at character 3", id="binary"),
        pytest.param(b"cat\x1bdog", "control character 0x1b at character 3", id="no text"),
        pytest.param(b"a\n" * (MAX_LABELS + 1), f"{MAX_LABELS + 1:,} labels", id="too many"),
    ],
)
def test_what_is_no_label_file_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(InputError, match=found):
        parse_labels(data)


def test_real_label_files(test_models: Path) -> None:
    imagenet = parse_labels((test_models / "imagenet_labels.txt").read_bytes())
    assert len(imagenet) == 1001
    # The folder's README: line 0 is "background", and class 89 is the macaw.
    assert (imagenet[0], imagenet[89]) == ("background", "macaw")
    coco = parse_labels((test_models / "coco_labels.txt").read_bytes())
    assert len(coco) == 90
    # COCO's category ids start at 1 and leave 12 out; this file starts at 0, with "n/a".
    assert (coco[0], coco[11], coco[16], coco[89]) == ("person", "n/a", "cat", "toothbrush")


def test_a_map_is_put_in_order() -> None:
    assert labels_from_map({"dog": 2, "background": 0}) == ("background", "", "dog")
    assert labels_from_map({}) == ()


@pytest.mark.parametrize(
    ("indices", "problem"),
    [
        pytest.param({"cat": -1}, "'cat' is -1, expected 0 to", id="a negative index"),
        pytest.param({"cat": 10**12}, "'cat' is 1000000000000, expected 0 to", id="an absurd index"),
        pytest.param({"cat": 1, "dog": 1}, "'cat' and 'dog' have one index, 1", id="an index that is taken"),
        pytest.param({"cat": 1.5}, "'cat' is not a whole number: 1.5", id="a fraction"),
        pytest.param({"cat": True}, "'cat' is not a whole number: True", id="a boolean"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_be_labels(indices: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        labels_from_map(indices)


def test_a_label_file_is_one_label_a_line() -> None:
    assert format_labels(["cat", "big dog"]) == b"cat\nbig dog\n"


@pytest.mark.parametrize("label", ["two\nlines", "two\rlines", " cat", "cat ", "c\0t"])
def test_a_label_that_is_no_line_is_refused(label: str) -> None:
    with pytest.raises(InputError, match="label 1 cannot be a line"):
        format_labels(["fine", label])


_UNFIT = set("\r\n\x7f") | set(map(chr, range(9))) | set(map(chr, range(14, 28)))
_LABEL = st.text(max_size=8).map(str.strip).filter(lambda text: not set(text) & _UNFIT)


@given(
    st.lists(
        _LABEL | st.sampled_from(["teddy bear", "0 cat", "1 dog", "1: x", "0:", "a,b", "7"]),
        max_size=6,
    )
)
def test_writing_and_reading_gives_the_labels_back(labels: list[str]) -> None:
    assert parse_labels(format_labels(labels)) == tuple(labels)


@given(st.text() | st.binary())
def test_any_text_is_labels_or_an_input_error(content: str | bytes) -> None:
    try:
        labels = parse_labels(content)
    except InputError:
        return
    assert all(label == label.strip() for label in labels)
    assert not labels or len(labels) <= MAX_LABELS


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=3) | st.just(""), max_size=8))
def test_no_blank_line_shifts_an_index(labels: list[str]) -> None:
    lines = [*labels, "one", "two"]
    assert parse_labels("\n".join(lines)) == tuple(lines)


def test_names_by_index_leave_gaps_empty() -> None:
    assert labels_by_index({2: "car", 0: "person"}) == ("person", "", "car")
    with pytest.raises(InputError, match="'cat' is -1, expected 0 to"):
        labels_by_index({-1: "cat"})
