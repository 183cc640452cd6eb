"""A version of an MLflow registry: ``models:/name/version`` and ``models:/name@alias``.

The tracking server is the one of ``MLFLOW_TRACKING_URI`` (or ``MLFLOW_REGISTRY_URI``). A
server behind ``http`` is asked over its REST API, without MLflow; a database or folder needs
MLflow installed here. What the registry and the run say comes along: number, aliases, tags,
metrics and parameters.

Source: MLflow's documentation, "REST API": ``registered-models/alias``,
``model-versions/get``, ``model-versions/get-download-uri``, ``runs/get``;
``mlflow-artifacts`` routes of the tracking server.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from nbmodel.core.address import is_loopback
from nbmodel.core.origin import Origin
from nbmodel.errors import InputError, PluginError, StorageError
from nbmodel.importing.base import (
    Fetched,
    Import,
    Importer,
    kept_tags,
    local_path,
    name_from,
    safe_path,
)
from nbmodel.importing.documents import text
from nbmodel.importing.download import Web
from nbmodel.storage.base import translated

_URI = re.compile(r"models:/{1,3}(?P<name>[^/@]+)(?:/(?P<version>[^/@]+)|@(?P<alias>[^/@]+))?")
_VARIABLES = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
_MAX_VALUES = 10_000  # of metrics, parameters or tags


@dataclass(frozen=True, slots=True)
class _Version:
    """A version, as the registry tells of it."""

    name: str
    number: str
    run_id: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()
    stage: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


class _Registry(Protocol):
    """What is asked of a registry."""

    def find(self, name: str, version: str, alias: str) -> _Version:
        """One version."""

    def bring(self, version: _Version, room: Path) -> Path:
        """Its files, in a folder."""


class MlflowRegistry(Importer):
    """``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``."""

    name = "mlflow"
    form = "models:/NAME/VERSION (NAME@ALIAS)"

    def takes(self, uri: str) -> bool:
        """Whether it is of a registry of models."""
        return uri.startswith("models:/")

    def fetch(self, uri: str, job: Import) -> Fetched:
        """The files of a version, with all that the registry and its run say."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise InputError(f"not a version of an MLflow registry: {uri[:200]!r}", hint=self.form)
        server = next(filter(None, map(os.environ.get, _VARIABLES)), "")
        name, version, alias = unquote(found["name"]), found["version"] or "", found["alias"] or ""
        room = job.room("mlflow")
        if server.startswith(("http://", "https://")):
            with Web(job, server, _credential()) as web:
                return self._fetched(
                    _Server(web, server.rstrip("/"), job), (name, version, alias), room
                )
        return self._fetched(_Library(job), (name, version, alias), room)

    def _fetched(self, registry: _Registry, asked: tuple[str, str, str], room: Path) -> Fetched:
        version = registry.find(*asked)
        folder = registry.bring(version, room)
        tags, loose = kept_tags(version.tags, "mlflow.tag.")
        said = {
            "name": version.name,
            "version": version.number,
            "run_id": version.run_id,
            "aliases": list(version.aliases),
            "stage": version.stage if version.stage != "None" else "",
            "parameters": dict(version.parameters),
            "tags": loose,
        }
        own = {"mlflow.version": version.number, "mlflow.aliases": ",".join(version.aliases)[:1024]}
        if version.run_id:
            own["mlflow.run_id"] = version.run_id
        return Fetched(
            folder,
            Origin(self.name, f"models:/{version.name}/{version.number}", version.number),
            name=name_from(version.name),
            description=version.description,
            metadata={"mlflow.registry": {key: one for key, one in said.items() if one}},
            metrics=version.metrics,
            tags={**tags, **{key: one for key, one in own.items() if one}},
        )


