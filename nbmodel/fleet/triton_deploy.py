"""Bring versions to a bare Triton server.

A version is loaded under a name of its own first, and has to answer its golden sample there,
over the wire. Then that name goes, and the version is loaded under the service's name with a
number that nothing there has: so clients ask for the service all the time, and Triton itself
puts the new one in the place of the old.

Seen with Triton 2.51: such a load runs beside the version that serves, loses no request of
three clients that never pause, lets the old version go when its last request is answered, and
leaves it alone when the new one does not load. Loading a number again that serves may change
nothing. An ensemble of one step, as a second name of a model, is refused with "failed to poll"
where the model it leads to was sent and is not in the repository. Two versions under one name
would let the new one answer before it was tried out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nbmodel.backends import Known
from nbmodel.backends.base import SCHEDULING_ATTRIBUTES, Attribute
from nbmodel.backends.triton_client import EndedError, GoneError
from nbmodel.backends.triton_config import ENGINES, KINDS, PYTHON, Engine, Wanted
from nbmodel.backends.triton_model import Content, TritonModel, model_from_file, to_json
from nbmodel.core.reference import Reference
from nbmodel.core.version import Version, now
from nbmodel.display.quantity import file_size
from nbmodel.errors import (
    ConfigError,
    DeployError,
    NbModelError,
    NoCompatibleBackendError,
    ProbeError,
    StorageUnavailableError,
    TargetError,
    TargetUnreachableError,
    UnavailableError,
)
from nbmodel.fleet import plan
from nbmodel.fleet.triton_record import Ran, Record
from nbmodel.fleet.triton_runtime import Loaded, TritonRuntime
from nbmodel.fleet.triton_session import WireSession, signature_in
from nbmodel.formats import model_file
from nbmodel.golden import read_sample
from nbmodel.registry import Registry
from nbmodel.runtime.proof import Proof, check_signature, prove_golden, prove_made_up

BACKEND = "triton"  # what a placement there names
GONE_S = 30.0  # that a version may take to answer its last requests, and go
MAX_NUMBER = 2**31 - 1  # of a version in Triton
#: Bytes of a model that a request can carry: of gRPC a message, of HTTP one in base64.
MAX_MODEL = {"grpc": 2**31 - 2**20, "http": 2**30}
#: Attributes of a service here, as the ``triton`` backend of an nbmodel runtime has them.
_ATTRIBUTES = {
    one.name: one
    for one in (
        Attribute("num_threads", "integer", "threads of one inference", minimum=1, maximum=256),
        *(one for one in SCHEDULING_ATTRIBUTES if one.name != "max_queue_size"),
        Attribute("device", "string", "what it runs on: cpu, gpu or auto"),
        Attribute("model_config", "object", "fields of Triton's config.pbtxt, which prevail"),
    )
}
_LOOK_S = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ONNX = "onnx"


class RefusedByTritonError(DeployError):
    """Triton does not load the version, or it answers wrongly there."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a service shall run.

    Attributes:
        service: Its name, and that of the model in Triton.
        version: The version.
        attributes: What is asked besides: ``num_threads``, ``device``, ``model_config`` ….
    """

    service: str
    version: Version
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A version that serves.

    Attributes:
        status: What Triton says of the service, and what the trial showed.
        sent: Bytes of the model that were sent; 0 where it served already.
    """

    status: Mapping[str, Any]
    sent: int


def choose_backend(runtime: TritonRuntime, version: Version, wanted: str | None) -> str:
    """The backend of a placement, ``triton``.

    Raises:
        NoCompatibleBackendError: Triton has nothing for the version's format, or another
            backend is wanted.
    """
    if wanted not in (None, BACKEND):
        raise NoCompatibleBackendError(
            f"runtime {runtime.name!r} is a Triton server: it has no backend {wanted!r}",
            hint="leave it out: Triton's backend goes by the model's format",
        )
    if version.framework not in ENGINES:
        raise NoCompatibleBackendError(
            f"{version.reference} is a {version.framework} model, which Triton cannot run",
            hint=f"it runs {', '.join(ENGINES)}; an nbmodel runtime runs this one",
        )
    return BACKEND


