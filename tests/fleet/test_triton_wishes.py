"""What services of a Triton were asked for, kept for the day that it has forgotten them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.fleet.triton_wishes import TritonWishes


def test_a_wish_is_kept_until_it_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "runtimes" / "jetson.triton.json"
    wishes = TritonWishes(file)
    assert wishes.of("digits") == {}
    wishes.keep("digits", {"device": "gpu"})
    wishes.keep("fruit", {"num_threads": 2})
    assert TritonWishes(file).of("digits") == {"device": "gpu"}
    wishes.keep("digits", None)
    assert (wishes.of("digits"), wishes.of("fruit")) == ({}, {"num_threads": 2})


def test_no_wish_makes_no_file(tmp_path: Path) -> None:
    wishes = TritonWishes(tmp_path / "jetson.triton.json")
    wishes.keep("digits", {})
    wishes.keep("digits", None)
    assert list(tmp_path.iterdir()) == []
    TritonWishes(None).keep("digits", {"device": "gpu"})
    assert TritonWishes(None).of("digits") == {}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"digits": 3}', b"\xff" * 9, b"[" * 99_999]
)
def test_a_damaged_file_is_as_none(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "jetson.triton.json"
    file.write_bytes(content)
    wishes = TritonWishes(file)
    assert wishes.of("digits") == {}
    wishes.keep("digits", {"device": "gpu"})
    assert wishes.of("digits") == {"device": "gpu"}
