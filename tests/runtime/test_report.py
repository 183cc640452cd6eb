from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nbmodel.core.machine import Package, Service
from nbmodel.core.manifest import Manifest
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    InferenceError,
    StorageError,
    StorageUnavailableError,
    VersionNotFoundError,
)
from nbmodel.runtime.account import Account, Refusal
from nbmodel.runtime.conditions import Why, conditions_of, phase_of
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.probe import ProbeReport
from nbmodel.runtime.report import facts_of, package_status, service_status
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.runtime.state import Failed, History, Provisional, Record

AT = "2026-11-21T10:00:00Z"
ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
SERVICE = Service("s", "rdk:service:mlmodel", "onnx_cpu", {})
PACKAGE = Package("p", "local/m", registry="http://r")
FOUND = Found(
    PackageVersion("m", TWO, "latest", 2, None),
    Manifest("m", "2026", (), "onnx", "other", Signature()),
)
WISH = Wish(SERVICE, "onnx_cpu", "p", FOUND, "key 2")
NOT_HERE = VersionNotFoundError("model 'm' is not on this device yet", hint="deploy it")
MISSING = Account(wish=NOT_HERE, refusal=Refusal(None, None, None, NOT_HERE, "NotOnDevice"))


def record(number: int) -> Record:
    digest = "sha256:" + str(number) * 64
    return Record("p", "m", digest, number, None, f"key {number}", "onnx_cpu", {})


def told(account: Account, fetch: FetchStatus | None = None, **facts: Any) -> dict[str, Any]:
    known = facts_of(account, fetch=fetch, **facts)
    return service_status(
        SERVICE,
        account,
        package=PACKAGE,
        found=FOUND,
        fetch=fetch,
        phase=phase_of(known),
        conditions=conditions_of(known, AT),
    )


def test_a_service_that_nobody_looked_at_is_being_loaded() -> None:
    status = told(Account())
    assert (status["state"], status["phase"], status["error"]) == ("loading", "loading", None)
    empty = ("version", "provisional", "rollback", "probe", "failed", "refused", "since")
    assert [status[key] for key in empty] == [None] * len(empty)
    assert [one["since"] for one in status["conditions"]] == [AT] * 5


@pytest.mark.parametrize(
    ("fetch", "state", "phase", "error", "hint"),
    [
        pytest.param(None, "failed", "waiting", str(NOT_HERE), "deploy it", id="nobody fetches it"),
        pytest.param(FetchStatus(), "loading", "waiting", None, None, id="it will be fetched"),
        pytest.param(
            FetchStatus("fetching", attempt=1),
            "loading",
            "fetching",
            None,
            None,
            id="it is on its way",
        ),
        pytest.param(
            FetchStatus("failed", attempt=3, error="no route", hint="look at the cable"),
            "failed",
            "waiting",
            "no route",
            "look at the cable",
            id="it does not come",
        ),
    ],
)
def test_why_a_version_is_not_here(
    fetch: FetchStatus | None, state: str, phase: str, error: str | None, hint: str | None
) -> None:
    status = told(MISSING, fetch)
    found = (status["state"], status["phase"], status["error"], status["hint"])
    assert found == (state, phase, error, hint)


def test_a_version_that_failed() -> None:
    failed = Failed(TWO, "key 2", "2", "Crashed", "it crashed", AT, "look at it")
    account = Account(
        wish=WISH, history=History(failed=(failed,)), refusal=Refusal.of_failure(failed)
    )
    status = told(account)
    assert (status["state"], status["phase"], status["refused"]) == ("failed", "failed", "2")
    assert (status["error"], status["hint"]) == ("it crashed", "look at it")
    assert status["failed"] == {
        "version": "2",
        "number": None,
        "digest": TWO,
        "reason": "it crashed",
        "at": AT,
    }
    other = replace(account, wish=replace(WISH, key="other settings"), refusal=None)
    assert told(other)["failed"] is None, "it is about other settings"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(History(record(2)), None, id="nowhere"),
        pytest.param(
            History(record(2), None, record(1)),
            {"version": "1", "number": 1, "digest": ONE},
            id="to the one before",
        ),
        pytest.param(
            History(record(2), Provisional(record(3), 1, AT), record(1)),
            {"version": "2", "number": 2, "digest": TWO},
            id="from a trial to the committed one",
        ),
    ],
)
def test_where_a_rollback_leads(history: History, expected: dict[str, Any] | None) -> None:
    assert told(Account(wish=WISH, history=history))["rollback"] == expected


