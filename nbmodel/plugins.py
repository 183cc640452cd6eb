"""Plug-ins by name: a built-in table, then entry points, then a hint of what to install.

A table maps a name to ``module:attribute`` and is never imported as a whole, so asking
for one plug-in loads one. Packages add to a table through the entry-point group
``nbmodel.<kind>``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nbmodel.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def require(what: str, *modules: str, extra: str) -> None:
    """See to it that modules can be imported, without importing them.

    Args:
        what: What needs them, for the message: ``a runtime``.
        modules: Top-level modules.
        extra: Extra of nbmodel that installs them.

    Raises:
        PluginError: One is not installed; the hint is what to type.
    """
    for module in modules:
        if find_spec(module) is None:
            raise PluginError(
                f"{what} needs {module}, which is not installed",
                hint=f"pip install 'nbmodel[{extra}]'",
            )


@dataclass(frozen=True, slots=True)
class PluginTable:
    """All plug-ins of one kind.

    Attributes:
        kind: Singular, for messages and the entry-point group: ``backend``.
        builtin: Name → ``module:attribute``.
        extras: Name → extra of nbmodel that installs what the plug-in needs.
    """

    kind: str
    builtin: Mapping[str, str]
    extras: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """All names, built-in first, whether or not what they need is installed."""
        return (*self.builtin, *sorted(self._foreign().keys() - self.builtin.keys()))

    def load(self, name: str) -> Any:
        """The plug-in of that name, imported.

        Raises:
            PluginError: There is no such plug-in (with the nearest name as a hint), or
                a package it needs is not installed (with the extra to install).
        """
        target = self.builtin.get(name)
        if target is None:
            points = self._foreign()
            if name not in points:
                near = get_close_matches(name, self.names(), n=1)
                raise PluginError(
                    f"unknown {self.kind} {name!r}",
                    hint=f"did you mean {near[0]!r}?"
                    if near
                    else f"known: {', '.join(self.names())}",
                )
            target = points[name].value
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ImportError as exc:
            raise PluginError(
                f"{self.kind} {name!r} needs {exc.name or exc}, which is not installed",
                hint=f"pip install 'nbmodel[{self.extras[name]}]'" if name in self.extras else None,
            ) from exc

    def _foreign(self) -> Mapping[str, EntryPoint]:
        return _entry_points(f"nbmodel.{self.kind}s", tuple(sys.path))


# Looking through every installed distribution takes longer than a small upload may.
@lru_cache
def _entry_points(group: str, _path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points of a group among what is installed on a search path."""
    from importlib.metadata import entry_points  # which reads e-mail: 20 ms

    return {point.name: point for point in entry_points(group=group)}
