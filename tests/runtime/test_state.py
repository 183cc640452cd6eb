from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import ConfigError, StorageUnavailableError
from nbmodel.runtime import state as state_module
from nbmodel.runtime.reserve import Reserve
from nbmodel.runtime.state import (
    MAX_FAILED,
    Failed,
    History,
    Provisional,
    Record,
    State,
    StateFolder,
)
from nbmodel.storage.atomic import write_atomically

AT = "2026-11-21T10:00:00Z"


def record(number: int, key: str | None = None) -> Record:
    return Record(
        package="digits",
        repository="digits",
        digest="sha256:" + f"{number:x}" * 64,
        number=number,
        stamp=f"2026-02-28T00-00-{number:02d}",
        key=key or f"key {number}",
        model="onnx_cpu",
        attributes={"model_path": "${packages.digits}/model.onnx", "num_threads": 2},
    )


def failed(one: Record) -> Failed:
    return Failed(one.digest, one.key, one.label, "Crashed", "it crashed", AT, "make it better")


ONE, TWO, THREE = record(1), record(2), record(3)


def test_state_comes_back(tmp_path: Path) -> None:
    state = State(
        "sha256:x",
        True,
        2,
        {
            "a": History(ONE, Provisional(THREE, 2, AT), TWO, (failed(TWO), failed(ONE))),
            "b": History(TWO),
            "c": History(),
        },
    )
    StateFolder(tmp_path).save_state(state)
    assert StateFolder(tmp_path).state() == state


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        pytest.param({}, "2026-02-28T00-00-01", id="its timestamp id"),
        pytest.param({"stamp": None}, "1", id="its number"),
        pytest.param({"stamp": None, "number": None}, "111111111111", id="a piece of its digest"),
    ],
)
def test_what_a_record_is_called(fields: dict[str, Any], label: str) -> None:
    assert replace(ONE, **fields).label == label


def test_a_config_comes_back(tmp_path: Path) -> None:
    config = MachineConfig.from_json({"b": "ä", "a": [1]})
    StateFolder(tmp_path / "home").save_config(config)
    kept = StateFolder(tmp_path / "home").config()
    assert kept is not None
    assert kept.to_json() == {"b": "ä", "a": [1]}
    assert kept.etag == config.etag


def test_a_good_config_is_kept_apart(tmp_path: Path) -> None:
    good = MachineConfig.from_json({"a": 1})
    StateFolder(tmp_path).save_good_config(good)
    assert StateFolder(tmp_path).config() is None
    assert StateFolder(tmp_path).good_config() == good
    (tmp_path / "config.good.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.good\.json is not JSON"):
        StateFolder(tmp_path).good_config()


def test_nothing_was_saved(tmp_path: Path) -> None:
    assert StateFolder(tmp_path).config() is None
    assert StateFolder(tmp_path).good_config() is None
    assert StateFolder(tmp_path).state() == State()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="an empty object"),
        pytest.param("[" * 100_000, id="nested without end"),
        pytest.param('{"services": {"a": {"live": {"x": 1}}}}', id="of an earlier form"),
        pytest.param(
            '{"given": null, "running": true, "unclean": 0, "services": {"a": {"current": 5}}}',
            id="of other types",
        ),
    ],
)
def test_a_damaged_state_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    told: list[str] = []
    assert StateFolder(tmp_path).state(told.append) == State()
    assert ["state.json.damaged" in text for text in told] == [True]
    assert (tmp_path / "state.json.damaged").read_text() == content
    assert StateFolder(tmp_path).state(told.append) == State()
    assert len(told) == 1, "it is told once"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", r"config\.json is not JSON", id="not JSON"),
        pytest.param("[" * 100_000, r"config\.json is not JSON", id="nested without end"),
        pytest.param('{"services": 1}', "expected a list", id="not a machine config"),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        StateFolder(tmp_path).config()


def test_a_home_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(StorageUnavailableError, match=r"cannot write .*config\.json"):
        StateFolder(tmp_path / "home").save_config(MachineConfig.from_json({}))


# How a service comes to run what it runs


def test_a_version_is_tried_and_committed() -> None:
    first = History().tried(ONE, AT)
    assert first == History(provisional=Provisional(ONE, 1, AT))
    assert first.committed(ONE) == History(current=ONE)
    second = first.committed(ONE).tried(TWO, AT)
    assert second == History(ONE, Provisional(TWO, 1, AT))
    assert second.committed(TWO) == History(TWO, None, ONE)
    assert second.forgotten() == History(ONE)