def test_a_version_on_trial() -> None:
    history = History(record(1), Provisional(record(2), 1, AT))
    report = ProbeReport(0.5, 2.0, 1000, "agrees")
    account = Account(wish=WISH, history=history, remaining_s=7.46, report=("key 2", report))
    status = told(account)
    assert status["provisional"] == {
        "version": "2",
        "number": 2,
        "digest": TWO,
        "since": AT,
        "remaining_s": 7.5,
    }
    assert status["probe"] == {
        "load_s": 0.5,
        "latency_ms": 2.0,
        "memory_bytes": 1000,
        "golden": "agrees",
        "note": "",
        "slow": None,
    }
    began = replace(account, trial_since="2026-11-21T10:00:12Z")
    assert told(began)["provisional"]["since"] == "2026-11-21T10:00:12Z", "not since it was loaded"
    assert told(replace(account, remaining_s=None))["provisional"] is None, "it does not serve"


def test_a_probe_of_another_version_says_nothing_of_this_one() -> None:
    report = ProbeReport(0.5, 2.0, 1000, "agrees")
    account = Account(wish=WISH, report=("key 1", report))
    assert told(account)["probe"] is None


def test_a_probe_says_that_it_was_slower_than_it_may_be() -> None:
    policy = DeploymentPolicy(max_latency_ms=30)
    wish = replace(WISH, service=replace(WISH.service, deployment=policy))
    report = ProbeReport(0.5, 100.0, 1000, "agrees")
    status = told(Account(wish=wish, report=("key 2", report)))
    slow = "slower than the limit in its trial (100 ms, limit 30 ms)"
    assert status["probe"]["slow"] == slow
    (probed,) = (one for one in status["conditions"] if one["type"] == "Probed")
    assert probed["message"] == f"agrees; it was {slow}"


def test_a_copy_that_is_damaged_is_said_to_be() -> None:
    error = StorageError("this device's copy of model.onnx is damaged", hint="deploy it again")
    status = told(Account(wish=WISH, refusal=Refusal.of_damage(WISH, error)))
    assert (status["phase"], status["error"], status["hint"]) == (
        "failed",
        "this device's copy of model.onnx is damaged",
        "deploy it again",
    )
    assert status["failed"] is None, "it is no fault of the version"


def test_settings_that_are_not_the_usual_ones_are_told() -> None:
    policy, _ = DeploymentPolicy.read({"confirm_s": 60, "windows": ["Mon-Fri 02:00-04:00"]})
    service = replace(WISH.service, deployment=policy)
    status = service_status(
        service,
        Account(),
        package=None,
        found=None,
        fetch=None,
        phase="loading",
        conditions=(),
    )
    assert status["deployment"] == {"confirm_s": 60.0, "windows": ["Mon-Fri 02:00-04:00"]}


@pytest.mark.parametrize(
    ("account", "phase", "kind", "reason"),
    [
        pytest.param(
            Account(damaged=StorageUnavailableError("disk full"), wish=NOT_HERE),
            "failed",
            "Unpacked",
            "UnpackFailed",
            id="it cannot be laid out",
        ),
        pytest.param(
            Account(wish=InferenceError("a placeholder")),
            "waiting",
            "Fetched",
            "NotPossible",
            id="it cannot be",
        ),
        pytest.param(
            Account(wish=WISH, waits=Why("OutsideWindow", "")),
            "waiting",
            "Probed",
            "OutsideWindow",
            id="it waits",
        ),
        pytest.param(
            Account(wish=WISH, activity="probing"),
            "probing",
            "Probed",
            "Probing",
            id="it is probed",
        ),
        pytest.param(
            Account(
                wish=WISH,
                refusal=Refusal("key 2", TWO, "2", InferenceError("slow"), "TooSlow"),
            ),
            "failed",
            "Committed",
            "TooSlow",
            id="it was given up",
        ),
    ],
)
def test_how_far_a_service_is(account: Account, phase: str, kind: str, reason: str) -> None:
    status = told(account)
    (found,) = [one["reason"] for one in status["conditions"] if one["type"] == kind]
    assert (status["phase"], found) == (phase, reason)


def test_a_package_says_where_it_comes_from() -> None:
    fetch = FetchStatus("fetching", bytes=1, total=2, attempt=1)
    status = package_status(PACKAGE, NOT_HERE, fetch)
    assert (status["registry"], status["state"]) == ("http://r", "missing")
    assert status["fetch"] == fetch.to_json()
    assert package_status(Package("p", "local/m"), FOUND)["fetch"] is None
