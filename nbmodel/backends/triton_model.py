"""A model as Triton takes it: its configuration, and its files by their path in its folder.

How both come to Triton (links in a folder, or bytes in a request) is not said here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import Known
from nbmodel.backends.triton_config import (
    ENGINES,
    PYTHON,
    Config,
    Engine,
    Wanted,
    check_written,
    data_type,
    model_config,
    optimization,
)
from nbmodel.backends.triton_fit import check_fit
from nbmodel.core.signature import Signature
from nbmodel.errors import (
    ConfigError,
    FormatError,
    InferenceError,
    NbModelError,
    PluginError,
)
from nbmodel.formats import ModelFacts, read_model
from nbmodel.formats.sidecar import config_beside
from nbmodel.golden import read_sample
from nbmodel.protocol.tensor import datatype_of

CONFIG = "config.pbtxt"
_NO_FIELD = re.compile(r'Message type "(?P<message>[\w.]+)" has no field named "(?P<field>[^"]*)"')
MAX_FILES = 10_000
MAX_CONFIG = 1 << 20  # bytes
_PROGRAM = Path(__file__).with_name("triton_python") / "model.py"
_SETTINGS = "settings.json"  # of that program
_WARM_UP = "warmup"  # Triton's name of the folder

#: What stands for a file: where it is, or its bytes.
Content = Path | bytes


@dataclass(frozen=True, slots=True)
class TritonModel:
    """A model as Triton takes it.

    Attributes:
        config: Its configuration, without its name and version.
        files: Path in the folder of its version → content.
        beside: Path in the folder of the model → content: labels, warm-up.
        scalars: Tensors that have no dimension, where Triton knows one of length 1.
    """

    config: Config
    files: Mapping[str, Content]
    beside: Mapping[str, Content] = field(default_factory=dict)
    scalars: frozenset[str] = frozenset()

    @property
    def backend(self) -> str:
        """Triton's name of the backend that it needs; empty when it is not said."""
        return str(self.config.get("backend", ""))

    def configured(self, name: str, version: int) -> Config:
        """The configuration under a name, with one version that is served."""
        return {
            **self.config,
            "name": name,
            "version_policy": {"specific": {"versions": [version]}},
        }


def model_from_file(path: Path, known: Known, wanted: Wanted) -> TritonModel:
    """The model that a file or a folder is.

    A file of ONNX is run by Triton's Python backend where the service's ``model_config`` says
    ``"backend": "python"``: with a program of ours that calls ONNX Runtime.

    Args:
        path: The model's file, or the folder that is the model.
        known: What is known of it besides.
        wanted: What its service asks for.

    Raises:
        InferenceError: It is of no format that Triton runs.
        NoCompatibleBackendError: It is of one that Triton runs, and cannot be run as it is.
        SignatureError: The configuration beside it is about another model.
        ConfigError: The service's ``model_config`` is none.
    """
    facts = read_model(path)
    engine = ENGINES.get(facts.framework)
    if engine is None:
        raise InferenceError(f"Triton runs no {facts.framework} models: {path.name}")
    files = _files(path, facts, engine)
    file = next(iter(files)) if engine is not ENGINES["savedmodel"] else engine.file
    written = _written(path)
    signature = known.signature or (facts.signature if not facts.gap else None)
    check_fit(engine, facts, signature, path.name)
    scalars = _scalars(signature)
    if engine.format == "onnx" and wanted.given.get("backend") == PYTHON.backend:
        files = {
            PYTHON.file: _PROGRAM.read_bytes(),
            _SETTINGS: _settings(file, wanted, scalars),
            **files,
        }
        engine, file = PYTHON, PYTHON.file
    labels = _labels(signature)
    config = model_config(
        engine,
        signature,
        wanted,
        file=file,
        label_files={name: label_file for name, (label_file, _) in labels.items()},
        written=written,
    )
    beside: dict[str, Content] = dict(labels.values())
    if known.sample is not None and "model_warmup" not in config:
        config, warm_up = _warmed(config, known.sample)
        beside |= warm_up
    return TritonModel(checked(config), files, beside, scalars)


