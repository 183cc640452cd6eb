"""Small documents that say what a model is: JSON and YAML, with a bound on everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.contract import Place, dotted
from nbmodel.core.document import is_too_deep, unique_keys
from nbmodel.errors import FormatError, StorageUnavailableError
from nbmodel.plugins import require
from nbmodel.storage.base import translated

MAX_DOCUMENT = 4 << 20  # bytes; a signature of a thousand columns has a hundredth


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        FormatError: It is too long, no JSON, or nested too deeply.
        StorageUnavailableError: It cannot be read.
    """
    return _json(_text(path), path)


def read_yaml(path: Path) -> list[Any]:
    """The documents in a YAML file.

    Nothing is made but plain values, and an alias, with which a small file stands for a huge
    one, is refused.

    Raises:
        FormatError: It is too long, no YAML, nested too deeply, or has an alias.
        PluginError: PyYAML is not installed.
        StorageUnavailableError: It cannot be read.
    """
    return list(located_yaml(path).values)


@dataclass(frozen=True, slots=True)
class Located:
    """The documents in a file, and where their parts are.

    Attributes:
        path: The file.
        values: The documents.
        line: Gives the line, from 1 on, of what keys and positions lead to, the first being
            the document's; None where that is not known.
    """

    path: Path
    values: Sequence[Any]
    line: Callable[[Place], int | None]

    def where(self, place: Place) -> str:
        """How a person is told of a place: ``serving.yaml, line 7: contract.inputs.x``."""
        line = next(
            (found for end in range(len(place), 0, -1) if (found := self.line(place[:end]))), None
        )
        head = self.path.name if line is None else f"{self.path.name}, line {line}"
        return f"{head}: {dotted(place[1:])}" if place[1:] else head


def located_json(path: Path) -> Located:
    """The document in a JSON file, with its lines.

    Raises:
        FormatError, StorageUnavailableError: As ``read_json``.
    """
    content = _text(path)
    value = _json(content, path)
    return Located(path, (value,), lambda place: _json_lines(content).get(place[1:]))


def located_yaml(path: Path) -> Located:
    """The documents in a YAML file, with their lines.

    Raises:
        FormatError, PluginError, StorageUnavailableError: As ``read_yaml``.
    """
    require(f"reading {path.name}", "yaml", extra="import")
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc] # the library has no types
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias, which is not taken")
            return super().compose_node(parent, index)

    # A date stays the text that it is.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if not tag.endswith(":timestamp")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    values: list[Any] = []
    lines: dict[Place, int] = {}
    try:
        loader = Loader(_text(path))
        while loader.check_node():
            node = loader.get_node()
            values.append(_checked(loader.construct_document(node), path))
            _yaml_lines(node, (len(values) - 1,), lines)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as exc:
        raise FormatError(f"{path.name} is not YAML: {_line(exc)}") from exc
    return Located(path, values, lines.get)


def _yaml_lines(node: Any, place: Place, lines: dict[Place, int]) -> None:
    """Where the parts of a node are, by the texts of their keys.

    Raises:
        ValueError: A key is given twice.
    """
    lines.setdefault(place, node.start_mark.line + 1)
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            _yaml_lines(item, (*place, index), lines)
    if node.id != "mapping":
        return
    for key, value in node.value:
        at = (*place, str(key.value))
        line = key.start_mark.line + 1
        if at in lines:
            raise ValueError(f"key {str(key.value)[:80]!r} is given twice, again in line {line}")
        lines[at] = line
        _yaml_lines(value, at, lines)


_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},:]|\n|[^][{},:"\s]+')


def _json_lines(content: str) -> dict[Place, int]:
    """Where the parts of a JSON text are, which is known to be one."""
    lines: dict[Place, int] = {(): 1}
    place: list[str | int] = []
    is_key: list[bool] = []  # of each container that is open: whether a key comes next
    number = 1
    for match in _JSON.finditer(content):
        mark = match[0]
        if mark == "\n":
            number += 1
        elif mark in "{[":
            is_key.append(mark == "{")
            place.append(0)
            lines.setdefault((*place[:-1], 0), number)
        elif mark in "]}":
            is_key.pop()
            place.pop()
        elif mark == ",":
            if isinstance(place[-1], int):
                place[-1] += 1
                lines[tuple(place)] = number
            else:
                is_key[-1] = True
        elif mark.startswith('"') and is_key and is_key[-1]:
            place[-1], is_key[-1] = json.loads(mark), False
            lines[tuple(place)] = number
    return lines


def text(value: Any, limit: int = 4096) -> str:
    """A value as a line of text, cut; empty for None."""
    return "" if value is None else str(value)[:limit]


def _json(content: str, path: Path) -> Any:
    try:
        data = json.loads(content, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path.name} is not JSON: {_line(exc)}") from exc
    return _checked(data, path)


def _text(path: Path) -> str:
    with translated(f"read {path.name}"):
        if not path.is_file():
            raise StorageUnavailableError(f"cannot read {path.name}: it is not there")
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT + 1)
    if len(raw) > MAX_DOCUMENT:
        raise FormatError(f"{path.name} is longer than {MAX_DOCUMENT:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FormatError(f"{path.name} is not UTF-8: {exc.reason}") from exc


def _checked(data: Any, path: Path) -> Any:
    if is_too_deep({"": data}):
        raise FormatError(f"{path.name} is nested too deeply")
    return data


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200]
