"""Which files of a repository are brought, told from their names before any of them comes.

A repository on a hub holds a model in five formats, and gigabytes of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from nbmodel.errors import InputError
from nbmodel.formats import FORMATS
from nbmodel.importing.base import Import, picked

_LAYOUTS = frozenset(
    ("MLmodel", "serving.yaml", "serving.yml")
)  # which say themselves what is what
_COMPANIONS = frozenset(("readme.md", "config.json", "labels.txt", "config.pbtxt"))
_VAGUE = frozenset((".py", ".xml", ".json", ".pt", ".pth", ".bin"))  # of much that is no model


def chosen(files: Mapping[str, int], job: Import, what: str) -> tuple[str, ...]:
    """The paths to bring.

    Args:
        files: POSIX path → bytes.
        job: What somebody asked for, and how much may come.
        what: What the files are of, for messages.

    Raises:
        InputError: There are several models and nobody said which; or too much would come.
    """
    names = sorted(name for name in files if not any(p.startswith(".") for p in name.split("/")))
    if not names:
        raise InputError(f"{what} has no files")
    if job.paths:
        wanted: Sequence[str] = picked(names, job.paths, what)
    elif any(name in _LAYOUTS for name in names):
        wanted = names
    else:
        wanted = _of_models(names, _models(names), files, what)
    job.check_count(len(wanted), what)
    job.check_size(sum(files[name] for name in wanted), what)
    return tuple(wanted)


def _models(names: Sequence[str]) -> list[str]:
    """Files and folders that are called like models."""
    folders = [
        PurePosixPath(name).parent.as_posix()
        for name in names
        if PurePosixPath(name).name == "saved_model.pb"
    ]
    suffixes = tuple(
        suffix
        for name in FORMATS.builtin
        for suffix in FORMATS.load(name).suffixes
        if suffix not in _VAGUE and suffix != ".pb"
    )
    return folders + [name for name in names if name.lower().endswith(suffixes)]


def _of_models(
    names: Sequence[str], models: Sequence[str], files: Mapping[str, int], what: str
) -> Sequence[str]:
    if not models:
        return names
    if len(models) > 1:
        shown = ", ".join(
            f"{model} ({files[model]:,} bytes)" if model in files else f"{model}/"
            for model in models[:8]
        )
        raise InputError(
            f"{what} has {len(models)} models: {shown}{', …' if len(models) > 8 else ''}",
            hint=f"choose one: --path {models[0]}",
        )
    (model,) = models
    if model not in files:  # a folder
        inside = [name for name in names if model == "." or name.startswith(f"{model}/")]
        return [
            *inside,
            *(name for name in names if name not in inside and _is_companion(name, "")),
        ]
    parent = PurePosixPath(model).parent.as_posix()
    stem = model.rpartition(".")[0]
    return [
        name
        for name in names
        if name == model or name.startswith((f"{model}.", f"{model}_", f"{stem}."))
        or _is_companion(name, parent)
    ]  # fmt: skip


def _is_companion(name: str, folder: str) -> bool:
    path = PurePosixPath(name)
    at = path.parent.as_posix()
    return path.name.lower() in _COMPANIONS and at in (".", folder)
