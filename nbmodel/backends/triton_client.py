"""Talking to a Triton server over HTTP or gRPC; its errors become ours, with its text.

``tritonclient`` writes and reads requests for inference, and is the client of gRPC. Over HTTP
the bytes go by ``http.client``: tritonclient's own connections belong to the thread that made
them, and a session is asked by many.

Source: triton-inference-server/server ``docs/protocol``; client ``src/python``.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import ConfigError, InferenceError, NbModelError, PluginError, UnavailableError
from nbmodel.protocol.datatypes import DATATYPE_TO_NUMPY

INFER_S = 60.0  # that an answer may take
LOAD_S = 1800.0  # that loading may take: a TensorRT engine is built for many minutes
ASK_S = 10.0  # that everything else may take
MAX_ANSWER = 1 << 30  # bytes
_MAX_ERROR = 2000  # characters of what Triton says that are passed on
_SCHEMES = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 8001}
_GONE = re.compile(
    r"unknown model|is not found|no available versions|not at ready state|is not ready",
    re.IGNORECASE,
)
#: What Triton itself calls unavailable over gRPC, as which a connection is told too.
_OWN_WORDS = re.compile(f"{_GONE.pattern}|explicit model load|load failed", re.IGNORECASE)


_LAST_ERROR = re.compile(
    r"last error: \w+: (?:ip\S+ )?(?:Failed to connect to remote host: )?(.+)$"
)
_LOADING = re.compile(r"^load failed for model '[^']*': version \d+ is at UNAVAILABLE state: ")
_TRACE = re.compile(r" At: \S+\(\d+\): .*$")
_NUMPY_HINT = (
    "install numpy < 2 there; or name a folder that has it, by the parameter python_path in "
    "model_config, or first on sys.path in a model.py of your own"
)
#: What Triton's Python backend says when its process for a model is gone.
_ENDED = re.compile(r"Stub process .{0,300} is not healthy")


class GoneError(UnavailableError):
    """Triton has not got the model (any more), or was not reached: the request did not run."""


class EndedError(UnavailableError):
    """The process that runs the model in Triton has ended; the request may be what ended it.

    Triton calls such a model ready, and it answers nobody until it is loaded anew.
    """


@dataclass(frozen=True, slots=True)
class Region:
    """Where a tensor is in shared memory that Triton knows.

    Attributes:
        name: Under which it was registered.
        offset: Bytes from its start.
        size: Bytes.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Triton server listens.

    Attributes:
        scheme: ``http``, ``https``, ``grpc`` or ``grpcs``.
        host: A name or an address.
        port: In 1..65535.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> Endpoint:
        """``http://host:8000`` or ``grpc://host:8001``, also with ``s`` for TLS.

        Raises:
            ConfigError: It is something else.
        """
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in _SCHEMES or not parts.hostname or extra or port == 0:
            raise ConfigError(
                f"expected http://host:8000 or grpc://host:8001 as the address of Triton, "
                f"found {address[:200]!r}"
            )
        return cls(parts.scheme, parts.hostname, port or _SCHEMES[parts.scheme])

    @property
    def is_here(self) -> bool:
        """Whether it is surely on this machine."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def netloc(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def connect(endpoint: Endpoint) -> Client:
    """A client of the server that listens there; nothing is sent yet.

    Raises:
        PluginError: tritonclient is not installed.
    """
    return HttpClient(endpoint) if endpoint.scheme.startswith("http") else GrpcClient(endpoint)


class Client(ABC):
    """A Triton server, asked by any thread.

    Every method raises ``GoneError`` when the server was not reached, ``EndedError`` when the
    model's own process is gone, ``UnavailableError`` when the connection broke while it worked,
    and ``InferenceError`` with its own text when it refuses.

    Args:
        endpoint: Where it listens.

    Raises:
        PluginError: tritonclient is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._codec = _codec("grpc" if endpoint.scheme.startswith("grpc") else "http")

    @abstractmethod
    def server(self) -> dict[str, Any]:
        """What it says about itself: ``name``, ``version``, ``extensions``."""

    @abstractmethod
    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a model can infer now."""

    @abstractmethod
    def load(self, model: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """Load a model, from its repository or from what is given; returns when it is ready.

        Args:
            model: Its name.
            config: A configuration as JSON that takes the place of its own; empty: none.
            files: Path in the model's folder, ``1/model.onnx``, → content; None: its own.
        """

    @abstractmethod
    def unload(self, model: str) -> None:
        """Let a model go, once its requests are answered; returns before that."""

    @abstractmethod
    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """Name, versions, inputs and outputs of a model."""

    @abstractmethod
    def models(self) -> list[str]:
        """Names of the models that are loaded."""

    @abstractmethod
    def config(self, model: str) -> dict[str, Any]:
        """The whole configuration of a model that is loaded, in the names of its message."""

    @abstractmethod
    def statistics(self) -> list[dict[str, Any]]:
        """What it counts: an entry for each version of each model that is loaded."""

    @abstractmethod
    def index(self) -> list[dict[str, Any]]:
        """The models of its repository, those that were sent to it left out."""

    @abstractmethod
    def register(self, region: str, key: str, size: int) -> None:
        """Have it open a system shared memory object of ``size`` bytes under a name."""

    @abstractmethod
    def unregister(self, region: str) -> None:
        """Have it close a shared memory object."""

    @abstractmethod
    def infer(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Sequence[str],
        regions: Mapping[str, Region],
        into: Mapping[str, Region],
    ) -> Answer:
        """Run a model once.

        Args:
            model: Its name.
            version: Digits; empty: whichever Triton's policy says.
            inputs: Name → datatype and tensor.
            outputs: Names of what is wanted.
            regions: Input → where it lies already, in place of being sent.
            into: Output → where it shall be put, in place of being sent.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections."""

    def _tensors(
        self,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Sequence[str],
        regions: Mapping[str, Region],
        into: Mapping[str, Region],
    ) -> tuple[list[Any], list[Any]]:
        given = []
        for name, (datatype, array) in inputs.items():
            tensor = self._codec.InferInput(name, list(array.shape), datatype)
            region = regions.get(name)
            if region is not None:
                tensor.set_shared_memory(region.name, region.size, region.offset)
            else:
                # tritonclient makes BF16 of float32, by cutting: nothing is lost on the way back.
                tensor.set_data_from_numpy(
                    array.astype(np.float32) if datatype == "BF16" else array
                )
            given.append(tensor)
        wanted = []
        for name in outputs:
            output = self._codec.InferRequestedOutput(name)
            region = into.get(name)
            if region is not None:
                output.set_shared_memory(region.name, region.size, region.offset)
            wanted.append(output)
        return given, wanted


class Answer:
    """What came of a request.

    Args:
        result: As tritonclient reads it.
    """

    def __init__(self, result: Any) -> None:
        self._result = result

    def array(self, name: str) -> NDArray[Any]:
        """An output that was sent.

        Raises:
            InferenceError: It was not, or with fewer bytes than its shape has.
        """
        try:
            array = self._result.as_numpy(name)
        except ValueError as exc:
            # Seen with Triton 2.51: so answers a stub that was built for another numpy.
            raise InferenceError(
                f"Triton's answer has no data for output {name!r} of {list(self.shape(name))}: if "
                "its Python has numpy 2.x, this stub needs numpy < 2",
                hint=_NUMPY_HINT,
            ) from exc
        if array is None:
            raise InferenceError(f"Triton's answer has no output {name!r}")
        if self._said(name, "datatype") == "BF16":
            array = array.astype(DATATYPE_TO_NUMPY["BF16"])
        found: NDArray[Any] = array
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an output that was put into shared memory."""
        return tuple(int(dim) for dim in self._said(name, "shape"))

    def _said(self, name: str, field: str) -> Any:
        output = self._result.get_output(name)
        return output[field] if isinstance(output, Mapping) else getattr(output, field)


