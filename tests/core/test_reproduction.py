"""What a reproduction says is the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nbmodel.core.diff import Change, Diff
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import Fingerprint, Machine, Provenance
from nbmodel.core.reproduction import Reproduction, surroundings

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
EQUAL = Diff("digits:3", "digits:1")
CHANGE = (Change("loss", "changed", 1.0, 2.0),)


@pytest.mark.parametrize(
    ("diff", "digests", "expected"),
    [
        pytest.param(EQUAL, (A, A), (True, True, True), id="all is the same"),
        pytest.param(EQUAL, (A, B), (True, True, False), id="other bytes"),
        pytest.param(replace(EQUAL, metrics=CHANGE), (A, A), (True, False, True), id="a metric"),
        pytest.param(replace(EQUAL, signature=CHANGE), (A, A), (False, True, True), id="a tensor"),
        pytest.param(replace(EQUAL, labels=CHANGE), (A, A), (False, True, True), id="a label"),
        pytest.param(None, (A, ""), (False, False, False), id="no version was made"),
        pytest.param(EQUAL, ("", ""), (True, True, False), id="digests that are none"),
    ],
)
def test_what_is_the_same(
    diff: Diff | None, digests: tuple[str, str], expected: tuple[bool, bool, bool]
) -> None:
    found = Reproduction("digits:3", diff, digests)
    assert (found.same_signature, found.same_metrics, found.same_digest) == expected
    assert found.is_same is all(expected)
    assert json.loads(json.dumps(found.to_json()))["same"] is all(expected)


def test_surroundings_that_differ() -> None:
    def made(packages: dict[str, str], python: str, digest: str) -> Lineage:
        data = {"train": Fingerprint(digest, "")}
        return Lineage(
            packages=packages, provenance=Provenance(machine=Machine(python=python), data=data)
        )

    old = made({"numpy": "1", "torch": "2", "six": "1"}, "3.10.1", A)
    new = made({"numpy": "2", "torch": "2", "onnx": "1"}, "3.13.1", B)
    packages, machine, data = surroundings(old, new)
    assert packages == (
        Change("numpy", "changed", "1", "2"),
        Change("onnx", "added", None, "1"),
        Change("six", "removed", "1", None),
    )
    assert machine == (Change("python", "changed", "3.10.1", "3.13.1"),)
    assert data == (Change("train", "changed", A, B),)
    assert surroundings(old, old) == ((), (), ())
    assert surroundings(Lineage(), Lineage()) == ((), (), ())