class _Server:
    """A tracking server, asked over its REST API."""

    def __init__(self, web: Web, base: str, job: Import) -> None:
        self._web = web
        self._base = base
        self._job = job

    def find(self, name: str, version: str, alias: str) -> _Version:
        """One version, by number, alias, stage, or the newest."""
        try:
            return self._found(name, version, alias)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise StorageError("MLflow answered something else than a version") from exc

    def _found(self, name: str, version: str, alias: str) -> _Version:
        if alias:
            found = self._get("registered-models/alias", name=name, alias=alias)["model_version"]
        elif version.isdecimal():
            found = self._get("model-versions/get", name=name, version=version)["model_version"]
        else:
            found = self._newest(name, version)
        version_of = _read_version(found)
        if not version_of.run_id:
            return version_of
        try:
            run = self._get("runs/get", run_id=version_of.run_id)["run"]["data"]
        except InputError:
            return version_of  # a run may have been deleted
        return replace(
            version_of,
            metrics=_numbers(_pairs(run.get("metrics"))),
            parameters=_words(_pairs(run.get("params"))),
            tags={**_words(_pairs(run.get("tags"))), **version_of.tags},
        )

    def _newest(self, name: str, stage: str) -> Mapping[str, Any]:
        """The newest version, of all or of a stage."""
        clause = f"name='{name}'"
        if "'" in name:
            raise InputError(f"name of a model with a quote: {name[:80]!r}")
        token, versions = "", list[Mapping[str, Any]]()
        for _ in range(100):
            page = self._get("model-versions/search", filter=clause, page_token=token)
            versions += [one for one in page.get("model_versions", []) if isinstance(one, Mapping)]
            token = str(page.get("next_page_token") or "")
            if not token:
                break
        if stage and stage != "latest":
            versions = [
                one
                for one in versions
                if str(one.get("current_stage", "")).lower() == stage.lower()
            ]
        if not versions:
            raise InputError(f"MLflow has no version {stage or 'latest'} of {name!r}")
        return max(versions, key=lambda one: int(one.get("version", 0)))

    def bring(self, version: _Version, room: Path) -> Path:
        """Its files: over the server, from an object store, or from this machine."""
        asked = self._get(
            "model-versions/get-download-uri", name=version.name, version=version.number
        )
        uri = str(asked.get("artifact_uri", ""))
        try:
            kept, path = urlsplit(uri), local_path(uri)
        except ValueError as exc:
            raise StorageError(f"MLflow answered {uri[:200]!r}, expected an address") from exc
        if kept.scheme == "mlflow-artifacts":
            self._artifacts(kept.path.strip("/"), room)
            return room
        if path is not None:
            # Only a server of this machine may name its folders.
            is_here = is_loopback(urlsplit(self._base).hostname or "")
            if not is_here or not path.is_dir():
                raise InputError(
                    f"MLflow keeps {version.name}/{version.number} at {uri[:200]}, which is not on "
                    "this machine",
                    hint="start its server with --serve-artifacts, or import from where it is",
                )
            return path
        from nbmodel.importing.object_store import ObjectStore

        store = ObjectStore()
        if not store.takes(uri):
            raise InputError(f"MLflow keeps it at {uri[:200]}, where nothing here fetches from")
        return store.fetch(uri, replace(self._job, sha256=None, paths=("*",))).path

    def _artifacts(self, root: str, room: Path) -> None:
        base = f"{self._base}/api/2.0/mlflow-artifacts/artifacts"
        waiting, files, seen = [root], dict[str, int](), 0
        while waiting:
            folder = waiting.pop()
            listed = self._web.json("GET", f"{base}?{urlencode({'path': folder})}")
            entries = listed.get("files", []) if isinstance(listed, Mapping) else None
            if not isinstance(entries, list):
                raise StorageError("MLflow answered something else than files")
            for one in entries:
                seen += 1  # folders too, or one in another would have no end
                self._job.check_count(seen, "the model")
                name = _inside(one, folder)
                if one.get("is_dir"):
                    waiting.append(name)
                else:
                    files[name] = _bytes(one.get("file_size"))
        self._job.check_size(sum(files.values()), "the model")
        self._job.expect(sum(files.values()))
        used = 0
        for name, size in files.items():
            target = room / safe_path(name.removeprefix(root).lstrip("/"))
            got = self._web.download(f"{base}/{quote(name)}", target, used=used)
            used += max(size, got.path.stat().st_size)

    def _get(self, route: str, **query: str) -> Any:
        asked = urlencode({key: value for key, value in query.items() if value})
        answer = self._web.json("GET", f"{self._base}/api/2.0/mlflow/{route}?{asked}")
        if not isinstance(answer, Mapping):
            raise StorageError(f"MLflow answered something else to {route}")
        return answer