class HttpClient(Client):
    """Over HTTP, with connections that any thread may use, one at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._is_closed = False

    def server(self) -> dict[str, Any]:
        """As ``Client.server``."""
        return self._object("GET", "/v2")

    def is_alive(self, timeout_s: float) -> bool:
        """Whether it answers at all.

        Args:
            timeout_s: How long it is waited for, in seconds.
        """
        try:
            self._call("GET", "/v2/health/live", timeout_s=timeout_s, is_fresh=True)
        except UnavailableError:
            return False
        except NbModelError:
            return True
        return True

    def is_ready(self, model: str, version: str = "") -> bool:
        """As ``Client.is_ready``."""
        return self._call("GET", f"{_path(model, version)}/ready", accept=(200, 400, 404))[0] == 200

    def load(self, model: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """As ``Client.load``."""
        parameters: dict[str, str] = {"config": config} if config else {}
        for path, content in (files or {}).items():
            parameters[f"file:{path}"] = base64.b64encode(content).decode()
        body = json.dumps({"parameters": parameters} if parameters else {}).encode()
        # A connection that breaks while a model is loaded says something about the model.
        self._call("POST", f"{_repository(model)}/load", body, timeout_s=LOAD_S, is_fresh=True)

    def unload(self, model: str) -> None:
        """As ``Client.unload``."""
        self._call("POST", f"{_repository(model)}/unload", b"{}")

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """As ``Client.metadata``."""
        return self._object("GET", _path(model, version))

    def models(self) -> list[str]:
        """As ``Client.models``."""
        return _names(self._object("GET", "/v2/models/stats"))

    def config(self, model: str) -> dict[str, Any]:
        """As ``Client.config``."""
        return self._object("GET", f"{_path(model, '')}/config")

    def statistics(self) -> list[dict[str, Any]]:
        """As ``Client.statistics``."""
        return _objects(self._object("GET", "/v2/models/stats").get("model_stats"))

    def index(self) -> list[dict[str, Any]]:
        """As ``Client.index``."""
        return _objects(self._json("POST", "/v2/repository/index", b"{}"))

    def register(self, region: str, key: str, size: int) -> None:
        """As ``Client.register``."""
        body = json.dumps({"key": key, "offset": 0, "byte_size": size}).encode()
        self._call("POST", f"{_memory(region)}/register", body)

    def unregister(self, region: str) -> None:
        """As ``Client.unregister``."""
        self._call("POST", f"{_memory(region)}/unregister", b"{}")

    def infer(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Sequence[str],
        regions: Mapping[str, Region],
        into: Mapping[str, Region],
    ) -> Answer:
        """As ``Client.infer``."""
        given, wanted = self._tensors(inputs, outputs, regions, into)
        client = self._codec.InferenceServerClient
        body, head_size = client.generate_request_body(given, outputs=wanted)
        headers = {"Content-Type": "application/octet-stream"}
        if head_size is not None:
            headers["Inference-Header-Content-Length"] = str(head_size)
        _, content, found = self._call(
            "POST", f"{_path(model, version)}/infer", body, headers=headers, timeout_s=INFER_S
        )
        size = found.get("Inference-Header-Content-Length")
        return Answer(
            client.parse_response_body(content, header_length=None if size is None else int(size))
        )

    def close(self) -> None:
        """As ``Client.close``."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _object(self, method: str, path: str) -> dict[str, Any]:
        found = self._json(method, path)
        if not isinstance(found, dict):
            raise self._foreign(method, path, found)
        return found

    def _json(self, method: str, path: str, body: bytes = b"") -> Any:
        _, content, _ = self._call(method, path, body)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self._foreign(method, path, content) from None

    def _foreign(self, method: str, path: str, found: object) -> InferenceError:
        return InferenceError(
            f"{self.endpoint} answers {method} {path} with {str(found)[:80]!r}, expected JSON: "
            "is it a Triton server?"
        )

    def _call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (200,),
        timeout_s: float = ASK_S,
        is_fresh: bool = False,
    ) -> tuple[int, bytes, Message]:
        """Ask once; again over a new connection where an idle one was closed by the server."""
        while True:
            with self._connection(timeout_s, is_fresh=is_fresh) as (connection, is_used):
                try:
                    if connection.sock is None:
                        connection.connect()
                except OSError as exc:
                    raise self._unreached(exc) from exc
                try:
                    connection.request(method, path, body, dict(headers or {}))
                    response = connection.getresponse()
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    connection.close()
                    if is_used and not self._is_closed:
                        continue  # nothing was answered on it: it was idle for too long
                    raise self._broken("it closed the connection") from None
                except http.client.BadStatusLine as exc:
                    connection.close()
                    raise GoneError(
                        f"what listens at {self.endpoint} does not speak HTTP: is it Triton's port "
                        "for gRPC?"
                    ) from exc
                except (OSError, http.client.HTTPException) as exc:
                    connection.close()
                    raise self._broken(_words(exc)) from exc
                try:
                    content = response.read(MAX_ANSWER + 1)
                except (OSError, http.client.HTTPException) as exc:
                    connection.close()
                    raise self._broken(_words(exc)) from exc
                if len(content) > MAX_ANSWER:
                    connection.close()
                    raise InferenceError(
                        f"{self.endpoint} answers with more than {MAX_ANSWER} bytes"
                    )
            if response.status in accept:
                return response.status, content, response.headers
            raise _refusal(_error_text(content) or f"{response.status} {response.reason}")

    @contextmanager
    def _connection(
        self, timeout_s: float, *, is_fresh: bool
    ) -> Iterator[tuple[http.client.HTTPConnection, bool]]:
        with self._lock:
            connection = self._idle.pop() if self._idle and not is_fresh else None
        is_used = connection is not None
        if connection is None:
            make = (
                http.client.HTTPSConnection
                if self.endpoint.scheme == "https"
                else http.client.HTTPConnection
            )
            connection = make(self.endpoint.host, self.endpoint.port)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            yield connection, is_used
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if connection.sock is not None and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def _unreached(self, exc: OSError) -> GoneError:
        return GoneError(f"Triton at {self.endpoint} cannot be reached: {_words(exc)}")

    def _broken(self, why: str) -> UnavailableError:
        return UnavailableError(f"Triton at {self.endpoint} does not answer: {why}")


