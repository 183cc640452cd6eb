"""Signatures in the text form of protocol buffers: Hydrosphere's first contracts, and Triton's.

Source: hydro-serving-protos ``contract/model_contract.proto`` of 2018 and before (``field_name``,
``info``, ``tensor_shape``) and after (``name``, ``dtype``, ``shape``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nbmodel.core.contract import Place, dotted, signature_of
from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, InputError, SignatureError
from nbmodel.formats import sidecar
from nbmodel.formats.textproto import MAX_TEXT, Fields, Word, parse

_SEVERAL = ("inputs", "outputs", "signatures", "dim", "dims")
_RENAMED = {"field_name": "name", "tensor_shape": "shape"}
_NUMBER = re.compile(r"-?\d{1,18}")


def read_prototext(path: Path) -> Signature:
    """The signature in a ``contract.prototxt``, or in Triton's ``config.pbtxt``.

    Raises:
        InputError: It cannot be read, or is neither; names the field.
    """
    try:
        with path.open("rb") as file:
            fields = parse(file.read(4 * MAX_TEXT + 1).decode())
        if "input" in fields or "output" in fields:
            return sidecar.signature_of(fields)
    except OSError as exc:
        raise InputError(f"cannot read the signature: {path}: {exc.strerror}") from exc
    except (UnicodeDecodeError, FormatError, SignatureError) as exc:
        raise InputError(f"cannot read the signature: {path.name}: {exc}") from exc
    contract = _plain(fields)
    signatures = contract.get("signatures", ())
    if len(signatures) > 1:
        raise InputError(
            f"{path.name} has {len(signatures)} signatures, expected one",
            hint="a model has one signature: leave the others out",
        )

    def where(place: Place) -> str:
        return f"{path.name}: {dotted(place)}" if place else path.name

    return signature_of(signatures[0] if signatures else contract, where)


def _plain(fields: Fields) -> dict[str, Any]:
    """A message as a mapping; of what is given twice where one is meant, the last counts."""
    data: dict[str, Any] = {}
    for field, given in fields.items():
        name = _RENAMED.get(field, field)
        values = [_plain(one) if isinstance(one, Fields) else _value(one) for one in given]
        if name == "info" and isinstance(values[-1], dict):
            data |= values[-1]  # a tensor's type and shape had a message of their own
        else:
            data[name] = values if name in _SEVERAL else values[-1]
    return data


def _value(value: str) -> str | int:
    is_number = isinstance(value, Word) and _NUMBER.fullmatch(value)
    return int(value) if is_number else str(value)
