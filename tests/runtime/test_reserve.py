from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

pytest.importorskip("starlette", reason="pip install 'nbmodel[runtime]'")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nbmodel.runtime.app import RoomApp
from nbmodel.runtime.reserve import RESERVE_BYTES, RESERVE_FILE, Reserve


def test_room_is_set_aside_and_given_up_once(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.make()
    file = tmp_path / RESERVE_FILE
    assert file.stat().st_size == RESERVE_BYTES
    assert reserve.release()
    assert not file.exists()
    assert not reserve.release()


def test_what_is_set_aside_is_not_written_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.make()
    written = (tmp_path / RESERVE_FILE).read_bytes()
    assert reserve.make()
    assert (tmp_path / RESERVE_FILE).read_bytes() == written


def test_a_piece_of_the_reserve_is_no_reserve(tmp_path: Path) -> None:
    (tmp_path / RESERVE_FILE).write_bytes(b"torn")
    assert Reserve(tmp_path).make()
    assert (tmp_path / RESERVE_FILE).stat().st_size == RESERVE_BYTES


@pytest.mark.parametrize("where", ["missing", "no room"])
def test_where_no_room_can_be_set_aside_there_is_none(tmp_path: Path, where: str) -> None:
    home = tmp_path / "missing" if where == "missing" else tmp_path
    assert not Reserve(home, size=1 << 62).make()
    assert not list(tmp_path.iterdir())


def test_a_disk_is_short_after_something_did_not_fit(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.is_short
    reserve.lack()
    assert reserve.is_short


@pytest.mark.parametrize(("status", "lacks"), [(507, 1), (201, 0), (500, 0)])
def test_an_answer_that_says_that_there_is_no_room_is_noticed(status: int, lacks: int) -> None:
    noticed: list[None] = []

    def answer(_: Request) -> Response:
        return Response(status_code=status)

    app = RoomApp(Starlette(routes=[Route("/", answer)]), lambda: noticed.append(None))

    async def ask() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.get("/")).status_code

    assert asyncio.run(ask()) == status
    assert len(noticed) == lacks
