"""What every backend promises, and what all of them do alike; no engine is named here.

The public methods of :class:`Backend` and :class:`Session` are final: attributes, names,
shapes, datatypes and errors are treated the same by every engine. A backend implements
the hooks below them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import FOREIGN_DATATYPES, Signature, Tensor, check_inputs
from nbmodel.errors import (
    ConfigError,
    DatatypeError,
    InferenceError,
    InputError,
    NbModelError,
    TensorNameError,
)
from nbmodel.label_file import read_label_file
from nbmodel.protocol.datatypes import DATATYPE_TO_NUMPY
from nbmodel.protocol.tensor import datatype_of, to_tensor

AttributeKind = Literal["path", "string", "integer", "boolean", "object", "array"]

#: Kind of an attribute that is neither text nor a number → its Python type, and what it is called.
_OTHER_KINDS: Mapping[str, tuple[type, str]] = {
    "boolean": (bool, "true or false"),
    "object": (Mapping, "an object"),
    "array": (list, "a list"),
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a service that a backend understands.

    Attributes:
        name: Key in the machine config.
        kind: ``path`` and ``string`` are JSON strings, ``integer`` a JSON number without
            fraction, ``boolean``, ``object`` and ``array`` what JSON calls so.
        help: One line for people.
        required: Whether it must be given.
        minimum: Smallest value of an integer, or None.
        suffix: What a path must end in, in lower case; empty when anything will do.
        maximum: Largest value of an integer, or None.
        harmless: Whether what an object or a list of texts says can name no file and no code.
            Of other kinds only ``path`` names files; an object in a list is never harmless.
    """

    name: str
    kind: AttributeKind
    help: str
    required: bool = False
    minimum: int | None = None
    suffix: str = ""
    maximum: int | None = None
    harmless: bool = False

    def is_harmless(self, value: object) -> bool:
        """Whether a value, which is no path, can name no file and no code."""
        if self.kind == "array":
            is_flat = isinstance(value, Sequence) and all(isinstance(one, str) for one in value)
            return self.harmless and is_flat
        return self.harmless or self.kind != "object"

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, as a sentence; None when nothing is."""
        if self.kind == "integer":
            return self._integer_problem(value)
        if self.kind in _OTHER_KINDS:
            wanted, called = _OTHER_KINDS[self.kind]
            fits = isinstance(value, wanted)
            return None if fits else f"attribute {self.name!r} must be {called}, found {value!r}"
        if not isinstance(value, str):
            return f"attribute {self.name!r} must be a string, found {value!r}"
        if self.required and not value:
            return f"attribute {self.name!r} must not be empty"
        if not value.lower().endswith(self.suffix):
            return f"attribute {self.name!r} must end in {self.suffix}, found {value!r}"
        return None

    def _integer_problem(self, value: object) -> str | None:
        bound = "" if self.minimum is None else f" of {self.minimum} or more"
        if self.maximum is not None:
            bound = f" from {self.minimum} to {self.maximum}"
        # JSON's true is Python's 1: a count of threads it is not.
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if (
            number is None
            or (self.minimum is not None and number < self.minimum)
            or (self.maximum is not None and number > self.maximum)
        ):
            return f"attribute {self.name!r} must be an integer{bound}, found {value!r}"
        return None


#: What a service of every backend may say about how its requests share the model.
#: Source: ``instance_group`` and ``dynamic_batching`` of Triton's model configuration.
SCHEDULING_ATTRIBUTES = (
    Attribute(
        "instances",
        "integer",
        "requests that run at the same time; default 1",
        minimum=1,
        maximum=64,
    ),
    Attribute(
        "max_batch_size",
        "integer",
        "rows of the largest batch, of requests that waited and of a single one; 0: no batches; "
        "default: found out when the model is loaded",
        minimum=0,
        maximum=65536,
    ),
    Attribute(
        "max_queue_delay_microseconds",
        "integer",
        "how long a request waits for others to share its batch; default 0",
        minimum=0,
        maximum=60_000_000,
    ),
    Attribute(
        "max_queue_size",
        "integer",
        "requests that may wait; one more is refused; default 128",
        minimum=1,
        maximum=65536,
    ),
)


def file_attributes(suffix: str) -> tuple[Attribute, ...]:
    """The attributes of Viam's backends that load a file ending in ``suffix``.

    Source: README and code of viam-modules/mlmodel-tflite and viam-modules/onnx-cpu.
    """
    return (
        Attribute("model_path", "path", "file of the model", required=True, suffix=suffix),
        Attribute("label_path", "path", "file of the labels, one a line"),
        Attribute(
            "num_threads", "integer", "threads of one inference; default 1", minimum=1, maximum=256
        ),
        Attribute("package_reference", "string", "package of the model; Viam's app writes it"),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model besides what its files say.

    Attributes:
        signature: What its version takes and gives; None for a file by path.
        sample: File of its golden sample, or None.
        engines: Folder of this device in which a backend may keep what it makes of models,
            in folders of its own; None: nowhere.
        tell: Called with what is being done, in a few words, where that takes long.
    """

    signature: Signature | None = None
    sample: Path | None = None
    engines: Path | None = None
    tell: Callable[[str], None] = field(default=lambda _doing: None, compare=False)


