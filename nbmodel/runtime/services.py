"""A loaded model that answers requests, and loading one that keeps its promises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbmodel.backends import Known, Session, load_backend
from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Signature
from nbmodel.core.version import now
from nbmodel.errors import (
    GoldenSampleError,
    InferenceError,
    NbModelError,
    ShapeError,
    UnavailableError,
)
from nbmodel.formats import ModelFacts, read_model
from nbmodel.golden import Difference, compare, read_sample
from nbmodel.protocol.classification import classify
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput
from nbmodel.runtime.batching import check_batch_axis, has_batch_axis, rows_of
from nbmodel.runtime.lookup import unknown
from nbmodel.runtime.memory import give_back_memory
from nbmodel.runtime.packages import Installed
from nbmodel.runtime.scheduler import MAX_BATCH_SIZE, MAX_QUEUE_SIZE, Job, Scheduler, Scheduling
from nbmodel.runtime.statistics import ModelStatistics

logger = logging.getLogger(__name__)


_MAX_FORMS = 256  # of requests, that are remembered as right


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service as the data plane sees it.

    Attributes:
        name: Of the service.
        ready: Whether it can infer.
        version: Digits: the version's number, or ``1`` when it has none.
        signature: What its model takes and gives; empty when nothing is loaded.
        model_type: What the version, or the file at the path, says it is for, or None.
        reason: Why it is not ready; empty when it is.
        backend: Name of the backend; empty when nothing is loaded.
        scheduling: How its requests share it.
        label_path: Its label file on this machine, as configured; empty when there is none.
        description: What the file at the path says about itself; may be empty.
    """

    name: str
    ready: bool
    version: str
    signature: Signature
    model_type: str | None = None
    reason: str = ""
    backend: str = ""
    scheduling: Scheduling = field(default_factory=Scheduling)
    label_path: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """What a service is loaded from.

    Attributes:
        model: The backend, in our words or in Viam's.
        attributes: Of the service, with placeholders replaced.
        key: Of the wish it is loaded for: equal for sources that an engine cannot tell apart.
        installed: The version it is from; None for a file by path.
        engines: Folder in which backends keep what they make of models; None: nowhere.
    """

    model: str
    attributes: Mapping[str, Any]
    key: str
    installed: Installed | None = None
    engines: Path | None = None

    @property
    def number(self) -> str:
        """The version's number, digits; ``1`` when it has none."""
        if self.installed is None:
            return str(folder_number(Path(self.attributes.get("model_path", ""))))
        return str(self.installed.version.number or 1)


