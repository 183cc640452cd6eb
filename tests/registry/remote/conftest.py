"""Registries of several people, and remotes of every kind that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from nbmodel.core.remote import Remote
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.object_server import ObjectServer, object_server
from tests.tools.people import Person

KINDS = (
    "folder",
    pytest.param("docker-registry", marks=pytest.mark.slow),
    pytest.param("registry serve", marks=pytest.mark.slow),
    pytest.param("S3", marks=pytest.mark.slow),
)
_turn = count()


People = Callable[[str], Person]


@pytest.fixture(scope="session")
def docker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Docker's registry, for all tests of this folder."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("docker-registry")) as url:
        yield url


@pytest.fixture
def docker_remote(docker_url: str) -> Remote:
    """A namespace of Docker's registry that nobody used before."""
    return Remote(docker_url, f"team{next(_turn)}")


@pytest.fixture
def folder_remote(tmp_path: Path) -> Remote:
    """A folder that nobody used before."""
    (tmp_path / "store").mkdir()
    return Remote.parse((tmp_path / "store").as_uri())


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectServer]:
    """An S3-compatible server, for all tests of this folder."""
    with object_server() as server:
        yield server


@pytest.fixture
def s3_remote(object_store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A bucket that nobody used before."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return Remote.parse(object_store.make_bucket(f"team{next(_turn)}") + "/models")


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """An empty remote, of each kind that there is."""
    if request.param == "docker-registry":
        yield request.getfixturevalue("docker_remote")
    elif request.param == "registry serve":
        pytest.importorskip("uvicorn", reason="a registry is served with uvicorn")
        from nbmodel.serving.server import Offer, RegistryServer

        offer = Offer(read_only=False, require_token=False)
        server = RegistryServer(tmp_path / "served", tmp_path / "server", offer)
        server.start()
        yield Remote.parse(server.url)
        server.close()
    else:
        pytest.importorskip("obstore", reason="object stores are opened with obstore")
        yield request.getfixturevalue("s3_remote" if request.param == "S3" else "folder_remote")


@pytest.fixture
def person(remote: Remote, tmp_path: Path) -> Iterator[People]:
    """Somebody who shares the remote: ``person("ann")``."""
    yield from _people(remote, tmp_path)


@pytest.fixture
def docker_person(docker_remote: Remote, tmp_path: Path) -> Iterator[People]:
    """Somebody who shares Docker's registry, where no other kind tells more."""
    yield from _people(docker_remote, tmp_path)


def _people(remote: Remote, folder: Path) -> Iterator[People]:
    known: dict[str, Person] = {}

    def person(name: str) -> Person:
        if name not in known:
            known[name] = Person(folder / name, remote)
        return known[name]

    yield person
    for one in known.values():
        one.registry.close()