def config_of(runtime: TritonRuntime) -> dict[str, Any]:
    """The services of a Triton as a machine config would ask for them."""
    config: dict[str, Any] = {"packages": [], "services": []}
    for one in runtime.loaded():
        if one.record is not None:
            placement = plan.Placement(
                one.name,
                plan.package_id(one.record.version.model),
                one.record.version.stamp,
                BACKEND,
                {**one.record.attributes, "model_path": f"${{packages.ml_model.{one.name}}}"},
            )
            config = plan.with_placement(config, placement)
    return config


def task_of(
    runtime: TritonRuntime, config: Mapping[str, Any], service: str, version: Version
) -> Task:
    """What a machine config asks for a service, and what was asked before Triton forgot it.

    Args:
        runtime: The server.
        config: As ``config_of`` gives it, changed by what is wanted.
        service: Name of the service.
        version: What it shall run.

    Raises:
        ConfigError: It asks for what a bare Triton cannot do; nothing was changed.
    """
    entry = plan.service_entry(config, service)
    attributes = {
        key: value for key, value in (entry.get("attributes") or {}).items() if key != "model_path"
    }
    if runtime.service(service) is None:
        attributes = {**runtime.wishes.of(service), **attributes}
    problems = [f"{key!r}" for key in entry.get("deployment") or {}]
    if plan.registry_of(config, service) is not None:
        problems.append("'registry'")
    if problems:
        raise ConfigError(
            f"a Triton server has no agent that could follow {', '.join(sorted(problems))}",
            hint="leave that out, or deploy to an nbmodel runtime",
        )
    _check_attributes(attributes)
    if "num_threads" in attributes and version.framework != _ONNX:
        raise ConfigError(
            f"threads can be set in Triton for ONNX models, {version.reference} is a "
            f"{version.framework} model"
        )
    return Task(service, version, attributes)


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    problems = [
        f"no attribute {key!r}" if key not in _ATTRIBUTES else f"{_ATTRIBUTES[key].problem(value)}"
        for key, value in attributes.items()
        if key not in _ATTRIBUTES or _ATTRIBUTES[key].problem(value)
    ]
    if not problems and attributes.get("device", "auto") not in KINDS:
        problems = [f"attribute 'device' must be {', '.join(KINDS)}"]
    if problems:
        raise ConfigError(
            f"a service of a Triton server: {'; '.join(problems)}",
            hint=f"it has {', '.join(_ATTRIBUTES)}",
        )


def check(runtime: TritonRuntime, task: Task) -> Engine:
    """Refuse what would be refused later, before anything is moved.

    Returns:
        What Triton will run it with.

    Raises:
        ConfigError: It takes no models from clients, or the service's name is none for one.
        NoCompatibleBackendError: It has not got the backend.
        DeployError: The model is too large for a request, or the name is a foreign model's.
    """
    if _NAME.fullmatch(task.service) is None:
        raise ConfigError(
            f"not a name for a model in Triton: {task.service!r}",
            hint="a letter or a digit, then letters, digits, '_', '-' and '.', at most 100",
        )
    runtime.check_control()
    _check_size(runtime, task.version.reference, task.version.size)
    found = runtime.service(task.service)
    if found is not None and found.record is None:
        raise DeployError(
            f"{runtime.name} has a model {task.service!r} that nbmodel has not deployed",
            hint="deploy with --service and another name",
        )
    return _engine(runtime, task.version, found)


