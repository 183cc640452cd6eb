"""The words that stand beside a version or a service: aliases and states."""

from __future__ import annotations

from collections.abc import Mapping

from nbmodel.core.version import Model, Version
from nbmodel.display.card import Chip, Tone

_MAX_HOST = 28  # characters
#: State of a service → how urgent it is.
_STATES: Mapping[str, Tone] = {
    "ready": "good",
    "loading": "warn",
    "failed": "bad",
    "missing": "bad",
    "unreachable": "bad",
    "stopped": "calm",
}


def alias_chip(alias: str) -> Chip:
    """An alias; ``latest`` stands out."""
    return Chip(alias, "good" if alias == "latest" else "info")


def version_chips(version: Version) -> tuple[Chip, ...]:
    """Aliases and states of a version."""
    chips = [alias_chip(alias) for alias in version.aliases]
    if version.pinned:
        chips.append(Chip("pinned", "warn"))
    if version.published:
        chips.append(Chip("published", "info"))
    if version.archived:
        chips.append(Chip("archived"))
    if version.deprecated is not None:
        chips.append(Chip("deprecated", "bad"))
    if version.files_on is not None:
        chips.append(Chip(f"on {_brief(version.files_on)}", "info"))
    return tuple(chips)


def _brief(host: str) -> str:
    """A host, or the beginning of the address of a store, so that a table keeps its lines."""
    return host if len(host) <= _MAX_HOST else f"{host[: _MAX_HOST - 1]}…"


def model_chips(model: Model) -> tuple[Chip, ...]:
    """States of a model."""
    chips = []
    if model.pin is not None:
        chips.append(Chip(f"pinned at {model.pin}", "warn"))
    if model.archived:
        chips.append(Chip("archived"))
    if model.deprecated is not None:
        chips.append(Chip("deprecated", "bad"))
    return tuple(chips)


def state_chip(state: str) -> Chip:
    """The state of a service, package or runtime."""
    return Chip(state, _STATES.get(state, "calm")) if state else Chip("unknown")
