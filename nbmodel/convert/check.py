"""Checking a conversion: the files must answer as the original did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from numpy.typing import NDArray

from nbmodel.convert.base import Converted
from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion
from nbmodel.errors import ConversionError, NbModelError, PluginError
from nbmodel.golden import Difference, compare


class OpenedModel(Protocol):
    """A loaded model, as ``backends.Session`` is one."""

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run it once."""

    def close(self) -> None:
        """Free it."""


def check_conversion(
    converted: Converted,
    golden: Golden,
    *,
    open_session: Callable[[Path, str], OpenedModel],
) -> Conversion:
    """Run the converted files on the golden inputs and compare with the golden answers.

    Args:
        converted: What a converter made.
        golden: How close the answers must be.
        open_session: Loads a model file of a format; ``backends.open_session``. It is
            given, as converters and backends know nothing of each other.

    Returns:
        The record of the conversion, with the largest differences.

    Raises:
        ConversionError: The files cannot be run, or an answer is out of tolerance; the
            message names the worst output and index.
        PluginError: The engine is not installed.
    """
    try:
        difference = compare(converted.golden.outputs, _answers(converted, open_session), golden)
    except PluginError:
        raise
    except NbModelError as exc:
        raise ConversionError(
            f"{converted.tool} made a file of {converted.source} that cannot be run: {exc}"
        ) from exc
    if not difference.agrees:
        raise ConversionError(
            f"{converted.source} and its conversion to {converted.framework} disagree: "
            f"{difference}",
            hint=_hint(difference),
        )
    return Conversion(
        source=converted.source,
        tool=converted.tool,
        max_abs=difference.max_abs,
        max_rel=difference.max_rel,
        samples=converted.golden.rows,
    )


def _answers(
    converted: Converted, open_session: Callable[[Path, str], OpenedModel]
) -> Mapping[str, NDArray[Any]]:
    with TemporaryDirectory(prefix="nbmodel-") as folder:
        for name, content in converted.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        session = open_session(Path(folder, next(iter(converted.files))), converted.framework)
        try:
            return session.infer(converted.golden.inputs)
        finally:
            session.close()


def _hint(difference: Difference) -> str:
    rows = difference.argmax_agreement
    same = "" if rows is None else f"; the largest class is the same in {rows:.0%} of the rows"
    return (
        f"the largest difference is {difference.max_abs:.3g}{same}. If that is close enough, "
        f"give a wider atol or rtol; a tree answers differently where an input lies on a split "
        f"in 32 bits, so other sample rows may agree"
    )
