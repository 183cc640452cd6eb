"""The search language."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.query import Facts, Query
from nbmodel.errors import InputError

NOW = datetime(2026, 3, 8, 12, tzinfo=timezone.utc)
FACTS = Facts(
    name="team/fruit-detector",
    number=3,
    stamp="2026-03-01T12-00-00",
    digest="sha256:" + "ab" * 32,
    created="2026-03-01T12:00:00.250000Z",  # a week before NOW
    framework="onnx",
    model_type="detection",
    size=14_000_000,
    description="Finds 'ripe' fruit",
    aliases=("champion", "latest"),
    tags_json='{"fruit": "apple", "site": "north west"}',
    metrics_json='{"acc": 0.93, "loss": -1.5, "top-5": 0.99}',
    metadata_json='{"depth": 3, "quantised": true, "author": "ann", "none": null, "v": "10"}',
    published=True,
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("   ", True),
        ("fruit", True),
        ("FRUIT", True),
        ("apple", False),
        ("team/*", True),
        ("fruit-*", False),
        ("*detect?r", True),
        ('"fruit-det"', True),
        ("name=team/fruit-detector", True),
        ("name=fruit", False),
        ("name=team/*", True),
        ("name~DETECT", True),
        ("framework=onnx", True),
        ("framework:onnx", True),
        ("framework!=onnx", False),
        ("framework=onnx and metrics.acc > 0.9 and tag:fruit", True),
        ("framework=onnx metrics.acc>0.95", False),
        ("framework=tflite or type=detection", True),
        ("framework=tflite or type=detection and number=4", False),
        ("(framework=tflite or type=detection) and number=3", True),
        ("not framework=tflite", True),
        ("not not framework=onnx", True),
        ("not (framework=onnx or number=3)", False),
        ("NOT framework=tflite AND fruit", True),
        ("alias:champion", True),
        ("alias=latest", True),
        ("alias!=champion", False),
        ("alias:stable", False),
        ("tag:fruit", True),
        ("tag:apple", False),
        ("tag=fruit", True),
        ("tag.fruit=apple", True),
        ("tag:fruit = apple", True),
        ("tag.site='north west'", True),
        ('tag.site="north"', False),
        ("tag.other=apple", False),
        ("tag.other!=apple", True),
        ("metrics.acc >= .93", True),
        ("metrics.acc < 9.3e-1", False),
        ("metrics.loss < -1", True),
        ("metrics.top-5 > 0.9", True),
        ("metrics.f1 > 0", False),
        ("metrics.f1 < 0", False),
        ("metrics.f1 != 0", True),
        ("metadata.depth = 3", True),
        ("metadata.depth > 2.5", True),
        ("metadata.depth = '3'", True),
        ("metadata.quantised = true", True),
        ("metadata.quantised = 1", False),
        ("metadata.author = ann", True),
        ("metadata.author > al", True),
        ("metadata.v > 9", False),  # "10" is text, and sorts before "9"
        ("metadata.none = null", True),
        ("metadata.other = null", True),
        ("size > 14MB", False),
        ("size >= 14MB", True),
        ("size < 14MiB", True),
        ("size < 1GB", True),
        ("size = 14000000", True),
        ("size > 13.5mb", True),
        ("age < 8d", True),
        ("age < 6d", False),
        ("age > 1w", False),  # a quarter of a second younger
        ("age > 167h", True),
        ("created = 2026-03-01", True),
        ("created = 2026-03-01T12:00", True),
        ("created = 2026-03-02", False),
        ("created > 2026-02-28", True),
        ("created >= 2026-03-01T12:00:01", False),
        ("created < 2026-03-01T13:30:00+01:00", True),
        ("number > 2 and number <= 3", True),
        ("stamp = 2026-03-01T12-00-00", True),
        ("digest ~ sha256:abab", True),
        ("description ~ RIPE", True),
        (r"description ~ 'finds \'ripe\''", True),
        ("published = true", True),
        ("published:yes and archived:no", True),
        ("deprecated=true or pinned=true", False),
    ],
)
def test_a_query_holds_or_not(text: str, holds: bool) -> None:
    assert Query.parse(text, now=NOW).matches(FACTS) is holds


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("framework=", 11, "expected a value, found the end"),
        ("framework==onnx", 11, "expected a value, found '='"),
        ("metrics.acc > high", 15, "expected a number, found 'high'"),
        ("metrics.acc > nan", 15, "expected a number"),
        ("fraemwork=onnx", 1, "no field 'fraemwork'"),
        ("flavour=onnx", 1, "no field 'flavour'"),
        ("framework : onnx", 11, "no field ''"),
        ("and x", 1, "expected a word"),
        ("x or", 5, "found the end"),
        ("x and and y", 7, "found 'and'"),
        ("(x", 3, "expected ')', found the end"),
        ("x)", 2, "expected the end"),
        ("()", 2, "expected a word"),
        ("= 3", 1, "expected a word"),
        ("name='abc", 6, "expected a closing quote"),
        ("x ! y", 3, "expected a word or an operator"),
        ("size > big", 8, "expected a size such as"),
        ("age < 7", 7, "expected an age such as"),
        ("age < 99999999999y", 7, "expected an age below"),
        ("created > yesterday", 11, "expected a time such as"),
        ("published = maybe", 13, "expected true or false"),
        ("alias > champion", 9, "only '=', '!=' and ':' make sense here"),
        ("published < true", 13, "only '=', '!=' and ':' make sense here"),
        ("not " * 100 + "x", 205, "more than 50 levels"),
        ("(" * 100 + "x" + ")" * 100, 52, "more than 50 levels"),
    ],
)
def test_an_error_points_at_the_character(text: str, at: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Query.parse(text, now=NOW)
    assert words in str(caught.value)
    assert f"query, character {at}:" in str(caught.value)
    assert caught.value.hint is not None


def test_an_unknown_field_is_answered_with_the_nearest_or_all() -> None:
    with pytest.raises(InputError) as near:
        Query.parse("fraemwork=onnx")
    assert near.value.hint == "did you mean 'framework'?"
    with pytest.raises(InputError) as far:
        Query.parse("flavour=onnx")
    assert far.value.hint is not None
    assert "metrics.NAME" in far.value.hint


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_an_input_error(text: str) -> None:
    try:
        query = Query.parse(text, now=NOW)
    except InputError:
        return
    assert query.matches(FACTS) in (True, False)


terms = st.sampled_from(
    ["framework=onnx", "framework=tflite", "fruit", "apple", "metrics.acc > 0.9", "tag:fruit"]
)


@given(terms, terms)
def test_not_and_or_obey_de_morgan(first: str, second: str) -> None:
    def holds(text: str) -> bool:
        return Query.parse(text, now=NOW).matches(FACTS)

    assert holds(f"not ({first} and {second})") == holds(f"not {first} or not {second}")
    assert holds(f"{first} {second}") == (holds(first) and holds(second))
    assert holds(f"{first} or {second}") == (holds(first) or holds(second))
