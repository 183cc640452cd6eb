"""Eight that push to one model at once: nothing is lost, and everybody agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.core.remote import Remote
from tests.tools.people import check_agreement, race

PROCESSES = 8
PUSHES = 25  # by each of them


@pytest.mark.unhurried
@pytest.mark.parametrize("kind", ["docker_remote", "folder_remote", "s3_remote"])
def test_two_that_push_at_once_lose_nothing(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    if kind != "docker_remote":
        pytest.importorskip("obstore", reason="object stores are opened with obstore")
    remote: Remote = request.getfixturevalue(kind)
    check_agreement(tmp_path, remote, race(tmp_path, remote, 2, 3))


@pytest.mark.slow
@pytest.mark.unhurried
def test_eight_that_push_25_versions_each_lose_nothing(
    docker_remote: Remote, tmp_path: Path
) -> None:
    written = race(tmp_path, docker_remote, PROCESSES, PUSHES)
    assert sum(map(len, written)) == PROCESSES * PUSHES
    check_agreement(tmp_path, docker_remote, written)
