"""Triton's model configuration as a JSON object, made from a signature; rules only, no I/O.

Triton's own field names throughout, as its ``ModelConfig`` message has them in JSON. Where
they come from, and which prevails: what is made here, then a ``config.pbtxt`` beside the
model, then what the service says.

Source: triton-inference-server/common ``protobuf/model_config.proto``; "Model Configuration"
of Triton's user guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.signature import DATATYPES, Signature, Tensor, describe
from nbmodel.errors import ConfigError, FormatError, SignatureError
from nbmodel.formats.sidecar import datatype_of

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Engine:
    """What Triton runs the files of a format with.

    Attributes:
        format: Of the files, as a manifest names it.
        platform: ``<project>_<format>``; empty where Triton has no such name.
        backend: Triton's name of the backend.
        file: What a model's file is called when nothing else is said.
    """

    format: str
    platform: str
    backend: str
    file: str


_ENGINES = (
    Engine("onnx", "onnxruntime_onnx", "onnxruntime", "model.onnx"),
    Engine("savedmodel", "tensorflow_savedmodel", "tensorflow", "model.savedmodel"),
    Engine("torchscript", "pytorch_libtorch", "pytorch", "model.pt"),
    Engine("torch_export", "torch_aoti", "pytorch", "model.pt2"),
    Engine("tensorrt", "tensorrt_plan", "tensorrt", "model.plan"),
    Engine("openvino", "", "openvino", "model.xml"),
    Engine("python", "", "python", "model.py"),
)
#: Format → what Triton runs it with.
ENGINES: Mapping[str, Engine] = {engine.format: engine for engine in _ENGINES}
PYTHON = ENGINES["python"]
#: Platform → the first Triton that has it, where not all have. Source: "AOT Inductor Support" of
#: Triton's PyTorch backend: 26.03, whose server is 2.67.
SINCE: Mapping[str, tuple[int, int]] = {"torch_aoti": (2, 67)}
#: ``device`` of a service → kind of its instance groups.
KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU", "auto": "KIND_AUTO"}
#: ``preferred_input_memory_type`` of a service, as Viam has it → ``Wanted.pinned_inputs``. Onto a
#: GPU Triton brings inputs itself, where their model runs there.
#: Source: README of viam-modules/viam-mlmodelservice-triton.
INPUT_MEMORY: Mapping[str, bool | None] = {"cpu": False, "cpu-pinned": True, "gpu": None}


def data_type(datatype: str) -> str:
    """Triton's name of a signature's datatype; ``TYPE_INVALID`` where it has none."""
    if datatype == "BYTES":
        return "TYPE_STRING"
    return f"TYPE_{datatype}" if datatype in DATATYPES else "TYPE_INVALID"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service asks of the configuration besides the model's own tensors.

    Attributes:
        kind: ``KIND_CPU``, ``KIND_GPU`` or ``KIND_AUTO``.
        instances: Of the model, ≥ 1.
        max_batch_size: Rows that Triton may put together; 0: it does not.
        max_queue_delay_microseconds: How long it waits for more of them.
        pinned_inputs: Whether inputs pass through memory that the GPU reads by itself; None: as
            Triton has it, which is that they do.
        given: Fields as the service gives them, which prevail.
    """

    kind: str = "KIND_AUTO"
    instances: int = 1
    max_batch_size: int = 0
    max_queue_delay_microseconds: int = 0
    pinned_inputs: bool | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


def model_config(
    engine: Engine,
    signature: Signature | None,
    wanted: Wanted,
    *,
    file: str,
    label_files: Mapping[str, str],
    written: Mapping[str, Any],
) -> Config:
    """The configuration of a model; its name and versions are its caller's to add.

    Args:
        engine: What runs it.
        signature: What it takes and gives; None: Triton finds it out.
        wanted: What its service asks for.
        file: The model's file in the folder of its version.
        label_files: Output → file with its labels, in the folder of the model.
        written: The fields of a configuration by hand; empty when there is none.

    Raises:
        ConfigError: Triton is to make batches of a model that has no axis for them.
        SignatureError: The one by hand is about other tensors than the signature.
    """
    batch = _batch(wanted, written)
    own: Config = {"backend": engine.backend, "default_model_filename": file}
    if engine.platform:
        own["platform"] = engine.platform
    own["max_batch_size"] = batch
    if signature is not None and _can_be_said(signature):
        own["input"] = [_tensor(one, batch, "") for one in signature.inputs]
        own["output"] = [
            _tensor(one, batch, label_files.get(one.name, "")) for one in signature.outputs
        ]
    own["instance_group"] = [{"kind": wanted.kind, "count": wanted.instances}]
    if batch:
        delay = wanted.max_queue_delay_microseconds
        own["dynamic_batching"] = {"max_queue_delay_microseconds": delay}
    if wanted.pinned_inputs is not None:
        own["optimization"] = optimization(wanted.pinned_inputs)
    if signature is not None:
        check_written(written, signature)
    # Dimensions by hand count for the batch by hand; another one needs them made anew.
    stale = ("input", "output") if batch != int(written.get("max_batch_size", 0)) else ()
    kept = {key: value for key, value in written.items() if key not in (*stale, "max_batch_size")}
    if signature is not None:
        said = kept.keys() | wanted.given.keys()
        check_batches(
            Signature(
                () if "input" in said else signature.inputs,
                () if "output" in said else signature.outputs,
            ),
            batch,
        )
    config = {**own, **kept, **wanted.given, "max_batch_size": batch}
    if "backend" in wanted.given and "platform" not in wanted.given:
        config.pop("platform", None)  # it is the other backend's
    return config


