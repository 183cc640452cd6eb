from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import ConfigError, StorageUnavailableError
from nbmodel.runtime.state import History, Record, State, StateFolder

ONE = Record("digits", "digits", "sha256:" + "1" * 64, 1, "2026-02-28T00-00-01")
TWO = Record("digits", "digits", "sha256:" + "2" * 64, None, None)


def test_state_comes_back(tmp_path: Path) -> None:
    state = State("sha256:x", {"a": History(ONE, TWO), "b": History(TWO), "c": History()})
    StateFolder(tmp_path).save_state(state)
    assert StateFolder(tmp_path).state() == state


def test_a_config_comes_back(tmp_path: Path) -> None:
    config = MachineConfig.from_json({"b": "ä", "a": [1]})
    StateFolder(tmp_path / "home").save_config(config)
    kept = StateFolder(tmp_path / "home").config()
    assert kept is not None
    assert kept.to_json() == {"b": "ä", "a": [1]}
    assert kept.etag == config.etag


def test_nothing_was_saved(tmp_path: Path) -> None:
    assert StateFolder(tmp_path).config() is None
    assert StateFolder(tmp_path).state() == State()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"services": {"a": {"live": {"x": 1}}}}'])
def test_a_damaged_state_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert StateFolder(tmp_path).state() == State()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", r"config\.json is not JSON", id="not JSON"),
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


def test_history_moves_with_every_other_version() -> None:
    history = History().moved(ONE)
    assert history == History(ONE)
    assert history.moved(ONE) == History(ONE), "the same version again is no move"
    assert history.moved(TWO) == History(TWO, ONE)