def test_going_back_and_forth_is_a_move_too() -> None:
    history = History(TWO, None, ONE)
    assert history.committed(ONE) == History(ONE, None, TWO)
    assert history.committed(ONE).committed(TWO) == history


def test_other_settings_of_the_same_version_are_no_move() -> None:
    changed = record(2, "other")
    assert History(TWO, None, ONE).committed(changed) == History(changed, None, ONE)


@pytest.mark.parametrize(
    ("serves", "current"),
    [
        pytest.param(True, ONE, id="it serves"),
        pytest.param(False, None, id="it never did"),
    ],
)
def test_the_only_version_there_is_becomes_current_when_the_next_is_tried(
    serves: bool, current: Record | None
) -> None:
    history = History().tried(ONE, AT).tried(TWO, AT, serves=serves)
    assert history == History(current, Provisional(TWO, 1, AT))


def test_a_version_that_is_overtaken_before_it_was_committed_is_nothing_to_go_back_to() -> None:
    history = History(ONE).tried(TWO, AT).tried(THREE, AT, serves=True)
    assert history == History(ONE, Provisional(THREE, 1, AT))


@pytest.mark.parametrize(
    ("number", "current", "provisional", "rollback"),
    [
        pytest.param(3, TWO, None, ONE, id="what was tried"),
        pytest.param(2, ONE, Provisional(THREE, 1, AT), None, id="what was committed"),
        pytest.param(1, TWO, Provisional(THREE, 1, AT), None, id="what was before"),
        pytest.param(4, TWO, Provisional(THREE, 1, AT), ONE, id="what never ran"),
    ],
)
def test_a_version_is_refused(
    number: int, current: Record, provisional: Provisional | None, rollback: Record | None
) -> None:
    history = History(TWO, Provisional(THREE, 1, AT), ONE)
    reason = failed(record(number))
    after = history.refused(reason)
    assert after == History(current, provisional, rollback, (reason,))
    assert after.failure(reason.digest, reason.key) is reason
    assert after.forgiven().failed == ()


def test_the_last_failures_are_remembered_once_each() -> None:
    history = History()
    for number in (*range(1, MAX_FAILED + 3), MAX_FAILED):
        history = history.refused(failed(record(number)))
    assert len(history.failed) == MAX_FAILED
    assert [one.digest for one in history.failed[:2]] == [
        record(MAX_FAILED).digest,
        record(MAX_FAILED + 2).digest,
    ]


def test_a_version_that_does_well_after_all_is_not_failed_any_more() -> None:
    history = History(ONE, failed=(failed(TWO), failed(THREE)))
    assert history.committed(TWO).failed == (failed(THREE),)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(History(ONE), History(record(4, "key 1"), None, ONE), id="committed"),
        pytest.param(
            History(ONE, Provisional(TWO, 2, AT)),
            History(ONE, Provisional(record(4, "key 2"), 2, AT)),
            id="provisional",
        ),
    ],
)
def test_what_runs_is_called_another_version(history: History, expected: History) -> None:
    live = history.provisional.record if history.provisional else history.current
    assert live is not None
    assert history.relabelled(record(4, live.key)) == expected


def test_the_files_of_all_records_are_needed() -> None:
    assert History().records == ()
    assert History(ONE, Provisional(TWO, 1, AT), THREE).records == (ONE, TWO, THREE)


def test_the_state_can_be_read_by_people(tmp_path: Path) -> None:
    StateFolder(tmp_path).save_state(State(services={"a": History(ONE)}))
    kept = json.loads((tmp_path / "state.json").read_text())
    assert kept["services"]["a"]["current"]["number"] == 1


def test_a_full_disk_takes_a_config_in_the_place_of_the_reserve_and_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.make()
    write = write_atomically

    def full(target: Path, content: bytes) -> None:
        if (tmp_path / "reserve").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(target, content)

    monkeypatch.setattr(state_module, "write_atomically", full)
    states = StateFolder(tmp_path, reserve)
    with pytest.raises(StorageUnavailableError, match="No space left") as caught:
        states.save_state(State())
    assert "undeploy what is not needed there" in str(caught.value.hint)
    with pytest.raises(StorageUnavailableError):
        StateFolder(tmp_path).save_config(MachineConfig.from_json({"a": 1}))
    states.save_config(MachineConfig.from_json({"a": 1}))
    assert states.config() == MachineConfig.from_json({"a": 1})
    assert not (tmp_path / "reserve").exists()