def optimization(pinned_inputs: bool) -> Config:
    """The field of that name: whether inputs pass through memory that the GPU reads by itself."""
    return {"input_pinned_memory": {"enable": pinned_inputs}}


def check_written(written: Mapping[str, Any], signature: Signature) -> None:
    """Check the tensors of a configuration by hand against a signature.

    Raises:
        SignatureError: A tensor is missing, unknown, or of another type or shape; all are named.
    """
    batch = int(written.get("max_batch_size", 0))
    problems: list[str] = []
    for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        if side in written:
            problems += _differences(side, written[side], tensors, batch)
    if problems:
        raise SignatureError(
            f"config.pbtxt is not about this model: {'; '.join(problems)}",
            hint="correct it, or leave it out: it is then made from the signature",
        )


def _differences(
    side: str, written: Sequence[Mapping[str, Any]], tensors: Sequence[Tensor], batch: int
) -> list[str]:
    known = {tensor.name: tensor for tensor in tensors}
    found = {str(entry.get("name")): entry for entry in written}
    problems = [f"{side} {name!r} is not the model's" for name in found if name not in known]
    problems += [f"{side} {name!r} is missing" for name in known if name not in found]
    for name in known.keys() & found.keys():
        entry, tensor = found[name], known[name]
        try:
            datatype = datatype_of(str(entry.get("data_type")))
        except FormatError as exc:
            problems.append(f"{side} {name!r}: {exc}")
            continue
        # The model's own dimensions, where Triton is to reshape what it is given.
        said = entry.get("reshape", entry).get("shape" if "reshape" in entry else "dims", ())
        dims = tuple(int(dim) for dim in said)
        shape = (-1, *dims) if batch else dims
        other = Tensor(name, datatype, shape)
        fits = tensor.shape is None or _agree(_dims(tensor), shape)
        if datatype != tensor.datatype or not fits:
            problems.append(
                f"{side} {name!r} is {describe(tensor)} in the signature, "
                f"{describe(other)} in the file"
            )
    return problems


def check_batches(signature: Signature, batch: int) -> None:
    """Refuse batches of a model that has no axis for them, or nothing beside that axis.

    Triton has no tensor of rows alone: it gives and takes [-1, 1] in place of [-1].

    Args:
        signature: What the model takes and gives.
        batch: Rows that Triton may put together; 0: it does not.

    Raises:
        ConfigError: So it is; the first such tensor is named.
    """
    for side in ("input", "output"):
        for tensor in getattr(signature, f"{side}s"):
            dims = _dims(tensor)
            if not batch or tensor.shape is None or (len(dims) > 1 and dims[0] == -1):
                continue
            if len(dims) == 1:
                raise ConfigError(
                    f"max_batch_size {batch} needs two dimensions in every {side} for Triton; "
                    f"{tensor.name!r} has one: {describe(tensor)}",
                    hint="leave out max_batch_size, or set it to 0",
                )
            raise ConfigError(
                f"Triton cannot make batches of up to {batch} rows: {describe(tensor)} has no "
                "variable first dimension",
                hint="leave out max_batch_size, or set it to 0",
            )


def _agree(mine: Sequence[int], theirs: Sequence[int]) -> bool:
    return len(mine) == len(theirs) and all(
        -1 in (one, other) or one == other for one, other in zip(mine, theirs, strict=True)
    )


def _batch(wanted: Wanted, written: Mapping[str, Any]) -> int:
    for value in (
        wanted.given.get("max_batch_size"),
        written.get("max_batch_size"),
        wanted.max_batch_size,
    ):
        if value is not None:
            return int(value)
    return 0


def _can_be_said(signature: Signature) -> bool:
    """Whether a configuration can say it: not without a rank."""
    return all(one.shape is not None for one in (*signature.inputs, *signature.outputs))


def _dims(tensor: Tensor) -> tuple[int, ...]:
    """All dimensions, as Triton takes them: none is 0."""
    return tuple(dim or -1 for dim in tensor.shape or ())


def _tensor(tensor: Tensor, batch: int, label_file: str) -> Config:
    dims = _dims(tensor)[1:] if batch else _dims(tensor)
    entry: Config = {"name": tensor.name, "data_type": data_type(tensor.datatype)}
    entry["dims"] = list(dims) or [1]  # there is at least one dimension in Triton
    if label_file:
        entry["label_filename"] = label_file
    return entry
