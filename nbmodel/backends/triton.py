"""NVIDIA's Triton Inference Server: one that runs somewhere, or one of our own.

A version that is tried out in a process of its own (``runtime.probe``) gets a tritonserver of
its own there where this machine's is used: a model that takes its server down takes nothing
else with it. A server at an address is the only one there is, so the version is loaded there
under another name, beside what serves, and let go afterwards.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import Attribute, Backend, Known, Session
from nbmodel.backends.renamed import RenamedSession, Renaming
from nbmodel.backends.triton_client import EndedError, Endpoint, GoneError
from nbmodel.backends.triton_config import (
    ENGINES,
    INPUT_MEMORY,
    KINDS,
    PYTHON,
    Wanted,
    check_batches,
)
from nbmodel.backends.triton_host import Host, OtherHost, OwnHost
from nbmodel.backends.triton_memory import TensorMemory
from nbmodel.backends.triton_model import (
    TritonModel,
    model_from_file,
    model_from_repository,
    newest_version,
)
from nbmodel.backends.triton_server import START_S, Program
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    ConfigError,
    FormatError,
    InferenceError,
    InputError,
    NbModelError,
    NoCompatibleBackendError,
    PluginError,
    SignatureError,
    UnavailableError,
)

NEWEST = -1
WATCH_S = 5.0  # between two looks at whether Triton still has the model
RECOVER_S = 5.0  # that a request waits for a model that is being loaded again
_PAUSE_S = 0.25  # before what failed is tried again; doubled up to WATCH_S
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ANY_NAME = "model"
_USUAL_PROGRAM = "/opt/tritonserver/bin/tritonserver"
_MARKERS = ("saved_model.pb", "model.py")  # which make a folder a model


logger = logging.getLogger(__name__)


class Triton(Backend):
    """Runs models in a Triton server; Viam's ``triton``."""

    name = "triton"
    formats = (
        "onnx",
        "savedmodel",
        "torchscript",
        "torch_export",
        "tensorrt",
        "openvino",
        "python",
    )
    attributes: ClassVar[tuple[Attribute, ...]] = (
        Attribute(
            "model_name", "string", "what it is called in Triton; default with model_path: model"
        ),
        Attribute("model_path", "path", "file or folder of the model"),
        Attribute("model_repository_path", "path", "model repository that the model is in"),
        Attribute(
            "model_version",
            "integer",
            "version in the model repository; default -1, the newest",
            minimum=NEWEST,
        ),
        Attribute("address", "string", "where Triton is: http://host:8000 or grpc://host:8001"),
        Attribute(
            "tritonserver",
            "path",
            "program to start, where no address is given; default: that of this machine",
        ),
        Attribute("backend_directory", "path", "where the program's backends are"),
        Attribute("device", "string", "what it runs on: cpu, gpu or auto; default auto"),
        Attribute(
            "preferred_input_memory_type",
            "string",
            "how inputs come to the model: cpu, cpu-pinned or gpu; default: as Triton has it",
        ),
        Attribute(
            "preferred_input_memory_type_id",
            "integer",
            "number of the GPU that is meant by it, as Viam has it: Triton knows where its models "
            "are",
            minimum=0,
        ),
        Attribute(
            "tensor_name_remappings",
            "object",
            'other names of tensors: {"inputs": {own: other}, "outputs": {own: other}}',
            harmless=True,
        ),
        Attribute("model_config", "object", "fields of Triton's config.pbtxt, which prevail"),
        Attribute("label_path", "path", "file of the labels, one a line"),
        Attribute("package_reference", "string", "package of the model; Viam's app writes it"),
    )

    def _contradictions(self, attributes: Mapping[str, Any]) -> list[str]:
        problems = []
        name = attributes.get("model_name", _ANY_NAME)
        if _MODEL_NAME.fullmatch(name) is None:
            problems.append(
                f"attribute 'model_name' must be letters, digits, '_', '-' and '.', found {name!r}"
            )
        if "model_repository_path" in attributes and "model_name" not in attributes:
            problems.append("attribute 'model_name' is required with 'model_repository_path'")
        if ("model_path" in attributes) == ("model_repository_path" in attributes):
            problems.append("expected exactly one of 'model_path' and 'model_repository_path'")
        if "model_version" in attributes:
            if "model_repository_path" not in attributes:
                problems.append("attribute 'model_version' is for 'model_repository_path'")
            if attributes["model_version"] == 0:
                problems.append("attribute 'model_version' must be 1 or more, or -1")
        device = attributes.get("device", "auto")
        if device not in KINDS:
            problems.append(f"attribute 'device' must be {', '.join(KINDS)}, found {device!r}")
        memory = attributes.get("preferred_input_memory_type", "gpu")
        if memory not in INPUT_MEMORY:
            problems.append(
                "attribute 'preferred_input_memory_type' must be "
                f"{', '.join(INPUT_MEMORY)}, found {memory!r}"
            )
        problems += _place_problems(attributes)
        problems += _renaming_problems(attributes.get("tensor_name_remappings", {}))
        return problems

    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        problems = []
        if "model_path" in attributes:
            path = Path(attributes["model_path"])
            if not path.is_file() and not any((path / one).is_file() for one in _MARKERS):
                wanted = f"a file, nor a folder with {' or '.join(_MARKERS)}"
                problems.append(
                    f"model_path is not {wanted if path.is_dir() else 'a file'}: {path}"
                )
        elif "address" not in attributes:
            folder = _repository_folder(attributes)
            version = attributes.get("model_version", NEWEST)
            if not folder.is_dir() or newest_version(folder) is None:
                problems.append(f"model_repository_path has no version of a model in {folder}")
            elif version != NEWEST and not (folder / str(version)).is_dir():
                problems.append(f"model_version is not a folder: {folder / str(version)}")
        return problems

    def _subject(self, attributes: Mapping[str, Any]) -> str:
        return Path(attributes.get("model_path") or attributes["model_name"]).name

    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:
        subject = self._subject(attributes)
        try:
            session: Session = _loaded(attributes, known, subject)
        except (SignatureError, UnavailableError):
            raise
        except (InferenceError, FormatError, InputError) as exc:
            raise InferenceError(
                f"{self.name} cannot load {subject}: {exc}", hint=exc.hint
            ) from exc
        given = attributes.get("tensor_name_remappings", {})
        renaming = Renaming(given.get("inputs", {}), given.get("outputs", {}))
        if not renaming:
            return session
        try:
            return RenamedSession(session, renaming, name=subject)
        except NbModelError:
            session.close()
            raise

    def check_model(self, attributes: Mapping[str, Any], signature: Signature) -> None:
        """As ``Backend.check_model``."""
        given = attributes.get("model_config", {})
        if not {"input", "output", "max_batch_size"} & given.keys():
            check_batches(signature, attributes.get("max_batch_size", 0))

    def foreign(self, attributes: Mapping[str, Any]) -> str | None:
        """A model of a repository at an address: the folder here is not looked at."""
        if "address" in attributes and "model_repository_path" in attributes:
            return "a model that the Triton at its address has itself"
        return None

    def tidy(self, attributes: Mapping[str, Any]) -> None:
        """Have a Triton at an address let go of what a process that is gone has loaded."""
        if "address" not in attributes:
            return
        try:
            host = OtherHost(Endpoint.parse(attributes["address"]))
        except (ConfigError, PluginError):
            return  # nothing can have been loaded
        host.tidy()
        host.close()


