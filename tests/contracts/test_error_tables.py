"""Each front end's table over the error classes answers for all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import nbmodel
from nbmodel import errors
from nbmodel.errors import NbModelError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, NbModelError)
]


def tables() -> Iterator[tuple[str, Mapping[type[NbModelError], Any]]]:
    """Every mapping of a module of nbmodel whose keys are error classes."""
    for found in pkgutil.walk_packages(nbmodel.__path__, "nbmodel."):
        if found.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if (
                isinstance(value, Mapping)
                and value
                and all(isinstance(key, type) and issubclass(key, NbModelError) for key in value)
            ):
                yield f"{found.name}.{name}", value


TABLES = dict(tables())


def answer(table: Mapping[type[NbModelError], Any], kind: type) -> Any:
    """What the table says of a class: its own entry, or that of the nearest base."""
    return next((table[base] for base in kind.__mro__ if base in table), None)


def test_the_front_ends_have_tables() -> None:
    modules = {name.rpartition(".")[0] for name in TABLES}
    assert "nbmodel.cli" in modules
    assert any(module.startswith("nbmodel.runtime.") for module in modules)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_class_has_an_answer(table: Mapping[type[NbModelError], Any]) -> None:
    assert [kind.__name__ for kind in CLASSES if answer(table, kind) is None] == []


def test_every_class_is_in_the_drawing() -> None:
    drawing = errors.__doc__ or ""
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in drawing] == []
