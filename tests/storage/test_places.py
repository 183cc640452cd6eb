"""Which repository has which blob, as it is remembered."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nbmodel.storage import places
from nbmodel.storage.places import BlobPlaces

REGISTRY = "http://localhost:5000/"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def test_it_is_remembered_for_one_registry(tmp_path: Path) -> None:
    BlobPlaces(tmp_path / "uploads", REGISTRY).note([digest(1)], "team/digits")
    assert BlobPlaces(tmp_path / "uploads", REGISTRY).find(digest(1)) == "team/digits"
    assert BlobPlaces(tmp_path / "uploads", REGISTRY).find(digest(2)) is None
    assert BlobPlaces(tmp_path / "uploads", "http://localhost:6000/").find(digest(1)) is None
    (file,) = (tmp_path / "uploads").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_oldest_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_MAX", 3)
    known = BlobPlaces(tmp_path, REGISTRY)
    for number in range(5):
        known.note([digest(number)], f"r{number}")
    again = BlobPlaces(tmp_path, REGISTRY)
    assert [again.find(digest(number)) for number in range(5)] == [None, None, "r2", "r3", "r4"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half of it"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"../x": "r"}', id="no digest"),
        pytest.param(f'{{"{digest(1)}": 3}}'.encode(), id="no text"),
        pytest.param(f'{{"{digest(1)}": "../x"}}'.encode(), id="no repository"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b"\xff", id="no text at all"),
    ],
)
def test_a_file_that_is_none_counts_as_none(tmp_path: Path, content: bytes) -> None:
    BlobPlaces(tmp_path, REGISTRY).note([digest(1)], "r")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    known = BlobPlaces(tmp_path, REGISTRY)
    assert known.find(digest(1)) is known.find("../x") is None


def test_where_nothing_can_be_kept_it_is_known_as_long_as_it_lives(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    known = BlobPlaces(tmp_path / "file", REGISTRY)
    known.note([digest(1)], "r")
    assert known.find(digest(1)) == "r"
    assert BlobPlaces(tmp_path / "file", REGISTRY).find(digest(1)) is None