class GrpcClient(Client):
    """Over gRPC, with tritonclient's own connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._client = self._codec.InferenceServerClient(
            endpoint.netloc,
            ssl=endpoint.scheme == "grpcs",
            # One of its own: shared ones outlive a server that is started again elsewhere.
            channel_args=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", MAX_ANSWER),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )

    def server(self) -> dict[str, Any]:
        """As ``Client.server``."""
        return self._asked("get_server_metadata")

    def is_ready(self, model: str, version: str = "") -> bool:
        """As ``Client.is_ready``."""
        with self._told():
            ready: bool = self._client.is_model_ready(model, version, client_timeout=ASK_S)
        return ready

    def load(self, model: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """As ``Client.load``."""
        named = {f"file:{path}": content for path, content in (files or {}).items()}
        with self._told():
            self._client.load_model(
                model, config=config or None, files=named or None, client_timeout=LOAD_S
            )

    def unload(self, model: str) -> None:
        """As ``Client.unload``."""
        with self._told():
            self._client.unload_model(model, client_timeout=ASK_S)

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """As ``Client.metadata``."""
        return self._asked("get_model_metadata", model, version)

    def models(self) -> list[str]:
        """As ``Client.models``."""
        return _names(self._asked("get_inference_statistics"))

    def config(self, model: str) -> dict[str, Any]:
        """As ``Client.config``."""
        found: dict[str, Any] = self._asked("get_model_config", model).get("config", {})
        return found

    def statistics(self) -> list[dict[str, Any]]:
        """As ``Client.statistics``."""
        return _objects(self._asked("get_inference_statistics").get("model_stats"))

    def index(self) -> list[dict[str, Any]]:
        """As ``Client.index``."""
        return _objects(self._asked("get_model_repository_index").get("models"))

    def register(self, region: str, key: str, size: int) -> None:
        """As ``Client.register``."""
        with self._told():
            self._client.register_system_shared_memory(region, key, size, client_timeout=ASK_S)

    def unregister(self, region: str) -> None:
        """As ``Client.unregister``."""
        with self._told():
            self._client.unregister_system_shared_memory(region, client_timeout=ASK_S)

    def infer(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Sequence[str],
        regions: Mapping[str, Region],
        into: Mapping[str, Region],
    ) -> Answer:
        """As ``Client.infer``."""
        given, wanted = self._tensors(inputs, outputs, regions, into)
        with self._told():
            return Answer(self._client.infer(model, given, version, wanted, client_timeout=INFER_S))

    def close(self) -> None:
        """As ``Client.close``."""
        self._client.close()

    def _asked(self, question: str, *arguments: str) -> dict[str, Any]:
        with self._told():
            found: dict[str, Any] = getattr(self._client, question)(
                *arguments, as_json=True, client_timeout=ASK_S
            )
        return found

    @contextmanager
    def _told(self) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as exc:
            status, text = exc.status() or "", exc.message() or str(exc)
            if status.endswith("DEADLINE_EXCEEDED"):
                raise UnavailableError(
                    f"Triton at {self.endpoint} does not answer in time"
                ) from exc
            if status.endswith("UNAVAILABLE") and not _OWN_WORDS.search(text):
                # gRPC does not tell whether the request had left.
                has_left = "Socket closed" in text or "reset" in text.lower()
                error = UnavailableError if has_left else GoneError
                raise error(
                    f"Triton at {self.endpoint} cannot be reached: {_grpc_words(text)}"
                ) from exc
            raise _refusal(text) from exc


def _codec(protocol: str) -> Any:
    try:
        if protocol == "grpc":
            import tritonclient.grpc as codec
        else:
            import tritonclient.http as codec
    except ImportError as exc:
        raise PluginError(
            f"backend 'triton' needs tritonclient, which cannot be imported: {exc}",
            hint="pip install 'nbmodel[triton]'",
        ) from exc
    return codec


def _refusal(text: str) -> NbModelError:
    said = " ".join(text.split())
    text = _reason(said)[:_MAX_ERROR]
    if "explicit model load" in text:
        return ConfigError(
            f"this Triton takes no models: {text}",
            hint="start it with --model-control-mode=explicit",
        )
    if _ENDED.search(text):
        return EndedError(f"the process that ran it in Triton has ended: {text}")
    return GoneError(text) if _GONE.search(said) and "load" not in said else InferenceError(text)


def _reason(text: str) -> str:
    """What Triton says without what it says of itself: a name of ours, lines of its Python."""
    return _TRACE.sub("", _LOADING.sub("", text)).rstrip("; ")


def _error_text(content: bytes) -> str:
    try:
        found = json.loads(content)
    except ValueError:
        return content[:_MAX_ERROR].decode(errors="replace")
    return str(found.get("error", "")) if isinstance(found, dict) else ""


def _words(exc: BaseException) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _grpc_words(text: str) -> str:
    """What gRPC says of a connection, without the addresses that are known."""
    if "resolving" in text or "lookup" in text:
        return "its name leads nowhere"
    last = _LAST_ERROR.search(text)
    words = text if last is None else last[1]
    if words == "Socket closed":
        words = "it closed the connection; is that Triton's port for HTTP?"
    return words


def _names(statistics: Mapping[str, Any]) -> list[str]:
    found = _objects(statistics.get("model_stats"))
    return sorted({str(model.get("name")) for model in found})


def _objects(found: object) -> list[dict[str, Any]]:
    """The objects of a list; none where there is no list."""
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _repository(model: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}"


def _memory(region: str) -> str:
    return f"/v2/systemsharedmemory/region/{quote(region, safe='')}"