def model_from_repository(folder: Path, version: int, wanted: Wanted) -> TritonModel:
    """A version of a model that lies in a model repository.

    Args:
        folder: Of the model, in the repository.
        version: Which of its versions; the folder of that name is there.
        wanted: What its service asks for.

    Raises:
        ConfigError: The service's ``model_config`` is none, or the one by hand is not.
        SignatureError: The one by hand is about other tensors than the model's file.
        FormatError: It has too many files.
    """
    written = _read_config(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    _check_by_file(written, folder / str(version))
    files: dict[str, Content] = {**_walked(folder / str(version))}
    beside: dict[str, Content] = {
        entry.name: entry
        for entry in sorted(folder.iterdir())
        if entry.is_file() and entry.name != CONFIG
    }
    if (folder / _WARM_UP).is_dir():
        beside |= {f"{_WARM_UP}/{name}": path for name, path in _walked(folder / _WARM_UP).items()}
    asked: Config = {}
    if wanted.max_batch_size and "max_batch_size" not in written:
        asked["max_batch_size"] = wanted.max_batch_size
    if "instance_group" not in written:
        asked["instance_group"] = [{"kind": wanted.kind, "count": wanted.instances}]
    if wanted.pinned_inputs is not None and "optimization" not in written:
        asked["optimization"] = optimization(wanted.pinned_inputs)
    config = {**written, **asked, **wanted.given}
    for field_ in ("name", "version_policy"):
        config.pop(field_, None)
    if not config.get("backend") and not config.get("platform"):
        config |= _guessed(files)
    return TritonModel(checked(config), files, beside)


def _check_by_file(written: Config, folder: Path) -> None:
    """Check the tensors of a configuration by hand against a model's file that tells its own.

    Raises:
        SignatureError: They are others; some outputs may be left out, as for Triton.
    """
    names = [str(written.get("default_model_filename", ""))] if written else []
    names += [engine.file for engine in ENGINES.values()] if written else []
    path = next((folder / name for name in names if name and (folder / name).exists()), None)
    if path is None:
        return
    try:
        facts = read_model(path)
    except NbModelError:
        return  # what cannot be read is Triton's to judge
    if facts.gap or facts.framework == PYTHON.format:
        return
    said = {entry.get("name") for entry in written.get("output", ())}
    outputs = tuple(one for one in facts.signature.outputs if one.name in said or not said)
    check_written(written, Signature(facts.signature.inputs, outputs))


def newest_version(folder: Path) -> int | None:
    """The largest number that a folder in a model's folder is called; None: there is none."""
    numbers = [
        int(entry.name)
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name.isascii() and entry.name.isdecimal()
    ]
    return max(numbers, default=None)


def checked(config: Config) -> Config:
    """A configuration whose fields Triton has.

    Raises:
        ConfigError: It has others, or wrong values.
        PluginError: tritonclient is not installed.
    """
    message = _message()
    from google.protobuf import json_format

    try:
        json_format.ParseDict(config, message)
    except (json_format.ParseError, TypeError, ValueError) as exc:
        unknown = _NO_FIELD.search(str(exc))
        if unknown is not None:
            raise _no_field(unknown["field"], unknown["message"], message) from exc
        raise ConfigError(
            f"not a model configuration of Triton: {' '.join(str(exc).split())}",
            hint="model_config has the fields of Triton's config.pbtxt, as JSON",
        ) from exc
    return config


def _no_field(field: str, message: str, config: Any) -> ConfigError:
    """The error for a field that a message of a configuration has not."""
    try:
        fields = list(config.DESCRIPTOR.file.pool.FindMessageTypeByName(message).fields_by_name)
    except KeyError:
        fields = []
    near = get_close_matches(field, fields, n=1)
    return ConfigError(
        f"not a model configuration of Triton: {message.partition('.')[2]} has no field {field!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"its fields are {', '.join(fields)}",
    )


def to_pbtxt(config: Config) -> str:
    """A configuration as ``config.pbtxt`` has it.

    Raises:
        ConfigError, PluginError: As ``checked``.
    """
    from google.protobuf import json_format, text_format

    message = json_format.ParseDict(checked(config), _message())
    text: str = text_format.MessageToString(message, as_utf8=True)
    return text


def to_json(config: Config) -> str:
    """A configuration as the request to load a model has it."""
    return json.dumps(config)


def _message() -> Any:
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as exc:
        raise PluginError(
            f"backend 'triton' needs tritonclient, which cannot be imported: {exc}",
            hint="pip install 'nbmodel[triton]'",
        ) from exc
    return model_config_pb2.ModelConfig()


def _read_config(path: Path) -> Config:
    """The fields of a configuration by hand."""
    from google.protobuf import json_format, text_format

    message = _message()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG + 1)
        if len(content) > MAX_CONFIG:
            raise FormatError(f"{path} has more than {MAX_CONFIG} bytes")
        text_format.Parse(content.decode(), message)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as exc:
        raise FormatError(
            f"cannot read {path.name} beside the model: {exc}",
            hint="correct it, or leave it out: it is then made from the signature",
        ) from exc
    found: Config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def _written(path: Path) -> Config:
    config = config_beside(path / CONFIG if path.is_dir() else path)
    if config is None:
        return {}
    found = _read_config(config)
    for ours in ("name", "version_policy", "platform", "backend", "default_model_filename"):
        found.pop(ours, None)
    return found


