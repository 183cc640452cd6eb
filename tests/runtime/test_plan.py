from __future__ import annotations

import pytest

from nbmodel.core.machine import Service
from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Signature
from nbmodel.errors import NbModelError, VersionNotFoundError
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.plan import Plan, Running, Step, plan_steps
from nbmodel.runtime.resolve import PackageVersion

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
MANIFEST = Manifest("m", "2026", (), "onnx", "other", Signature())


def wish(key: str, digest: str | None = ONE) -> Wish:
    found = None
    if digest is not None:
        found = Found(PackageVersion("m", digest, "latest", 7, None), MANIFEST)
    service = Service("s", "rdk:service:mlmodel", "onnx_cpu", {})
    return Wish(service, "onnx_cpu", ("m",), found, key)


@pytest.mark.parametrize(
    ("wanted", "running", "step"),
    [
        pytest.param(wish("a"), None, Step("start", "s", "7", "version 7"), id="nothing runs"),
        pytest.param(
            wish("b"),
            Running("a", ONE),
            Step("replace", "s", "7", "version 7"),
            id="something else runs",
        ),
        pytest.param(
            wish("a", TWO),
            Running("a", ONE),
            Step("relabel", "s", "7", "version 7 has the same content"),
            id="the same under another version",
        ),
        pytest.param(wish("a"), Running("a", ONE), Step("keep", "s", "7", "version 7"), id="it"),
        pytest.param(
            wish("a", None),
            Running("a", None),
            Step("keep", "s", None, "the file of its config"),
            id="the same file",
        ),
        pytest.param(
            VersionNotFoundError("not here"),
            Running("a", ONE),
            Step("refuse", "s", None, "not here"),
            id="what is wanted cannot be had",
        ),
        pytest.param(
            None,
            Running("a", ONE),
            Step("stop", "s", None, "it is not in the config"),
            id="it is not wanted any more",
        ),
    ],
)
def test_the_step_of_a_service(
    wanted: Wish | NbModelError | None, running: Running | None, step: Step
) -> None:
    wishes = {} if wanted is None else {"s": wanted}
    assert plan_steps(wishes, {} if running is None else {"s": running}) == (step,)


def test_stops_come_first() -> None:
    steps = plan_steps({"b": wish("b")}, {"a": Running("a", None)})
    assert [step.action for step in steps] == ["stop", "start"]


def test_a_plan_can_be_read_by_people_and_machines() -> None:
    plan = Plan(ONE, True, (Step("start", "s", "7", "version 7"),))
    assert str(plan) == "start s: version 7"
    assert plan.to_json() == {
        "etag": ONE,
        "changed": True,
        "steps": [{"action": "start", "service": "s", "version": "7", "why": "version 7"}],
    }
    assert str(Plan(ONE, False, ())) == "no services"
