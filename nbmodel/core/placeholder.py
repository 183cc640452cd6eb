"""Placeholders of a machine config: ``${packages.ml_model.digits}/model.onnx``.

Forms: ``${packages.<type>.<name>}``, the older ``${packages.<name>}`` for models, and
``${environment.<variable>}``. What they stand for is given by the caller; nothing here
looks at the disk or the environment.

Source: viamrobotics/rdk ``config/placeholder_replacement.go``, error texts included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.machine import ML_MODEL, Package, quoted

_PLACEHOLDER = re.compile(r"\$\{(?P<key>[^}]*)\}")
_PACKAGES = re.compile(r"packages(?:\.(?P<type>[^.]+))?\.(?P<name>[\w:/-]+)", re.ASCII)
_ENVIRONMENT = re.compile(r"environment\.(?P<name>[\w:/-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A JSON value with its placeholders replaced.

    Attributes:
        value: The value; a placeholder that means nothing is in it as text.
        problems: One sentence for each of those.
        packages: Local names of the packages it uses, in order of appearance.
    """

    value: Any
    problems: tuple[str, ...]
    packages: tuple[str, ...]


def replace_placeholders(
    value: Any,
    packages: Mapping[str, Package],
    *,
    folder: Callable[[Package], str],
    environment: Mapping[str, str],
) -> Replacement:
    """Replace the placeholders in all strings of a JSON value; keys stay as they are.

    Args:
        value: What a JSON document holds: object, list, string, number …; not changed.
        packages: Local name → package.
        folder: The folder that holds a package's files.
        environment: Variables that ``${environment.…}`` may name.
    """
    replacer = _Replacer(packages, folder, environment)
    replaced = replacer.value(value)
    return Replacement(replaced, tuple(replacer.problems), tuple(replacer.used))


class _Unresolved(Exception):  # noqa: N818 - caught a few lines below, not an error of ours
    """Why a placeholder means nothing."""


@dataclass
class _Replacer:
    packages: Mapping[str, Package]
    folder: Callable[[Package], str]
    environment: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    used: dict[str, None] = field(default_factory=dict)

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return _PLACEHOLDER.sub(self._match, value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def _match(self, match: re.Match[str]) -> str:
        try:
            return self._key(match["key"])
        except _Unresolved as exc:
            self.problems.append(str(exc))
            return match[0]

    def _key(self, key: str) -> str:
        if (packages := _PACKAGES.fullmatch(key)) is not None:
            return self._package(key, packages["type"] or ML_MODEL, packages["name"])
        if (environment := _ENVIRONMENT.fullmatch(key)) is not None:
            return self._variable(key, environment["name"])
        raise _Unresolved(f"invalid placeholder {quoted('${' + key + '}')}")

    def _package(self, key: str, kind: str, name: str) -> str:
        package = self.packages.get(name)
        if package is None:
            raise _Unresolved(
                f"failed to find a package named {quoted(name)} for placeholder {quoted(key)}"
            )
        if package.type != kind:
            meant = quoted(f"packages.{package.type}.{package.name}")
            raise _Unresolved(
                f"placeholder {quoted(key)} is looking for a package of type {quoted(kind)} "
                f"but a package of type {quoted(package.type)} was found. Try {meant}"
            )
        self.used[name] = None
        return self.folder(package)

    def _variable(self, key: str, name: str) -> str:
        if name not in self.environment:
            raise _Unresolved(
                f"no environment variable named {quoted(name)} for placeholder {quoted(key)}"
            )
        return self.environment[name]
