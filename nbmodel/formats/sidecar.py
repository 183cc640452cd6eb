"""Signatures of model files that do not tell theirs: from Triton's ``config.pbtxt`` beside them.

Source: triton-inference-server/common ``protobuf/model_config.proto``; "Model Configuration"
of Triton's user guide for what ``max_batch_size`` does to dimensions.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import FormatError, SignatureError
from nbmodel.formats.textproto import MAX_TEXT, Fields, parse

CONFIG = "config.pbtxt"
_MAX_TENSORS = 20_000  # inputs or outputs
_MAX_RANK = 1024


def signature_beside(path: Path) -> Signature | None:
    """What Triton's configuration beside a model file says of its tensors.

    In a model repository the configuration is one folder up: ``<model>/<number>/<file>``.

    Args:
        path: The model file.

    Returns:
        Its inputs and outputs, or None when there is no configuration or it leaves some of
        that to Triton.

    Raises:
        FormatError: The configuration cannot be read; the message names it.
    """
    config = config_beside(path)
    return None if config is None else signature_in(config)


def signature_in(config: Path) -> Signature | None:
    """What one of Triton's configurations says of tensors.

    Args:
        config: The file.

    Returns:
        Inputs and outputs, or None when it leaves some of that to Triton.

    Raises:
        FormatError: It cannot be read; the message names it.
    """
    fields = read_config(config)
    try:
        return signature_of(fields) if _is_whole(fields) else None
    except (FormatError, SignatureError) as exc:
        raise _unread(config, exc) from exc


def read_config(config: Path) -> Fields:
    """The fields of one of Triton's configurations.

    Raises:
        FormatError: It cannot be read; the message names it.
    """
    try:
        with config.open("rb") as file:
            content = file.read(4 * MAX_TEXT + 1)  # a character has at most four bytes
        return parse(content.decode())
    except (OSError, UnicodeDecodeError, FormatError) as exc:
        raise _unread(config, exc) from exc


def _unread(config: Path, exc: Exception) -> FormatError:
    return FormatError(f"cannot read {config.name} beside it: {exc}", hint=f"correct {config}")


def _is_whole(config: Fields) -> bool:
    """Whether every tensor has a type and dimensions; Triton has no scalars."""
    sides = config.messages("input"), config.messages("output")
    return all(
        tensors and all(one.text("data_type") and "dims" in one for one in tensors)
        for tensors in sides
    )


def config_beside(path: Path) -> Path | None:
    """Triton's configuration of a model file, or None when there is none."""
    folders = [path.parent]
    if re.fullmatch(r"\d{1,19}", path.parent.name):
        folders.append(path.parent.parent)
    return next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)


def signature_of(config: Fields) -> Signature:
    """The tensors of a model configuration, with the batch axis that it implies.

    Raises:
        FormatError: It is no model configuration.
        DatatypeError, ShapeError: A tensor is of a kind that there is not.
    """
    batch = (config.numbers("max_batch_size") or (0,))[-1] > 0
    return Signature(
        inputs=tensors_of(config.messages("input"), batch=batch),
        outputs=tensors_of(config.messages("output"), batch=batch),
    )


def tensors_of(fields: list[Fields], *, batch: bool) -> tuple[Tensor, ...]:
    """Inputs or outputs of a model configuration.

    Args:
        fields: As configured, each with ``name``, ``data_type`` and ``dims``.
        batch: Whether a batch axis comes before their dimensions.

    Raises:
        FormatError: One has no name, two have the same, or a type is none of Triton's.
        ShapeError: A dimension is below −1.
    """
    if len(fields) > _MAX_TENSORS:
        raise FormatError(f"{len(fields):,} tensors, expected at most {_MAX_TENSORS:,}")
    tensors: dict[str, Tensor] = {}
    for one in fields:
        name, dims = one.text("name"), one.numbers("dims")
        if not name or name in tensors:
            raise FormatError(f"two tensors are named {name!r}" if name else "a tensor has no name")
        if len(dims) > _MAX_RANK:
            raise FormatError(f"{name!r} has more than {_MAX_RANK} dimensions")
        tensors[name] = Tensor(
            name, datatype_of(one.text("data_type")), (-1, *dims) if batch else dims
        )
    return tuple(tensors.values())


def datatype_of(data_type: str) -> str:
    """A signature's datatype for Triton's ``TYPE_…``.

    Raises:
        FormatError: Triton has no such type.
    """
    if data_type == "TYPE_STRING":
        return "BYTES"
    datatype = data_type.removeprefix("TYPE_")
    if datatype == data_type or datatype not in DATATYPES or datatype == "BYTES":
        raise FormatError(f"expected a data_type such as TYPE_FP32, found {data_type[:40]!r}")
    return datatype