class LiveService:
    """A loaded model in use. Closed when it is retired and the last request is answered.

    Args:
        scheduler: The loaded model and its instances.
        source: What it was loaded from, with the backend's own name.
        facts: What a file by path says about itself, or None.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        source: Source,
        facts: ModelFacts | None = None,
    ) -> None:
        self.source = source
        #: Digits, of what it runs now.
        self.version = source.number
        self.since = now()
        own = source.installed.manifest if source.installed is not None else facts
        self.signature = _signature(scheduler.session.signature, own)
        self.model_type = None if own is None else own.model_type
        self.description = "" if facts is None else facts.description
        self.metadata: Mapping[str, Any] = {} if own is None else own.metadata
        self.scheduling = scheduler.scheduling
        self._session = scheduler.session
        # What requests of a known form want, and how many rows they have.
        self._forms: dict[object, tuple[tuple[str, ...], int]] = {}
        self._scheduler = scheduler

    @property
    def key(self) -> str:
        """Of the wish that it was loaded for."""
        return self.source.key

    @property
    def installed(self) -> Installed | None:
        """The version it is from; None for a file by path."""
        return self.source.installed

    def view(self, name: str) -> ServiceView:
        """How the data plane sees it, as a service of that name."""
        trouble = self.trouble
        return ServiceView(
            name,
            trouble is None,
            self.version,
            self.signature,
            self.model_type,
            reason=trouble or "",
            backend=self.source.model,
            scheduling=self.scheduling,
            label_path=str(self.source.attributes.get("label_path") or ""),
            description=self.description,
        )

    @property
    def trouble(self) -> str | None:
        """Why its model cannot run just now, though it may again by itself; None: it can."""
        return self._session.trouble

    @property
    def runs_on(self) -> str:
        """What its model runs on, ``cuda`` say; empty where there is no choice."""
        return self._session.runs_on

    @property
    def note(self) -> str:
        """What a person should know of how its model runs; empty: nothing."""
        return self._session.note

    @property
    def inferences(self) -> int:
        """How many requests it answered."""
        return self._scheduler.counters.succeeded

    def infer(self, request: InferRequest, deadline: float | None = None) -> InferResponse:
        """Answer a request, in the calling thread where an instance is free.

        Args:
            request: No tensor of it is in shared memory.
            deadline: When nobody waits for it any more, ``time.monotonic()`` seconds.

        Raises:
            RetiredError: The model was replaced meanwhile.
            TargetError: Another version is asked for.
            SignatureError, InferenceError: As ``Session.infer``.
            UnavailableError: Too many requests wait, or the deadline passed.
        """
        job = self._job(request, deadline, None)
        self._scheduler.run(job)
        return self._response(request, job)

    def submit(
        self,
        request: InferRequest,
        done: Callable[[InferResponse | NbModelError], None],
        deadline: float | None = None,
    ) -> Job:
        """Answer a request: here when it is cheap and can run at once, else in a worker.

        Args:
            request: As for ``infer``.
            done: Called exactly once with the answer or an error, unless this raises.
            deadline: As for ``infer``.

        Raises:
            RetiredError, TargetError, SignatureError: As ``infer``.
        """
        job = self._job(request, deadline, lambda job: done(self._result(request, job)))
        self._scheduler.start(job)
        return job

    def check(self) -> Difference | None:
        """Run the golden sample; None when the version has none.

        Raises:
            GoldenSampleError: The answers are not the golden ones.
            RetiredError: It was replaced meanwhile.
        """
        installed = self.installed
        if installed is None:
            return None
        with self._scheduler.held() as session:
            return check_golden(session, installed.manifest, installed.folder)

    def try_out(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the model beside the requests; it waits for none of them, and does not count.

        Args:
            inputs: As for ``Session.infer``.

        Raises:
            RetiredError: It was replaced meanwhile.
            SignatureError, InferenceError: As ``Session.infer``.
        """
        with self._scheduler.held() as session:
            return session.infer(inputs)

    def stats(self) -> dict[str, Any]:
        """Counts since it was loaded; ``mean_ms`` is the engine's time of an answer."""
        counters = self._scheduler.counters
        answered = counters.succeeded
        return {
            "inferences": answered,
            "failures": counters.failed,
            "mean_ms": counters.infer_ns / answered / 1e6 if answered else None,
            "busy": self._scheduler.busy,
            "since": self.since,
        }

    def statistics(self, name: str) -> ModelStatistics:
        """Counts since it was loaded, for a service of that name."""
        return self._scheduler.statistics(name, self.version)

    def relabel(self, installed: Installed) -> None:
        """Count as another version from now on, one with the same files."""
        self.signature = _signature(self._session.signature, installed.manifest)
        self.model_type = installed.manifest.model_type
        self.metadata = installed.manifest.metadata
        self.source = replace(self.source, installed=installed)
        self.version = self.source.number

    def retire(self) -> None:
        """Take no more requests; requests under way finish, and the last closes the model."""
        self._scheduler.retire()

    def _job(
        self, request: InferRequest, deadline: float | None, done: Callable[[Job], None] | None
    ) -> Job:
        arrived = time.perf_counter_ns()
        try:
            if request.version:
                self._check_version(request)
            known = self._forms.get(request.form)
            if known is None:
                tensors, wanted, rows = self._checked(request)
            else:
                tensors, (wanted, rows) = request.inputs, known
            if deadline is not None and time.monotonic() >= deadline:
                raise UnavailableError("Request timeout expired")
        except NbModelError:
            self._scheduler.count_failure(time.perf_counter_ns() - arrived)
            raise
        return Job(tensors, wanted, rows, arrived, deadline, done)

    def _checked(
        self, request: InferRequest
    ) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...], int]:
        """Tensors, names of outputs and rows of a request; an error when it is wrong."""
        tensors, wanted = self._session.prepare(
            request.inputs, request.output_names if request.outputs else None
        )
        rows = self._rows(request, tensors) if self.scheduling.is_batching else 1
        if request.form is not None and tensors is request.inputs:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            self._forms[request.form] = (wanted, rows)
        return tensors, wanted, rows

    def _check_version(self, request: InferRequest) -> None:
        asked = request.version
        if asked and asked != self.version and asked.lstrip("0") != self.version:
            raise unknown(request.model, asked, hint=f"version {self.version} is here")

    def _rows(self, request: InferRequest, tensors: Mapping[str, NDArray[Any]]) -> int:
        scheduling = self.scheduling
        try:
            rows = rows_of(tensors)
        except ShapeError:
            if scheduling.is_limit:
                raise
            return 0  # the model may know what to do with it, alone
        if scheduling.is_limit and rows > scheduling.max_batch_size:
            raise ShapeError(
                f"inference request batch-size must be <= {scheduling.max_batch_size} for "
                f"{request.model!r}",
                hint=f"found {rows} rows",
            )
        return rows

    def _response(self, request: InferRequest, job: Job) -> InferResponse:
        if job.error is not None:
            raise job.error
        outputs = job.outputs
        for wanted in request.outputs:
            if wanted.classification:
                outputs = {**outputs, wanted.name: self._classes(wanted, outputs[wanted.name])}
        return InferResponse(request.model, self.version, outputs, request.id)

    def _classes(self, wanted: RequestedOutput, output: NDArray[Any]) -> NDArray[Any]:
        labels = next(one.labels for one in self.signature.outputs if one.name == wanted.name)
        return classify(
            output, wanted.classification, labels=labels, has_batch=self.scheduling.is_batching
        )

    def _result(self, request: InferRequest, job: Job) -> InferResponse | NbModelError:
        try:
            return self._response(request, job)
        except NbModelError as exc:
            return exc
        except Exception as exc:  # somebody waits, whatever went wrong
            logger.exception("an answer of %s cannot be made", request.model)
            return InferenceError(f"the answer cannot be made: {type(exc).__name__}: {exc}")


