"""What a converter promises: a live object in, the files of an edge format out.

A converter is one edge, from one framework to one format. It makes the golden sample from
the *original* object; whether its files answer the same is decided in ``check``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, final

from nbmodel.errors import ConversionError, NbModelError
from nbmodel.golden import GoldenSample

_LONGEST = 300  # characters of a converter's own message; some print the whole model


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A model in an edge format, with what the original answered.

    Attributes:
        files: Path relative to the version → content; the model file is the first.
        framework: Format of the model file: ``onnx``.
        model_type: One of ``core.model_type``, or None when the object does not tell.
        labels: Names of the classes in index order, empty when there are none.
        golden: Inputs for the files, and the answers of the original to them.
        source: What was converted: ``sklearn.pipeline.Pipeline``.
        tool: What converted it: ``skl2onnx 1.20.0``.
        metadata: JSON values worth keeping with the version.
        columns: Names of what the only input has along its last axis, where they are known.
    """

    files: Mapping[str, bytes]
    framework: str
    model_type: str | None
    labels: tuple[str, ...]
    golden: GoldenSample
    source: str
    tool: str
    metadata: Mapping[str, Any]
    columns: tuple[str, ...] = ()


class Converter(ABC):
    """One edge. One is made without arguments; importing it imports no framework.

    Attributes:
        source: Framework of the objects it takes: ``sklearn``.
        target: Format of the files it makes: ``onnx``.
    """

    source: ClassVar[str]
    target: ClassVar[str]

    @abstractmethod
    def matches(self, model: object) -> bool:
        """Whether it takes this object.

        An object of a framework exists only after the framework was imported, so looking
        it up in ``sys.modules`` is enough, and imports nothing.
        """

    @final
    def convert(self, model: object, sample: object = None) -> Converted:
        """Convert an object that ``matches``.

        Args:
            model: A trained model.
            sample: Rows of its input, as the model itself takes them; None to make some up.

        Raises:
            ConversionError: The model is not trained, or cannot be converted, or the
                sample does not fit it.
            PluginError: A package that the converter needs is not installed.
        """
        try:
            return self._convert(model, sample)
        except NbModelError:
            raise
        except Exception as exc:  # converters raise untyped errors of their own
            raise ConversionError(
                f"cannot convert {type_name(model)} to {self.target}: {first_words(exc)}"
            ) from exc

    @abstractmethod
    def _convert(self, model: Any, sample: Any) -> Converted:
        """Convert; any exception but an nbmodel error becomes a ConversionError."""


def type_name(model: object) -> str:
    """The name people import the type by: ``sklearn.svm.SVC``, not ``sklearn.svm._classes.SVC``."""
    kind = type(model)
    public = takewhile(lambda part: not part.startswith("_"), kind.__module__.split("."))
    return ".".join((*public, kind.__qualname__))


def first_words(exc: Exception) -> str:
    """An exception's message as one line of bounded length."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
