"""A bare Triton server as a runtime of its own, without an agent on the device.

What it runs is what Triton itself says: its statistics list the models that it has loaded, and
the configuration of each says which version of ours it is (``triton_record``). Nothing is kept
here, so every notebook sees the same, and a Triton that was started again has nothing.

What a runtime of ours does by itself (fetching, trying out, coming back after a restart,
keeping logs) is done from the notebook here, or not at all.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from numpy.typing import NDArray

from nbmodel.backends.owner import is_owned
from nbmodel.backends.triton_client import Client, EndedError, GoneError
from nbmodel.backends.triton_host import OtherHost
from nbmodel.core.event import Event
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    InferenceError,
    NbModelError,
    NoCompatibleBackendError,
    SignatureError,
    TargetError,
    TargetUnreachableError,
    UnavailableError,
)
from nbmodel.fleet.remote import Served
from nbmodel.fleet.triton_address import PREFIX, endpoint_of
from nbmodel.fleet.triton_record import Record
from nbmodel.fleet.triton_session import WireSession, signature_in
from nbmodel.fleet.triton_wishes import TritonWishes
from nbmodel.inputs import inputs_for
from nbmodel.protocol.coerce import coerce
from nbmodel.sample import sample_inputs

if TYPE_CHECKING:
    from typing_extensions import Self

#: What is passed on of Triton's statistics extension.
_COUNTS = ("last_inference", "inference_count", "execution_count")
_SPENT = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
LOOK_S = 1.0  # between looks of who follows it: it tells of nothing
_MOST_MADE_UP = 1 << 20  # elements of an input that is made up to see whether a model answers
_NOBODY = "nbmodel-asks-whether-models-can-be-loaded"  # a name that no model has


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that a Triton has loaded.

    Attributes:
        name: Its name there, which is that of its service.
        version: The number that Triton knows it by; of several that are loaded, the one that
            answers who names none.
        versions: All that are loaded: two while one takes the place of another.
        backend: Triton's name of what runs it.
        record: Which version of ours it is; None for one that nbmodel has not deployed.
        is_ready: Whether it can infer.
        statistics: What Triton counted, in its own words.
        trouble: Why it cannot infer although Triton calls it ready; empty where it can.
        note: What a person should know of it; may be empty.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    backend: str
    record: Record | None
    is_ready: bool
    statistics: Mapping[str, Any]
    trouble: str = ""
    note: str = ""

    @property
    def failures(self) -> int:
        """Requests that failed."""
        spent = _object(self.statistics.get("inference_stats"))
        return _number(_object(spent.get("fail")).get("count"))

    def to_json(self) -> dict[str, Any]:
        """What a status says of it as a service."""
        state = "ready" if self.is_ready and not self.trouble else "failed"
        entry: dict[str, Any] = {
            "name": self.name,
            "state": state,
            "phase": state,
            "backend": self.backend,
            "triton_version": self.version,
            "inferences": _number(self.statistics.get("inference_count")),
            "statistics": _counts(self.statistics),
        }
        if state == "failed":
            entry["error"] = self.trouble or "Triton has it, and says that it is not ready"
        if self.note:
            entry["note"] = self.note
        if self.record is not None:
            version = self.record.version
            before = self.record.before
            entry |= {
                "package": self.name,
                "model": version.model,
                "number": version.number,
                "version": version.stamp,
                "digest": version.digest,
                "model_type": self.record.model_type,
                "since": self.record.at,
                "before": None if before is None else before.reference,
            }
        return entry


class TritonRuntime:
    """A Triton server with explicit model control, by its address. For several threads.

    Every method raises TargetUnreachableError when the server does not answer, PluginError
    when tritonclient is not installed, and otherwise an error with Triton's own words.

    Args:
        url: ``triton+grpc://host:8001`` or ``triton+http://host:8000``.
        name: What it is called here; its address when not given.
        wishes: File for what its services were asked for from here, or None.

    Attributes:
        url: The address in full.
        name: What it is called here.
        wishes: What its services were asked for from here.

    Raises:
        InputError: ``url`` is not the address of a Triton server.
    """

    def __init__(self, url: str, *, name: str | None = None, wishes: Path | None = None) -> None:
        self._endpoint = endpoint_of(url)
        self.url = f"{PREFIX}{self._endpoint}"
        self.name = self._endpoint.netloc if name is None else name
        self.wishes = TritonWishes(wishes)
        self._sessions: dict[str, WireSession] = {}
        self._backends: set[str] = set()
        self._ended: dict[str, str] = {}  # service → when what ended there was put there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if "host" in self.__dict__:
            self.__dict__.pop("host").close()

    @cached_property
    def host(self) -> OtherHost:
        """Where models are loaded under names of their own, to be tried out."""
        return OtherHost(self._endpoint)

    @property
    def client(self) -> Client:
        """What it is asked with; raises errors of its own."""
        return self.host.client()

    @contextmanager
    def asked(self) -> Iterator[Client]:
        """A client of it, whose lack of an answer becomes ours."""
        try:
            yield self.client
        except UnavailableError as exc:
            raise self.unreachable(exc) from exc

    def unreachable(self, why: UnavailableError) -> TargetUnreachableError:
        """The error that it does not answer."""
        words = str(why).removeprefix(f"Triton at {self._endpoint} ")
        words = words.removeprefix("cannot be reached: ").removeprefix("does not answer: ")
        words = words.replace("does not answer in time", "timed out")
        hint = "is tritonserver running there, with HTTP on 8000 or gRPC on 8001?"
        if isinstance(why.__cause__, ssl.SSLCertVerificationError):
            words = why.__cause__.verify_message
            hint = "SSL_CERT_FILE names a file with the certificate of who signed its own"
        elif isinstance(why.__cause__, ssl.SSLError):
            words = "no TLS is spoken there"
            hint = f"without TLS its address is {self.url.replace('s://', '://', 1)}"
        return TargetUnreachableError(
            f"runtime {self.name!r} at {self.url} does not answer: {words}", hint=hint
        )

    def named(self, names: Sequence[str]) -> str:
        """A hint with the services that there are, where another one was asked for."""
        return f"services there: {', '.join(names) or f'none; see `status {self.name}`'}"

    # ── what it is and does ───────────────────────────────────────────────────────

    def version(self) -> dict[str, Any]:
        """Its name and version."""
        with self.asked() as client:
            return client.server()

    def status(self) -> dict[str, Any]:
        """Its models, those that nbmodel has deployed as services, with what it counted.

        No model is asked for that: looking changes nothing of what Triton counts.
        """
        server = self.version()
        loaded = [self._looked_into(one) for one in self.loaded()]
        rest = [one for one in loaded if one.record is None and not is_owned(one.name)]
        trials = [one.name for one in loaded if one.record is None and is_owned(one.name)]
        return {
            "kind": "triton",
            "server": f"{server.get('name', 'triton')} {server.get('version', '')}".strip(),
            "settled": all(len(one.versions) == 1 for one in loaded),
            "services": [one.to_json() for one in loaded if one.record is not None],
            "others": [one.to_json() for one in rest] + self._not_loaded(loaded),
            "trials": trials,
        }

    def loaded(self) -> list[Loaded]:
        """The models that it has loaded, by name."""
        rows: dict[str, list[dict[str, Any]]] = {}
        with self.asked() as client:
            for row in client.statistics():
                rows.setdefault(str(row.get("name")), []).append(row)
            found = [self._loaded(client, name, rows[name]) for name in sorted(rows)]
        return [one for one in found if one is not None]

    def service(self, name: str) -> Loaded | None:
        """What it has loaded under a name; None: nothing."""
        with self.asked() as client:
            rows = [row for row in client.statistics() if row.get("name") == name]
            return self._loaded(client, name, rows) if rows else None

    def answers(self, service: str) -> bool:
        """Whether the process of a model is there, which Triton calls ready also when it is not."""
        with self.asked() as client:
            try:
                metadata = client.metadata(service)
            except GoneError:
                return True  # it goes just now
        try:
            inputs = sample_inputs(signature_in(metadata), most=_MOST_MADE_UP)
            self._infer(service, inputs, None)
        except EndedError:
            return False
        except UnavailableError as exc:
            raise self.unreachable(exc) from exc
        except NbModelError:
            return True  # whatever it says to inputs that were made up
        return True

    def check_control(self) -> None:
        """Refuse a server that takes no models from clients.

        Raises:
            ConfigError: It runs without explicit model control.
        """
        with self.asked() as client:
            client.unload(_NOBODY)

    def check_backend(self, backend: str, platform: str = "") -> None:
        """Refuse a server that lacks a backend, or a platform of it; nothing is moved for that.

        Raises:
            NoCompatibleBackendError: It does; backends that it has are named.
        """
        is_known = backend in self._backends
        with self.asked():
            try:
                if not is_known and all(one.backend != backend for one in self.loaded()):
                    self.host.check_backend(backend)
                self.host.check_platform(platform)
            except NoCompatibleBackendError as exc:
                raise NoCompatibleBackendError(f"{self.name}: {exc}", hint=exc.hint) from exc
        self._backends.add(backend)

    def events(self, since: int = 0, *, wait_s: float = 0.0) -> tuple[list[Event], int]:
        """No events, after a moment: who follows it looks again."""
        time.sleep(min(wait_s, LOOK_S))
        return [], since

    # ── inference ─────────────────────────────────────────────────────────────────

    def sees(self, service: str) -> str | None:  # noqa: ARG002 # as a runtime of ours is asked
        """None: it has no vision services."""
        return None

    def served(self, service: str) -> Served:
        """What a model runs at this moment, deployed by nbmodel or not.

        Raises:
            TargetError: It has no such model.
            InferenceError: The model is not ready.
        """
        found = self.service(service)
        if found is None:
            raise self._missing(service)
        if not found.is_ready:
            raise InferenceError(
                f"service {service!r} of runtime {self.name!r} is not ready",
                hint=f"see `status {self.name}`",
            )
        if found.record is not None:
            record = found.record
            return Served(str(record.version.number), record.signature, record.model_type)
        with self.asked() as client:
            return Served(found.version, signature_in(client.metadata(service)), None)

    def metadata(self, service: str) -> Signature:
        """What a model takes and gives; raises as ``served`` does."""
        return self.served(service).signature

    def infer(
        self, service: str, inputs: object, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run a model once; inputs as ``RemoteRuntime.infer`` takes them.

        Args:
            service: Its name.
            inputs: Input name → array, or the only input.
            outputs: Names of the outputs wanted; None for all.

        Returns:
            Name → array, which belongs to the caller.

        Raises:
            TargetError: It has no such model.
            TensorNameError, DatatypeError, ShapeError: The inputs are not what it takes.
            InferenceError: It is not ready, or its engine failed.
        """
        try:
            return self._infer(service, inputs, outputs)
        except EndedError as exc:
            with suppress(NbModelError):
                found = self.service(service)
                if found is not None and found.record is not None:
                    self._ended[service] = found.record.at
            raise InferenceError(
                f"service {service!r} of runtime {self.name!r}: {exc}",
                hint=f"`deploy --on {self.name}` starts it anew; where these inputs end it again, "
                f"`rollback {service}@{self.name}` brings back what ran before",
            ) from exc
        except GoneError:
            raise
        except UnavailableError as exc:
            self.version()  # it may be the server that is gone
            why = str(exc).removeprefix(f"Triton at {self._endpoint} ")
            raise InferenceError(
                f"service {service!r} of runtime {self.name!r} {why}",
                hint=f"Triton itself answers: `status {self.name}` shows which version it is",
            ) from exc

    def _infer(
        self, service: str, inputs: object, outputs: Sequence[str] | None
    ) -> dict[str, NDArray[Any]]:
        known = self._sessions.get(service)
        if known is None:
            return _run(self._session(service), inputs, outputs)
        try:
            return _run(known, inputs, outputs)
        except (SignatureError, InferenceError) as exc:
            # Another version, with other tensors, may run by now; or nothing any more.
            self._sessions.pop(service, None)
            session = self._session(service)
            if session.signature == known.signature and not isinstance(exc, GoneError):
                raise
        return _run(session, inputs, outputs)

    # ── what it cannot do ─────────────────────────────────────────────────────────

    def config(self) -> NoReturn:
        """Not of a bare Triton.

        Raises:
            TargetError: Always.
        """
        raise self._cannot("has no machine config: `deploy` and `undeploy` change what it runs")

    def put_config(self, *_: object, **__: object) -> NoReturn:
        """Not of a bare Triton; raises as ``config`` does."""
        self.config()

    def logs(self, lines: int = 100) -> NoReturn:  # noqa: ARG002 # as a runtime of ours is asked
        """Not of a bare Triton.

        Raises:
            TargetError: Always.
        """
        raise self._cannot("shows its log on its own machine only")

    def do(self, service: str, command: Mapping[str, Any]) -> NoReturn:  # noqa: ARG002
        """Not of a bare Triton.

        Raises:
            TargetError: Always.
        """
        raise self._cannot("knows no commands of services")

    def look(self, service: str, picture: bytes, what: str) -> NoReturn:  # noqa: ARG002
        """Not of a bare Triton.

        Raises:
            TargetError: Always.
        """
        raise self._cannot("has no vision services")

    # ── inside ────────────────────────────────────────────────────────────────────

    def _session(self, service: str) -> WireSession:
        session = WireSession(self.client, service, self.metadata(service))
        self._sessions[service] = session
        return session

    def _loaded(
        self, client: Client, name: str, rows: Sequence[Mapping[str, Any]]
    ) -> Loaded | None:
        """A model of which there are statistics; None: it went while it was asked about."""
        try:
            config = client.config(name)
            is_ready = client.is_ready(name)
        except (GoneError, InferenceError) as exc:
            client.server()  # it may be the server that is gone
            if isinstance(exc, UnavailableError) and not isinstance(exc, GoneError):
                raise
            return None
        versions = tuple(sorted((str(row.get("version")) for row in rows), key=_number))
        newest = next(row for row in rows if str(row.get("version")) == versions[-1])
        backend = str(config.get("backend") or config.get("platform") or "")
        record = Record.from_config(config)
        return Loaded(name, versions[-1], versions, backend, record, is_ready, newest)

    def _not_loaded(self, loaded: Sequence[Loaded]) -> list[dict[str, Any]]:
        """What its index names that it has not loaded, with its reason."""
        with self.asked() as client:
            index = client.index()
        names = {one.name for one in loaded}
        return [
            {
                "name": str(row["name"]),
                "triton_version": str(row.get("version", "")),
                "state": str(row.get("state", "")).lower() or "not loaded",
                "error": str(row.get("reason", "")),
            }
            for row in index
            if row.get("name") and row["name"] not in names
        ]

    def _looked_into(self, one: Loaded) -> Loaded:
        """A model, with what is known here of requests that failed."""
        if one.record is None or not one.is_ready or not one.failures:
            return one
        if self._ended.get(one.name) == one.record.at:
            again = f"`deploy --on {self.name}` starts it anew"
            return replace(one, trouble=f"its process in Triton has ended; {again}")
        failed = "1 request has failed" if one.failures == 1 else f"{one.failures} requests failed"
        return replace(
            one, note=f"{failed} since it was loaded; `infer` shows whether it answers now"
        )

    def _missing(self, service: str) -> TargetError:
        return TargetError(
            f"runtime {self.name!r} has no service {service!r}",
            hint=self.named([one.name for one in self.loaded()]),
        )

    def _cannot(self, why: str) -> TargetError:
        return TargetError(f"runtime {self.name!r} is a Triton server, which {why}")


def _run(
    session: WireSession, inputs: object, outputs: Sequence[str] | None
) -> dict[str, NDArray[Any]]:
    given = inputs_for(session.signature, [inputs]).tensors
    return session.infer(coerce(session.signature, given), outputs)


def _counts(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Triton's statistics of a model in its own words, with counts and nanoseconds as numbers."""
    spent = _object(statistics.get("inference_stats"))
    return {
        **{key: _number(statistics.get(key)) for key in _COUNTS},
        "inference_stats": {
            what: {key: _number(_object(spent.get(what)).get(key)) for key in ("count", "ns")}
            for what in _SPENT
        },
    }


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int:
    """A count; gRPC's JSON has them as text."""
    try:
        return int(value)  # type: ignore[call-overload,no-any-return] # what is none raises
    except (TypeError, ValueError, OverflowError):
        return 0