def load_service(source: Source, note: Callable[[str], None] = lambda _: None) -> LiveService:
    """Load a model and let it prove itself on its golden sample.

    Args:
        source: What it is loaded from.
        note: Told when the file says nothing about itself that can be read, and later what
            happens to the engine.

    Raises:
        NbModelError: It cannot be loaded, or answers its golden sample wrongly. Whatever
            is raised, nothing is left of the model.
    """
    backend = load_backend(source.model)
    attributes, installed = source.attributes, source.installed
    known = _known(source)
    sessions = [backend.load(attributes, known)]
    first = sessions[0]
    first.report_to(note)
    try:
        sample = None
        if installed is not None:
            check_golden(first, installed.manifest, installed.folder)
            sample = _golden_inputs(installed)
        scheduling = _scheduling(attributes, first, sample)
        while len(sessions) < scheduling.instances:
            sessions.append(first if first.runs_together else backend.load(attributes, known))
        return LiveService(
            Scheduler(sessions, scheduling),
            replace(source, model=backend.name),
            None if installed is not None else _facts(attributes, note),
        )
    except BaseException:
        for session in set(sessions):
            session.close()
        give_back_memory()
        raise


def folder_number(path: Path) -> int:
    """The version of a file by path: the number its folder is called, else 1.

    Model repositories of Triton are laid out so: ``digits/3/model.onnx``.
    """
    name = path.parent.name
    is_number = name.isdecimal() and name.isascii() and len(name) < 10
    return int(name) or 1 if is_number else 1


