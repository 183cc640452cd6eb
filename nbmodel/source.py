"""What an upload holds, read from paths on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from nbmodel.core.contract import example_of
from nbmodel.core.golden import Golden
from nbmodel.core.labels import format_labels, labels_from_map
from nbmodel.core.lineage import Conversion
from nbmodel.core.manifest import DATASET_TYPE, DOC_TYPE, check_path
from nbmodel.core.signature import Signature, describe
from nbmodel.errors import FormatError, InputError, ManifestError, UnknownFormatError
from nbmodel.formats import ModelFacts, fill_gap, folder_format, read_model
from nbmodel.formats.sidecar import CONFIG, signature_in
from nbmodel.label_file import read_label_file

LABELS_PATH = "labels.txt"  # where a version keeps labels that its model file has not
MAX_FILES = 10_000  # in one uploaded folder
_CODE = ".py"

#: Labels as a person gives them: a file, a list in index order, or ``{name: index}``.
LabelsGiven: TypeAlias = "str | Path | Sequence[str] | Mapping[str, int] | None"


@dataclass(frozen=True, slots=True)
class Source:
    """What becomes a version: files, and what is known of them.

    Attributes:
        files: Path in the version → file on this machine, or the bytes themselves.
        model_path: Which of them is the model; of a folder that is one, the file that makes
            it one.
        framework: Its format.
        model_type: What it is for, as far as the model tells.
        signature: Inputs and outputs, labels included.
        metadata: JSON values by name.
        description: What the model file says it is.
        golden: The acceptance test, when ``files`` has one.
        conversion: How the model file was made from a live object.
    """

    files: Mapping[str, Path | bytes]
    model_path: str
    framework: str
    model_type: str | None
    signature: Signature
    metadata: Mapping[str, Any]
    description: str = ""
    golden: Golden | None = None
    conversion: Conversion | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(
            len(file) if isinstance(file, bytes) else file.stat().st_size
            for file in self.files.values()
        )

    @property
    def media_types(self) -> dict[str, str]:
        """Media types of the files that are not weights."""
        types = {LABELS_PATH: DOC_TYPE}
        if self.golden is not None:
            types[self.golden.path] = DATASET_TYPE
        return {path: kind for path, kind in types.items() if path in self.files}

    def with_golden(self, golden: Golden, sample: bytes) -> Source:
        """The same with an acceptance test: its tolerance, and its file."""
        return replace(self, golden=golden, files={**self.files, golden.path: sample})


def read_source(
    paths: Sequence[str | Path],
    labels: LabelsGiven = None,
    signature: Signature | None = None,
    observe: Callable[[Path, ModelFacts], ModelFacts] | None = None,
) -> Source:
    """Read what is to be uploaded: one model file with companions, or one folder.

    A folder is taken whole, hidden files excepted; files that a model keeps its weights in
    come along by themselves. A folder that is a model, as a SavedModel is, has everything
    in it for its own.

    Args:
        paths: Files, or a single folder; exactly one model is among them.
        labels: Class names; they win over a ``labels.txt`` among the files.
        signature: What to say about tensors beyond what the file says; all of it, where a
            format tells nothing of them.
        observe: Tells of tensors where neither the file nor ``signature`` does: given the
            model file and what is known, the same with less of a gap.

    Raises:
        InputError: A path does not exist, or leads out of its folder; there is no model
            among them, or several; labels are none, or not as many as the classes; or
            neither the file nor ``signature`` tells datatypes.
        FormatError: The model file is not what it claims to be.
        SignatureError: ``signature`` contradicts the file.
    """
    files = gather_files(paths)
    model_path, facts = _find_model(files)
    if facts.gap:
        facts = _by_config(files, model_path, facts)
    if facts.gap:
        facts = _told(files[model_path], facts, signature, observe)
    files |= _external(files[model_path], model_path, facts)
    contents: dict[str, Path | bytes] = dict(files)
    names = read_labels(labels)
    if names is not None:
        contents[LABELS_PATH] = format_labels(names)
    elif LABELS_PATH in files:
        names = _labels_file(files[LABELS_PATH])
    tensors = facts.signature.with_labels(names) if names else facts.signature
    if signature is not None:
        tensors = tensors.overridden_by(signature)
    _check_labels(tensors, facts.signature)
    return Source(
        files=contents,
        model_path=model_path,
        framework=facts.framework,
        model_type=facts.model_type,
        signature=tensors,
        metadata=facts.metadata,
        description=facts.description,
    )


def _by_config(files: Mapping[str, Path], model_path: str, facts: ModelFacts) -> ModelFacts:
    """The facts of a model with what a configuration given with it says, wherever that lies."""
    config = files.get((Path(model_path).parent / CONFIG).as_posix())
    told = None if config is None else signature_in(config)
    return facts if told is None else fill_gap(facts, told)


def _told(
    model: Path,
    facts: ModelFacts,
    signature: Signature | None,
    observe: Callable[[Path, ModelFacts], ModelFacts] | None,
) -> ModelFacts:
    """The facts of a file that does not tell all of its tensors, with what a person says."""
    filled = facts if signature is None else fill_gap(facts, signature)
    if filled.gap and observe is not None:
        filled = observe(model, filled)
    if filled.gap:
        tensors = filled.signature.inputs + filled.signature.outputs
        known = f"; it has {', '.join(map(describe, tensors))}" if tensors else ""
        raise InputError(
            f"cannot upload {model} without its signature: {facts.gap}{known}",
            hint="give --signature, a file or "
            f"'{example_of(filled.signature, ('inputs', 'outputs'))}', "
            "or put Triton's config.pbtxt beside it",
        )
    return filled


def _external(model: Path, model_path: str, facts: ModelFacts) -> dict[str, Path]:
    """The files beside a model in which it keeps weights."""
    found = {}
    for name in facts.external:
        file = model.parent / name
        if not file.is_file():
            raise InputError(
                f"{model} keeps weights in {name!r}, which is not beside it",
                hint=f"put {name!r} into {model.parent} and upload again",
            )
        _check_inside(file, model.parent)
        found[(Path(model_path).parent / name).as_posix()] = file
    return found


def _check_inside(path: Path, root: Path) -> None:
    """Refuse a file that was not named, and that a link has somewhere else on the machine."""
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise InputError(
            f"cannot upload {path}: it is a link that leads out of {root}, to {target}",
            hint="copy the file there, in place of the link",
        )


def _check_labels(signature: Signature, read: Signature) -> None:
    """Refuse labels that somebody gave, where they are not as many as the classes.

    What a file says of itself is left alone. So are outputs of more axes than rows and
    classes, of which the last is not always the classes, and a single score for two.
    """
    for tensor, own in zip(signature.outputs, read.outputs, strict=True):
        count = len(tensor.labels)
        if not count or tensor.labels == own.labels or tensor.label_kind != "axis":
            continue
        if not tensor.shape or len(tensor.shape) > 2:
            continue
        classes = tensor.shape[-1]
        if classes not in (-1, count) and (classes, count) != (1, 2):
            raise InputError(
                f"{count} labels for output {tensor.name!r} with {classes} classes",
                hint="give one label a class, in the order of the classes",
            )


def read_labels(given: LabelsGiven) -> tuple[str, ...] | None:
    """Labels in index order, from any form a person may give; None for None.

    Raises:
        InputError: The file does not exist, is too large or no text; indices clash; or
            there is no label at all.
    """
    if given is None:
        return None
    if isinstance(given, str | Path):
        return _labels_file(Path(given).expanduser())
    if isinstance(given, Mapping):
        labels = labels_from_map(given)
    else:
        labels = tuple(str(label) for label in given)
    if not any(labels):
        raise InputError("the labels given are empty", hint="give one label a class, or none")
    return labels


def _labels_file(path: Path) -> tuple[str, ...]:
    try:
        labels = read_label_file(path)
    except InputError as exc:
        raise InputError(f"cannot read labels from {path}: {exc}", hint=exc.hint) from exc
    if not any(labels):
        raise InputError(f"labels file {path} has no labels", hint="write one label a line")
    return labels


def gather_files(given: Sequence[str | PathLike[str]]) -> dict[str, Path]:
    """The files that an upload names, unread: path in the version → where it is.

    Args:
        given: Files, or a single folder, hidden files in it excepted.

    Raises:
        InputError: One does not exist, leads out of its folder or cannot be in a version; or
            there are too many.
    """
    paths = [Path(path).expanduser() for path in given]
    if not paths:
        raise InputError("nothing to upload: expected a model file or a folder")
    for path in paths:
        if not path.exists():
            raise InputError(f"no such file: {path}", hint=_near(path))
    if len(paths) == 1 and paths[0].is_dir():
        return _folder(paths[0])
    files: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder", hint="upload a folder alone, or list its files")
        if path.name in files:
            raise InputError(f"two files are called {path.name!r}: {files[path.name]}, {path}")
        files[_path_in_version(path.name, path)] = path
    return files


def _folder(root: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
            continue
        _check_inside(path, root)
        if path.is_file():
            files[_path_in_version(inside.as_posix(), path)] = path
        if len(files) > MAX_FILES:
            raise InputError(f"folder {root} has more than {MAX_FILES} files")
    if not files:
        raise InputError(f"folder {root} is empty")
    return files


def _path_in_version(name: str, path: Path) -> str:
    try:
        return check_path(name)
    except ManifestError as exc:
        raise InputError(
            f"cannot upload {path}: its name has characters that are not portable",
            hint="rename it without ':', '\\' and control characters",
        ) from exc


def _find_model(files: Mapping[str, Path]) -> tuple[str, ModelFacts]:
    if len(files) == 1:
        (only,) = files
        return only, read_model(files[only])
    found, rest = _folder_models(files)
    refused: list[FormatError] = []
    for name in rest:
        path = files[name]
        try:
            found.append((name, read_model(path)))
        except UnknownFormatError:
            continue
        except FormatError as exc:
            if path.suffix in (".onnx", ".tflite"):
                raise
            refused.append(exc)
    if refused and not found:
        raise refused[0]
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        is_triton = any(PurePosixPath(name).name == "config.pbtxt" for name in files)
        raise InputError(
            f"expected exactly one model among {len(files)} files, found {names}",
            hint="of a Triton model, `import` takes the version that is served; --revision another"
            if is_triton
            else "upload each model under its own name",
        )
    return found[0]


def _folder_models(files: Mapping[str, Path]) -> tuple[list[tuple[str, ModelFacts]], list[str]]:
    """The folders among files that are models, and the files that are in none of them."""
    found: list[tuple[str, ModelFacts]] = []
    roots: list[PurePosixPath] = []
    markers = [name for name, path in files.items() if folder_format(path.name)]
    for name in sorted(markers, key=lambda name: name.count("/")):
        if _is_in(name, roots):
            continue
        try:
            found.append((name, read_model(files[name])))
        except FormatError:
            if not name.endswith(_CODE):  # code may have the name and mean nothing by it
                raise
        else:
            roots.append(PurePosixPath(name).parent)
    rest = [name for name in files if not name.endswith(_CODE) and not _is_in(name, roots)]
    return found, rest


def _is_in(name: str, roots: Sequence[PurePosixPath]) -> bool:
    return any(PurePosixPath(name).is_relative_to(root) for root in roots)


def _near(path: Path) -> str | None:
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return None
    near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f"did you mean {path.parent / near[0]}?" if near else None
