"""The table of converters, and finding the one that takes an object."""

from __future__ import annotations

from nbmodel.convert.base import Converted, Converter, type_name
from nbmodel.errors import PluginError
from nbmodel.plugins import PluginTable

CONVERTERS = PluginTable(
    kind="converter",
    builtin={
        "sklearn_onnx": "nbmodel.convert.sklearn_onnx:SklearnToOnnx",
        "function_python": "nbmodel.convert.function_python:FunctionToPython",
    },
    extras={"sklearn_onnx": "convert"},
)


def convert(model: object, sample: object = None) -> Converted:
    """Convert a live object with the first converter of the table that takes it.

    Args:
        model: A trained model: a scikit-learn estimator or pipeline, a function, or what a
            plug-in takes.
        sample: Rows of its input, as the model itself takes them; None to make some up.

    Raises:
        PluginError: No converter takes it, or a package that one needs is not installed.
        ConversionError: It is not trained, or cannot be converted.
    """
    broken: list[str] = []
    sources: list[str] = []
    for name in CONVERTERS.names():
        try:
            converter: Converter = CONVERTERS.load(name)()
        except PluginError as exc:  # one plug-in that is broken must not stop the others
            broken.append(str(exc))
            continue
        if converter.matches(model):
            return converter.convert(model, sample)
        sources.append(converter.source)
    raise PluginError(
        "; ".join((f"no converter takes a {type_name(model)}", *broken)),
        hint=f"there are converters for {', '.join(sources)}; save it to a file and upload that",
    )