def bring(
    registry: Registry,
    runtime: TritonRuntime,
    task: Task,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Have a service run a version; nothing is sent where it does already.

    Args:
        registry: Where the version is.
        runtime: The server.
        task: What is wanted.
        note: Called with what is being done.

    Raises:
        RefusedByTritonError: Triton refused it, or it answers wrongly; what served serves on.
        TargetUnreachableError: Triton does not answer (any more).
        DeployError: Triton has no room for it; what served serves on.
        ConfigError, NoCompatibleBackendError, DeployError: As ``check``.
    """
    before = runtime.service(task.service)
    is_it = before is not None and before.is_ready and _runs(before, task)
    if before is not None and is_it and runtime.answers(task.service):
        runtime.wishes.keep(task.service, task.attributes)
        return Outcome(before.to_json(), 0)
    engine = check(runtime, task)
    with TemporaryDirectory(prefix="nbmodel-") as folder:
        registry.extract(task.version.reference, Path(folder))
        model = _model(task, engine, Path(folder))
        content = _content(model)
        size = sum(map(len, content.values())) + sum(map(len, _beside(model).values()))
        _check_size(runtime, task.version.reference, size)
        trial = runtime.host.new_name(task.service)
        with _refusals(runtime, task, trial, before):
            proof = _try_out(runtime, task, trial, model, Path(folder), note)
            note("loading")
            number = _free_number(task.version.number, before)
            _switch(runtime, task, model, number, before)
    note("waiting for the version before to go")
    found = _settled(runtime, task, number)
    runtime.wishes.keep(task.service, task.attributes)
    told = proof.note.replace(trial, task.service)
    probe = {"latency_ms": proof.latency_ms, "golden": proof.golden, "note": told}
    return Outcome({**found.to_json(), "probe": probe}, 2 * size)


def roll_back(registry: Registry, runtime: TritonRuntime, service: str) -> dict[str, Any]:
    """Take a service back to the version it ran before.

    Returns:
        ``service``, and the versions ``from`` and ``to``.

    Raises:
        TargetError: It has no such service.
        DeployError: There is nothing to go back to, or it is in another registry.
    """
    found = _of_ours(runtime, service)
    record = found.record
    if record is None or record.before is None:
        raise DeployError(f"{service!r} of runtime {runtime.name!r} ran nothing before")
    version = _version(registry, runtime, service, record.before)
    bring(registry, runtime, Task(service, version, record.attributes))
    return {
        "service": service,
        "from": record.version.reference,
        "to": version.reference,
    }


def take_away(runtime: TritonRuntime, service: str, *, is_recorded: bool) -> None:
    """Have Triton let a service go.

    Args:
        runtime: The server.
        service: Name of the service.
        is_recorded: Whether it was deployed from here: then it may be gone already.

    Raises:
        DeployError: There is no such service.
        ConfigError: The server takes no orders about models.
    """
    try:
        _of_ours(runtime, service)
    except TargetError as exc:
        if is_recorded and runtime.service(service) is None:
            runtime.wishes.keep(service, None)
            return
        raise DeployError(str(exc), hint=exc.hint) from exc
    runtime.wishes.keep(service, None)
    with runtime.asked() as client:
        client.unload(service)
    _wait_gone(runtime, service)


def _of_ours(runtime: TritonRuntime, service: str) -> Loaded:
    found = runtime.service(service)
    if found is not None and found.record is not None:
        return found
    names = [one.name for one in runtime.loaded() if one.record is not None]
    raise TargetError(
        f"runtime {runtime.name!r} has no service {service!r} that nbmodel has deployed",
        hint=runtime.named(names),
    )


def _runs(found: Loaded, task: Task) -> bool:
    record = found.record
    return (
        record is not None
        and record.version.digest == task.version.digest
        and dict(record.attributes) == dict(task.attributes)
    )


def _engine(runtime: TritonRuntime, version: Version, before: Loaded | None) -> Engine:
    """What a Triton runs a version with: for ONNX, its Python backend where it has no other."""
    engine = ENGINES[version.framework]
    is_onnx = version.framework == _ONNX
    if is_onnx and before is not None and before.backend == PYTHON.backend:
        return PYTHON  # as was found out when that was loaded
    try:
        runtime.check_backend(engine.backend, engine.platform)
    except NoCompatibleBackendError as exc:
        if not is_onnx:
            raise
        try:
            runtime.check_backend(PYTHON.backend)
        except NoCompatibleBackendError:
            raise exc from None
        return PYTHON
    return engine


def _model(task: Task, engine: Engine, folder: Path) -> TritonModel:
    version = task.version
    asked = task.attributes
    given = dict(asked.get("model_config", {}))
    if version.framework == _ONNX and engine is PYTHON:
        given["backend"] = PYTHON.backend
    if "num_threads" in asked:
        threads = {"intra_op_thread_count": {"string_value": str(asked["num_threads"])}}
        given["parameters"] = {**threads, **given.get("parameters", {})}
    wanted = Wanted(
        KINDS[asked.get("device", "auto")],
        asked.get("instances", 1),
        asked.get("max_batch_size", 0),
        asked.get("max_queue_delay_microseconds", 0),
        given=given,
    )
    golden = version.manifest.golden
    sample = None if golden is None else folder / golden.path
    path = folder / model_file(version.manifest)
    return model_from_file(path, Known(version.signature, sample), wanted)


def _content(model: TritonModel) -> dict[str, bytes]:
    """Path in the folder of the version → bytes."""
    return {path: _bytes(content) for path, content in model.files.items()}


def _beside(model: TritonModel) -> dict[str, bytes]:
    return {path: _bytes(content) for path, content in model.beside.items()}


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _check_size(runtime: TritonRuntime, reference: str, size: int) -> None:
    protocol = "grpc" if "+grpc" in runtime.url else "http"
    most = MAX_MODEL[protocol]
    if size > most:
        hint = "put it into Triton's own model repository, or deploy to an nbmodel runtime"
        if protocol == "http":
            hint = f"by triton+grpc://… {file_size(MAX_MODEL['grpc'])} can be sent"
        raise DeployError(
            f"{reference} has {file_size(size)}, a request to load over {protocol} can carry "
            f"{file_size(most)}",
            hint=hint,
        )


@contextmanager
def _refusals(
    runtime: TritonRuntime, task: Task, trial: str, before: Loaded | None
) -> Iterator[None]:
    """Say of what goes wrong here that the version was refused, and what serves on."""
    try:
        with runtime.asked():
            yield
    except TargetUnreachableError:
        raise
    except NbModelError as exc:
        cause = exc.__cause__
        if isinstance(cause, UnavailableError) and _is_away(runtime, cause):
            raise runtime.unreachable(cause) from exc
        still = ""
        if before is not None and before.record is not None and before.is_ready:
            still = f"; version {before.record.version.number} keeps serving"
        hint = exc.hint
        if isinstance(exc, StorageUnavailableError):
            raise DeployError(
                f"{runtime.name}: {task.version.reference} does not fit: {exc}{still}",
                hint=f"{hint}, then deploy again" if hint else None,
            ) from exc
        if "No module named" in str(exc) and task.version.framework == _ONNX:
            hint = "install numpy and onnxruntime in the Python of Triton's Python backend"
        if "http-max-input-size" in str(exc):
            hint = "by triton+grpc://… larger models can be sent"
        # The server answers: it is the version that does not.
        why = str(exc).replace(f"Triton at {runtime.client.endpoint} does", "it does")
        why = why.replace(trial, task.service).rstrip(".")
        raise RefusedByTritonError(
            f"{runtime.name}: {task.service} refused {task.version.reference}: {why}{still}",
            hint=hint,
        ) from exc


def _is_away(runtime: TritonRuntime, why: UnavailableError) -> bool:
    """Whether it is the server that is gone, rather than one model or its answer."""
    if isinstance(why, EndedError):
        return False
    if isinstance(why, GoneError):
        return True
    try:
        runtime.client.server()
    except NbModelError:
        return True
    return False


def _is_stuck(exc: ProbeError) -> bool:
    """Whether a request is still out, so that its model cannot go."""
    why = exc.__cause__
    return isinstance(why, UnavailableError) and not isinstance(why, EndedError)


def _try_out(
    runtime: TritonRuntime,
    task: Task,
    name: str,
    model: TritonModel,
    folder: Path,
    note: Callable[[str], None],
) -> Proof:
    """Load a version under another name, have it show that it is right, and let it go again."""
    patience_s = GONE_S
    note("loading it to try it out")
    try:
        runtime.host.bring(name, model)
        own = task.version.signature
        session = WireSession(runtime.client, name, signature_in(runtime.client.metadata(name)))
        check_signature(session.signature, own)
        golden = task.version.manifest.golden
        if golden is None:
            return prove_made_up(session, own, allow_non_finite=False, tell=note)
        return prove_golden(session, read_sample(folder / golden.path), golden, tell=note)
    except ProbeError as exc:
        patience_s = 0.0 if _is_stuck(exc) else GONE_S
        raise
    finally:
        runtime.host.take_away(name)
        _wait_gone(runtime, name, patience_s)


def _switch(
    runtime: TritonRuntime,
    task: Task,
    model: TritonModel,
    number: int,
    before: Loaded | None,
) -> None:
    version = task.version
    ran = None if before is None or before.record is None else before.record
    old = None
    if ran is not None:  # the same version with other attributes is not one to go back to
        old = ran.before if ran.version.digest == version.digest else ran.version
    record = Record(
        Ran.of(version), version.model_type, version.signature, now(), task.attributes, old
    )
    config = record.in_config(model.configured(task.service, number))
    files = {f"{number}/{path}": content for path, content in _content(model).items()}
    runtime.host.send(task.service, to_json(config), {**files, **_beside(model)})


def _free_number(wanted: int, before: Loaded | None) -> int:
    """The number of a version in Triton: its own, or where that serves already, another."""
    taken = set() if before is None else set(before.versions)
    number = wanted
    while str(number) in taken:
        number = number % MAX_NUMBER + 1
    return number


def _settled(runtime: TritonRuntime, task: Task, number: int) -> Loaded:
    """What a service is once the version before has gone, or would not go in time."""
    until = time.monotonic() + GONE_S
    while True:
        found = runtime.service(task.service)
        is_it = found is not None and found.record is not None and _runs(found, task)
        if found is None or not is_it or not found.is_ready:
            raise RefusedByTritonError(
                f"{runtime.name}: {task.service} does not run {task.version.reference}, which was "
                "just loaded",
                hint=f"see `status {runtime.name}`: somebody else may have changed it",
            )
        if found.versions == (str(number),) or time.monotonic() > until:
            return found
        time.sleep(_LOOK_S)


def _wait_gone(runtime: TritonRuntime, name: str, patience_s: float = GONE_S) -> None:
    """Wait a while for a model to answer its last requests, and go."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            if name not in runtime.client.models():
                return
        except NbModelError:
            return  # whoever asks next will hear why
        time.sleep(_LOOK_S)


def _version(registry: Registry, runtime: TritonRuntime, service: str, ran: Ran) -> Version:
    """A version that ran, from the registry; its model may be called otherwise by now."""
    names = [ran.model]
    names += [
        one.model for one in registry.deployments(runtime=runtime.name) if one.service == service
    ]
    for name in names:
        try:
            return registry.resolve(Reference(name, digest=ran.digest))
        except NbModelError:
            continue
    raise DeployError(
        f"{service!r} of runtime {runtime.name!r} ran {ran.reference} before, which is not in "
        "this registry",
        hint="a bare Triton keeps no version that it does not run: roll back where it was made",
    )