def _files(path: Path, facts: ModelFacts, engine: Engine) -> dict[str, Content]:
    """Path in the version's folder → file; the model's own file first."""
    if path.is_dir():
        main, folder = path / _marker(engine), path
    else:
        main, folder = path, path.parent
    if engine is PYTHON:  # whatever its program may import or read
        walked = {name: file for name, file in _walked(folder).items() if name != CONFIG}
        return {main.name: main, **walked}
    names = [main.name, *facts.external]
    if len(names) > MAX_FILES:
        raise FormatError(f"{path.name} has {len(names)} files, expected at most {MAX_FILES}")
    inside = f"{engine.file}/" if engine is ENGINES["savedmodel"] else ""
    found: dict[str, Content] = {}
    for name in names:
        if not (folder / name).is_file():
            raise FormatError(f"{path.name} needs {name!r}, which is not beside it")
        found[inside + PurePosixPath(name).as_posix()] = folder / name
    start = facts.metadata.get("plan_offset", 0)
    if start:  # notes that stand before a plan, with which TensorRT does not take it
        found[main.name] = main.read_bytes()[start:]
    return found


def _marker(engine: Engine) -> str:
    return "saved_model.pb" if engine is ENGINES["savedmodel"] else engine.file


def _walked(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _files_in(folder):
        found[path.relative_to(folder).as_posix()] = path
        if len(found) > MAX_FILES:
            raise FormatError(f"{folder} has more than {MAX_FILES} files")
    return found


def _files_in(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from _files_in(entry)
        elif entry.is_file():
            yield entry


def _guessed(files: Mapping[str, Content]) -> Config:
    """Backend and platform of a model without a configuration, by the name of its file."""
    for engine in ENGINES.values():
        if any(name == engine.file or name.startswith(f"{engine.file}/") for name in files):
            named = {"backend": engine.backend}
            return {**named, "platform": engine.platform} if engine.platform else named
    return {}


def _scalars(signature: Signature | None) -> frozenset[str]:
    tensors = () if signature is None else (*signature.inputs, *signature.outputs)
    return frozenset(tensor.name for tensor in tensors if tensor.shape == ())


def _settings(file: str, wanted: Wanted, scalars: frozenset[str]) -> bytes:
    """What the program for a file of ONNX is told: the parameter ``python_path`` is its own."""
    parameters = wanted.given.get("parameters", {})
    entry = parameters.get("python_path", {}) if isinstance(parameters, Mapping) else {}
    given = entry.get("string_value", "") if isinstance(entry, Mapping) else ""
    folders = [folder for folder in str(given).split(":") if folder]
    settings = {"file": file, "python_path": folders, "scalars": sorted(scalars)}
    return json.dumps(settings).encode()


def _labels(signature: Signature | None) -> dict[str, tuple[str, bytes]]:
    """Output → its label file and what is in it: one a line, whatever it is, as Triton counts."""
    found = {}
    for index, tensor in enumerate(signature.outputs if signature else ()):
        if tensor.labels:
            lines = "".join(f"{' '.join(label.split())}\n" for label in tensor.labels)
            found[tensor.name] = (f"labels-{index}.txt", lines.encode())
    return found


def _warmed(config: Config, sample: Path) -> tuple[Config, dict[str, Content]]:
    """A configuration with a warm-up by a golden sample; without one where that cannot be."""
    inputs: Mapping[str, NDArray[Any]] = {}
    with suppress(NbModelError):  # the golden sample's own test will say what is wrong with it
        inputs = read_sample(sample).inputs
    batch = int(config.get("max_batch_size", 0))
    if not inputs or any(not array.size or array.dtype == object for array in inputs.values()):
        return config, {}
    rows = {array.shape[0] if array.shape else 0 for array in inputs.values()}
    if batch and (len(rows) != 1 or not 0 < min(rows) <= batch):
        return config, {}
    files: dict[str, Content] = {}
    entries: dict[str, Any] = {}
    for index, (name, array) in enumerate(inputs.items()):
        file = f"golden-{index}.bin"
        dims = list(array.shape[1:] if batch else array.shape) or [1]
        entries[name] = {
            "data_type": data_type(datatype_of(array, what=name)),
            "dims": dims,
            "input_data_file": file,
        }
        files[f"{_WARM_UP}/{file}"] = np.ascontiguousarray(array).tobytes()
    warm_up = {"name": "golden", "batch_size": min(rows) if batch else 0, "inputs": entries}
    return {**config, "model_warmup": [warm_up]}, files
