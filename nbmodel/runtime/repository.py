"""Loading and unloading over the wire: what a runtime does differently from its config.

The machine config stays the truth on disk. Over it lies an overlay in memory: services that
were unloaded, and services that run with other settings or files. A restart forgets it, and
so does a new machine config for the services that it changes.

The rules are here; starting and stopping is the reconciler's.

Source: Triton's model repository extension.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from nbmodel.core.document import MAX_DEPTH, is_too_deep
from nbmodel.core.machine import MLMODEL_API, MachineConfig, Service
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.errors import FormatError, InferenceError, StorageUnavailableError
from nbmodel.runtime.triton_names import TRITON_BACKENDS

MAX_FILES = 256
MAX_BYTES = 2 * 1024**3  # of all files of one load
MAX_PART = 255  # bytes of a file's name on every usual file system
MAX_PARTS = 8  # folders and file
_FILE = re.compile(r"file:([1-9][0-9]{0,9})/(.+)", re.DOTALL)
#: Fields of Triton's ModelConfig; another is a mistake that is told.
_KNOWN_FIELDS = frozenset(
    [
        "name",
        "platform",
        "backend",
        "runtime",
        "version_policy",
        "max_batch_size",
        "input",
        "output",
        "batch_input",
        "batch_output",
        "optimization",
        "dynamic_batching",
        "sequence_batching",
        "ensemble_scheduling",
        "instance_group",
        "default_model_filename",
        "cc_model_filenames",
        "metric_tags",
        "parameters",
        "model_warmup",
        "model_operations",
        "model_transaction_policy",
        "model_repository_agents",
        "response_cache",
        "model_metrics",
    ]
)
_MODEL_FILES = {".onnx": "onnx_cpu", ".tflite": "tflite_cpu"}


@dataclass(frozen=True, slots=True)
class Override:
    """How a service runs differently from its entry in the machine config.

    Attributes:
        attributes: Laid over those of the entry.
        backend: What runs it, or None for the entry's.
        folder: Where its own files are, or None.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """What differs from the machine config.

    Attributes:
        unloaded: Services of the config that shall not run.
        overrides: Service → how it runs differently.
    """

    unloaded: frozenset[str] = frozenset()
    overrides: Mapping[str, Override] = field(default_factory=dict)

    def with_loaded(self, name: str, override: Override | None) -> Overlay:
        """The overlay with a service that runs: differently, or as configured."""
        others = {key: value for key, value in self.overrides.items() if key != name}
        if override is not None:
            others[name] = override
        return Overlay(self.unloaded - {name}, others)

    def with_unloaded(self, name: str, config: MachineConfig) -> Overlay:
        """The overlay with a service that does not run."""
        others = {key: value for key, value in self.overrides.items() if key != name}
        configured = _service(config, name) is not None
        return Overlay(self.unloaded | {name} if configured else self.unloaded, others)

    def after(self, before: MachineConfig, config: MachineConfig) -> Overlay:
        """What is left of the overlay when another machine config is set.

        A service whose entry, or whose package, changed or went away follows the config
        again; one that exists in the overlay alone stays, unless the config has it now.
        """

        def is_kept(name: str) -> bool:
            return _entry(before, name) == _entry(config, name)

        return Overlay(
            frozenset(filter(is_kept, self.unloaded)),
            {name: override for name, override in self.overrides.items() if is_kept(name)},
        )

    def applied(self, config: MachineConfig) -> MachineConfig:
        """The config with overrides laid over it; unloaded services are still in it."""
        if not self.overrides:
            return config
        services = [
            _overridden(service, self.overrides[service.name])
            if service.is_served and service.name in self.overrides
            else service
            for service in config.services
        ]
        known = {service.name for service in config.services if service.is_served}
        services += [
            Service(name, MLMODEL_API, override.backend or "", dict(override.attributes))
            for name, override in self.overrides.items()
            if name not in known
        ]
        return replace(config, services=tuple(services))


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a load asks for.

    Attributes:
        config: Triton's model configuration as JSON text, or None.
        files: ``<version>/<path>`` split → content.
    """

    config: str | None = None
    files: Mapping[tuple[int, PurePosixPath], bytes] = field(default_factory=dict)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str | bytes]) -> LoadRequest:
        """From the parameters of a load: ``config`` and ``file:<version>/<path>``.

        Args:
            parameters: By name; a file is bytes, or text in base64.

        Raises:
            FormatError: Another parameter, a path that is not safe, or too much.
            InferenceError: A file's name that is longer than file systems have them.
        """
        config: str | None = None
        files: dict[tuple[int, PurePosixPath], bytes] = {}
        for name, value in parameters.items():
            if name == "config":
                config = _text(value)
            elif name.startswith("file:"):
                files[_file_key(name)] = _content(name, value)
            else:
                raise FormatError(
                    f"unknown parameter {name!r} of a load: expected 'config' or "
                    "'file:<version>/<name>'"
                )
        if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
            raise FormatError(
                f"files of a load: expected at most {MAX_FILES} with {MAX_BYTES} bytes in all, "
                f"found {len(files)} with {sum(map(len, files.values()))}"
            )
        return cls(config, files)


class OverrideFolder:
    """The files that came with loads, each load's in a folder of its own.

    Args:
        path: Of all of them; what an earlier run left there is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.clear()

    def write(self, files: Mapping[tuple[int, PurePosixPath], bytes]) -> Path:
        """Keep the files of a load; their new folder.

        Raises:
            StorageUnavailableError: They cannot be written.
        """
        folder: Path | None = None
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._path))
            for (version, path), content in files.items():
                target = folder / str(version) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except OSError as exc:
            self.remove(folder)  # most of all where the disk is full
            raise StorageUnavailableError(f"cannot keep the files of a load: {exc}") from exc
        return folder

    def remove(self, folder: Path | None) -> None:
        """Forget the files of a load."""
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Forget all files."""
        shutil.rmtree(self._path, ignore_errors=True)


def failed_to_load(name: str, hint: str | None = None) -> InferenceError:
    """The error for a model that cannot be found, in Triton's words."""
    return InferenceError(
        f"failed to load {name!r}, failed to poll from model repository", hint=hint
    )


