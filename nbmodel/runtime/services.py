"""A loaded model that answers requests, and loading one that keeps its promises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbmodel.backends import Session, load_backend
from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Signature
from nbmodel.core.version import now
from nbmodel.errors import FormatError, GoldenSampleError, NbModelError
from nbmodel.formats import ModelFacts, read_model
from nbmodel.golden import MAX_GOLDEN, Difference, GoldenSample, compare
from nbmodel.runtime.packages import Installed
from nbmodel.runtime.scheduler import Scheduling


class RetiredError(Exception):
    """The model was replaced between being found and being used: ask for it again."""


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


class LiveService:
    """A loaded model in use. Closed when it is retired and the last request is answered.

    Args:
        session: The loaded model.
        key: Of the wish that it was loaded for.
        installed: The version it is from; None for a file by path.
        facts: What the file by path says about itself, or None.
        backend: Name of the backend that it runs on.
        label_path: The label file that it was configured with, or empty.
    """

    def __init__(
        self,
        session: Session,
        key: str,
        installed: Installed | None,
        facts: ModelFacts | None = None,
        backend: str = "",
        label_path: str = "",
    ) -> None:
        self.key = key
        self.backend = backend
        self.label_path = label_path
        self.installed = installed
        self.since = now()
        own = installed.manifest if installed is not None else facts
        self.signature = _signature(session.signature, own)
        self.model_type = None if own is None else own.model_type
        self.metadata: Mapping[str, Any] = {} if own is None else own.metadata
        self._session = session
        self._lock = threading.Lock()
        self._busy = 0
        self._retired = False
        self._inferences = 0
        self._failures = 0
        self._seconds = 0.0

    @property
    def version(self) -> str:
        """Digits: the version's number, or ``1`` when it has none."""
        number = self.installed.version.number if self.installed is not None else None
        return str(number or 1)

    @property
    def inferences(self) -> int:
        """How many requests it answered."""
        return self._inferences

    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the model once; may be called from several threads.

        Raises:
            RetiredError: It was replaced meanwhile.
            SignatureError, InferenceError: As ``Session.infer``.
        """
        with self._using():
            began = time.perf_counter()
            try:
                answers = self._session.infer(inputs, outputs)
            except NbModelError:
                with self._lock:
                    self._failures += 1
                raise
            with self._lock:
                self._inferences += 1
                self._seconds += time.perf_counter() - began
            return answers

    def check(self) -> Difference | None:
        """Run the golden sample; None when the version has none.

        Raises:
            GoldenSampleError: The answers are not the golden ones.
            RetiredError: It was replaced meanwhile.
        """
        installed = self.installed
        if installed is None:
            return None
        with self._using():
            return check_golden(self._session, installed.manifest, installed.folder)

    def stats(self) -> dict[str, Any]:
        """Counts since it was loaded; ``mean_ms`` is the engine's time of an answer."""
        with self._lock:
            mean = 1000 * self._seconds / self._inferences if self._inferences else None
            return {
                "inferences": self._inferences,
                "failures": self._failures,
                "mean_ms": mean,
                "busy": self._busy,
                "since": self.since,
            }

    def relabel(self, installed: Installed) -> None:
        """Count as another version from now on, one with the same files."""
        self.signature = _signature(self._session.signature, installed.manifest)
        self.model_type = installed.manifest.model_type
        self.metadata = installed.manifest.metadata
        self.installed = installed

    def retire(self) -> None:
        """Take no more requests; requests under way finish, and the last closes the model."""
        with self._lock:
            self._retired = True
            is_finished = self._is_finished()
        if is_finished:
            self._session.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            if self._retired:
                raise RetiredError
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                is_finished = self._is_finished()
            if is_finished:
                self._session.close()

    def _is_finished(self) -> bool:
        return self._retired and self._busy == 0


def load_service(
    model: str,
    attributes: Mapping[str, Any],
    key: str,
    installed: Installed | None,
    note: Callable[[str], None] = lambda _: None,
) -> LiveService:
    """Load a model and let it prove itself on its golden sample.

    Args:
        model: The backend, in our words or in Viam's.
        attributes: With placeholders replaced.
        key: Of the wish it is loaded for.
        installed: The version it is from; None for a file by path.
        note: Told when the file says nothing about itself that can be read.

    Raises:
        NbModelError: It cannot be loaded, or answers its golden sample wrongly. Whatever
            is raised, nothing is left of the model.
    """
    backend = load_backend(model)
    session = backend.load(attributes)
    label_path = str(attributes.get("label_path") or "")
    try:
        if installed is not None:
            check_golden(session, installed.manifest, installed.folder)
            return LiveService(
                session, key, installed, backend=backend.name, label_path=label_path
            )
        facts = _facts(Path(attributes["model_path"]), note)
        return LiveService(session, key, None, facts, backend.name, label_path)
    except BaseException:
        session.close()
        raise


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
    try:
        with (folder / golden.path).open("rb") as file:
            sample = GoldenSample.from_bytes(file.read(MAX_GOLDEN + 1))
        answers = session.infer(sample.inputs, list(sample.outputs))
    except OSError as exc:
        raise GoldenSampleError(f"cannot read the golden sample: {exc}") from exc
    except FormatError as exc:
        raise GoldenSampleError(str(exc)) from exc
    except NbModelError as exc:
        raise GoldenSampleError(f"cannot run the golden sample: {exc}", hint=exc.hint) from exc
    difference = compare(sample.outputs, answers, golden)
    if not difference.agrees:
        raise GoldenSampleError(
            f"answers its golden sample wrongly: {difference}",
            hint="the version was made with another engine, or its file is not the one meant",
        )
    return difference


def _facts(path: Path, note: Callable[[str], None]) -> ModelFacts | None:
    """What a file says about itself; the engine runs it whether that can be read or not."""
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