class TritonSession(Session):
    """A model in a Triton server, which takes requests from several threads at once.

    Args:
        placed: Where it is.
        signature: What Triton says of it.
        scalars: Tensors that have no dimension, where Triton knows one of length 1.
        name: Of the model, for messages.
    """

    runs_together = True

    def __init__(
        self, placed: Placed, signature: Signature, *, scalars: frozenset[str], name: str
    ) -> None:
        super().__init__(_with_scalars(signature, scalars), name=name)
        self._placed = placed
        self._scalars = scalars
        self._datatypes = {tensor.name: tensor.datatype for tensor in signature.inputs}
        self._memory = TensorMemory(signature) if placed.host.is_here else None
        # Whoever forgets to close it leaves nothing loaded.
        self._end = weakref.finalize(self, _end, placed, self._memory)

    @property
    def trouble(self) -> str | None:
        """As ``Session.trouble``."""
        return self._placed.trouble

    @property
    def note(self) -> str:
        """As ``Session.note``."""
        return self._placed.how

    def report_to(self, note: Callable[[str], None]) -> None:
        """As ``Session.report_to``."""
        self._placed.note = note

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        if not outputs:
            return {}  # no name means all of them to Triton
        life = self._placed.life
        try:
            try:
                return self._ask(inputs, outputs)
            except GoneError as exc:  # it did not run, so it may be asked again
                self._placed.wait(exc)
                return self._ask(inputs, outputs)
        except EndedError as exc:
            self._placed.renew(exc, life)
            raise EndedError(
                f"{self._name} cannot be run: {exc}", hint="it is loaded again: ask again later"
            ) from exc
        except UnavailableError as exc:
            self._placed.look(exc)
            raise
        except InferenceError as exc:
            raise InferenceError(f"{self._name} cannot be run: {exc}", hint=exc.hint) from exc

    def _ask(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        placed = self._placed
        given = {
            # Which has one dimension at least, as Triton has.
            name: (self._datatypes[name], np.ascontiguousarray(array))
            for name, array in inputs.items()
        }
        client = placed.client()
        if self._memory is not None:
            answers = self._memory.infer(client, placed.name, placed.version, given, outputs)
            if answers is not None:
                return self._shaped(answers)
        answer = client.infer(placed.name, placed.version, given, outputs, {}, {})
        return self._shaped({name: answer.array(name) for name in outputs})

    def _shaped(self, answers: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name in self._scalars & answers.keys():
            if answers[name].shape == (1,):
                answers[name] = answers[name].reshape(())
        return answers

    def _close(self) -> None:
        self._end()


class Placed:
    """A model in a Triton, looked after by a thread: what is gone is brought again.

    Args:
        host: The Triton; closed with this.
        name: Of the model there.
        version: That is asked; empty: whichever is served.
        bring: Has Triton load it.
        take_away: Has Triton let it go.
        scalars: Tensors that have no dimension, where Triton knows one of length 1.
        how: What a person should know of how it runs there; empty: nothing.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        version: str,
        *,
        bring: Callable[[], None],
        take_away: Callable[[], None],
        scalars: frozenset[str] = frozenset(),
        how: str = "",
    ) -> None:
        self.host = host
        self.name = name
        self.version = version
        self.scalars = scalars
        self.how = how
        self._bring = bring
        self._take_away = take_away
        #: Told what happens to it.
        self.note: Callable[[str], None] = logger.warning
        self._trouble: str | None = None
        self._ended = host.last_end
        self._look = threading.Event()
        self._up = threading.Event()
        self._up.set()
        #: How often it was loaded anew because its process had ended.
        self.life = 0
        self._is_ended = False
        self._why = ""  # its process has ended, in words; empty: it has not
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, name="nbmodel-triton", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why it cannot run just now; None: it can, as far as is known."""
        return self.host.trouble or self._trouble

    def client(self) -> Any:
        """A client of its Triton.

        Raises:
            GoneError: Triton is not up.
        """
        try:
            return self.host.client()
        except UnavailableError as exc:
            raise GoneError(str(exc), hint=exc.hint) from exc

    def look(self, why: NbModelError) -> None:
        """Have it looked after at once."""
        if self._trouble is None:
            self._trouble = str(why)
        self._up.clear()
        self._look.set()

    def renew(self, why: EndedError, life: int) -> None:
        """Have it let go and loaded anew: its process in Triton has ended.

        Args:
            why: What a request was told.
            life: In which ``life`` it was asked: of one that is over nothing is to be done.
        """
        if life == self.life:
            self._is_ended, self._why = True, str(why)
            self.look(why)

    def wait(self, why: NbModelError) -> None:
        """Have it looked after, and wait for that a while.

        Raises:
            UnavailableError: It is not over by then.
        """
        self.look(why)
        if not self._up.wait(RECOVER_S):
            raise UnavailableError(self.trouble or str(why), hint="ask again later")

    def close(self) -> None:
        """Let Triton let it go."""
        self._is_over = True
        self._look.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(START_S)
        self._take_away()
        self.host.close()

    def _watch(self) -> None:
        pause, said = _PAUSE_S, None
        while True:
            self._look.wait(WATCH_S if self._up.is_set() else pause)
            self._look.clear()
            if self._is_over:
                return
            was_down = self.trouble
            try:
                self._restore()
            except NbModelError as exc:
                self._up.clear()
                was_down = self._trouble = str(exc)
                pause = min(2 * pause, WATCH_S)
                time.sleep(_PAUSE_S)  # whoever asks meanwhile does not make it faster
            else:
                self._trouble, self._why, pause = None, "", _PAUSE_S
                self._up.set()
            said = self._told(said, was_down)

    def _told(self, said: str | None, was_down: str | None) -> str | None:
        """Tell what has changed; what was said last, None when all is well."""
        if self._trouble is None:
            if said is not None or was_down is not None:
                ended = self.host.last_end
                why = ended if ended != self._ended else said or was_down
                self._ended = ended
                self.note(f"{self.name} runs again in Triton: {why}")
            return None
        if said is None:
            self.note(f"{self.name} does not run: {self.trouble}")
            return self.trouble
        return said

    def _restore(self) -> None:
        client = self.host.client(RECOVER_S)
        if self._is_ended:
            client.unload(self.name)
            until = time.monotonic() + START_S
            while self.name in client.models() and time.monotonic() < until:
                time.sleep(_PAUSE_S / 5)
            self.life += 1
            self._is_ended = False
        if not client.is_ready(self.name, self.version):
            why = self._why or f"Triton has not got {self.name} any more"
            self._trouble = f"{why}; it is loaded again"
            self._up.clear()
            self._bring()


def _end(placed: Placed, memory: TensorMemory | None) -> None:
    if memory is not None:
        memory.close()
    placed.close()


def _loaded(attributes: Mapping[str, Any], known: Known, subject: str) -> TritonSession:
    host = _host(attributes)
    try:
        placed = _placed(attributes, known, host)
    except BaseException:
        host.close()
        raise
    try:
        metadata = host.client(START_S).metadata(placed.name, placed.version)
        signature = _signature(metadata)
        return TritonSession(placed, signature, scalars=placed.scalars, name=subject)
    except BaseException:
        placed.close()
        raise


def _placed(attributes: Mapping[str, Any], known: Known, host: Host) -> Placed:
    """Have Triton load the model of a service."""
    if "model_repository_path" in attributes and "address" in attributes:
        return _found(attributes, host)
    wanted = Wanted(
        KINDS[attributes.get("device", "auto")],
        attributes.get("instances", 1),
        attributes.get("max_batch_size", 0),
        attributes.get("max_queue_delay_microseconds", 0),
        INPUT_MEMORY[attributes.get("preferred_input_memory_type", "gpu")],
        attributes.get("model_config", {}),
    )
    note = ""
    if "model_path" in attributes:
        model, note = _fitting(host, Path(attributes["model_path"]), known, wanted)
    else:
        folder = _repository_folder(attributes)
        version = attributes.get("model_version", NEWEST)
        number = (newest_version(folder) or 1) if version == NEWEST else version
        model = model_from_repository(folder, number, wanted)
    host.check_backend(model.backend)
    host.check_platform(str(model.config.get("platform", "")))
    name = host.new_name(attributes.get("model_name", _ANY_NAME))
    return _brought(host, name, model, note)


def _fitting(host: Host, path: Path, known: Known, wanted: Wanted) -> tuple[TritonModel, str]:
    """The model that a file is, for what a Triton has; and what is to be known of that.

    Where it has no backend for ONNX, its Python backend runs ONNX Runtime.

    Raises:
        NoCompatibleBackendError: It has neither.
    """
    model = model_from_file(path, known, wanted)
    if model.backend != ENGINES["onnx"].backend or "backend" in wanted.given:
        return model, ""
    try:
        host.check_backend(model.backend)
    except NoCompatibleBackendError as exc:
        try:
            host.check_backend(PYTHON.backend)
        except NoCompatibleBackendError:
            raise exc from None
        given = {**wanted.given, "backend": PYTHON.backend}
        model = model_from_file(path, known, replace(wanted, given=given))
        return model, f"{exc}: ONNX Runtime runs inside its Python backend"
    return model, ""


def _brought(host: Host, name: str, model: TritonModel, note: str) -> Placed:
    def bring() -> None:
        host.bring(name, model)

    def take_away() -> None:
        host.take_away(name)

    try:
        bring()
    except BaseException:
        take_away()
        raise
    return Placed(
        host,
        name,
        "",
        bring=bring,
        take_away=take_away,
        scalars=model.scalars,
        how=note,
    )


def _found(attributes: Mapping[str, Any], host: Host) -> Placed:
    """The model that a Triton at an address has in its own repository; it is not ours to unload."""
    name, number = attributes["model_name"], attributes.get("model_version", NEWEST)
    version = "" if number == NEWEST else str(number)

    def bring() -> None:
        client = host.client()
        if not client.is_ready(name, version):
            client.load(name)

    bring()
    return Placed(host, name, version, bring=bring, take_away=lambda: None)


def _host(attributes: Mapping[str, Any]) -> Host:
    if "address" in attributes:
        return OtherHost(Endpoint.parse(attributes["address"]))
    given = attributes.get("tritonserver") or shutil.which("tritonserver") or _USUAL_PROGRAM
    if shutil.which(given) is None:
        raise PluginError(
            f"there is no tritonserver to start: {given} is no program",
            hint='give the service an attribute "tritonserver", the program (and '
            '"backend_directory", where its backends are); or "address", that of a Triton that '
            "runs: grpc://localhost:8001",
        )
    return OwnHost(Program(given, attributes.get("backend_directory", "")))


def _signature(metadata: Mapping[str, Any]) -> Signature:
    return Signature(
        tuple(_tensor(entry) for entry in metadata.get("inputs", ())),
        tuple(_tensor(entry) for entry in metadata.get("outputs", ())),
    )


def _with_scalars(signature: Signature, scalars: frozenset[str]) -> Signature:
    def restored(tensor: Tensor) -> Tensor:
        is_scalar = tensor.name in scalars and tensor.shape == (1,)
        return replace(tensor, shape=()) if is_scalar else tensor

    return Signature(
        tuple(map(restored, signature.inputs)), tuple(map(restored, signature.outputs))
    )


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    shape = tuple(int(dim) for dim in entry.get("shape", ()))
    return Tensor(str(entry["name"]), str(entry["datatype"]), shape)


def _repository_folder(attributes: Mapping[str, Any]) -> Path:
    return Path(attributes["model_repository_path"]) / str(attributes["model_name"])


def _place_problems(attributes: Mapping[str, Any]) -> list[str]:
    problems = []
    if "address" in attributes:
        problems += [
            f"attribute {name!r} is for a program that is started here, not for an address"
            for name in ("tritonserver", "backend_directory")
            if name in attributes
        ]
        if "model_config" in attributes and "model_repository_path" in attributes:
            problems.append("attribute 'model_config' is not for a repository at an address")
        try:
            Endpoint.parse(attributes["address"])
        except ConfigError as exc:
            problems.append(f"attribute 'address': {exc}")
    return problems


def _renaming_problems(given: Mapping[str, Any]) -> list[str]:
    problems = []
    for side, names in given.items():
        if side not in ("inputs", "outputs"):
            problems.append(f"tensor_name_remappings: expected inputs and outputs, found {side!r}")
        elif not isinstance(names, Mapping) or not all(
            isinstance(name, str) and name for name in names.values()
        ):
            problems.append(f"tensor_name_remappings.{side} must be names by names of tensors")
    return problems
