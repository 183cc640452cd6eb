"""Versions, models, times."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.deployment import Deployment
from nbmodel.core.graph import LineageGraph, Node
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.pin import Pin
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Model, Version, now, parse_time, stamp_of

A = "sha256:" + "a" * 64
VERSION = Version(
    "digits",
    3,
    "2026-02-28T13-36-51",
    A,
    Manifest(
        "digits",
        "2026-02-28T13:36:51.250000Z",
        (FileEntry("a", 3, A), FileEntry("b", 4, A)),
        "onnx",
        "classification",
        Signature(outputs=(Tensor("y", "FP32", (2,), labels=("ant", "bee")),)),
    ),
)


def test_a_version_speaks_for_its_manifest() -> None:
    assert VERSION.reference == "digits:3"
    assert VERSION.size == 7
    assert VERSION.labels == ("ant", "bee")
    assert VERSION.created == datetime(2026, 2, 28, 13, 36, 51, 250000, tzinfo=timezone.utc)
    assert (VERSION.tags, VERSION.aliases, VERSION.deprecated) == ({}, (), None)


def test_all_values_are_json() -> None:
    pin = Pin("digits", 3, None, "2026", "ann")
    deployment = Deployment("pi", "vision", "digits", "latest", "digits", "2026")
    graph = LineageGraph(A, (Node(A, "digits:3", deployments=(deployment,)),))
    values = (VERSION, Model("digits", "", "2026", 1, 3), pin, deployment, graph)
    for value in values:
        assert json.loads(json.dumps(value.to_json())) == value.to_json()
    assert VERSION.to_json()["reference"] == "digits:3"
    assert (pin.reference, pin.scope) == ("digits:3", "the registry")
    assert deployment.target == "vision@pi"
    assert graph.node(A).title == "digits:3"
    with pytest.raises(KeyError):
        graph.node("sha256:other")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T00:01:00+00:00", 60),
        ("1970-01-01T01:01:00+01:00", 60),
        ("1970-01-01T00:01:00", 60),
        ("", 0),
        ("yesterday", 0),
    ],
)
def test_times_are_utc_unless_they_say_so_and_the_epoch_when_unreadable(
    text: str, seconds: float
) -> None:
    if text.endswith(".5Z") and not _reads_short_fractions():
        pytest.skip("Python before 3.11 reads fractions of 3 or 6 digits only")
    assert parse_time(text).timestamp() == seconds


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "0999-12-31T00:00:00Z"]
)
def test_a_year_that_not_every_time_zone_has_is_no_time(text: str) -> None:
    assert parse_time(text).timestamp() == 0
    assert stamp_of(parse_time(text)) == "1970-01-01T00-00-00"


def test_the_present_is_written_as_it_is_read() -> None:
    text = now()
    assert text.endswith("Z")
    assert abs(parse_time(text) - datetime.now(timezone.utc)) < timedelta(seconds=10)


@given(st.integers(-(10**10), 10**11).map(lambda s: datetime.fromtimestamp(s, timezone.utc)))
def test_a_stamp_is_the_time_to_the_second(time: datetime) -> None:
    read = datetime.strptime(stamp_of(time), "%Y-%m-%dT%H-%M-%S").replace(tzinfo=timezone.utc)
    assert read == time.replace(microsecond=0)


def test_a_stamp_is_in_utc() -> None:
    noon_in_berlin = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    assert stamp_of(noon_in_berlin) == "2026-01-01T11-00-00"


def _reads_short_fractions() -> bool:
    try:
        datetime.fromisoformat("1970-01-01T00:01:00.5")
    except ValueError:
        return False
    return True
