"""Where a version comes from: parents, notebook and cell, git, an import, converter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.origin import Origin
from nbmodel.core.provenance import Provenance
from nbmodel.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything recorded about how a version was made; unknown facts are None.

    Attributes:
        parents: Manifest digests of the versions it was made from.
        notebook: Path of the notebook or script, as the kernel knows it.
        cell: Execution count of the cell, 1 or more.
        code: Source of that cell.
        git_commit: Commit of the working folder, 40 hex digits.
        git_branch: Branch name.
        git_dirty: Whether tracked files differed from the commit.
        user: Login name.
        packages: Versions of the packages that were imported.
        origin: Where its files were imported from.
        provenance: How it was made: cells, machine, data; None where that was not recorded.
    """

    parents: tuple[str, ...] = ()
    notebook: str | None = None
    cell: int | None = None
    code: str | None = None
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    user: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    provenance: Provenance | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the unknown facts; ``from_json`` gives the value back."""
        data: dict[str, Any] = {
            "parents": list(self.parents),
            "notebook": self.notebook,
            "cell": self.cell,
            "code": self.code,
            "git_commit": self.git_commit,
            "git_branch": self.git_branch,
            "git_dirty": self.git_dirty,
            "user": self.user,
            "packages": dict(self.packages),
            "origin": None if self.origin is None else self.origin.to_json(),
            "provenance": None if self.provenance is None else self.provenance.to_json(),
        }
        return {key: value for key, value in data.items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lineage:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is of the wrong type.
        """
        origin, provenance = data.get("origin"), data.get("provenance")
        try:
            return cls(
                parents=tuple(str(parent) for parent in data.get("parents", ())),
                notebook=data.get("notebook"),
                cell=data.get("cell"),
                code=data.get("code"),
                git_commit=data.get("git_commit"),
                git_branch=data.get("git_branch"),
                git_dirty=data.get("git_dirty"),
                user=data.get("user"),
                packages={
                    str(name): str(version) for name, version in data.get("packages", {}).items()
                },
                origin=None if origin is None else Origin.from_json(origin),
                provenance=None if provenance is None else Provenance.from_json(provenance),
            )
        except (AttributeError, TypeError) as exc:
            raise ManifestError(f"malformed lineage: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the stored file was made from the object that was logged.

    Attributes:
        source: What it was: ``sklearn.pipeline.Pipeline``.
        tool: What converted it: ``skl2onnx 1.20.0``.
        max_abs: Largest absolute difference to the original's answers on the golden
            sample, over all outputs.
        max_rel: Largest relative difference.
        samples: Rows that were compared.
    """

    source: str
    tool: str
    max_abs: float
    max_rel: float
    samples: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the value back."""
        return {
            "source": self.source,
            "tool": self.tool,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "samples": self.samples,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conversion:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
        """
        try:
            return cls(
                source=str(data["source"]),
                tool=str(data["tool"]),
                max_abs=float(data["max_abs"]),
                max_rel=float(data["max_rel"]),
                samples=int(data["samples"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise ManifestError(f"malformed conversion record: {exc!r}") from exc