def _scheduling(
    attributes: Mapping[str, Any], session: Session, sample: Mapping[str, NDArray[Any]] | None
) -> Scheduling:
    """How requests share a model: as its service says, and as it turns out to allow."""
    given = attributes.get("max_batch_size")
    rows = int(given or 0)
    if rows:
        check_batch_axis(session.signature, rows)
    elif given is None and has_batch_axis(session.plain, sample):
        rows = MAX_BATCH_SIZE
    return Scheduling(
        instances=attributes.get("instances", 1),
        max_batch_size=rows,
        max_queue_delay_microseconds=attributes.get("max_queue_delay_microseconds", 0),
        max_queue_size=attributes.get("max_queue_size", MAX_QUEUE_SIZE),
        is_batching=rows > 0,
        is_limit=bool(given),
    )


def _golden_inputs(installed: Installed) -> Mapping[str, NDArray[Any]] | None:
    golden = installed.manifest.golden
    return None if golden is None else read_sample(installed.folder / golden.path).inputs


def check_golden(session: Session, manifest: Manifest, folder: Path) -> Difference | None:
    """Compare a loaded model's answers with its golden sample; None when it has none.

    Args:
        session: The loaded model.
        manifest: Of its version.
        folder: Where the version's files are.

    Raises:
        GoldenSampleError: They differ by more than the tolerance, or the sample cannot
            be read or run.
    """
    golden = manifest.golden
    if golden is None:
        return None
    known = {entry.path for entry in manifest.files}
    if golden.path not in known:  # also what keeps the path inside the folder
        raise GoldenSampleError(f"the golden sample {golden.path!r} is not among the files")
    sample = read_sample(folder / golden.path)
    try:
        answers = session.plain.infer(sample.inputs, list(sample.outputs))
    except NbModelError as exc:
        raise GoldenSampleError(f"cannot run the golden sample: {exc}", hint=exc.hint) from exc
    difference = compare(sample.outputs, answers, golden)
    if not difference.agrees:
        raise GoldenSampleError(
            f"answers its golden sample wrongly: {difference}",
            hint="the version was made with another engine, or its file is not the one meant",
        )
    return difference


def _known(source: Source) -> Known:
    """What is known of a model besides what its own files say."""
    installed = source.installed
    if installed is None:
        return Known(engines=source.engines)
    manifest, folder = installed.manifest, installed.folder
    sample = None if manifest.golden is None else folder / manifest.golden.path
    return Known(manifest.signature, sample, source.engines)


def _facts(attributes: Mapping[str, Any], note: Callable[[str], None]) -> ModelFacts | None:
    """What a file says about itself; the engine runs it whether that can be read or not."""
    if "model_path" not in attributes:
        return None  # its engine finds the model by another way
    path = Path(attributes["model_path"])
    try:
        return read_model(path)
    except (NbModelError, OSError) as exc:
        note(f"what {path} says about itself cannot be read: {exc}")
        return None


def _signature(engine: Signature, own: Manifest | ModelFacts | None) -> Signature:
    """The model's own signature, which says more, when it is about the same tensors."""
    if own is None or _tensors(own.signature) != _tensors(engine):
        return engine
    # What its config says of a file by path (label_path) is in the engine's signature only.
    given = engine.labels if isinstance(own, ModelFacts) else ()
    return own.signature.with_labels(given) if given else own.signature


def _tensors(signature: Signature) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    return (
        {(tensor.name, tensor.datatype) for tensor in signature.inputs},
        {(tensor.name, tensor.datatype) for tensor in signature.outputs},
    )
