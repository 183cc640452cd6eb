"""Looking things up and moving names, against bare SQLite doing the like."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

from nbmodel.core.signature import Signature
from nbmodel.registry import Registry
from tests.bench.harness import Row, in_child, in_turn_ms

MODELS = 100
VERSIONS = 100  # of each


def rows(folder: Path) -> Iterator[Row]:
    """100 models of 100 versions each, in one registry."""
    root = folder / "registry"
    in_child(fill, str(root))
    with Registry(root) as registry, closing(_bare_table(folder / "bare.sqlite")) as bare:
        yield from _names(registry, bare)
        yield from _lists(registry, bare)
        yield _one_more(registry, folder)


def _names(registry: Registry, bare: sqlite3.Connection) -> Iterator[Row]:
    turn = count()
    moved, written = in_turn_ms(
        lambda: registry.set_alias(f"model50:{next(turn) % VERSIONS + 1}", "champion"),
        lambda: _write_one(bare, next(turn)),
        runs=100,
    )
    yield Row("alias set", moved, "a bare SQLite transaction", written, bar=1)
    picks = random.Random(0)  # a different model each time, so that nothing stays warm
    for kind in ("latest", "57", "champion"):
        for name in _model_names():
            registry.set_alias(f"{name}:3", "champion")
        found, selected = in_turn_ms(
            lambda kind=kind: registry.resolve(f"model{picks.randrange(MODELS)}:{kind}"),
            lambda: _read_one(bare, picks.randrange(MODELS * VERSIONS)),
            runs=200,
        )
        yield Row(f"`name:{kind}` resolved", found, "a bare SELECT by key", selected, bar=0.3)


def _lists(registry: Registry, bare: sqlite3.Connection) -> Iterator[Row]:
    def read_all() -> Sequence[object]:
        return bare.execute("SELECT * FROM rows").fetchall()

    for what, verb, expected in (
        ("list of 100 models × 100 versions", registry.models, MODELS),
        ("every version of them", registry.versions, MODELS * VERSIONS),
    ):
        assert len(verb()) == expected
        listed, fetched = in_turn_ms(verb, read_all, runs=15)
        yield Row(what, listed, "a bare SELECT of 10,000 rows", fetched, bar=50)


def _one_more(registry: Registry, folder: Path) -> Row:
    """What the 10,000 versions that are there add to an upload."""
    turn = count()
    small = Registry(folder / "small")
    into_full, into_empty = in_turn_ms(
        lambda: _add(registry, "model0", str(next(turn)).encode()),
        lambda: _add(small, "model0", str(next(turn)).encode()),
        runs=20,
    )
    small.close()
    return Row("a version more, with 10,000 there", into_full, "with 20 there", into_empty)


def fill(root: str) -> None:
    """Make the versions; runs in a process of its own, without waiting for the disk."""
    os.fsync = lambda fd: None  # 10,000 uploads are not what is measured here
    with Registry(Path(root)) as registry:
        for name in _model_names():
            for number in range(VERSIONS):
                _add(registry, name, name.encode(), acc=number / VERSIONS)


def _add(registry: Registry, name: str, content: bytes, *, acc: float = 0.5) -> None:
    registry.add(
        name,
        {"model.bin": content},
        framework="onnx",
        model_type="other",
        signature=Signature(),
        metrics={"acc": acc},
        tags={"site": "north"},
    )


def _model_names() -> list[str]:
    return [f"model{index}" for index in range(MODELS)]


def _bare_table(path: Path) -> sqlite3.Connection:
    """A table of the same number of rows, in the same mode as the registry's."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT, d REAL)")
    values = ((f"model{index // 100}", "x" * 64, "y" * 20, index / 7) for index in range(10_000))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO rows (a, b, c, d) VALUES (?, ?, ?, ?)", values)
    connection.execute("COMMIT")
    return connection


def _write_one(bare: sqlite3.Connection, turn: int) -> None:
    bare.execute("BEGIN IMMEDIATE")
    bare.execute("UPDATE rows SET b = ? WHERE id = ?", (str(turn), turn % 10_000 + 1))
    bare.execute("COMMIT")


def _read_one(bare: sqlite3.Connection, key: int) -> object:
    return bare.execute("SELECT * FROM rows WHERE id = ?", (key + 1,)).fetchone()
