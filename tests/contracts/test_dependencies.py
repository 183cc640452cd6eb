"""What the package imports is what pyproject.toml says that it needs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import nbmodel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(nbmodel.__file__).parent


class Imports(ast.NodeVisitor):
    """Top-level names that a file imports when it runs: not those for the type checker."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {alias.name.partition(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self.names.add(node.module.partition(".")[0])


def foreign_imports() -> Iterator[tuple[str, frozenset[str]]]:
    """Every file's imports that are not ours: by whom each may be installed here.

    Several distributions share a name such as ``google``.
    """
    distributions = packages_distributions()
    for path in PACKAGE.rglob("*.py"):
        found = Imports()
        found.visit(ast.parse(path.read_text(encoding="utf-8")))
        for name in found.names - sys.stdlib_module_names - {"nbmodel"}:
            if name in distributions:
                yield (
                    path.relative_to(PACKAGE).as_posix(),
                    frozenset(map(plain, distributions[name])),
                )


def plain(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 does not know whose every package is"
)
def test_every_import_is_declared(project_root: Path) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {
        plain(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
        for group in groups
        for requirement in group
    }
    assert [(file, names) for file, names in foreign_imports() if not names & declared] == []
