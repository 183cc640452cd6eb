"""A client with an empty registry, a site to download from, and a job to import with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.importing import Import
from tests.tools.site import Site, site


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as running:
        yield running


@pytest.fixture
def job(tmp_path: Path) -> Import:
    folder = tmp_path / "job"
    folder.mkdir()
    return Import(folder, tmp_path / "parts")
