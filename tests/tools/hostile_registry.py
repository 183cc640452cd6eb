"""A registry that serves and takes versions as the OCI specification says, until told to misbehave.

A misbehaviour changes an honest answer before it is sent, so whatever is not asked to be wrong
is right. It applies to one kind of request, from a chosen one on and for so many, or until
``behave``. Everything that was asked is kept in ``asked``, what became of it in ``seen``.

Source: OCI distribution specification 1.1 "Pull", "Push"; RFC 9110 §§13, 14, 15.3.7 (conditions,
ranges, ``multipart/byteranges``).
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import blobs_of
from tests.tools.hostile_answers import (
    ELSEWHERE,
    MOST_SENT,
    Answer,
    Asked,
    Fault,
    Kind,
    as_json,
    conditional,
    error,
    ranged,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|tags)/([^/]+)")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)")
_MOST_TAKEN = 64 * 1024 * 1024  # bytes of one request
_ENDING_S = 0.2  # a last piece was sent, and is about to be noted


@dataclass(slots=True)
class _Misbehaviour:
    fault: Fault
    kind: Kind
    reference: str | None
    skip: int
    times: int | None

    def takes(self, asked: Asked) -> bool:
        """Whether it applies to this request; counts it."""
        if asked.kind != self.kind or self.reference not in (None, asked.reference):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


@dataclass(frozen=True, slots=True)
class Seen:
    """A request and what became of it.

    Attributes:
        asked: The request.
        status: What was answered; 0: no answer.
        sent: Bytes of the body that were given to the connection.
    """

    asked: Asked
    status: int
    sent: int


class HostileRegistry:
    """A registry on a free port of loopback; end it with ``close``.

    Args:
        token: Bearer token that it wants; None: it wants none.
        shared: Another one whose content this one serves too.
    """

    def __init__(self, *, token: str | None = None, shared: HostileRegistry | None = None) -> None:
        self.token = token
        self._blobs: dict[str, bytes] = {} if shared is None else shared._blobs
        self._tags: dict[str, dict[str, str]] = {} if shared is None else shared._tags
        self._uploads: dict[str, bytearray] = {}
        self._lock = threading.Lock()
        self._noted = threading.Condition(self._lock)
        self._misbehaviours: list[_Misbehaviour] = []
        self._seen: list[Seen] = []
        self._asked: list[Asked] = []
        self._calm = threading.Event()
        #: Called with each request before it is answered, in the thread that answers.
        self.watch: Callable[[Asked], object] = lambda _: None
        self._server: _Server | None = None
        self._port = 0
        self.come_back()

    # What it has

    def take(self, name: str, storage: Storage, digest: str, *, tags: tuple[str, ...]) -> str:
        """Have a version of a storage, under tags; its manifest's digest."""
        raw = storage.read(digest, limit=MAX_MANIFEST)
        for blob, size in blobs_of(raw).items():
            self.put(storage.read(blob, limit=size))
        self.put(raw)
        for tag in tags:
            self.tag(name, tag, digest)
        return digest

    def put(self, data: bytes) -> str:
        """Have a blob or manifest, whatever it says; its digest."""
        digest = digest_of(data)
        self._blobs[digest] = data
        return digest

    def blob(self, digest: str) -> bytes:
        """A blob or manifest that it has."""
        return self._blobs[digest]

    def tag(self, name: str, tag: str, digest: str) -> None:
        """Put a tag on a manifest."""
        self._tags.setdefault(name, {})[tag] = digest

    def tags(self, name: str) -> dict[str, str]:
        """Tag → digest of the manifest it is on."""
        return dict(self._tags.get(name, {}))

    def untag(self, name: str, tag: str) -> None:
        """Take a tag away."""
        self._tags[name].pop(tag)

    # How it behaves

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, the same after it came back."""
        return f"http://127.0.0.1:{self._port}"

    def misbehave(
        self,
        fault: Fault,
        kind: Kind,
        *,
        reference: str | None = None,
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Answer wrongly from now on.

        Args:
            fault: What is done to the honest answer.
            kind: To requests for what.
            reference: Only to those for this tag or digest.
            skip: So many of them are answered honestly before.
            times: So many are not; None: all until ``behave``.
        """
        with self._lock:
            self._calm.clear()
            self._misbehaviours.append(_Misbehaviour(fault, kind, reference, skip, times))

    def behave(self) -> None:
        """Answer honestly from now on; what drips flows, what hangs goes on."""
        with self._lock:
            self._misbehaviours.clear()
            self._calm.set()

    def vanish(self) -> None:
        """Be away: connections break off, new ones are refused."""
        server, self._server = self._server, None
        if server is not None:
            server.end(self._calm.set)

    def come_back(self) -> None:
        """Be there again, at the same address."""
        if self._server is None:
            if self._misbehaviours:
                self._calm.clear()
            self._server = _Server(("127.0.0.1", self._port), self)
            self._port = self._server.server_address[1]
            self._server.begin()

    close = vanish

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seen(self) -> list[Seen]:
        """What was asked and answered so far, in the order of the answers' ends.

        A client may have an answer a moment before it is noted here, so that one that is
        under way is waited for a little.
        """
        with self._noted:
            self._noted.wait_for(lambda: len(self._seen) >= len(self._asked), _ENDING_S)
            return list(self._seen)

    @property
    def asked(self) -> list[Asked]:
        """What was asked so far, answered or not."""
        with self._lock:
            return list(self._asked)

    def sent(self, kind: Kind = "blob") -> int:
        """Bytes of bodies that were sent so far for requests of a kind."""
        return sum(one.sent for one in self.seen if one.asked.kind == kind)

    def forget(self) -> None:
        """Begin ``seen`` and ``asked`` anew."""
        with self._lock:
            self._seen.clear()
            self._asked.clear()

    # Answering; called by the server's threads

    def answer(self, asked: Asked) -> Answer:
        """The honest answer with every misbehaviour that applies."""
        self.watch(asked)
        answer = self._honest(asked)
        with self._lock:
            self._asked.append(asked)
            faults = [one.fault for one in self._misbehaviours if one.takes(asked)]
        for fault in faults:
            answer = fault(asked, answer)
        return answer

    def wait(self, seconds: float) -> None:
        """Let time pass, unless it behaves again."""
        if seconds:
            self._calm.wait(seconds)

    @property
    def is_calm(self) -> bool:
        """Whether it behaves."""
        return self._calm.is_set()

    def note(self, seen: Seen) -> None:
        """Remember a request."""
        with self._noted:
            self._seen.append(seen)
            self._noted.notify_all()

    def _honest(self, asked: Asked) -> Answer:
        if self.token is not None and asked.authorization != f"Bearer {self.token}":
            return error(401, "UNAUTHORIZED").with_headers(WWW_Authenticate="Bearer")
        if asked.kind == "ping":
            return Answer(200, {"Content-Type": "application/json"}, b"{}")
        if asked.kind == "tags":
            return self._tag_list(asked)
        if asked.kind == "upload":
            return self._upload(asked)
        if asked.kind == "manifest" and asked.method == "PUT":
            digest = self.put(asked.content)
            if not asked.reference.startswith("sha256:"):
                self.tag(asked.name, asked.reference, digest)
            return Answer(201, {"Location": asked.path, "Docker-Content-Digest": digest})
        if asked.kind == "manifest":
            return self._manifest(asked)
        if asked.kind == "blob":
            return self._blob(asked)
        return error(404, "NAME_UNKNOWN")

    def _tag_list(self, asked: Asked) -> Answer:
        tags = sorted(self._tags.get(asked.name, ()))
        if not tags:
            return error(404, "NAME_UNKNOWN")
        query = parse_qs(urlsplit(asked.path).query)
        last, count = query.get("last", [""])[0], int(query.get("n", ["100000"])[0])
        left = [tag for tag in tags if tag > last]
        answer = as_json(200, {"name": asked.name, "tags": left[:count]})
        if len(left) > count:
            target = f"/v2/{asked.name}/tags/list?n={count}&last={left[count - 1]}"
            answer = answer.with_headers(Link=f'<{target}>; rel="next"')
        return conditional(asked, answer.with_headers(ETag=f'"{digest_of(answer.body)}"'))

    def _upload(self, asked: Asked) -> Answer:
        if asked.method == "POST":
            number = f"u{len(self._uploads)}"
            self._uploads[number] = bytearray()
            return Answer(202, {"Location": f"/v2/{asked.name}/blobs/uploads/{number}"})
        if asked.reference not in self._uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        content = self._uploads[asked.reference]
        content += asked.content
        where = {"Location": asked.path, "Range": f"0-{max(0, len(content) - 1)}"}
        if asked.method != "PUT":
            return Answer(202 if asked.method == "PATCH" else 204, where)
        wanted = parse_qs(urlsplit(asked.path).query).get("digest", [""])[0]
        if digest_of(bytes(content)) != wanted:
            return error(400, "DIGEST_INVALID")
        self.put(bytes(self._uploads.pop(asked.reference)))
        return Answer(201, {"Location": f"/v2/{asked.name}/blobs/{wanted}"})

    def _manifest(self, asked: Asked) -> Answer:
        digest = self._tags.get(asked.name, {}).get(asked.reference, asked.reference)
        raw = self._blobs.get(digest)
        if raw is None:
            return error(404, "MANIFEST_UNKNOWN")
        headers = {
            "Content-Type": MANIFEST_TYPE,
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
        }
        return conditional(asked, Answer(200, headers, raw))

    def _blob(self, asked: Asked) -> Answer:
        data = self._blobs.get(asked.reference)
        if data is None:
            return error(404, "BLOB_UNKNOWN")
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": asked.reference,
            "ETag": f'"{asked.reference}"',
            "Accept-Ranges": "bytes",
        }
        return ranged(asked, Answer(200, headers, data, whole=data))


