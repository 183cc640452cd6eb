"""Triton's configuration that somebody wrote for a model, before it goes into a version.

Source: triton-inference-server/common ``protobuf/model_config.proto``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from nbmodel.backends.triton_config import ENGINES, check_written
from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, SignatureError
from nbmodel.formats.sidecar import CONFIG, read_config, signature_of
from nbmodel.formats.textproto import Fields

_SHARED = ("name", "data_type", "dims", "reshape", "is_shape_tensor", "is_non_linear_format_io")
#: Message → its fields.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "": (
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
    ),
    "input": (*_SHARED, "format", "allow_ragged_batch", "optional"),
    "output": (*_SHARED, "label_filename"),
}
_HINT = "correct it, or leave it out: it is then made from the signature"
_ALSO_ONNX = "openvino"  # a backend of another format, which takes this one, too


def config_path(files: Mapping[str, Any], model_path: str) -> str | None:
    """Which file of a version is the configuration of its model; None: none.

    Args:
        files: By path in the version.
        model_path: Which of them is the model.
    """
    folder = PurePosixPath(model_path).parent
    folders = [folder, folder.parent] if re.fullmatch(r"\d{1,19}", folder.name) else [folder]
    paths = [(one / CONFIG).as_posix() for one in folders]
    return next((path for path in paths if path in files), None)


def check_config(config: Path, framework: str, signature: Signature) -> None:
    """Refuse a configuration that Triton would refuse, or that is not about the model.

    Args:
        config: The file.
        framework: Format of the model.
        signature: What the model takes and gives.

    Raises:
        FormatError: It cannot be read, or has a field that there is not.
        SignatureError: It is about other tensors, or another format.
    """
    fields = read_config(config)
    for problem in _unknown(fields):
        raise FormatError(f"{config}: {problem}", hint=_HINT)
    other = _other_engine(fields, framework)
    if other:
        raise SignatureError(
            f"{config} is not about this model: {other}",
            hint="leave platform and backend out: they go by the format of the model",
        )
    try:
        signature_of(fields)
        written = _written(fields)
        said = {one.text("name") for one in fields.messages("output")}
        outputs = tuple(one for one in signature.outputs if one.name in said or not said)
        check_written(written, Signature(signature.inputs, outputs))
    except SignatureError as exc:
        raise SignatureError(f"{config}: {exc}", hint=_HINT) from exc
    except FormatError as exc:
        raise FormatError(f"{config}: {exc}", hint=_HINT) from exc


def _unknown(fields: Fields) -> Iterator[str]:
    for where, known in FIELDS.items():
        for message in fields.messages(where) if where else [fields]:
            for name in message:
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    advice = (
                        f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
                    )
                    yield f"{where or 'a model'} has no field {name!r}; {advice}"


def _other_engine(fields: Fields, framework: str) -> str:
    """What it says that belongs to models of another format; empty: nothing."""
    engine = ENGINES.get(framework)
    if engine is None:
        return ""
    platform, backend = fields.text("platform"), fields.text("backend")
    others = [one for one in ENGINES.values() if one is not engine]
    if any(platform and one.platform == platform for one in others):
        return f"platform {platform!r} is not that of {framework}, {engine.platform or 'none'}"
    backends = {one.backend for one in others} - {engine.backend, _ALSO_ONNX}
    if backend in backends:
        return f"backend {backend!r} is not that of {framework}, {engine.backend!r}"
    return ""


def _written(fields: Fields) -> dict[str, Any]:
    """What it says of tensors, as Triton's message has it in JSON."""
    written: dict[str, Any] = {"max_batch_size": (fields.numbers("max_batch_size") or (0,))[-1]}
    for side in ("input", "output"):
        if side in fields:
            written[side] = [_entry(one) for one in fields.messages(side)]
    return written


def _entry(tensor: Fields) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": tensor.text("name"),
        "data_type": tensor.text("data_type"),
        "dims": tensor.numbers("dims"),
    }
    for shape in tensor.messages("reshape"):
        entry["reshape"] = {"shape": shape.numbers("shape")}
    return entry
