from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.errors import StorageUnavailableError
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.ledger import Ledger
from nbmodel.runtime.state import History, Record, StateFolder

AT = "2026-11-21T10:00:00Z"
ONE = Record("a", "a", "sha256:" + "1" * 64, 1, None, "key", "onnx_cpu", {})


def ledger(home: Path) -> Ledger:
    return Ledger(StateFolder(home), Journal())


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.remember_given("sha256:x")
    first.write("a", History(ONE))
    first.note("b", History(rollback=ONE))
    first.end()
    again = ledger(tmp_path)
    assert again.given == "sha256:x"
    assert (again.of("a"), again.of("b")) == (History(ONE), History(rollback=ONE))
    assert again.of("c") == History()


def test_an_end_without_a_word_is_noticed_until_all_is_calm(tmp_path: Path) -> None:
    ledger(tmp_path)
    assert (ledger(tmp_path).unclean, ledger(tmp_path).is_cautious) == (1, True)
    calm = ledger(tmp_path)
    assert calm.unclean == 3
    calm.calm()
    assert not calm.is_cautious
    assert ledger(tmp_path).unclean == 1


def test_a_clean_end_is_none(tmp_path: Path) -> None:
    ledger(tmp_path).end()
    assert ledger(tmp_path).unclean == 0


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    journal = Journal()
    Ledger(StateFolder(tmp_path), journal)
    (line,) = journal.lines(10)
    assert "WARNING" in line
    assert "state.json.damaged" in line


def test_services_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    one = ledger(tmp_path)
    one.note("a", History(ONE))
    one.note("b", History(ONE))
    one.retain(["b"])
    assert (one.of("a"), one.of("b")) == (History(), History(ONE))


def test_a_disk_that_takes_nothing_keeps_what_must_be_on_it_from_being_done(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    journal = Journal()
    home.write_bytes(b"no folder")
    one = Ledger(StateFolder(home), journal)
    with pytest.raises(StorageUnavailableError):
        one.write("a", History(ONE))
    assert one.of("a") == History()
    one.note("a", History(rollback=ONE))
    assert one.of("a") == History(rollback=ONE), "it counts as long as the runtime lives"
    assert len([line for line in journal.lines(9) if "not be remembered" in line]) == 1
    home.unlink()
    assert one.is_behind
    one.catch_up()
    assert not one.is_behind
    assert ledger(home).of("a") == History(rollback=ONE)
