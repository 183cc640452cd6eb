"""What is true of every home of a runtime that has settled, read from its files alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OWN_TAG = re.compile(r"[0-9]{1,9}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}.*")
_FILES = re.compile(
    r"config\.json|config\.good\.json|state\.json(\.damaged)?|events\.jsonl|overrides(\.json)?|lock|token"
    r"|runtime\.log(\.[0-9]+)?|output\.log|reserve"
)
_FOLDERS = {"blobs", "tags", "packages", "models"}


def config_models(home: Path) -> set[str]:
    """What the models of the config's packages may be called."""
    names = {str(package["package"]) for package in _config(home).get("packages", ())}
    return names | {name.partition("/")[2] for name in names}


def kept_versions(home: Path) -> set[str]:
    """Digests of the manifests that a home has a reason to keep."""
    return _tagged(home) | _recorded(home)


def current_versions(home: Path, service: str) -> list[str]:
    """Digests of the manifests that the state calls current for a service."""
    record = _state(home).get(service, {}).get("current")
    return [] if record is None else [record["digest"]]


def unowned(home: Path) -> list[str]:
    """What is in a settled home for no reason, or half, in words."""
    return sorted(
        [
            *_strangers(home),
            *_unowned_tags(home),
            *_unowned_blobs(home),
            *_unowned_packages(home),
            *_unowned_models(home),
        ]
    )


def _strangers(home: Path) -> Iterator[str]:
    for path in home.iterdir():
        if not (path.is_dir() and path.name in _FOLDERS) and not _FILES.fullmatch(path.name):
            yield f"{path.name}: nobody knows it"


def _unowned_tags(home: Path) -> Iterator[str]:
    kept = kept_versions(home)
    for file in _entries(home / "tags"):
        for tag in _entries(file):
            if tag.name.startswith("."):
                yield f"tags/{file.name}/{tag.name}: half a tag"
            elif tag.read_text() not in kept:
                yield f"tags/{file.name}/{tag.name}: names a version that nothing needs"


def _unowned_blobs(home: Path) -> Iterator[str]:
    root = home / "blobs"
    needed = kept_versions(home)
    for digest in list(needed):
        needed |= _blobs_of(_blob(home, digest))
    for path in _entries(root):
        if path.name not in ("oci-layout", "index.json", "blobs", "uploads"):
            yield f"blobs/{path.name}: nobody knows it"
    for path in _entries(root / "uploads"):
        yield f"blobs/uploads/{path.name}: an upload that nobody goes on with"
    for path in _entries(root / "blobs" / "sha256"):
        if f"sha256:{path.name}" not in needed:
            yield f"blobs/blobs/sha256/{path.name}: a blob that nothing needs"


def _unowned_packages(home: Path) -> Iterator[str]:
    root, data = home / "packages", home / "packages" / "data" / "ml_model"
    names = {package["name"] for package in _config(home).get("packages", ())}
    for path in _entries(root):
        if path.name == "data":
            continue
        if not path.is_symlink() or path.name not in names:
            yield f"packages/{path.name}: no package is called so"
        elif not path.is_dir():
            yield f"packages/{path.name}: leads nowhere"
    for path in _entries(root / "data"):
        if path != data:
            yield f"packages/data/{path.name}: nobody knows it"
    kept = kept_versions(home)
    for path in _entries(data):
        name = f"packages/data/ml_model/{path.name}"
        if path.name.endswith(".status.json"):
            if not path.with_name(path.name.removesuffix(".status.json")).is_dir():
                yield f"{name}: of a folder that is not there"
            continue
        status = path.with_name(f"{path.name}.status.json")
        if not status.is_file():
            yield f"{name}: without a status"
        elif json.loads(status.read_bytes())["digest"] not in kept:
            yield f"{name}: of a version that nothing needs"


def _unowned_models(home: Path) -> Iterator[str]:
    names = {package["name"] for package in _config(home).get("packages", ())}
    for model in _entries(home / "models"):
        if model.name not in names:
            yield f"models/{model.name}: no package is called so"
            continue
        for path in _entries(model):
            if path.name.startswith(".") or (path.is_symlink() and not path.is_dir()):
                yield f"models/{model.name}/{path.name}: leads nowhere, or half a file"


def _tagged(home: Path) -> set[str]:
    """What tags of the config's models are on: those that move, and those that it names."""
    wanted = {str(package.get("version")) for package in _config(home).get("packages", ())}
    names = config_models(home)
    return {
        tag.read_text()
        for repository in _entries(home / "tags")
        if repository.name.replace("+", "/") in names
        for tag in _entries(repository)
        if not tag.name.startswith(".") and (tag.name in wanted or not _OWN_TAG.fullmatch(tag.name))
    }


def _recorded(home: Path) -> set[str]:
    """Versions that a service runs, tries, or can go back to."""
    found = set()
    for service in _state(home).values():
        for key in ("current", "provisional", "rollback", "live", "previous"):
            record = service.get(key)
            if record is not None:
                found.add(record.get("record", record)["digest"])
    return found


def _state(home: Path) -> dict[str, dict[str, Any]]:
    state = _json(home / "state.json")
    services = state.get("services", {})
    return {name: one for name, one in services.items() if isinstance(one, dict)}


def _config(home: Path) -> dict[str, Any]:
    return _json(home / "config.json") or _json(home / "config.good.json")


def _json(file: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none that can be read."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return {}


def _blob(home: Path, digest: str) -> Path:
    return home / "blobs" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _blobs_of(manifest: Path) -> set[str]:
    data = _json(manifest)
    return {blob["digest"] for blob in (data.get("config"), *data.get("layers", ())) if blob}


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
