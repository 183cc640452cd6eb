"""Plug-ins by name: a built-in table, then entry points, then a hint of what to install.

A table maps a name to ``module:attribute`` and is never imported as a whole, so asking
for one plug-in loads one. Packages add to a table through the entry-point group
``nbmodel.<kind>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from nbmodel.errors import PluginError


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
        foreign = sorted(point.name for point in self._entry_points())
        return (*self.builtin, *(name for name in foreign if name not in self.builtin))

    def load(self, name: str) -> Any:
        """The plug-in of that name, imported.

        Raises:
            PluginError: There is no such plug-in (with the nearest name as a hint), or
                a package it needs is not installed (with the extra to install).
        """
        target = self.builtin.get(name)
        if target is None:
            points = {point.name: point for point in self._entry_points()}
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

    def _entry_points(self) -> Any:
        return entry_points(group=f"nbmodel.{self.kind}s")
