"""Running models on this machine, without a runtime: for checks, and for a person."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nbmodel.answered import part_sample
from nbmodel.backends import Session, load_backend, open_session
from nbmodel.convert import check_conversion, convert
from nbmodel.core.contract import example_of
from nbmodel.core.golden import Golden
from nbmodel.core.signature import Signature, check_inputs, describe
from nbmodel.core.version import Version
from nbmodel.errors import (
    GoldenSampleError,
    InputError,
    NbModelError,
    NoCompatibleBackendError,
    PluginError,
)
from nbmodel.formats import ModelFacts, fill_gap, model_file
from nbmodel.golden import GoldenSample, check_answers, compare
from nbmodel.inputs import inputs_for
from nbmodel.observe import (
    Observed,
    categories_of,
    observe_inputs,
    observe_outputs,
    with_columns_of,
)
from nbmodel.protocol.coerce import coerce
from nbmodel.protocol.tensor import datatype_of
from nbmodel.registry import Registry
from nbmodel.source import LABELS_PATH, LabelsGiven, Source, read_labels, read_source
from nbmodel.written_config import check_config, config_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

FUNCTION_FORMAT = "python"  # what functions are converted to
SESSIONS_KEPT = 4  # loaded models; the one used longest ago goes first


def convert_source(
    model: object,
    *,
    sample: object,
    labels: LabelsGiven,
    signature: Signature | None,
    golden: Golden,
    note: Callable[[str], None],
) -> Source:
    """What a live object becomes: the files of an edge format, checked.

    Args:
        model: The object.
        sample: Rows as the model takes them, or None to make some up.
        labels: Class names, when they are better than the object's own.
        signature: What to say about tensors beyond what the file made of it says.
        golden: How close the converted model's answers must be to the object's.
        note: Told of each step.

    Raises:
        PluginError: No converter knows the object, or its extra is not installed.
        ConversionError: It cannot be converted, or answers too differently then.
        SignatureError: ``signature`` contradicts the file.
    """
    note("converting")
    converted = convert(model, sample)
    note("checking the conversion")
    conversion = check_conversion(converted, golden, open_session=_open_own)
    check_answers(converted.golden)
    with TemporaryDirectory(prefix="nbmodel-") as folder:
        for name, content in converted.files.items():
            Path(folder, name).write_bytes(content)
        read = read_source([folder], read_labels(labels) or converted.labels or None, signature)
    source = replace(
        read,
        # The bytes: what was read is gone with its folder.
        files={LABELS_PATH: read.files[LABELS_PATH], **converted.files}
        if LABELS_PATH in read.files
        else converted.files,
        model_type=converted.model_type or read.model_type,
        signature=read.signature.with_columns(converted.columns),
        metadata=converted.metadata,
        conversion=conversion,
    )
    return _with_frame(source, sample).with_golden(golden, converted.golden.to_bytes())


def _open_own(path: Path, framework: str) -> Session:
    """Load what was just made of an object of this process; of that, code may run here, too."""
    if framework == FUNCTION_FORMAT:
        return load_backend(framework).load({"model_path": str(path)})
    return open_session(path, framework)


def upload_source(
    paths: Sequence[str | Path],
    labels: LabelsGiven,
    signature: Signature | None,
    *,
    sample: object,
    golden: Golden,
) -> tuple[Source, tuple[str, ...]]:
    """What is uploaded, with its own answers to a sample, and sentences about what is not.

    Where the file does not tell its tensors, the sample tells the inputs, and the outputs when
    the model can be run here.

    Args:
        paths: Files, or one folder.
        labels: Class names.
        signature: What a person says of the tensors.
        sample: As ``inputs_for`` takes a value; None: no golden sample.
        golden: The tolerance that devices check themselves with.

    Raises:
        NbModelError: As ``read_source`` and ``answer_source``.
    """
    if sample is None:
        return _checked(read_source(paths, labels, signature)), ()
    seen: list[Mapping[str, NDArray[Any]]] = []

    def observe(path: Path, facts: ModelFacts) -> ModelFacts:
        parts = part_sample(facts.signature, sample)
        told, observed = observe_facts(path, facts, parts.inputs, parts.answers)
        seen.append({**observed.arrays, **parts.answers})
        return told

    source = _checked(read_source(paths, labels, signature, observe))
    if not seen:
        return answer_source(source, sample, golden), ()
    source = _with_frame(source, sample)
    try:
        return answer_source(source, seen[0], golden), ()
    except (NoCompatibleBackendError, PluginError) as exc:
        return source, (f"it has no golden sample: {exc}; {exc.hint}",)


def _checked(source: Source) -> Source:
    """What is uploaded, where Triton's configuration in it is about its model.

    Raises:
        FormatError, SignatureError: It is not, or cannot be read.
    """
    config = config_path(source.files, source.model_path)
    file = None if config is None else source.files[config]
    if isinstance(file, Path):
        check_config(file, source.framework, source.signature)
    return source


def observe_facts(
    path: Path, facts: ModelFacts, sample: object, answers: Mapping[str, NDArray[Any]]
) -> tuple[ModelFacts, Observed]:
    """The facts of a file that does not tell its tensors, with what a sample shows of them.

    Args:
        path: The model file.
        facts: What it tells.
        sample: As ``observe_inputs`` takes it.
        answers: To the sample, by output name; empty: the model's own, when it can be run here.

    Raises:
        InputError: Nobody tells the outputs.
        NbModelError: As ``observe_inputs``.
    """
    read = facts.signature
    is_known = bool(read.inputs) and all(one.datatype != "UNKNOWN" for one in read.inputs)
    observed = observe_inputs(sample, read.inputs)
    told = facts if is_known else fill_gap(facts, Signature(observed.tensors))
    if not told.gap:
        return told, observed
    try:
        found = answers or _run(path, told, observed)
    except NbModelError as exc:
        takes = ", ".join(map(describe, told.signature.inputs))
        raise InputError(
            f"cannot upload {path} without its outputs: the sample tells its inputs, {takes}, "
            f"and it cannot be run here: {exc}",
            hint=f"give the outputs besides: --signature "
            f"'{example_of(told.signature, ('outputs',))}'",
        ) from exc
    rows = next((len(one) for one in observed.arrays.values() if one.ndim), None)
    return fill_gap(told, Signature(outputs=observe_outputs(found, rows))), observed


def _run(path: Path, facts: ModelFacts, observed: Observed) -> Mapping[str, NDArray[Any]]:
    with closing(open_session(path, facts.framework)) as session:
        return session.infer(coerce(facts.signature, observed.arrays))


def answer_source(source: Source, sample: object, golden: Golden) -> Source:
    """A model file that is about to be uploaded, with its own answers to a sample.

    Args:
        source: What is uploaded.
        sample: As ``inputs_for`` takes a value; with arrays named as the outputs beside the
            inputs, these are its answers.
        golden: The tolerance that devices check themselves with.

    Raises:
        NoCompatibleBackendError: Nothing here runs it, and the sample has no answers.
        PluginError: The backend's extra is not installed.
        InferenceError, SignatureError: The engine refused the model or the inputs.
        GoldenSampleError: The model answers nothing that is finite, or otherwise than the
            sample.
    """
    path = source.files[source.model_path]
    assert isinstance(path, Path)  # what is uploaded was read from a file
    parts = part_sample(source.signature, sample)
    request = inputs_for(source.signature, [parts.inputs])
    tensors = coerce(source.signature, request.tensors)
    answers = GoldenSample(tensors, _answers(path, source, tensors, parts.answers, golden))
    check_answers(answers)
    return _with_frame(source, sample).with_golden(golden, answers.to_bytes())


def _with_frame(source: Source, sample: object) -> Source:
    """The same with what a data frame tells: columns, and the categories that they have."""
    signature = with_columns_of(source.signature, sample)
    side_by_side = {name for tensor in signature.inputs for name in tensor.columns}
    known = categories_of(sample).items()
    rest = {name: list(values) for name, values in known if name in side_by_side}
    metadata = {**source.metadata, "categories": rest} if rest else source.metadata
    return replace(source, signature=signature, metadata=metadata)


def _answers(
    path: Path,
    source: Source,
    tensors: Mapping[str, NDArray[Any]],
    given: Mapping[str, NDArray[Any]],
    golden: Golden,
) -> Mapping[str, NDArray[Any]]:
    """The answers of a model to a sample: those given, where there are any.

    Raises:
        GoldenSampleError: What runs the model here answers otherwise.
        TensorNameError, ShapeError, DatatypeError: The sample contradicts the signature.
        NoCompatibleBackendError: Nothing here runs it, and no answers are given.
    """
    try:
        session = open_session(path, source.framework)
    except (NoCompatibleBackendError, PluginError) as exc:
        if given:
            found = {name: datatype_of(one, what=repr(name)) for name, one in tensors.items()}
            check_inputs(
                source.signature, {name: (found[name], one.shape) for name, one in tensors.items()}
            )
            return given
        if isinstance(exc, PluginError):
            raise
        outputs = ", ".join(map(describe, source.signature.outputs)) or "its outputs"
        raise NoCompatibleBackendError(
            f"{exc}, so the answers of {path.name} to the sample are not known",
            hint=f"add its answers to the sample, as arrays named as the outputs: {outputs} (an "
            ".npz file or a mapping), or leave the sample out",
        ) from exc
    with closing(session):
        answers = session.infer(tensors)
    if not given:
        return answers
    difference = compare(given, answers, golden)
    if not difference.agrees:
        raise GoldenSampleError(
            f"{path.name} does not give the answers of the sample: {difference}",
            hint="correct the sample, or leave its outputs out: they are then those of the model",
        )
    return given


class LocalModels:
    """Loaded versions, the last few used.

    Args:
        registry: Where the versions are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[Session, TemporaryDirectory[str]]] = OrderedDict()

    def of(
        self, version: Version
    ) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
        """The function that runs a version on named arrays.

        Raises:
            PluginError: The backend's extra is not installed.
            InferenceError: The engine refused the model.
        """
        return self._session(version).infer

    def close(self) -> None:
        """Free every loaded model."""
        with self._lock:
            while self._loaded:
                self._drop_oldest()

    def _session(self, version: Version) -> Session:
        with self._lock:
            if version.digest in self._loaded:
                self._loaded.move_to_end(version.digest)
                return self._loaded[version.digest][0]
            # A folder of its own: engines look for further files beside the model.
            folder = TemporaryDirectory(prefix="nbmodel-")
            try:
                self._registry.extract(version.reference, Path(folder.name))
                session = open_session(
                    Path(folder.name) / model_file(version.manifest), version.framework
                )
            except BaseException:
                folder.cleanup()
                raise
            self._loaded[version.digest] = (session, folder)
            if len(self._loaded) > SESSIONS_KEPT:
                self._drop_oldest()
            return session

    def _drop_oldest(self) -> None:
        _, (session, folder) = self._loaded.popitem(last=False)
        session.close()
        folder.cleanup()
