"""The package service of Viam's app, over the messages of its SDK: it keeps what is uploaded."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KEY, KEY_ID, TOKEN = "a-key-that-nobody-sees", "key-id", "a-token"


def _is_whole(contents: bytes) -> bool:
    try:
        return bool(gzip.decompress(contents))
    except (EOFError, OSError):
        return False


@contextmanager
def viam_app(folder: Path, *, locked: bool = False) -> Iterator[str]:
    """Run one that writes ``<version>/<name>.tar.gz`` and ``info.json``; its address.

    Args:
        folder: Where to.
        locked: Whether it wants the token that ``KEY`` and ``KEY_ID`` are good for.
    """
    pytest.importorskip("viam", reason="viam-sdk has the messages of the service")
    grpc = pytest.importorskip("grpc", reason="grpcio carries them")
    from google.protobuf.json_format import MessageToJson
    from viam.gen.app.packages.v1 import packages_pb2
    from viam.gen.proto.rpc.v1 import auth_pb2

    def create(messages: Any, context: Any) -> Any:
        shown = dict(context.invocation_metadata()).get("authorization")
        if locked and shown != f"Bearer {TOKEN}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not let in, even with {KEY}")
        info = next(messages).info
        contents, sizes = bytearray(), []
        for message in messages:
            assert message.WhichOneof("package") == "contents"
            contents += message.contents
            sizes.append(len(message.contents))
        assert all(size == 32 * 1024 for size in sizes[:-1])
        # To a server of grpcio a client that gives up looks, for a while, like one that is done.
        if not _is_whole(bytes(contents)):
            return packages_pb2.CreatePackageResponse()
        target = folder / info.version / f"{info.name}.tar.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(contents)
        told = MessageToJson(info, preserving_proto_field_name=True)
        (folder / "info.json").write_text(told)
        name = f"{info.organization_id}/{info.name}"
        return packages_pb2.CreatePackageResponse(id=name, version=info.version)

    def authenticate(asked: Any, context: Any) -> Any:
        found = (asked.entity, asked.credentials.type, asked.credentials.payload)
        if found != (KEY_ID, "api-key", KEY):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "another key")
        return auth_pb2.AuthenticateResponse(access_token=TOKEN)

    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "viam.app.packages.v1.PackageService",
                {
                    "CreatePackage": grpc.stream_unary_rpc_method_handler(
                        create,
                        packages_pb2.CreatePackageRequest.FromString,
                        packages_pb2.CreatePackageResponse.SerializeToString,
                    )
                },
            ),
            grpc.method_handlers_generic_handler(
                "proto.rpc.v1.AuthService",
                {
                    "Authenticate": grpc.unary_unary_rpc_method_handler(
                        authenticate,
                        auth_pb2.AuthenticateRequest.FromString,
                        auth_pb2.AuthenticateResponse.SerializeToString,
                    )
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)
