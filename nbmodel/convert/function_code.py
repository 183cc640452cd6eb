"""The source of a plain Python function, when it needs nothing of what is around it.

A function travels as its text, never as a pickle: what it does can be read, and runs wherever
the packages are that it imports. So it may use its arguments, built-ins, what it imports
itself, and modules that were imported beside it, whose imports come along.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import FunctionType, ModuleType
from typing import Any

from nbmodel.errors import ConversionError

_HINT = (
    "move into the function what it uses (imports and constants, too), or write a folder with "
    "a model.py and upload that"
)
_OURS = ("numpy",)  # what every runtime has


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """A function as text.

    Attributes:
        name: What it is called.
        text: From ``def`` on, not indented.
        imports: Lines that have to stand before it.
        parameters: Names of those without a default, in order.
        requirements: What it imports besides the standard library and numpy, at the versions
            that are here: ``scipy==1.15.1``.
    """

    name: str
    text: str
    imports: tuple[str, ...]
    parameters: tuple[str, ...]
    requirements: tuple[str, ...]


def read_function(function: Callable[..., Any]) -> FunctionCode:
    """Read the source of a function.

    Raises:
        ConversionError: There is none, or it needs what is around it; the message says what.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(function, FunctionType):
        raise _refused(f"{name} is no plain Python function")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise _refused(f"{name} is a generator or a coroutine, expected a function that returns")
    around = function.__code__.co_freevars
    if around:
        raise _refused(f"{name} uses {_listed(around)} of the function around it")
    text, definition = _definition(function)
    modules, lacking = _modules(definition, function)
    if lacking:
        raise _refused(f"{name} uses {_listed(lacking)}, which is defined outside of it")
    imports = tuple(_import(known, module) for known, module in modules.items())
    imported = {module.__name__ for module in modules.values()} | set(_imported(definition))
    return FunctionCode(
        name, text, imports, _parameters(function), tuple(_requirements(name, imported))
    )


def _definition(function: FunctionType) -> tuple[str, ast.FunctionDef]:
    name = function.__name__
    if function.__code__.co_filename == "<string>":
        # From Python 3.13 on the text of `python -c` goes by that name, whatever exec was given.
        raise _refused(f"the source of {name} cannot be read: it was made of a string")
    try:
        text = textwrap.dedent(inspect.getsource(function))
        body = ast.parse(text).body
    except (OSError, TypeError, SyntaxError) as exc:
        raise _refused(
            f"the source of {name} cannot be read: {' '.join(str(exc).split())}"
        ) from exc
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        raise _refused(f"{name} is no function made with def")
    definition = body[0]
    if definition.decorator_list:
        raise _refused(f"{name} has a decorator, of which its source knows nothing")
    return text, definition


def _modules(
    definition: ast.FunctionDef, function: FunctionType
) -> tuple[dict[str, ModuleType], list[str]]:
    """The modules that a function finds outside of it, and what else it finds there."""
    modules, lacking = {}, []
    for name in sorted(_free_names(definition)):
        found = function.__globals__.get(name)
        if isinstance(found, ModuleType):
            modules[name] = found
        elif name != definition.name and (
            name in function.__globals__ or not hasattr(builtins, name)
        ):
            lacking.append(name)
    return modules, lacking


def _free_names(definition: ast.FunctionDef) -> set[str]:
    """Names that a definition takes from the module; annotations are never evaluated."""
    stripped = _WithoutAnnotations().visit(ast.parse(ast.unparse(definition)))
    table = symtable.symtable(ast.unparse(stripped), "<function>", "exec")
    names = {one.get_name() for one in table.get_symbols() if one.is_referenced()}
    waiting = list(table.get_children())
    while waiting:
        inner = waiting.pop()
        names |= {one.get_name() for one in inner.get_symbols() if one.is_global()}
        waiting += inner.get_children()
    return names


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # What is only declared is made a local name all the same.
        value = node.value or ast.Constant(None)
        return ast.copy_location(ast.Assign([node.target], self.visit(value)), node)


def _imported(definition: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(definition):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _import(name: str, module: ModuleType) -> str:
    return f"import {module.__name__}" + ("" if name == module.__name__ else f" as {name}")


def _parameters(function: FunctionType) -> tuple[str, ...]:
    found = inspect.signature(function).parameters.values()
    for one in found:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
            raise _refused(f"{function.__name__} takes {one}, expected parameters with names")
    return tuple(one.name for one in found if one.default is one.empty)


def _requirements(name: str, modules: Iterable[str]) -> Iterator[str]:
    tops = {module.partition(".")[0] for module in modules}
    tops -= {*sys.stdlib_module_names, *_OURS}
    for top in sorted(tops):
        package = _package_of(top)
        if package is None:
            raise _refused(f"{name} imports {top!r}, which is no installed package")
        # A build of this machine (2.3.0+cpu) is no other machine's.
        yield f"{package}=={metadata.version(package).partition('+')[0]}"


def _package_of(top: str) -> str | None:
    """The package that a module on the top level is from."""
    named = metadata.packages_distributions().get(top)
    if named:
        return named[0]
    for one in metadata.distributions():  # Python 3.10 passes over those without top_level.txt
        if any(file.parts[0] in (top, f"{top}.py") for file in one.files or ()):
            return one.name
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _refused(message: str) -> ConversionError:
    return ConversionError(message, hint=_HINT)
