"""What an exporter is: it writes a version as another system keeps its models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nbmodel.core.version import Version
from nbmodel.errors import InputError

if TYPE_CHECKING:
    from nbmodel.registry import Registry


@dataclass(frozen=True)
class Export:
    """One export: of what, to where, and whom it tells.

    Attributes:
        registry: Where the version's files are.
        version: What is exported.
        target: Where it goes: a folder, a file or an address, as the exporter says.
        options: Further words by name, as the exporter knows them.
        progress: Told of bytes that went.
        cancelled: Whether nobody wants to go on.
    """

    registry: Registry
    version: Version
    target: str
    options: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[int], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False

    @property
    def folder(self) -> Path:
        """The target as a path on this machine."""
        return Path(self.target).expanduser()

    def check(self) -> None:
        """Raise when nobody wants to go on.

        Raises:
            CancelledError: ``cancelled`` says so.
        """
        if self.cancelled():
            raise CancelledError

    def option(self, name: str, default: str = "") -> str:
        """A word of ``options``, or what stands for it."""
        return self.options.get(name, default)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        paths: Files on this machine.
        place: What it is called there: an address, a name of a package; may be empty.
        notes: Sentences about what to do with it, and about what could not be said there.
    """

    paths: tuple[Path, ...] = ()
    place: str = ""
    notes: tuple[str, ...] = ()


class Exporter(ABC):
    """One way in which another system keeps models.

    Attributes:
        name: Key in the table of exporters; the word after ``--to``.
        about: One line for help: what is written where.
        options: Words that ``--option`` knows, each with a line of help.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def export(self, job: Export) -> Exported:
        """Write a version.

        Raises:
            InputError: It cannot be said there, or something is in the way; nothing changed.
            StorageError: The storage is damaged, or the target takes nothing.
            TargetUnreachableError, AuthenticationError: Who takes it is away, or refuses.
            CancelledError: Nobody wants to go on.
        """


def check_options(exporter: Exporter, given: Mapping[str, str]) -> None:
    """Refuse options that an exporter does not know.

    Raises:
        InputError: There is one; the hint lists those it knows.
    """
    for name in given:
        if name not in exporter.options:
            known = ", ".join(exporter.options) or "none"
            raise InputError(
                f"export to {exporter.name} has no option {name!r}", hint=f"options: {known}"
            )
