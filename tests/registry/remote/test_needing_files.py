"""What needs the files of a version fetches them, with nobody asking for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.core.remote import Remote

ROWS = [[1.0, 1.0]]
ANSWER = [15.0, 27.0, 39.0]  # x @ W + b of the toy model


@pytest.fixture
def known(docker_remote: Remote, linear_onnx: Path, tmp_path: Path) -> Iterator[Client]:
    """A client that knows a version, and has not its files."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    ann = Client(tmp_path / "ann")
    ann.upload(linear_onnx, name="linear", type="other", sample=ROWS)
    ann.push("linear", str(docker_remote))
    ann.close()
    ben = Client(tmp_path / "ben")
    ben.sync(None, str(docker_remote))
    assert ben.show("linear:1").files_on == docker_remote.host  # type: ignore[union-attr] # of a version
    yield ben
    ben.close()


def test_it_runs_here(known: Client) -> None:
    answer = known.infer("linear:1", ROWS)
    assert answer.outputs["y"].tolist() == [ANSWER]
    assert known.show("linear:1").files_on is None  # type: ignore[union-attr] # of a version


def test_an_index_made_anew_finds_them_after_a_synchronisation(
    known: Client, docker_remote: Remote
) -> None:
    known.close()
    (known.home / "registry" / "registry.sqlite").unlink()
    report = known.verify(rebuild=True)
    assert (report.problems, report.elsewhere) == ((), 1)
    assert known.show("linear:1").files_on == "nobody"  # type: ignore[union-attr] # of a version
    known.sync("linear", str(docker_remote))
    assert known.verify().is_clean
    assert known.infer("linear:1", ROWS).outputs["y"].tolist() == [ANSWER]


@pytest.mark.unhurried
def test_it_is_deployed(known: Client) -> None:
    known.runtimes.start("edge")
    try:
        card = known.deploy("linear:1", on="edge")
        assert card.version.number == 1
        assert known.infer("linear@edge", ROWS).outputs["y"].tolist() == [ANSWER]
    finally:
        known.runtimes.remove("edge")