class _Library:
    """A registry that MLflow itself opens: a database, a folder, Databricks."""

    def __init__(self, job: Import) -> None:
        self._job = job
        try:
            # Not a dependency, so that nobody else's tools look for it either.
            mlflow = import_module("mlflow")
            errors = import_module("mlflow.exceptions")
        except ImportError as exc:
            raise PluginError(
                "this MLflow registry needs mlflow, which is not installed",
                hint="pip install mlflow, or set MLFLOW_TRACKING_URI to the address of its server",
            ) from exc
        self._mlflow: Any = mlflow
        self._error: type[Exception] = errors.MlflowException
        self._client = mlflow.MlflowClient()

    def find(self, name: str, version: str, alias: str) -> _Version:
        """One version, by number, alias, stage, or the newest."""
        try:
            if alias:
                found = self._client.get_model_version_by_alias(name, alias)
            elif version.isdecimal():
                found = self._client.get_model_version(name, version)
            else:
                found = self._newest(name, version)
            told = dict(found)
            told["aliases"] = list(self._client.get_model_version(name, told["version"]).aliases)
            told["tags"] = [{"key": key, "value": value} for key, value in found.tags.items()]
            made = _read_version(told)
        except self._error as exc:
            raise InputError(f"MLflow: {' '.join(str(exc).split())[:300]}") from exc
        if not made.run_id:
            return made
        try:
            run = self._client.get_run(made.run_id).data
        except self._error:
            return made
        return replace(
            made,
            metrics=_numbers(dict(run.metrics)),
            parameters=_words(dict(run.params)),
            tags={**_words(dict(run.tags)), **made.tags},
        )

    def bring(self, version: _Version, room: Path) -> Path:
        """Its files."""
        self._job.check()
        try:
            with translated("keep what is imported"):
                place = self._mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{version.name}/{version.number}", dst_path=str(room)
                )
        except self._error as exc:
            raise InputError(f"MLflow: {' '.join(str(exc).split())[:300]}") from exc
        return Path(place)

    def _newest(self, name: str, stage: str) -> Any:
        versions = self._client.search_model_versions(f"name='{name}'")
        if stage and stage != "latest":
            versions = [one for one in versions if one.current_stage.lower() == stage.lower()]
        if not versions:
            raise InputError(f"MLflow has no version {stage or 'latest'} of {name!r}")
        return max(versions, key=lambda one: int(one.version))


def _read_version(found: Any) -> _Version:
    try:
        return _Version(
            name=str(found["name"]),
            number=str(found["version"]),
            run_id=text(found.get("run_id"), 200),
            description=text(found.get("description"), 10_000),
            aliases=tuple(str(one)[:200] for one in found.get("aliases") or ())[:100],
            stage=text(found.get("current_stage"), 80),
            tags=_words(_pairs(found.get("tags"))),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise StorageError("MLflow answered something else than a version") from exc


def _pairs(listed: object) -> dict[str, Any]:
    if not isinstance(listed, list):
        return {}
    return {
        str(one["key"]): one.get("value")
        for one in listed[:_MAX_VALUES]
        if isinstance(one, Mapping) and "key" in one
    }


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    """Without what MLflow keeps for itself, such as the log of models."""
    return {key: text(one) for key, one in values.items() if not key.startswith("mlflow.")}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found[key[:250]] = number
    return found


def _inside(entry: object, folder: str) -> str:
    """The path of an entry of a folder, from the root of artifacts."""
    path = str(entry.get("path", "")) if isinstance(entry, Mapping) else ""
    name = safe_path(path.rpartition("/")[2])
    return f"{folder}/{name}" if folder else name


def _bytes(said: object) -> int:
    """A size as the server tells it: a number, or digits, or nothing."""
    try:
        size = int(str(said or 0))
    except ValueError:
        size = -1
    if size < 0:
        raise StorageError(f"MLflow answered {str(said)[:80]!r}, expected the bytes of a file")
    return size


def _credential() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        return {}
    word = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(word).decode('ascii')}"}