def check_name(name: str) -> None:
    """Refuse a name that no service can have.

    Raises:
        FormatError: It is none.
    """
    entry = {"name": name, "api": MLMODEL_API, "model": "onnx_cpu", "attributes": {}}
    _, problems = MachineConfig.read({"services": [entry]})
    if problems:
        raise FormatError(f"failed to load {name!r}: {'; '.join(problems)}")


def read_override(name: str, request: LoadRequest, folder: Path | None) -> Override | None:
    """How a service shall run; None when nothing differs from its entry.

    Args:
        name: Of the service.
        request: What was asked.
        folder: Where the request's files are; None when it has none.

    Raises:
        FormatError: The configuration cannot be read.
        InferenceError: There are files without a configuration, or without a model.
    """
    if request.config is None and not request.files:
        return None
    if request.config is None:
        raise failed_to_load(name, "files need the parameter 'config' beside them")
    config = _read_config(name, request.config)
    attributes = _attributes(config)
    backend = _backend(config)
    if folder is None:
        return Override(attributes, backend)
    version = max(version for version, _ in request.files)
    path = _model_file(name, config, [path for found, path in request.files if found == version])
    attributes["model_path"] = str(folder / str(version) / path)
    return Override(attributes, backend or _MODEL_FILES.get(path.suffix), folder)


def _read_config(name: str, text: str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"failed to load {name!r}: the config is no JSON: {exc}") from exc
    if not isinstance(config, dict) or is_too_deep(config):
        raise FormatError(
            f"failed to load {name!r}: expected a config that is a JSON object of at most "
            f"{MAX_DEPTH} levels"
        )
    unknown = sorted(config.keys() - _KNOWN_FIELDS)
    if unknown:
        raise FormatError(
            f"failed to load {name!r}: no such field in a model config: {', '.join(unknown)}"
        )
    if config.get("name", name) not in ("", name):
        raise FormatError(f"failed to load {name!r}: the config is of model {config['name']!r}")
    return config


