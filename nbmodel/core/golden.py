"""What a version says about its golden sample; the arrays are in ``nbmodel.golden``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.errors import ManifestError

GOLDEN_PATH = "golden.npz"  # the file of a version that holds the arrays
RTOL = 1e-3  # of an answer in 32 bits after a few hundred layers
ATOL = 1e-4  # in the output's units; probabilities that people see have three digits


@dataclass(frozen=True, slots=True)
class Golden:
    """The tolerance of a version's golden sample.

    An answer ``a`` agrees with the golden one ``g`` where
    ``|a - g| <= atol + rtol * |g|``; integers, booleans and strings must be equal
    up to ``atol`` where it is 1 or more.

    Attributes:
        rtol: Relative tolerance, ≥ 0.
        atol: Absolute tolerance in the output's units, ≥ 0.
        path: The file of the version that holds inputs and outputs (an ``.npz``).
    """

    rtol: float = RTOL
    atol: float = ATOL
    path: str = GOLDEN_PATH

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the value back."""
        return {"path": self.path, "rtol": self.rtol, "atol": self.atol}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Golden:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
        """
        try:
            return cls(rtol=float(data["rtol"]), atol=float(data["atol"]), path=str(data["path"]))
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise ManifestError(f"malformed golden sample entry: {exc!r}") from exc
