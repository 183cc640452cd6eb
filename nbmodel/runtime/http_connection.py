"""The fast HTTP front end: the data plane's requests from socket to answer, without copies.

uvicorn is the server: it listens, starts and ends. Each connection begins here. A request
of the data plane is answered here; with the first one of any other path the connection is
given to uvicorn's own protocol for good, which serves it through the ASGI application
(where the data plane is to be had too, with more copies).

A body whose length is known is received into its final buffer, and an answer is written
from the arrays that the model gave. Requests are answered one after the other: what a
client sends ahead waits, first in memory and then in the socket. A client that closes its
side before its answer is there is taken to be gone.

Everything runs on the event loop's thread, save :meth:`HttpConnection._on_answer`: an answer
that a worker thread has made goes to the socket from there, where nothing is in its way.
Waking the event loop for it would cost more than the writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from nbmodel.runtime.answer import JSON, Answer, Call
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.control_connection import ControlConnection
from nbmodel.runtime.http_head import (
    END,
    TOO_LARGE_HINT,
    ChunkedBody,
    Head,
    RefusedError,
    is_hopeless,
    parse_head,
    too_large,
)
from nbmodel.runtime.limits import TOO_MUCH, Limits, SharedBudget
from nbmodel.runtime.oip import DataPlane
from nbmodel.runtime.scheduler import Pending
from nbmodel.runtime.watch import Watch

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

_SCRATCH = 64 * 1024  # bytes of one read of heads and small bodies
_MAX_HEADS = 512  # heads whose reading is remembered
_MAX_REMEMBERED = 2048  # bytes of such a head
_JOINED = 32 * 1024  # bytes up to which an answer is cheaper to join than to write in parts
_LINGER_S = 3.0  # after a refusal, what the client still sends is read so long and dropped
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)

# What a connection is doing.
_IDLE, _HEAD, _BODY, _CHUNKED, _ANSWERING, _LINGERING = range(6)


@dataclass(frozen=True, slots=True)
class _Request:
    """A head that was read and let in, with its route."""

    head: Head
    call: Call
    method: str
    headers: Mapping[str, str]
    length: int | None
    is_plain: bool  # HTTP/1.1 that stays open, and no HEAD


class FrontEnd(Watch):
    """What the connections of one server share.

    Args:
        plane: Answers the data plane's requests.
        gate: Who may talk to it.
        limits: What clients may use.

    Attributes:
        takes_sockets: Whether ``hand_over`` takes the socket alone: then nothing may be left
            that a transport has not sent yet.
    """

    takes_sockets = False

    def __init__(self, plane: DataPlane, gate: Gate, limits: Limits) -> None:
        super().__init__(limits)
        self.plane = plane
        self.gate = gate
        self.budget = SharedBudget(limits.max_bytes_in_flight)
        self.requests: dict[bytes, _Request] = {}
        self.thread = 0  # the event loop's
        # A read fills it and is dealt with at once, so one does for all; only Windows keeps
        # a buffer from one call to the next.
        self.scratch = None if sys.platform == "win32" else bytearray(_SCRATCH)
        self._date: tuple[object, str] = (None, "")

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpConnection:
        """A connection; uvicorn calls this for each that it accepts."""
        loop = _loop or asyncio.get_running_loop()
        if loop is not self._loop:
            self.attend(loop)
            self.thread = get_ident()
        return HttpConnection(self, config, server_state, app_state, loop)

    async def adopt(
        self, given: socket.socket, data: bytes, config: Config, state: ServerState
    ) -> None:
        """Go on with a connection that another process accepted.

        Args:
            given: The connection; it is owned from now on.
            data: What was read of it already.
            config: uvicorn's.
            state: uvicorn's.
        """
        loop = asyncio.get_running_loop()

        def protocol() -> HttpConnection:
            return self.protocol(config, state, {}, loop).after(data)

        try:
            given.setblocking(False)
            await loop.connect_accepted_socket(protocol, given)
        except OSError:  # the client is gone
            given.close()

    def hand_over(self, connection: HttpConnection, head: bytes, rest: bytes) -> None:
        """Have somebody else serve a connection, whose next request is not the data plane's.

        Args:
            connection: It has begun with no request of its own.
            head: Of the request.
            rest: What was read after it.
        """
        connection.give_to_uvicorn(_UPGRADE.sub(b"", head) + rest)

    def forget(self) -> None:
        """Read heads anew: what their paths lead to may have changed; from any thread."""
        self.requests.clear()

    def date(self, state: ServerState) -> str:
        """The header of the time, which uvicorn renews once a second."""
        if self._date[0] is not state.default_headers:
            lines = (f"{n.decode()}: {v.decode()}\r\n" for n, v in state.default_headers)
            self._date = (state.default_headers, "".join(lines))
        return self._date[1]


class HttpConnection(asyncio.BufferedProtocol):
    """One client's connection, as long as it asks for nothing but the data plane.

    Args:
        front: What is shared with other connections.
        config: uvicorn's, for connections that are handed over.
        state: uvicorn's, where connections to end gracefully are kept.
        app_state: uvicorn's.
        loop: The event loop.
    """

    __slots__ = (
        "_answer_size",
        "_app_state",
        "_body",
        "_chunked",
        "_config",
        "_descriptor",
        "_doing",
        "_filled",
        "_front",
        "_is_ending",
        "_is_paused",
        "_is_write_paused",
        "_leaving",
        "_loop",
        "_pending",
        "_request",
        "_reserved",
        "_rest",
        "_scratch",
        "_scratch_view",
        "_since",
        "_state",
        "_transport",
        "_view",
    )

    def __init__(
        self,
        front: FrontEnd,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._front = front
        self._config = config
        self._state = state
        self._app_state = app_state
        self._loop = loop
        self._scratch = front.scratch if front.scratch is not None else bytearray(_SCRATCH)
        self._scratch_view = memoryview(self._scratch)
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1  # of the socket
        self._leaving = threading.Lock()  # held by whoever writes or ends, so not both at once
        self._doing = _IDLE
        self._since = 0.0  # loop time at which that began
        self._rest = bytearray()  # what was read and not yet looked at
        self._request: _Request | None = None
        self._body: bytearray | None = None  # while it is received
        self._view: memoryview | None = None  # of the body
        self._filled = 0  # bytes of it that are there
        self._chunked: ChunkedBody | None = None
        self._reserved = 0  # bytes that are counted as in flight
        self._pending: Pending | None = None
        self._is_ending = False  # after the answer under way
        self._is_paused = False  # reading
        self._is_write_paused = False
        self._answer_size = 0  # bytes of the last answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        given = transport.get_extra_info("socket")
        if given is not None and os.name != "nt":
            self._descriptor = given.fileno()
        self._since = self._loop.time()
        self._state.connections.add(self)  # type: ignore[arg-type] # it has .shutdown
        front = self._front
        front.add(self)
        if front.is_full:
            error = RefusedError(503, "too many connections, try again later (--max-connections)")
            self._refuse(error, lingers=False)
        elif self._rest:
            # Not here: reading starts after this call, whatever is asked for during it.
            self._loop.call_soon(self._go_on)

    def after(self, data: bytes) -> HttpConnection:
        """This connection, of which ``data`` was read before it came here."""
        self._rest += data
        return self

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client is gone."""
        with self._leaving:  # the descriptor is closed after this
            self._transport = None
        self._state.connections.discard(self)
        self._front.connections.discard(self)
        self._give_up()

    def eof_received(self) -> bool:
        """The client has closed its side: nobody waits for an answer."""
        self._give_up()
        return False

    def shutdown(self) -> None:
        """Answer what is under way, and end."""
        with self._leaving:
            self._is_ending = True
        if self._transport is not None and self._doing in (_IDLE, _HEAD, _LINGERING):
            self._transport.close()

    def pause_writing(self) -> None:
        """The client takes its answer slower than it comes."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """The client has taken most of its answer."""
        self._is_write_paused = False
        self._since = self._loop.time()
        self._release()
        if self._rest:
            # A transport may call this from within a write.
            self._loop.call_soon(self._go_on)

    def get_buffer(self, _size: int) -> memoryview | bytearray:
        """Where to the next bytes go: the body's own memory, once it is known how long it is."""
        view = self._view
        return self._scratch if view is None else view[self._filled :]

    def buffer_updated(self, size: int) -> None:
        """Bytes came."""
        if self._body is not None:
            self._filled += size
            if self._filled == len(self._body):
                body, self._body, self._view = self._body, None, None
                assert self._request is not None
                self._begin(self._request, body)
        elif self._doing == _LINGERING:
            pass
        elif self._rest or self._doing == _ANSWERING or self._is_write_paused:
            self._rest += self._scratch_view[:size]
            self._go_on()
        else:
            used = self._serve(self._scratch, self._scratch_view, size)
            if used < size:
                self._rest += self._scratch_view[used:size]

    def check_time(self, now: float) -> None:
        """End the connection when it has taken too long; called every few seconds.

        Args:
            now: Loop time.
        """
        transport, limits = self._transport, self._front.limits
        if transport is None:
            return
        took = now - self._since
        unsent = transport.get_write_buffer_size()
        if self._doing == _ANSWERING:
            return
        if unsent:
            sent = max(self._answer_size - unsent, 0)
            is_over = took > limits.body_timeout_s + sent / limits.min_rate
        elif self._doing == _LINGERING:
            is_over = took > min(_LINGER_S, limits.head_timeout_s)
        elif self._doing == _IDLE:
            is_over = took > limits.idle_timeout_s
        elif self._doing == _HEAD:
            if took > limits.head_timeout_s:
                message = f"no whole head in {limits.head_timeout_s:g} s (--head-timeout-s)"
                self._refuse(RefusedError(408, message))
            return
        else:
            came = self._filled if self._chunked is None else len(self._chunked.data)
            if took > limits.body_timeout_s + came / limits.min_rate:
                message = f"the body comes slower than {limits.min_rate} bytes/s (--min-rate)"
                self._refuse(RefusedError(408, message))
            return
        if is_over and unsent:
            transport.abort()  # closing would wait until it is sent
        elif is_over:
            transport.close()

    # -- requests ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Serve what waits in memory, and read on when there is room."""
        rest = self._rest
        if rest and self._doing != _ANSWERING and not self._is_write_paused:
            with memoryview(rest) as view:
                used = self._serve(rest, view, len(rest))
            if self._rest is rest:
                del rest[:used]
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        must_wait = len(self._rest) > 0 and (self._doing == _ANSWERING or self._is_write_paused)
        if must_wait != self._is_paused:
            self._is_paused = must_wait
            if must_wait:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _serve(self, data: bytearray, view: memoryview, stop: int) -> int:
        """Serve the requests that begin in ``data``.

        Returns:
            How much of it was used; the rest waits for more, or for its turn.
        """
        start = 0
        try:
            while start < stop:
                if self._doing == _ANSWERING or self._is_write_paused:
                    break
                if self._doing == _CHUNKED:
                    # Let go of here: the frames of an error in the request may keep it alive,
                    # and with it ``data`` at its size.
                    with view[start:stop] as part:
                        start += self._feed_chunks(part)
                    continue
                if self._doing == _LINGERING or self._transport is None:
                    return stop
                if self._doing == _IDLE:
                    while data.startswith(b"\r\n", start, stop):
                        start += 2  # an empty line before a request is ignored (RFC 9112 2.2)
                    if start == stop:
                        break
                end = data.find(END, start, stop) + len(END)
                if end < len(END):
                    self._await_head(data[start:stop])
                    break
                raw = bytes(view[start:end])
                request = self._front.requests.get(raw) or self._read(raw)
                if request is None:
                    if self._front.takes_sockets and self._has_unsent():
                        break
                    self._front.hand_over(self, raw, bytes(view[end:stop]))
                    return stop
                start = self._take_body(request, view, end, stop)
        except RefusedError as exc:
            self._refuse(exc)
            return stop
        return start

    def _has_unsent(self) -> bool:
        """Whether an answer is on its way out still; ``resume_writing`` is called when it is."""
        assert self._transport is not None
        self._transport.set_write_buffer_limits(0)
        return self._is_write_paused

    def _await_head(self, data: bytearray) -> None:
        if self._doing == _IDLE:
            self._doing, self._since = _HEAD, self._loop.time()
        if len(data) > self._front.limits.max_head_bytes:
            raise self._head_too_large()
        if is_hopeless(data):
            raise RefusedError(400, "malformed request: a line that does not end in CRLF")

    def _head_too_large(self) -> RefusedError:
        most = self._front.limits.max_head_bytes
        return RefusedError(
            431, f"request line and headers are larger than {most} bytes (--max-head-bytes)"
        )

    def _read(self, raw: bytes) -> _Request | None:
        """Read and check a head; None when it is not the data plane's."""
        front = self._front
        if len(raw) > front.limits.max_head_bytes:
            raise self._head_too_large()
        head = parse_head(raw, max_headers=front.limits.max_headers)
        call = front.plane.match(head.path)
        if call is None:
            return None
        refusal = front.gate.refusal(head.method, head.path, head.headers)
        if refusal is not None:
            raise RefusedError(
                refusal.status, refusal.error, hint=refusal.hint, headers=refusal.headers
            )
        if head.length is not None and head.length > front.limits.max_request_bytes:
            raise RefusedError(
                413,
                too_large(front.limits.max_request_bytes, head.length),
                hint=TOO_LARGE_HINT,
            )
        method = "GET" if head.method == "HEAD" else head.method
        request = _Request(
            head=head,
            call=call,
            method=method,
            headers=head.headers,
            length=head.length,
            is_plain=head.keep_alive and head.version == "1.1" and head.method != "HEAD",
        )
        # Clients say the same again and again. What a head means depends on nothing else.
        if len(raw) <= _MAX_REMEMBERED:
            if len(front.requests) >= _MAX_HEADS:
                front.requests.clear()
            front.requests[raw] = request
        return request

    def _take_body(self, request: _Request, view: memoryview, start: int, stop: int) -> int:
        """Begin to answer, or to receive the body.

        Returns:
            Where in ``view`` the body ends that begins at ``start``, or what there is of it.
        """
        length = request.length
        self._request = request
        if length is not None and start + length <= stop:
            self._reserve(length)
            self._begin(request, bytearray(view[start : start + length]))
            return start + length
        here = stop - start
        if request.head.expects_continue and not here and self._transport is not None:
            self._transport.write(_CONTINUE)
        self._since = self._loop.time()
        if length is None:
            limits = self._front.limits
            self._chunked = ChunkedBody(
                max_bytes=limits.max_request_bytes, max_trailer_bytes=limits.max_head_bytes
            )
            self._doing = _CHUNKED
            return start
        self._reserve(length)
        self._body = bytearray(length)
        self._body[:here] = view[start:stop]
        self._view, self._filled = memoryview(self._body), here
        self._doing = _BODY
        return stop

    def _feed_chunks(self, data: memoryview) -> int:
        chunked = self._chunked
        assert chunked is not None
        before = len(chunked.data)
        used = chunked.feed(data)
        self._reserve(len(chunked.data) - before)
        if chunked.is_done:
            self._chunked = None
            assert self._request is not None
            self._begin(self._request, chunked.data)
        return used

    def _begin(self, request: _Request, body: bytearray) -> None:
        self._doing = _ANSWERING
        pending = self._front.plane.begin(
            request.call, request.method, request.headers, body, self._on_answer
        )
        if self._doing == _ANSWERING:
            self._pending = pending

    # -- answers ----------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        """Take the answer, in whichever thread."""
        if get_ident() == self._front.thread:
            self._finish(answer)
            return
        if self._finish_here(answer):
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the connection with it
            self._loop.call_soon_threadsafe(self._finish_later, answer)

    def _finish_here(self, answer: Answer) -> bool:
        """Write a short answer from a worker's thread; False when the event loop has to.

        The event loop may do anything meanwhile but end the connection. What it reads before
        the request is over waits in ``_rest``; what it reads after, it serves.
        """
        head, size = self._head(answer, "")
        if size > _JOINED:
            return False
        data = b"".join((head, *answer.parts))
        with self._leaving:
            request, transport = self._request, self._transport
            if (
                request is None
                or transport is None
                or not request.is_plain
                or self._is_ending
                or self._descriptor < 0
                or transport.is_closing()
                or transport.get_write_buffer_size()
            ):
                return False
            try:
                sent = os.write(self._descriptor, data)
            except OSError:  # full, or gone: the transport knows what to do
                return False
            if sent < len(data):
                self._loop.call_soon_threadsafe(self._finish_rest, data[sent:])
                return True
            self._answer_size = size
            self._pending = self._request = None
            self._release()
            self._since = self._loop.time()
            self._doing = _IDLE
        if self._rest:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._go_on)
        return True

    def _finish_rest(self, data: bytes) -> None:
        """Write what the socket did not take of an answer."""
        self._doing, self._since = _IDLE, self._loop.time()
        self._pending = self._request = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        if not self._is_write_paused:
            self._release()
        if self._is_ending:
            self.shutdown()
        self._go_on()

    def _finish_later(self, answer: Answer) -> None:
        self._finish(answer)
        self._go_on()

    def _finish(self, answer: Answer) -> None:
        """Write the answer to the request under way."""
        request, transport = self._request, self._transport
        self._doing, self._since = _IDLE, self._loop.time()
        self._pending = self._request = None
        if transport is None or request is None or transport.is_closing():
            self._release()
            return
        if request.is_plain and not self._is_ending:
            self._write(transport, answer, "")
            if not self._is_write_paused:
                self._release()
            return
        head = request.head
        stays = head.keep_alive and not self._is_ending
        extra = _connection(head.version, stays=stays)
        self._write(transport, answer, extra, is_head=head.method == "HEAD")
        if not self._is_write_paused:
            self._release()
        if not stays:
            self._end(lingers=False)

    def _write(
        self, transport: asyncio.Transport, answer: Answer, extra: str, *, is_head: bool = False
    ) -> None:
        head, size = self._head(answer, extra)
        self._answer_size = size
        if is_head:
            transport.write(head)
        elif size <= _JOINED:
            transport.write(b"".join((head, *answer.parts)))
        else:
            transport.writelines((head, *answer.parts))

    def _head(self, answer: Answer, extra: str) -> tuple[bytes, int]:
        """The head of an answer, and the length of its body."""
        size = 0
        for part in answer.parts:
            size += len(part) if isinstance(part, bytes) else part.nbytes
        lines = "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
        date = self._front.date(self._state)
        head = f"{_STATUS[answer.status]}{date}{lines}Content-Length: {size}\r\n{extra}\r\n"
        return head.encode("latin-1"), size

    def _refuse(self, error: RefusedError, *, lingers: bool = True) -> None:
        """Tell what is wrong, and end the connection."""
        if self._transport is None or self._transport.is_closing():
            return
        content = {"error": str(error)}
        if error.hint is not None:
            content["hint"] = error.hint
        headers = {"Content-Type": JSON, **error.headers}
        answer = Answer(error.status, (json.dumps(content).encode(),), headers)
        self._write(self._transport, answer, _connection("1.1", stays=False))
        self._release()
        self._end(lingers=lingers)

    def _end(self, *, lingers: bool) -> None:
        """Close, after what was written has gone out.

        A socket that is closed with bytes unread tears down what is still on its way to the
        client. So with ``lingers``, only our side is closed, and what comes is dropped, for
        a while.
        """
        transport = self._transport
        assert transport is not None
        self._doing, self._since = _LINGERING, self._loop.time()
        self._rest, self._body, self._view, self._chunked = bytearray(), None, None, None
        if not lingers:
            transport.close()
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        transport.write_eof()

    def _give_up(self) -> None:
        if self._doing != _ANSWERING:  # else its memory is in use until the answer comes
            self._release()
        pending, self._pending = self._pending, None
        self._body = self._view = self._chunked = self._request = None
        self._rest = bytearray()
        if pending is not None:
            pending.cancel()

    def _reserve(self, size: int) -> None:
        if not self._front.budget.take(size):
            raise RefusedError(503, TOO_MUCH)
        self._reserved += size

    def _release(self) -> None:
        self._front.budget.give_back(self._reserved)
        self._reserved = 0

    # -- everything else ---------------------------------------------------------------------

    def leave(self) -> asyncio.Transport:
        """Have nothing to do with the connection any more.

        Returns:
            Its transport, which does not read.
        """
        transport = self._transport
        assert transport is not None
        self._transport = None
        self._state.connections.discard(self)
        self._front.connections.discard(self)
        # Paused also because how a transport reads is settled when it starts to.
        transport.pause_reading()
        return transport

    def give_to_uvicorn(self, data: bytes) -> None:
        """Give the connection to uvicorn's protocol, with what was read of it."""
        transport = self.leave()
        control = ControlConnection(
            self._front, self._config, self._state, self._app_state, self._loop
        )
        transport.set_protocol(control)
        control.connection_made(transport)
        transport.resume_reading()
        control.data_received(data)
        if self._is_ending:
            control.shutdown()


def _connection(version: str, *, stays: bool) -> str:
    if not stays:
        return "Connection: close\r\n"
    return "Connection: keep-alive\r\n" if version == "1.0" else ""
