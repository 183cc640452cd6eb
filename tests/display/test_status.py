"""Where services stand, in words; each row is a state that a person may meet."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nbmodel.core.event import Event
from nbmodel.display import StatusCard
from nbmodel.display.conditions import probe_words
from nbmodel.display.style import STYLE

AT = "2026-02-28T13:36:51Z"
OLD = {"version": "2026-02-01T00-00-00", "number": 3, "digest": "sha256:" + "0" * 64}
NEW = {"version": "2026-02-28T00-00-00", "number": 4, "digest": "sha256:" + "1" * 64}


def conditions(*holds: tuple[str, str, str]) -> list[dict[str, str]]:
    kinds = ("Fetched", "Unpacked", "Probed", "Live", "Committed")
    return [
        {"type": kind, "status": status, "reason": reason, "message": message, "since": AT}
        for kind, (status, reason, message) in zip(kinds, holds, strict=True)
    ]


YES = ("True", "Any", "")


def status(*, fetch: dict[str, Any] | None = None, **service: Any) -> StatusCard:
    entry = {"name": "digits", "state": "ready", "phase": "ready", "package": "digits", **OLD}
    packages = [{"name": "digits", "registry": "http://r:5000", "fetch": fetch}]
    return StatusCard({"runtime": "pi", "services": [{**entry, **service}], "packages": packages})


def row(card: StatusCard, column: str = "digits") -> str:
    (line,) = [line for line in card.text().splitlines() if line.split()[:1] == [column]][:1]
    return " ".join(line.split())


@pytest.mark.parametrize(
    ("card", "chips", "sentence"),
    [
        pytest.param(status(), "digits ready", "", id="all is well"),
        pytest.param(
            status(
                phase="fetching",
                fetch={
                    "state": "fetching",
                    "bytes": 3_100_000,
                    "total": 7_400_000,
                    "percent": 41.9,
                    "reused": 1_000_000,
                },
            ),
            "serving · fetching",
            "3.1 MB of 7.4 MB, 1.0 MB reused",
            id="fetching",
        ),
        pytest.param(
            status(
                phase="waiting",
                fetch={
                    "state": "failed",
                    "error": "r:5000 does not answer",
                    "attempt": 3,
                    "retry_in_s": 4.0,
                },
            ),
            "serving · waiting",
            "digits: could not be fetched (attempt 3): r:5000 does not answer; tried again in 4.0 s",
            id="a registry that is away",
        ),
        pytest.param(
            status(
                phase="waiting",
                fetch={"state": "failed", "error": "r:5000 is busy", "retry_in_s": 0.0},
            ),
            "serving · waiting",
            "digits: could not be fetched: r:5000 is busy; tried again now",
            id="a registry that is asked at once",
        ),
        pytest.param(
            status(probe={"slow": "slower than the limit in its trial (1.5 s, limit 30 ms)"}),
            "digits ready",
            "digits: it was slower than the limit in its trial (1.5 s, limit 30 ms)",
            id="a version that was slow in its trial",
        ),
        pytest.param(
            status(
                phase="failed",
                fetch={"state": "failed", "error": "needs 2 GB, 1 GB free", "terminal": True},
            ),
            "serving · failed",
            "digits: cannot be fetched: needs 2 GB, 1 GB free; not tried again until something "
            "changes",
            id="a disk that is full",
        ),
        pytest.param(
            status(state="loading", phase="probing", number=None), "trying it out", "", id="probing"
        ),
        pytest.param(
            status(
                phase="waiting",
                conditions=conditions(
                    YES,
                    YES,
                    ("Unknown", "OutsideWindow", "it waits for its maintenance window"),
                    ("False", "AnotherServes", "version 3 serves"),
                    ("False", "NotLive", ""),
                ),
            ),
            "serving · waiting",
            "digits: it waits for its maintenance window",
            id="outside of its window",
        ),
        pytest.param(
            status(
                phase="provisional",
                provisional={**NEW, "since": AT, "remaining_s": 8.2},
                rollback=OLD,
            ),
            "digits provisional",
            "digits: version 4 is provisional since 13:36:51: committed in 8.2 s if it stays "
            "healthy, else version 3 comes back",
            id="provisional",
        ),
        pytest.param(
            status(phase="provisional", provisional={**NEW, "since": AT, "remaining_s": 0.0}),
            "digits provisional",
            "digits: version 4 is provisional since 13:36:51: about to be committed if it stays "
            "healthy, else it is taken back",
            id="the first version, provisional",
        ),
        pytest.param(
            status(
                phase="failed",
                error="output 'y' differs",
                failed={**NEW, "reason": "output 'y' differs", "at": AT},
            ),
            "serving · failed",
            "digits: version 4 was given up at 2026-02-28 13:36:51: output 'y' differs; "
            "version 3 keeps serving",
            id="refused",
        ),
        pytest.param(
            status(state="failed", phase="failed", number=None, error="no such file", hint="look"),
            "digits failed",
            "digits: no such file (look)",
            id="failed with nothing to go back to",
        ),
        pytest.param(status(phase="melting"), "digits ready", "", id="a phase of the future"),
    ],
)
def test_every_state_has_its_words(card: StatusCard, chips: str, sentence: str) -> None:
    assert chips in row(card)
    assert sentence in " ".join(card.text().split())
    assert (" comes back" in card.text()) == (" comes back" in sentence)


def test_how_far_a_version_is_stands_in_a_row_with_the_first_reason() -> None:
    card = status(
        phase="probing",
        conditions=conditions(
            YES,
            YES,
            ("Unknown", "Probing", ""),
            ("False", "AnotherServes", "version 3 serves"),
            ("False", "NotLive", ""),
        ),
    )
    lines = [" ".join(line.split()) for line in card.text().splitlines()]
    assert "service on the device unpacked tried out serves committed why since (UTC)" in lines
    assert "digits yes yes not yet no no Probing 2026-02-28 13:36:51" in lines
    assert "version 3 serves" in card.html()  # all of them are there to be unfolded
    assert "version wanted" not in status(conditions=conditions(*[YES] * 5)).text()


@pytest.mark.parametrize(
    ("card", "failed"),
    [
        (status(), False),
        (status(phase="provisional"), False),
        (status(phase="failed", error="x"), True),
        (status(error="x"), True),
        (status(fetch={"state": "failed", "terminal": True, "error": "x"}), True),
        (status(fetch={"state": "failed", "error": "x"}), False),
    ],
    ids=["ready", "provisional", "refused", "an error", "cannot be fetched", "tried again"],
)
def test_a_program_is_told_whether_something_failed(card: StatusCard, failed: bool) -> None:
    assert card.failed is failed


def test_a_live_card_has_what_happened_and_the_last_one_has_not() -> None:
    event = Event(1, AT, "info", None, "Live", "version 4 is live")
    card = status().with_events([event])
    assert event.line in card.text()
    assert event.line not in card.without_events().text()
    away = card.away("connection refused")
    assert "does not answer" in away.text()
    assert "connection refused" in away.text()
    assert away.to_json() == card.to_json()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1e300, True, "x", [], {}, None])
def test_numbers_that_make_no_sense_break_nothing(odd: object) -> None:
    card = status(
        fetch={
            "state": "fetching",
            "error": "x",
            **dict.fromkeys(("bytes", "total", "percent", "reused", "attempt", "retry_in_s"), odd),
        },
        phase="fetching",
        provisional={"number": odd, "since": odd, "remaining_s": odd},
        rollback=odd,
        failed=odd,
        probe=dict.fromkeys(
            ("latency_ms", "memory_bytes", "load_s", "golden", "note", "slow"), odd
        ),
        deployment={"confirm_s": odd, "windows": [odd]},
        conditions=[odd, {"type": odd, "status": odd, "reason": odd, "since": odd}],
    )
    assert "digits" in card.text()
    assert "digits" in card.html()


def test_a_reason_is_told_in_full_once_and_in_brief_in_tables() -> None:
    reason = f"cannot load model.onnx: {'[ONNXRuntimeError] : 7 : INVALID_PROTOBUF, ' * 9}the end"
    refused = ("False", "LoadFailed", reason)
    card = status(
        phase="failed",
        error=reason,
        failed={**NEW, "reason": reason, "at": AT},
        conditions=conditions(YES, YES, refused, ("False", "AnotherServes", ""), refused),
    )
    text = " ".join(card.text().split())
    assert text.count("the end") == 1
    assert card.html().count("the end") == 1


def test_settings_that_are_not_the_usual_ones_are_shown() -> None:
    card = status(deployment={"confirm_s": 60.0, "windows": ["Sat 22:00-24:00", "02:00-04:00"]})
    text = " ".join(card.text().split())
    assert "deployment of digits confirm_s=60, windows=Sat 22:00-24:00 + 02:00-04:00" in text
    assert "deployment" not in status(deployment={}).text()


def test_what_ails_the_runtime_itself_stands_first() -> None:
    text = "config.json is not JSON; the last config that went well counts"
    card = StatusCard({**status().to_json(), "warnings": [text]})
    assert text in card.text()
    assert "bad" not in StatusCard({**status().to_json(), "warnings": 7}).text()


@pytest.mark.parametrize(
    ("probed", "expected"),
    [
        (("True", "NotNeeded", "it ran before"), "no: it ran before"),
        (("True", "NotNeeded", ""), ""),
        (("Unknown", "Pending", "not begun yet"), ""),
    ],
)
def test_a_version_that_is_not_tried_out_says_why(
    probed: tuple[str, str, str], expected: str
) -> None:
    service = status(conditions=conditions(YES, YES, probed, YES, YES))["services"][0]
    assert probe_words(service) == expected


def test_a_trial_says_what_it_showed_and_what_is_to_know_of_it() -> None:
    probe = {"latency_ms": 1500.0, "golden": "all outputs agree", "slow": "slower", "note": "once"}
    assert probe_words({"probe": probe}) == "1.5 s an answer; all outputs agree; slower; once"


@pytest.mark.parametrize("box", ["pre.nbm-code", ".nbm-scroll"])
def test_scroll_bars_read_on_white_and_on_black(box: str) -> None:
    (rule,) = re.findall(r"([^{}]+)\{scrollbar-color:rgba\(128,128,128,\.6\) transparent\}", STYLE)
    assert f".nbm {box}" in rule.split(",")
