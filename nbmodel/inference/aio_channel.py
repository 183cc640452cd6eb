"""The way to a server of ``channel``, for an event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from nbmodel.errors import FormatError
from nbmodel.inference import refusal
from nbmodel.inference.aio_connection import AsyncPool
from nbmodel.inference.channel import (
    MAX_TOLD,
    Heads,
    check_answer,
    client_options,
    infer_options,
    to_answer,
    told,
    told_by_httpx,
)
from nbmodel.inference.http1 import MAX_BODY, Answer
from nbmodel.inference.server import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Server, check_timeout
from nbmodel.protocol.http import Body


class AsyncChannel:
    """A way to one server, as ``Channel`` is, for the tasks of one event loop.

    Args:
        server: Which one.
        timeout_s: Seconds to wait for an answer.
    """

    def __init__(self, server: Server, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.server = server
        self._timeout_s = check_timeout(timeout_s)
        self._heads = Heads(server)
        self._client = httpx.AsyncClient(**client_options(server, timeout_s))
        self._pool = (
            AsyncPool(server.host, server.port, connect_timeout_s=CONNECT_TIMEOUT_S)
            if server.is_direct()
            else None
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        if self._pool is not None:
            self._pool.close()

    async def request(
        self, method: str, path: str, *, is_claim: bool = False, **options: Any
    ) -> Answer:
        """Ask something that is no inference; as ``Channel.request``."""
        self._check_open()
        answer = await self._by_httpx(method, path, self._timeout_s, MAX_TOLD, options)
        check_answer(self.server, answer, is_claim=is_claim)
        return answer

    async def post(
        self,
        path: str,
        body: Body,
        *,
        headers: Mapping[str, str],
        timeout_s: float | None,
        may_repeat: bool,
    ) -> Answer:
        """Send a request for inference; as ``Channel.post``."""
        self._check_open()
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        if self._pool is None:
            answer = await self._by_httpx(
                "POST", path, timeout_s, MAX_BODY, infer_options(body, headers, timeout_s)
            )
        else:
            head = self._heads.post(path, body, headers)
            try:
                answer = await self._pool.exchange(
                    (head, *body.parts), timeout_s, may_repeat=may_repeat
                )
            except (OSError, FormatError) as exc:
                raise told(self.server, exc, timeout_s) from exc
        if answer.status != 200:
            raise refusal.refusal(self.server, answer.status, answer.reason, answer.body)
        return answer

    def _check_open(self) -> None:
        if self._client.is_closed:
            raise refusal.closed(self.server)

    async def _by_httpx(
        self, method: str, path: str, timeout_s: float, most: int, options: Mapping[str, Any]
    ) -> Answer:
        with told_by_httpx(self.server, timeout_s):
            async with self._client.stream(method, path, **options) as answer:
                received = bytearray()  # so that the arrays which view it can be written to
                try:
                    async for piece in answer.aiter_bytes():
                        received += piece
                        if len(received) > most:
                            # To break off would leave httpx's generators to the end of the
                            # loop; of a closed answer they come to their own.
                            await answer.aclose()
                except (httpx.HTTPError, httpx.StreamError):
                    if len(received) <= most:
                        raise
                if len(received) > most:
                    raise refusal.too_long(self.server, most)
        return to_answer(answer, received)