#: Of a file by path.
NOTHING_KNOWN = Known()


@dataclass(frozen=True, slots=True)
class _Expected:
    """What an input has to be, for a check that is quick when it is.

    Attributes:
        tensor: As the signature has it.
        dtype: Of an array in the protocol's form that needs no look at its elements; None
            where there is no such dtype.
    """

    tensor: Tensor
    dtype: np.dtype[Any] | None

    def is_met(self, array: object) -> bool:
        """Whether an array is just what the engine takes; a False may be a False alarm."""
        return (
            type(array) is np.ndarray
            and array.dtype == self.dtype
            and array.flags.c_contiguous
            and (array.shape == self.tensor.shape or self.tensor.fits(array.shape))
        )


class Session(ABC):
    """A loaded model. ``infer`` may be called from several threads at once.

    A subclass calls ``super().__init__`` with what its engine says about the model, and
    implements ``_run`` and ``_close``.

    Args:
        signature: Names, datatypes and shapes as the engine reports them.
        name: The model file's name, for messages.

    Attributes:
        runs_together: Whether several calls run at the same time, not one after another.
        takes_batches: Whether rows are run together at no price but their own: no buffers
            are made anew when their number changes.
    """

    runs_together: ClassVar[bool] = False
    takes_batches: ClassVar[bool] = True

    def __init__(self, signature: Signature, *, name: str) -> None:
        self._signature = signature
        self._expected = tuple(
            (tensor.name, _Expected(tensor, _plain_dtype(tensor.datatype)))
            for tensor in signature.inputs
        )
        self._output_names = tuple(tensor.name for tensor in signature.outputs)
        self._carried = {
            tensor.name: _plain_dtype(tensor.datatype)
            for tensor in signature.outputs
            if tensor.datatype not in FOREIGN_DATATYPES
        }
        self._name = name
        self._is_closed = False

    @property
    def signature(self) -> Signature:
        """What the model takes and gives, as the engine reports it, with its labels."""
        return self._signature

    @property
    def trouble(self) -> str | None:
        """Why it cannot run just now, though it may again by itself; None: it can."""
        return None

    @property
    def runs_on(self) -> str:
        """What it runs on, ``cuda`` say; empty where there is no choice."""
        return ""

    @property
    def note(self) -> str:
        """What a person should know of how it runs, as a sentence; empty: nothing."""
        return ""

    def report_to(self, note: Callable[[str], None]) -> None:  # noqa: B027 # most have nothing to say
        """Have it tell what happens to its engine while nobody asks, a sentence each time.

        Args:
            note: Called from any thread; raises nothing.
        """

    @property
    def plain(self) -> Session:
        """The same model with its tensors under their own names, as its version knows them."""
        return self

    @final
    def infer(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the model once.

        Args:
            inputs: One array for every input of the signature, of its datatype and a shape
                that fits; text and bytes for BYTES. They are neither changed nor kept.
            outputs: Names of the outputs to give, in that order; None for all.

        Returns:
            Arrays that belong to the caller and can be written to, in native byte order;
            BYTES as object arrays of bytes.

        Raises:
            TensorNameError, DatatypeError, ShapeError: Inputs or outputs are not what the
                signature says.
            InferenceError: The engine failed, or the session is closed.
        """
        return self.run(*self.prepare(inputs, outputs))

    @final
    def prepare(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """The first half of ``infer``: everything that may be wrong with a request.

        Returns:
            Tensors in the protocol's form and names of outputs, for ``run``.

        Raises:
            TensorNameError, DatatypeError, ShapeError: As ``infer``.
        """
        if len(inputs) == len(self._expected):
            for name, expected in self._expected:
                if not expected.is_met(inputs.get(name)):
                    break
            else:
                return inputs, self._wanted(outputs)
        tensors = {name: to_tensor(array, what=f"input {name!r}") for name, array in inputs.items()}
        check_inputs(
            self._signature,
            {
                name: (datatype_of(tensor, what=f"input {name!r}"), tensor.shape)
                for name, tensor in tensors.items()
            },
        )
        return tensors, self._wanted(outputs)

    @final
    def run(
        self, tensors: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[Any]]:
        """The second half of ``infer``: the engine's work.

        Args:
            tensors: As ``prepare`` gave them; or rows of several such, one below another.
            outputs: As ``prepare`` gave them.

        Raises:
            InferenceError: The engine failed, or the session is closed.
        """
        if self._is_closed:
            raise self._closed()
        try:
            answers = self._run(tensors, outputs)
            carried = self._carried
            return {name: _writable(answers[name], name, carried[name]) for name in outputs}
        except NbModelError:
            raise
        except Exception as exc:  # engines raise untyped errors of their own
            if self._is_closed:  # by another thread, after the check above
                raise self._closed() from exc
            raise InferenceError(f"{self._name} cannot be run: {_one_line(exc)}") from exc

    @final
    def close(self) -> None:
        """Free the model. Calls under way finish; a second close does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._close()

    @final
    def set_labels(self, labels: Sequence[str]) -> None:
        """Put the names of classes into the signature, on the output they belong to."""
        self._signature = self._signature.with_labels(labels)

    @abstractmethod
    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        """Run the engine on checked tensors in the protocol's form.

        Any exception it raises becomes an InferenceError. Nothing else may hold the memory
        of what it returns; BYTES tensors may have text in them.
        """

    @abstractmethod
    def _close(self) -> None:
        """Let go of the engine; called once."""

    def _closed(self) -> InferenceError:
        return InferenceError(f"the session of {self._name} is closed")

    def _wanted(self, outputs: Sequence[str] | None) -> tuple[str, ...]:
        wanted = self._output_names if outputs is None else tuple(outputs)
        for name in wanted:
            if name not in self._carried:
                self._refuse_output(name)
        return wanted

    def _refuse_output(self, name: str) -> NoReturn:
        datatypes = {tensor.name: tensor.datatype for tensor in self._signature.outputs}
        if name not in datatypes:
            raise TensorNameError(
                f"unexpected output {name!r}",
                hint=f"the model gives {', '.join(datatypes) or 'nothing'}",
            )
        raise DatatypeError(
            f"output {name!r} is {datatypes[name]}, which the inference protocol cannot carry",
            hint=f"ask for {', '.join(self._carried)} alone" if self._carried else None,
        )


class Backend(ABC):
    """An engine that runs models. One is made without arguments, and holds no state.

    Attributes:
        name: In the table and in machine configs: ``onnx_cpu``.
        formats: Names of the file formats it runs.
        attributes: What a service of this backend may say, ``SCHEDULING_ATTRIBUTES`` apart.
        runs_here: Whether a model file is all that it needs, so that it runs in any process.
        runs_code: Whether what it runs is code of the model's own, which a runtime must allow.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    attributes: ClassVar[tuple[Attribute, ...]]
    runs_here: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False

    @final
    def check(self, attributes: Mapping[str, Any]) -> list[str]:
        """Every problem of a service's attributes, one sentence each; touches no file.

        Placeholders in paths are fine: a config is checked before its packages are there.
        """
        known = {
            attribute.name: attribute for attribute in (*self.attributes, *SCHEDULING_ATTRIBUTES)
        }
        problems = [self._unknown(name, known) for name in attributes if name not in known]
        for name, attribute in known.items():
            if name in attributes:
                problem = attribute.problem(attributes[name])
                problems += [] if problem is None else [problem]
            elif attribute.required:
                problems.append(f"attribute {name!r} is required by {self.name}")
        return problems or self._contradictions(attributes)

    @final
    def load(self, attributes: Mapping[str, Any], known: Known = NOTHING_KNOWN) -> Session:
        """Load a model.

        Args:
            attributes: As ``check`` accepts them, placeholders replaced.
            known: What is known of the model besides what its files say.

        Raises:
            ConfigError: An attribute is wrong, or names a file that cannot be read; all
                problems are listed.
            PluginError: The engine is not installed.
            InferenceError: The engine refuses the model.
            UnavailableError: The engine cannot be reached just now.
        """
        problems = self.check(attributes)
        labels: tuple[str, ...] = ()
        if not problems:
            problems, labels = self._read_files(attributes)
        if problems:
            raise ConfigError("; ".join(problems), problems=problems)
        try:
            session = self._open(attributes, known)
        except NbModelError:
            raise
        except Exception as exc:  # engines raise untyped errors of their own
            what = self._subject(attributes)
            raise InferenceError(f"{self.name} cannot load {what}: {_one_line(exc)}") from exc
        if labels:
            session.set_labels(labels)
        return session

    def check_model(self, attributes: Mapping[str, Any], signature: Signature) -> None:  # noqa: B027 # most find out when they load it
        """Refuse attributes that a model cannot have, before anything of it is moved.

        Args:
            attributes: As ``check`` accepts them; placeholders need not be replaced.
            signature: What the model takes and gives.

        Raises:
            ConfigError: So it is.
        """

    def patience_s(self, attributes: Mapping[str, Any]) -> float:  # noqa: ARG002 # few need any
        """Seconds that loading may take longer than others take, since something is made first.

        Args:
            attributes: As ``check`` accepts them.
        """
        return 0.0

    def foreign(self, attributes: Mapping[str, Any]) -> str | None:  # noqa: ARG002 # most have none
        """Whose model runs that is in none of the files named, ``a model of …``; None: nobody's.

        Args:
            attributes: Of a service; placeholders need not be replaced.
        """
        return None

    def tidy(self, attributes: Mapping[str, Any]) -> None:  # noqa: B027 # most leave nothing
        """Let go of what processes that are gone have left with the engine.

        Called after a version was tried out in a process of its own. It raises nothing.

        Args:
            attributes: Of the service that it was tried out for.
        """

    @abstractmethod
    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:
        """Load a model whose attributes are right and whose files are there.

        Imports the engine. Any exception but an nbmodel error becomes an InferenceError.
        """

    @abstractmethod
    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        """Which files or folders that attributes name are not there, a sentence each."""

    @abstractmethod
    def _subject(self, attributes: Mapping[str, Any]) -> str:
        """What a model is called in messages."""

    def _contradictions(self, attributes: Mapping[str, Any]) -> list[str]:  # noqa: ARG002 # few have any
        """What is wrong with attributes together, each of which is right by itself."""
        return []

    def _unknown(self, name: str, known: Mapping[str, Attribute]) -> str:
        from nbmodel.backends.table import backends_with  # which knows them all

        near, others = get_close_matches(name, known, n=1), backends_with(name)
        advice = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        if others:
            advice = f"{' and '.join(others)} {'has' if len(others) == 1 else 'have'} it"
        return f"attribute {name!r} is unknown to {self.name}; {advice}"

    def _read_files(self, attributes: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
        problems = self._absent(attributes)
        labels: tuple[str, ...] = ()
        if attributes.get("label_path"):
            try:
                labels = read_label_file(Path(attributes["label_path"]))
            except InputError as exc:
                problems.append(f"label_path cannot be read: {attributes['label_path']}: {exc}")
        return problems, labels


class FileBackend(Backend):
    """An engine that runs a model file in this process, the one at ``model_path``."""

    runs_here = True

    @abstractmethod
    def _load(self, path: Path, attributes: Mapping[str, Any]) -> Session:
        """Load a file that is there with attributes that are right.

        Imports the engine. Any exception but an nbmodel error becomes an InferenceError.
        """

    @final
    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:  # noqa: ARG002 # the file says it
        return self._load(Path(attributes["model_path"]), attributes)

    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        path = attributes["model_path"]
        return [] if Path(path).is_file() else [f"model_path is not a file: {path}"]

    def _subject(self, attributes: Mapping[str, Any]) -> str:
        return Path(attributes["model_path"]).name


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__


def _plain_dtype(datatype: str) -> np.dtype[Any] | None:
    """The dtype of a datatype whose arrays need no look at their elements."""
    return None if datatype == "BYTES" else DATATYPE_TO_NUMPY.get(datatype)


def _writable(array: NDArray[Any], name: str, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    tensor = to_tensor(array, what=f"output {name!r}")
    return tensor if tensor.flags.writeable else tensor.copy()