def _attributes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a service that fields of Triton's model configuration stand for."""
    attributes: dict[str, Any] = {}
    if "max_batch_size" in config:
        attributes["max_batch_size"] = _integer("max_batch_size", config["max_batch_size"])
    groups = config.get("instance_group")
    if groups:
        attributes["instances"] = sum(
            _integer("count of instance_group", group.get("count", 1))
            for group in _objects("instance_group", groups)
        )
    batching = config.get("dynamic_batching")
    if batching is not None:
        (batching,) = _objects("dynamic_batching", [batching])
        if "max_queue_delay_microseconds" in batching:
            attributes["max_queue_delay_microseconds"] = _integer(
                "max_queue_delay_microseconds", batching["max_queue_delay_microseconds"]
            )
        (policy,) = _objects("default_queue_policy", [batching.get("default_queue_policy", {})])
        if "max_queue_size" in policy:
            attributes["max_queue_size"] = _integer("max_queue_size", policy["max_queue_size"])
    (parameters,) = _objects("parameters", [config.get("parameters", {})])
    if "intra_op_thread_count" in parameters:
        (threads,) = _objects("intra_op_thread_count", [parameters["intra_op_thread_count"]])
        attributes["num_threads"] = _integer("intra_op_thread_count", threads.get("string_value"))
    return attributes


def _objects(name: str, values: object) -> list[dict[str, Any]]:
    if isinstance(values, list) and all(isinstance(value, dict) for value in values):
        return values
    raise FormatError(f"{name!r} of a model config: expected an object, found {values!r}")


def _integer(name: str, value: object) -> int:
    """A number of the configuration; 64-bit ones are text in protobuf's JSON."""
    if type(value) is int and 0 <= value < 2**63:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    raise FormatError(f"{name!r} of a model config: expected a number, found {value!r}")


def _backend(config: Mapping[str, Any]) -> str | None:
    named = config.get("backend") or config.get("platform")
    return TRITON_BACKENDS.get(named, named) if isinstance(named, str) else None


def _model_file(name: str, config: Mapping[str, Any], paths: list[PurePosixPath]) -> PurePosixPath:
    wanted = config.get("default_model_filename")
    if isinstance(wanted, str) and wanted:
        found = [path for path in paths if str(path) == wanted]
    else:
        found = [path for path in paths if path.suffix in _MODEL_FILES]
        found = [path for path in found if path.stem == "model"] or found
    if len(found) != 1:
        there = ", ".join(sorted(map(str, paths)))
        raise failed_to_load(name, f"which file is the model? There are: {there}")
    return found[0]


def _file_key(name: str) -> tuple[int, PurePosixPath]:
    if any(len(part.encode()) > MAX_PART for part in name.removeprefix("file:").split("/")):
        # The one unsafe name that Triton's own client expects to be its repository's failure.
        raise InferenceError(
            f"failed to poll from model repository: a file cannot be called {name[:60]!r}…, "
            f"expected at most {MAX_PART} bytes between slashes"
        )
    match = _FILE.fullmatch(name)
    parts = match[2].split("/") if match is not None else []
    is_safe = 0 < len(parts) <= MAX_PARTS and all(
        part not in ("", ".", "..") and "\\" not in part and part.isprintable() for part in parts
    )
    if match is None or not is_safe:
        raise FormatError(
            f"{name[:300]!r}: expected 'file:<version>/<name>' with a number and a path of at "
            f"most {MAX_PARTS} parts that stays inside"
        )
    return int(match[1]), PurePosixPath(*parts)


def _content(name: str, value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FormatError(f"{name!r}: expected base64: {exc}") from exc


def _text(value: str | bytes) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as exc:
        raise FormatError(f"'config': expected text: {exc}") from exc


def _service(config: MachineConfig, name: str) -> Service | None:
    return next((one for one in config.services if one.is_served and one.name == name), None)


def _entry(config: MachineConfig, name: str) -> tuple[object, ...]:
    """What a config says about a service: its entry, and the packages it may use."""
    service = _service(config, name)
    if service is None:
        return ()
    packages = {package.name: package for package in config.packages}
    used = replace_placeholders(
        dict(service.attributes), packages, folder=lambda _: "", environment={}
    ).packages
    return (service, *(packages[one] for one in used))


def _overridden(service: Service, override: Override) -> Service:
    if override.folder is not None:  # its own files, so nothing of the entry's model
        return replace(
            service,
            model=override.backend or service.model,
            attributes=dict(override.attributes),
        )
    return replace(service, attributes={**service.attributes, **override.attributes})
