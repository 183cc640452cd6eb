"""Every plug-in table lists exactly the plug-ins of its folder.

A folder of plug-ins has its table in ``table.py``. A module of that folder is a plug-in
when the class that it defines is a finished subclass of the folder's abstract class.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest

import nbmodel
from nbmodel.commands.table import VERBS
from nbmodel.plugins import PluginTable

PACKAGE = Path(nbmodel.__file__).parent


def tables() -> dict[str, PluginTable]:
    """Folder → its table, of every folder of the package that has one."""
    return {
        path.parent.name: value
        for path in sorted(PACKAGE.glob("*/table.py"))
        for value in vars(importlib.import_module(f"nbmodel.{path.parent.name}.table")).values()
        if isinstance(value, PluginTable)
    }


FOLDERS = tables()


def plugin_classes(folder: str) -> dict[str, str]:
    """``module:Class`` → plug-in name, of every finished plug-in class in the folder.

    A plug-in is called what it says, or like its file when it says nothing.
    """
    base = _abstract_base(folder)
    found = {}
    for path in sorted((PACKAGE / folder).glob("*.py")):
        module = f"nbmodel.{folder}.{path.stem}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef):
                continue
            # Engines are imported inside methods, so a plug-in's module loads without its extra.
            cls = getattr(importlib.import_module(module), node.name)
            if issubclass(cls, base) and not inspect.isabstract(cls):
                found[f"{module}:{node.name}"] = getattr(cls, "name", path.stem)
    return found


def _abstract_base(folder: str) -> type:
    module = importlib.import_module(f"nbmodel.{folder}.base")
    kind = FOLDERS[folder].kind
    (base,) = [value for name, value in vars(module).items() if name.lower() == kind]
    assert isinstance(base, type)
    return base


def as_source(builtin: Mapping[str, str]) -> str:
    rows = "".join(f'        "{name}": "{target}",\n' for name, target in builtin.items())
    return f"    builtin={{\n{rows}    }},"


def test_there_are_tables() -> None:
    assert {"formats", "backends", "convert"} <= set(FOLDERS)


def test_verbs_are_the_files_of_their_folder() -> None:
    files = {path.stem for path in (PACKAGE / "commands").glob("*.py")}
    shared = {"__init__", "context", "options", "table"}
    assert {module for module, _ in VERBS.values()} == files - shared


@pytest.mark.parametrize("folder", FOLDERS)
def test_table_lists_its_folder(folder: str) -> None:
    table = FOLDERS[folder]
    targets = plugin_classes(folder)
    wrong = {
        *(target for target in targets if target not in table.builtin.values()),
        *(target for target in table.builtin.values() if target not in targets),
        *(target for name, target in table.builtin.items() if targets.get(target) != name),
    }
    corrected = as_source({name: target for target, name in targets.items()})
    assert not wrong, f"nbmodel/{folder}/table.py is off for {sorted(wrong)}; it is\n{corrected}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_table_names_extras_of_the_project(folder: str, project_root: Path) -> None:
    table = FOLDERS[folder]
    project = (project_root / "pyproject.toml").read_text(encoding="utf-8")
    known = {name for name in set(table.extras.values()) if f"\n{name} = [" in project}
    assert set(table.extras.values()) == known
    assert set(table.extras) <= set(table.builtin)
