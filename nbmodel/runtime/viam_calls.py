"""What Viam's services have in common: answers, JSON objects as structs, free-form commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbmodel.protocol.messages import message

if TYPE_CHECKING:
    from nbmodel.runtime.edge import EdgeRuntime


def encode(name: str, **values: Any) -> bytes:
    """A serialised message.

    Args:
        name: With its package: ``viam.GetVersionResponse``.
        values: Of its fields; left out: the default.
    """
    return bytes(message(name)(**values).SerializeToString())


def encode_result(name: str, result: Mapping[str, Any]) -> bytes:
    """A serialised message whose ``result`` is a struct.

    Args:
        name: With its package.
        result: A JSON object; its numbers become doubles.
    """
    answer = message(name)()
    answer.result.update(result)
    return bytes(answer.SerializeToString())


def from_struct(struct: Any) -> dict[str, Any]:
    """The JSON object that a ``google.protobuf.Struct`` is; whole numbers become integers.

    Structs have no other number than a double, and a machine config says ``num_threads: 2``.
    """
    return {key: _from_value(value) for key, value in struct.fields.items()}


def do_command(runtime: EdgeRuntime, service: str, command: Any) -> bytes:
    """The answer to a ``DoCommandRequest`` that is for a model service.

    Args:
        runtime: What runs.
        service: Name of the model service.
        command: The request's struct.

    Raises:
        NbModelError: As ``EdgeRuntime.do``.
    """
    return encode_result("viam.DoCommandResponse", runtime.do(service, from_struct(command)))


def _from_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(one) for one in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)
