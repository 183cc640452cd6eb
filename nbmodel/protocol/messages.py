"""Messages of the gRPC services, in a pool of descriptors of our own.

A process may hold one definition of ``inference.ModelInferRequest`` in protobuf's default
pool, and several packages bring theirs (tritonclient, mlserver, kserve): whoever comes
second cannot be imported. nbmodel is used
beside them in notebooks, so it never registers anything there.

The definitions are ``proto/*.proto``, compiled by ``tests/tools/compile_protos.py``; a
test keeps the compiled ones equal to the texts.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from nbmodel.errors import FormatError

DESCRIPTORS = "descriptors.binpb"
#: What the texts import.
_IMPORTED = (struct_pb2, timestamp_pb2)


@lru_cache(maxsize=512)  # as many as there are definitions
def message(name: str) -> type[Any]:
    """The class of a message.

    Args:
        name: With its package: ``inference.ModelInferRequest``.

    Raises:
        KeyError: There is no such message.
    """
    kind: type[Any] = GetMessageClass(_pool().FindMessageTypeByName(name))
    return kind


def parse(name: str, data: bytes) -> Any:
    """Read a message.

    Args:
        name: With its package.
        data: The bytes; unknown fields are ignored.

    Raises:
        FormatError: They are not such a message.
    """
    try:
        return message(name).FromString(data)
    except DecodeError as exc:
        raise FormatError(f"the request is not a {name}: {exc}") from exc


@lru_cache(maxsize=1)
def _pool() -> DescriptorPool:
    content = (resources.files(__package__) / "proto" / DESCRIPTORS).read_bytes()
    pool = DescriptorPool()
    for module in _IMPORTED:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return pool
