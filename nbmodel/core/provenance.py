"""How a version was made: the cells that were run, the machine, the data, local changes.

What is small and always of use (notebook, cell, commit, packages) is in ``core.lineage``. The
source of the cells and the difference to the commit are kept *packed* in the config, so that
they go wherever the version goes, are covered by its digest and read only when asked for.
They are bounded (``MAX_PACKED``), since devices fetch configs too.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbmodel.errors import ManifestError

#: How much is recorded: everything; all but source code; nothing but the parents.
RECORDS = ("all", "facts", "nothing")
PRIVATE = "# nbmodel: private"  # a line that keeps its cell out of what is recorded
MAX_CELL = 64 * 1024  # characters of a cell that are kept
MAX_SOURCE = 512 * 1024  # characters of all cells
MAX_CELLS = 5000
MAX_DIFF = 128 * 1024  # characters
MAX_PACKED = 64 * 1024  # bytes: some 300 kB of code

_MAX_UNPACKED = 16 * 1024 * 1024  # bytes of JSON; what is larger did not come from here
_MAX_DATA = 1000


@dataclass(frozen=True, slots=True)
class CodeCell:
    """A cell as it was run.

    Attributes:
        number: Its execution count, 1 or more.
        code: Its source as typed; empty where it is kept private.
        is_private: Whether it has the line ``PRIVATE``.
        is_cut: Whether the end of its source is left out.
    """

    number: int
    code: str
    is_private: bool = False
    is_cut: bool = False

    @classmethod
    def of(cls, number: int, code: str) -> CodeCell:
        """A cell that was run, as it may be recorded."""
        if is_private(code):
            return cls(number, "", is_private=True)
        return cls(number, code[:MAX_CELL], is_cut=len(code) > MAX_CELL)


@dataclass(frozen=True, slots=True)
class Source:
    """The code behind a version.

    Attributes:
        cells: In the order in which they were run; the last one made the version.
        left_out: How many cells before these are not kept, because there was too much.
        diff: What differs from the git commit, as ``git diff`` says it.
        is_diff_cut: Whether the end of that is left out.
    """

    cells: tuple[CodeCell, ...] = ()
    left_out: int = 0
    diff: str = ""
    is_diff_cut: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every cell is there from its beginning to its end."""
        return not self.left_out and not any(one.is_private or one.is_cut for one in self.cells)

    def bounded(self) -> Source:
        """The same within the limits: what is oldest is left out first, the diff's end is cut."""
        kept, room = list(self.cells[-MAX_CELLS:]), MAX_SOURCE
        for place in range(len(kept) - 1, -1, -1):
            room -= len(kept[place].code)
            if room < 0:
                del kept[: place + 1]
                break
        diff = self.diff[:MAX_DIFF]
        if len(diff) < len(self.diff):
            diff = diff[: diff.rfind("\n") + 1]
        return Source(
            tuple(kept),
            self.left_out + len(self.cells) - len(kept),
            diff,
            self.is_diff_cut or len(diff) < len(self.diff),
        )

    def pack(self) -> str:
        """As text of at most ``MAX_PACKED`` bytes; ``unpack`` reads it.

        What does not fit is left out: the diff first, then the older half of the cells, and
        again.
        """
        source = self.bounded()
        while len(packed := _packed(source)) > MAX_PACKED:
            if source.diff:
                half = source.diff[: len(source.diff) // 2]
                source = replace(source, diff=half[: half.rfind("\n") + 1], is_diff_cut=True)
            else:
                half_of = (len(source.cells) + 1) // 2
                source = replace(
                    source, cells=source.cells[half_of:], left_out=source.left_out + half_of
                )
        return packed

    @classmethod
    def unpack(cls, packed: str) -> Source:
        """What ``pack`` wrote.

        Raises:
            ManifestError: It is something else, or holds more than any version does.
        """
        try:
            reader = zlib.decompressobj()
            raw = reader.decompress(base64.b64decode(packed, validate=True), _MAX_UNPACKED)
            if not reader.eof:
                raise ManifestError(f"source of a version: expected at most {_MAX_UNPACKED} bytes")
            return cls.from_json(json.loads(raw))
        except (binascii.Error, zlib.error, ValueError, RecursionError) as exc:
            raise ManifestError(f"source of a version cannot be read: {exc!r}") from exc

    def to_json(self) -> dict[str, Any]:
        """A JSON object without what is empty; ``from_json`` gives the value back."""
        cells = []
        for one in self.cells:
            cell: dict[str, Any] = {"number": one.number, "code": one.code}
            cell |= {"private": True} if one.is_private else {}
            cell |= {"cut": True} if one.is_cut else {}
            cells.append(cell)
        told = {
            "cells": cells,
            "left_out": self.left_out,
            "diff": self.diff,
            "diff_cut": self.is_diff_cut,
        }
        return {key: value for key, value in told.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Source:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
        """
        try:
            return cls(
                tuple(
                    CodeCell(
                        int(one["number"]),
                        str(one["code"]),
                        bool(one.get("private", False)),
                        bool(one.get("cut", False)),
                    )
                    for one in data.get("cells", ())
                ),
                int(data.get("left_out", 0)),
                str(data.get("diff", "")),
                bool(data.get("diff_cut", False)),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
            raise ManifestError(f"malformed source of a version: {exc!r}") from exc


def _packed(source: Source) -> str:
    data = json.dumps(source.to_json(), separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(data)).decode("ascii")


def is_private(code: str) -> bool:
    """Whether a cell has the line that keeps it out of what is recorded."""
    return any(line.strip() == PRIVATE for line in code.splitlines())


@dataclass(frozen=True, slots=True)
class Machine:
    """What a version was made on; what is not known is empty or 0.

    Attributes:
        cpu: Name of the processor.
        cores: Those that the process may use.
        memory: Of the machine, in bytes.
        gpus: Name of each.
        system: ``Linux 6.1.0 x86_64``.
        python: ``3.11.9``, with the implementation's name where that is not CPython.
    """

    cpu: str = ""
    cores: int = 0
    memory: int = 0
    gpus: tuple[str, ...] = ()
    system: str = ""
    python: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object without what is not known; ``from_json`` gives the value back."""
        told: dict[str, Any] = {
            "cpu": self.cpu,
            "cores": self.cores,
            "memory": self.memory,
            "gpus": list(self.gpus),
            "system": self.system,
            "python": self.python,
        }
        return {key: value for key, value in told.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is of the wrong type.
        """
        try:
            return cls(
                cpu=str(data.get("cpu", "")),
                cores=int(data.get("cores", 0)),
                memory=int(data.get("memory", 0)),
                gpus=tuple(map(str, data.get("gpus", ()))),
                system=str(data.get("system", "")),
                python=str(data.get("python", "")),
            )
        except (AttributeError, TypeError, ValueError, OverflowError) as exc:
            raise ManifestError(f"malformed record of a machine: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """By what data are known again.

    Attributes:
        digest: ``sha256:<64 hex digits>`` of a file's bytes, or of an object's type, shape
            and values.
        what: What it was: ``FP64 [150, 4]``, ``150 rows x 5 columns``, ``iris.csv, 3858 bytes``.
    """

    digest: str
    what: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` gives the value back."""
        return {"digest": self.digest, "what": self.what}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is missing or of the wrong type.
        """
        try:
            return cls(str(data["digest"]), str(data["what"]))
        except (KeyError, TypeError) as exc:
            raise ManifestError(f"malformed fingerprint of data: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of how a version was made, beyond its lineage.

    Attributes:
        path: Of the notebook or script, as far as the kernel knows it.
        cell_id: The cell's id in its notebook.
        front_end: ``jupyter``, ``vscode``, ``colab`` or ``ipython``; None for a program.
        nth: The version is the n-th of its model that its cell made, 1 or more.
        machine: What it was made on.
        seed: Of the random numbers, as it was told.
        data: Name → what data of that name were, as they were given.
        packed: The cells and the diff, as ``Source.pack`` writes them; None: not recorded.
    """

    path: str | None = None
    cell_id: str | None = None
    front_end: str | None = None
    nth: int = 1
    machine: Machine = Machine()
    seed: int | None = None
    data: Mapping[str, Fingerprint] = field(default_factory=dict)
    packed: str | None = None

    def source(self) -> Source:
        """The cells and the diff; empty where they were not recorded.

        Raises:
            ManifestError: They cannot be read.
        """
        return Source() if self.packed is None else Source.unpack(self.packed)

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the unknown facts; ``from_json`` gives the value back."""
        told: dict[str, Any] = {
            "path": self.path,
            "cell_id": self.cell_id,
            "front_end": self.front_end,
            "nth": self.nth if self.nth > 1 else None,
            "machine": self.machine.to_json(),
            "seed": self.seed,
            "data": {name: one.to_json() for name, one in self.data.items()},
            "source": self.packed,
        }
        return {key: value for key, value in told.items() if value not in (None, {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is of the wrong type.
        """
        try:
            seed, prints = data.get("seed"), data.get("data", {})
            if len(prints) > _MAX_DATA:
                raise ManifestError(f"{len(prints)} fingerprints of data, expected {_MAX_DATA}")
            return cls(
                path=_text(data, "path"),
                cell_id=_text(data, "cell_id"),
                front_end=_text(data, "front_end"),
                nth=max(1, int(data.get("nth", 1))),
                machine=Machine.from_json(data.get("machine", {})),
                seed=None if seed is None else int(seed),
                data={str(name): Fingerprint.from_json(one) for name, one in prints.items()},
                packed=_text(data, "source"),
            )
        except (AttributeError, TypeError, ValueError, OverflowError) as exc:
            raise ManifestError(f"malformed provenance: {exc!r}") from exc


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return None if value is None else str(value)


def numbered(history: Iterable[str]) -> tuple[CodeCell, ...]:
    """The cells of a session in the order in which they were run.

    Args:
        history: Source by execution count; that of count 0 is no cell, and an empty one none.
    """
    return tuple(
        CodeCell.of(number, code) for number, code in enumerate(history) if number and code.strip()
    )
