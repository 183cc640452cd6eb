"""Eight that push to one model at once: nothing is lost, and everybody agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbmodel.core.remote import Remote
from tests.registry.remote.conftest import Person

PROCESSES = 8
PUSHES = 25  # by each of them

_PROGRAM = """
import json, sys
from nbmodel.core.remote import Remote
from tests.registry.remote.conftest import Person
folder, url, name, pushes = sys.argv[1:]
from pathlib import Path
person = Person(Path(folder), Remote(url, name))
for turn in range(int(pushes)):
    person.add(content=f"{folder} {turn}".encode())
    person.push("digits")
print(json.dumps({version.digest: version.number for version in person.registry.versions("digits")}))
person.registry.close()
"""


def race(folder: Path, remote: Remote, processes: int, pushes: int) -> list[dict[str, int]]:
    """Digest → number, as each of the processes saw its own versions at its end."""
    root = Path(__file__).resolve().parents[3]
    place = [remote.base_url, remote.namespace, str(pushes)]

    def write(index: int) -> dict[str, int]:
        words = [sys.executable, "-c", _PROGRAM, str(folder / f"writer{index}"), *place]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        own: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return own

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(write, range(processes)))


def check_agreement(folder: Path, remote: Remote, written: list[dict[str, int]]) -> None:
    """Everybody finds every version, under one number that nobody else has."""
    digests = {digest for own in written for digest in own}
    reader = Person(folder / "reader", remote)
    (part,) = reader.sync("digits").models
    settled = reader.numbers()
    assert set(settled) == digests
    assert len(set(settled.values())) == len(digests) == part.there
    for index in range(2):
        writer = Person(folder / f"writer{index}", remote)
        writer.sync("digits")
        assert writer.numbers() == settled
        assert writer.registry.verify().is_clean
        writer.registry.close()
    reader.registry.close()


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
