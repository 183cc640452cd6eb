"""Where a version comes from, as far as this process can tell: notebook, cells, git, machine.

Nothing here fails but for what was asked for wrongly: a fact that cannot be found is left out.
What takes time (git, the packages, the machine) is looked for in a thread, while the version
is being made.
"""

from __future__ import annotations

import contextlib
import getpass
import operator
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from nbmodel.config import setting
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import RECORDS, Fingerprint, Machine, Provenance, Source
from nbmodel.errors import ConfigError, InputError
from nbmodel.provenance.fingerprint import fingerprints
from nbmodel.provenance.git import TIMEOUT_S, GitState, read_git
from nbmodel.provenance.machine import machine_here
from nbmodel.provenance.notebook import Place, place_here
from nbmodel.provenance.packages import imported_packages

_WAIT_S = TIMEOUT_S + 1.0  # for a thread that is done by then, unless the machine stands still
_MAX_CODE = 64 * 1024  # characters of a cell that are kept


class _Tally:
    """Counts the versions of each model that the cell that runs has made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cell: int | None = None
        self._made: dict[str, int] = {}

    def count(self, name: str, cell: int | None) -> int:
        """How many they are with one more, which that cell makes."""
        with self._lock:
            if self._cell != cell:
                self._cell, self._made = cell, {}
            self._made[name] = self._made.get(name, 0) + 1
            return self._made[name]


_tally = _Tally()


class Look:
    """A look at where code runs, begun when it is made; made by the thread of that code.

    Args:
        name: The model that a version is made of.
        record: How much is recorded, one of ``RECORDS``; None: as set, else all.
        seed: Of the random numbers.
        data: Name → data whose fingerprints are recorded.

    Raises:
        ConfigError: ``record`` is another word.
        InputError: Something in ``data`` has no fingerprint, or ``seed`` is no whole number.
    """

    def __init__(
        self,
        name: str,
        *,
        record: str | None = None,
        seed: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        self._record = _checked(setting("record", record or None))
        self._seed = None if seed is None else _whole(seed)
        self._data: Mapping[str, Fingerprint] = fingerprints(data or {})
        self._place, self._nth = Place(), 1
        self._git = GitState()
        self._packages: dict[str, str] = {}
        self._machine = Machine()
        if self._record == "nothing":
            return
        with contextlib.suppress(Exception):  # facts are never worth a version
            self._place = place_here()
        self._nth = _tally.count(name, self._place.number)
        self._modules = tuple(sys.modules)  # now, before what making a version imports
        self._thread = threading.Thread(target=self._find, name="nbmodel-look", daemon=True)
        self._thread.start()

    def lineage(self, parents: Sequence[str] = ()) -> Lineage:
        """What was found, once it is.

        Args:
            parents: Manifest digests of the versions it was made from.
        """
        told = Provenance(seed=self._seed, data=self._data)
        if self._record == "nothing":
            is_told = self._seed is not None or bool(self._data)  # given, not looked for
            return Lineage(parents=tuple(parents), provenance=told if is_told else None)
        self._thread.join(_WAIT_S)
        place, git = self._place, self._git
        with_source = self._record == "all"
        source = Source(place.cells, diff=git.diff) if with_source else Source()
        return Lineage(
            parents=tuple(parents),
            notebook=PureWindowsPath(place.path).name if place.path else None,
            cell=place.number,
            code=place.code[:_MAX_CODE] if with_source and place.code else None,
            git_commit=git.commit,
            git_branch=git.branch,
            git_dirty=git.is_dirty,
            user=_user(),
            packages=self._packages,
            provenance=replace(
                told,
                path=place.path,
                cell_id=place.cell_id,
                front_end=place.front_end,
                nth=self._nth,
                machine=self._machine,
                packed=source.pack() if source.cells or source.diff else None,
            ),
        )

    def _find(self) -> None:
        """Find what takes time, each part for itself."""
        with contextlib.suppress(Exception):
            self._git = read_git(Path.cwd(), with_diff=self._record == "all")
        with contextlib.suppress(Exception):
            self._packages = imported_packages(self._modules)
        with contextlib.suppress(Exception):
            self._machine = machine_here()


def _checked(record: str | None) -> str:
    if record is not None and record not in RECORDS:
        raise ConfigError(
            f"setting record: expected {', '.join(RECORDS)}, found {record!r}",
            hint="it says how much of the code around a version is kept with it",
        )
    return record or RECORDS[0]


def _whole(seed: object) -> int:
    try:
        return operator.index(seed)  # type: ignore[arg-type] # the except is the check
    except TypeError:
        raise InputError(f"seed: expected a whole number, found {seed!r:.100}") from None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return None


__all__ = ["Look"]
