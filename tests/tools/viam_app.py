"""The package service of Viam's app, from the stubs of its SDK: it keeps what is uploaded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KEY, KEY_ID, TOKEN = "a-key-that-nobody-sees", "key-id", "a-token"


@contextmanager
def viam_app(folder: Path, *, locked: bool = False) -> Iterator[str]:
    """Run one that writes ``<version>/<name>.tar.gz`` and ``info.json``; its address.

    Args:
        folder: Where to.
        locked: Whether it wants the token that ``KEY`` and ``KEY_ID`` are good for.
    """
    pytest.importorskip("viam", reason="viam-sdk has the stubs of the service")
    import grpclib
    from google.protobuf.json_format import MessageToJson
    from grpclib.server import Server
    from viam.gen.app.packages.v1 import packages_grpc, packages_pb2
    from viam.gen.proto.rpc.v1 import auth_grpc, auth_pb2

    class Packages(packages_grpc.PackageServiceBase):  # type: ignore[misc]
        async def CreatePackage(self, stream: Any) -> None:  # noqa: N802 - the protocol's name
            if locked and stream.metadata.get("authorization") != f"Bearer {TOKEN}":
                raise grpclib.GRPCError(grpclib.Status.UNAUTHENTICATED, f"no key, {KEY}")
            first = await stream.recv_message()
            info, contents, sizes = first.info, bytearray(), []
            async for message in stream:
                assert message.WhichOneof("package") == "contents"
                contents += message.contents
                sizes.append(len(message.contents))
            assert all(size == 32 * 1024 for size in sizes[:-1])
            target = folder / info.version / f"{info.name}.tar.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents)
            (folder / "info.json").write_text(MessageToJson(info, preserving_proto_field_name=True))
            answer = packages_pb2.CreatePackageResponse(
                id=f"{info.organization_id}/{info.name}", version=info.version
            )
            await stream.send_message(answer)

        async def DeletePackage(self, stream: Any) -> None:  # noqa: N802
            raise NotImplementedError

        GetPackage = ListPackages = DeletePackage

    class Auth(auth_grpc.AuthServiceBase):  # type: ignore[misc]
        async def Authenticate(self, stream: Any) -> None:  # noqa: N802
            asked = await stream.recv_message()
            good = (asked.entity, asked.credentials.type, asked.credentials.payload)
            if good != (KEY_ID, "api-key", KEY):
                raise grpclib.GRPCError(grpclib.Status.UNAUTHENTICATED, "another key")
            await stream.send_message(auth_pb2.AuthenticateResponse(access_token=TOKEN))

    loop = asyncio.new_event_loop()
    made: list[str] = []
    ready = threading.Event()
    server: list[Any] = []

    async def start() -> None:
        one = Server([Packages(), Auth()])
        await one.start("127.0.0.1", 0)
        port = one._server.sockets[0].getsockname()[1]
        server.append(one)
        made.append(f"127.0.0.1:{port}")
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    async def stop() -> None:
        server[0].close()
        await server[0].wait_closed()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
