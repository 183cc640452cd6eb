"""Small documents that say what a model is: JSON and YAML, with a bound on everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    try:
        data = json.loads(_text(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path.name} is not JSON: {_line(exc)}") from exc
    return _checked(data, path)


def read_yaml(path: Path) -> list[Any]:
    """The documents in a YAML file.

    Nothing is made but plain values, and an alias, with which a small file stands for a huge
    one, is refused.

    Raises:
        FormatError: It is too long, no YAML, nested too deeply, or has an alias.
        PluginError: PyYAML is not installed.
        StorageUnavailableError: It cannot be read.
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
    try:
        found = list(yaml.load_all(_text(path), Loader=Loader))  # a safe one
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as exc:
        raise FormatError(f"{path.name} is not YAML: {_line(exc)}") from exc
    return [_checked(one, path) for one in found]


def text(value: Any, limit: int = 4096) -> str:
    """A value as a line of text, cut; empty for None."""
    return "" if value is None else str(value)[:limit]


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