# -- the server ---------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], registry: HostileRegistry) -> None:
        super().__init__(address, _Handler)
        self.registry = registry
        self._open: set[socket.socket] = set()
        self._answering: list[threading.Thread] = []
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def begin(self) -> None:
        """Take connections, in a thread."""
        self._thread.start()

    def end(self, wake: Callable[[], object]) -> None:
        """Close the port and every connection; nothing is under way afterwards.

        Args:
            wake: Called when the connections are closed: ends what waits.
        """
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._guard:
            threads = list(self._answering)
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        wake()
        for thread in threads:
            thread.join(10)

    def process_request(self, request: object, client_address: object) -> None:
        """A connection, in a thread that ``end`` waits for."""
        assert isinstance(request, socket.socket)
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._guard:
            self._answering = [one for one in self._answering if one.is_alive()]
            self._open.add(request)
            self._answering.append(thread)
            thread.start()

    def shutdown_request(self, request: object) -> None:
        """A connection that is done with."""
        assert isinstance(request, socket.socket)
        with self._guard:
            self._open.discard(request)
        request.close()  # without an orderly end before, which would hide a reset

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what is expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing: ``seen`` has it all."""

    def _answer(self) -> None:
        asked = self._asked()
        answer = self.server.registry.answer(asked)
        sent = 0
        try:
            self.server.registry.wait(answer.wait_s)
            for count in self._send(asked, answer):
                sent += count
        except OSError:
            self.close_connection = True
        finally:
            self.server.registry.note(Seen(asked, answer.status, sent))

    def _asked(self) -> Asked:
        path = urlsplit(self.path).path.removeprefix(ELSEWHERE)
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = min(int(headers.get("content-length", "0")), _MOST_TAKEN)
        content = self.rfile.read(length)
        upload, match = _UPLOAD.fullmatch(path), _PATH.fullmatch(path)
        if upload is not None:
            return Asked(self.command, self.path, "upload", upload[1], upload[2], headers, content)
        if match is None:
            kind: Kind = "ping" if path.rstrip("/") == "/v2" else "other"
            return Asked(self.command, self.path, kind, "", "", headers, content)
        kinds: dict[str, Kind] = {"manifests": "manifest", "blobs": "blob", "tags": "tags"}
        kind = kinds[match[2]]
        return Asked(self.command, self.path, kind, match[1], match[3], headers, content)

    def _send(self, asked: Asked, answer: Answer) -> Iterator[int]:
        """Send an answer; the lengths of the pieces of its body that went."""
        if answer.status == 0:
            self.close_connection = True
            return
        if not answer.raw:
            self._send_head(answer)
        body = b"" if asked.method == "HEAD" else answer.body[: answer.cut]
        for piece in self._pieces(answer, body):
            self.server.registry.wait(answer.pause_s)
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece
            self.wfile.write(framed)
            yield len(piece)
        if answer.chunked and answer.cut is None and asked.method != "HEAD":
            self.wfile.write(b"0\r\n\r\n")
        if answer.cut is not None or answer.raw:
            self.close_connection = True
        if answer.reset:
            linger = struct.pack("ii", 1, 0)  # makes the close a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _send_head(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif "Content-Length" not in answer.headers and answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    def _pieces(self, answer: Answer, body: bytes) -> Iterator[bytes]:
        sent = 0
        while True:
            for start in range(0, len(body), answer.piece):
                # What drips no more flows.
                if answer.pause_s and self.server.registry.is_calm:
                    yield body[start:]
                    break
                yield body[start : start + answer.piece]
            sent += len(body)
            if not body or not answer.repeated or sent > MOST_SENT:
                return
            if self.server.registry.is_calm:
                return
