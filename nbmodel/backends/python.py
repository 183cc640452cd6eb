"""Models written in Python, as Triton's Python backend takes them, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, ClassVar

from numpy.typing import NDArray

from nbmodel.backends.base import Attribute, Backend, Known, Session
from nbmodel.backends.owner import is_left, owner
from nbmodel.backends.python_environment import (
    FOLDER,
    INSTALL_S,
    prepare,
    requirements_of,
)
from nbmodel.backends.python_process import Keeper, Recipe
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    FormatError,
    InferenceError,
    NbModelError,
    SignatureError,
    UnavailableError,
)
from nbmodel.formats.sidecar import config_beside, datatype_of, signature_of
from nbmodel.formats.textproto import Fields, parse
from nbmodel.protocol.tensor import datatype_of as datatype_of_array
from nbmodel.protocol.tensor import to_tensor

MARKER = "model.py"
START_TIMEOUT_S = 60
TIMEOUT_S = 60
_MAX_CONFIG = 4 << 20  # bytes of config.pbtxt
_MIB = 1 << 20
_SCRATCH = "nbmodel-python-"  # how working folders are called
_VERSION = "1"  # of the one model in what it takes for a model repository


class Python(Backend):
    """Runs a ``model.py`` of Triton's Python backend; a runtime must allow that.

    A ``requirements.txt`` beside it is installed in an environment of its own, from the
    wheels in ``wheels`` where there are any.
    """

    name = "python"
    formats = ("python",)
    runs_code = True
    attributes: ClassVar[tuple[Attribute, ...]] = (
        Attribute("model_path", "path", "model.py, or the folder that it is in", required=True),
        Attribute("label_path", "path", "file of the labels, one a line"),
        Attribute(
            "num_threads",
            "integer",
            "threads of numerical libraries; default 1",
            minimum=1,
            maximum=256,
        ),
        Attribute(
            "start_timeout_s",
            "integer",
            f"seconds until the model must be loaded; default {START_TIMEOUT_S}",
            minimum=1,
            maximum=3600,
        ),
        Attribute(
            "timeout_s",
            "integer",
            f"seconds that an answer may take, else its process is ended and started again; "
            f"default {TIMEOUT_S}",
            minimum=1,
            maximum=3600,
        ),
        Attribute(
            "memory_bytes",
            "integer",
            "bytes of memory that its process may ask for; default: four fifths of the machine's",
            minimum=64 * _MIB,
        ),
        Attribute("package_reference", "string", "package of the model; Viam's app writes it"),
    )

    def patience_s(self, attributes: Mapping[str, Any]) -> float:  # noqa: ARG002 # of any of them
        """As long as requirements may take to install."""
        return INSTALL_S

    def tidy(self, attributes: Mapping[str, Any]) -> None:  # noqa: ARG002 # of all of them
        """Remove the working folders that processes have left which were killed, or just ended."""
        for folder in Path(gettempdir()).glob(f"{_SCRATCH}*"):
            if is_left(folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        file = _code(attributes)
        return [] if file.is_file() else [f"model_path is not a file: {file}"]

    def _subject(self, attributes: Mapping[str, Any]) -> str:
        return _code(attributes).name

    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:
        file = _code(attributes).absolute()
        scratch = TemporaryDirectory(prefix=f"{_SCRATCH}{owner()}-", ignore_cleanup_errors=True)
        try:
            recipe = _recipe(file, Path(scratch.name), attributes, known)
            keeper = Keeper(recipe)
            try:
                signature = _signature(keeper.config)
                return PythonSession(
                    keeper,
                    signature,
                    timeout_s=attributes.get("timeout_s", TIMEOUT_S),
                    name=file.name,
                    closed=scratch.cleanup,
                )
            except BaseException:
                keeper.close()
                raise
        except UnavailableError:
            scratch.cleanup()
            raise
        except (InferenceError, FormatError, SignatureError) as exc:
            scratch.cleanup()
            raise InferenceError(
                f"{self.name} cannot load {file.name}: {exc}", hint=exc.hint
            ) from exc
        except BaseException:
            scratch.cleanup()
            raise


class PythonSession(Session):
    """A model in a process of its own, which takes one call at a time.

    Args:
        keeper: Has the process.
        signature: What the model takes and gives.
        timeout_s: Seconds that an answer may take.
        name: The model file's name.
        closed: Called when the process has ended for good.
    """

    def __init__(
        self,
        keeper: Keeper,
        signature: Signature,
        *,
        timeout_s: float,
        name: str,
        closed: Callable[[], None],
    ) -> None:
        super().__init__(signature, name=name)
        self._keeper = keeper
        self._timeout_s = timeout_s
        self._given = {tensor.name: tensor for tensor in signature.outputs}
        self._closed_for_good = closed
        self._lock = threading.Lock()

    @property
    def trouble(self) -> str | None:
        """Why it cannot run just now; None: its process runs."""
        return self._keeper.trouble

    def report_to(self, note: Callable[[str], None]) -> None:
        """Have it tell when its process ends and runs again."""
        self._keeper.report_to(note)

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        if not outputs:
            return {}
        try:
            with self._lock:
                answers = self._keeper.ask(inputs, outputs, self._timeout_s)
            return {name: self._checked(name, answers) for name in outputs}
        except UnavailableError:
            raise
        except InferenceError as exc:
            raise InferenceError(f"{self._name} cannot be run: {exc}", hint=exc.hint) from exc

    def _close(self) -> None:
        self._keeper.close()
        self._closed_for_good()

    def _checked(self, name: str, answers: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if name not in answers:
            raise InferenceError(f"it gave no output {name!r}")
        array = to_tensor(answers[name], what=f"output {name!r}")
        wanted = self._given[name]
        found = datatype_of_array(array, what=f"output {name!r}")
        if found != wanted.datatype or not wanted.fits(array.shape):
            raise InferenceError(
                f"its output {name!r} is {found}{list(array.shape)}, expected "
                f"{wanted.datatype}{list(wanted.shape or ())}"
            )
        return array


def _code(attributes: Mapping[str, Any]) -> Path:
    """The file with the class: the one named, or the one in the folder named."""
    path = Path(attributes["model_path"])
    is_folder = path.is_dir() and path.suffix.lower() != ".py"
    return path / MARKER if is_folder else path


def _recipe(file: Path, scratch: Path, attributes: Mapping[str, Any], known: Known) -> Recipe:
    python, has_own = Path(sys.executable), False
    if known.engines is not None and requirements_of(file.parent) is not None:
        python, has_own = prepare(file.parent, known.engines / FOLDER, known.tell), True
    known.tell("loading the model in a process of its own")
    # What it takes for a model repository: <folder of the model>/<version>/model.py.
    model = scratch / "model"
    model.mkdir()
    (model / _VERSION).symlink_to(file.parent, target_is_directory=True)
    arguments = {
        "model_name": "model",
        "model_version": _VERSION,
        "model_repository": str(model),
        "model_instance_name": "model_0",
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }
    return Recipe(
        name=file.name,
        python=python,
        paths=tuple(os.path.abspath(path or os.curdir) for path in sys.path),  # noqa: PTH100
        has_own_packages=has_own,
        start={
            "path": str(model / _VERSION / file.name),
            "config": _configured(file),
            "known": _tensors(known.signature or Signature()),
            "arguments": arguments,
        },
        scratch=scratch,
        memory_bytes=attributes.get("memory_bytes") or _usual_memory(),
        threads=attributes.get("num_threads", 1),
        start_timeout_s=attributes.get("start_timeout_s", START_TIMEOUT_S),
    )


def _configured(file: Path) -> dict[str, Any]:
    """What the ``config.pbtxt`` beside a model says, as far as it matters here."""
    config: dict[str, Any] = {
        "name": "model",
        "backend": "python",
        "max_batch_size": 0,
        "input": [],
        "output": [],
        "parameters": {},
        "instance_group": [{"name": "model_0", "kind": "KIND_CPU", "count": 1, "gpus": []}],
    }
    beside = config_beside(file)
    if beside is None:
        return config
    with beside.open("rb") as opened:
        fields = parse(opened.read(_MAX_CONFIG).decode(errors="replace"))
    signature_of(fields)  # that every tensor is one
    decoupled = [one.text("decoupled") for one in fields.messages("model_transaction_policy")]
    return {
        **config,
        "name": fields.text("name") or "model",
        "max_batch_size": (fields.numbers("max_batch_size") or (0,))[-1],
        "input": [_tensor(one) for one in fields.messages("input")],
        "output": [_tensor(one) for one in fields.messages("output")],
        "parameters": {
            one.text("key"): {"string_value": value.text("string_value")}
            for one in fields.messages("parameters")
            for value in one.messages("value")
        },
        "model_transaction_policy": {"decoupled": "true" in decoupled},
    }


def _tensor(fields: Fields) -> dict[str, Any]:
    return {
        "name": fields.text("name"),
        "data_type": fields.text("data_type"),
        "dims": list(fields.numbers("dims")),
    }


def _tensors(signature: Signature) -> dict[str, list[dict[str, Any]]]:
    """A version's tensors, as a configuration without a batch axis of its own has them."""

    def told(tensor: Tensor) -> dict[str, Any]:
        kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
        return {
            "name": tensor.name,
            "data_type": f"TYPE_{kind}",
            "dims": list(tensor.shape or ()),
        }

    return {
        "input": [told(one) for one in signature.inputs],
        "output": [told(one) for one in signature.outputs],
    }


def _signature(config: Mapping[str, Any]) -> Signature:
    """The tensors of a configuration as the child gives it.

    Raises:
        InferenceError: There are none, or they cannot be.
    """
    try:
        has_batch = int(config.get("max_batch_size", 0)) > 0

        def tensor(one: Mapping[str, Any]) -> Tensor:
            datatype = datatype_of(str(one["data_type"]))
            if datatype == "BF16":
                raise InferenceError(f"tensor {one['name']!r} is BF16, which numpy has not")
            dims = tuple(int(dimension) for dimension in one["dims"])
            return Tensor(str(one["name"]), datatype, (-1, *dims) if has_batch else dims)

        signature = Signature(
            tuple(map(tensor, config["input"])), tuple(map(tensor, config["output"]))
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise InferenceError(f"its configuration cannot be read: {exc!r}") from exc
    except NbModelError as exc:
        raise InferenceError(str(exc), hint=exc.hint) from exc
    if not signature.inputs or not signature.outputs:
        raise InferenceError(
            "it does not tell its inputs and outputs",
            hint="add them in auto_complete_config, or in a config.pbtxt beside it",
        )
    return signature


def _usual_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 4 // 5
