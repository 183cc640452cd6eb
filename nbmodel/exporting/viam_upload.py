"""A version uploaded to Viam, over the stream that its own command line uses.

``VIAM_API_KEY`` and ``VIAM_API_KEY_ID`` let in; neither is shown.

Source: viamrobotics/api ``app/packages/v1/packages.proto`` ``CreatePackage``;
viamrobotics/goutils ``proto/rpc/v1/auth.proto`` ``Authenticate``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

from nbmodel.core.address import is_loopback
from nbmodel.errors import (
    AuthenticationError,
    FormatError,
    InputError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.viam_package import PackageInfo, archive, create_requests
from nbmodel.plugins import require
from nbmodel.protocol.wire import BYTES, fields, key_of, text

_CREATE = "/viam.app.packages.v1.PackageService/CreatePackage"
_LOGIN = "/proto.rpc.v1.AuthService/Authenticate"
_LOGIN_S = 30.0
_UPLOAD_S = 4 * 3600.0
_LOOK_S = 0.2
_KEY, _KEY_ID = "VIAM_API_KEY", "VIAM_API_KEY_ID"


class ViamUpload(Exporter):
    """``CreatePackage`` at an address such as ``app.viam.com``."""

    name = "viam-upload"
    about = "upload to Viam at TARGET, such as app.viam.com"
    options: ClassVar[Mapping[str, str]] = {
        "organization": "id of the organization at Viam; needed",
        "platform": "what it is for, such as linux/arm64",
    }

    def export(self, job: Export) -> Exported:
        """Send the package; nothing of it is written here."""
        require("an upload to Viam", "grpc", extra="runtime")
        import grpc

        organization = job.option("organization")
        if not organization:
            raise InputError(
                "an upload to Viam needs an organization", hint="--option organization=ID"
            )
        host, secure = _address(job.target)
        info = PackageInfo.of(
            job.version, organization=organization, platform=job.option("platform")
        )
        channel = (
            grpc.secure_channel(host, grpc.ssl_channel_credentials())
            if secure
            else grpc.insecure_channel(host)
        )
        failed: list[BaseException] = []
        with channel:
            try:
                metadata = _login(channel, is_safe=secure or is_loopback(host.rpartition(":")[0]))
                upload = channel.stream_unary(_CREATE, _plain, _plain)
                requests = _Watched(create_requests(info, archive(job)), failed)
                answer = _awaited(
                    upload.future(requests, timeout=_UPLOAD_S, metadata=metadata), job
                )
            except grpc.RpcError as exc:
                if failed:
                    raise failed[0] from exc
                raise _refused(exc, host) from exc
        if failed:
            raise failed[0]
        package, version = _created(answer)
        return Exported((), f"{package} version {version}")


def _awaited(call: Any, job: Export) -> bytes:
    """What a call answers; it ends when nobody wants to go on, however slow the server is."""
    import grpc

    try:
        while True:
            job.check()
            with suppress(grpc.FutureTimeoutError):
                answer: bytes = call.result(timeout=_LOOK_S)
                return answer
    finally:
        call.cancel()


class _Watched:
    """The messages of an upload; grpc hides what ends them early."""

    def __init__(self, messages: Any, failed: list[BaseException]) -> None:
        self._messages = messages
        self._failed = failed

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> bytes:
        try:
            message: bytes = next(self._messages)
        except StopIteration:
            raise
        except BaseException as exc:
            self._failed.append(exc)
            raise
        return message


def _address(target: str) -> tuple[str, bool]:
    """``host:port``, and whether TLS is spoken."""
    parts = urlsplit(target if "://" in target else f"//{target}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.path.strip("/") or parts.scheme not in ("", "http", "https"):
        raise InputError(f"not the address of a server: {target[:200]!r}", hint="app.viam.com")
    secure = parts.scheme == "https" or (parts.scheme == "" and not is_loopback(host))
    return f"{host}:{port or (443 if secure else 80)}", secure


def _login(channel: Any, *, is_safe: bool) -> tuple[tuple[str, str], ...]:
    """What lets in, for every call; nothing without a key in the environment.

    Raises:
        InputError: There is a key, and it would go over a network in clear.
    """
    key, key_id = os.environ.get(_KEY, ""), os.environ.get(_KEY_ID, "")
    if not key or not key_id:
        return ()
    if not is_safe:
        raise InputError(
            f"{_KEY} is not sent over plain http to another machine",
            hint=f"use https, or unset {_KEY}",
        )
    credentials = _field(1, b"api-key") + _field(2, key.encode())
    asked = _field(1, key_id.encode()) + _field(2, credentials)
    answer = channel.unary_unary(_LOGIN, _plain, _plain)(asked, timeout=_LOGIN_S)
    token = _texts(answer, "AuthenticateResponse").get(1, "")
    if not token:
        raise AuthenticationError("Viam answered no token", hint=f"check {_KEY} and {_KEY_ID}")
    return (("authorization", f"Bearer {token}"),)


def _created(answer: bytes) -> tuple[str, str]:
    found = _texts(answer, "CreatePackageResponse")
    return found.get(1, "")[:200], found.get(2, "")[:200]


def _texts(message: bytes, what: str) -> dict[int, str]:
    try:
        return {
            number: text(content, what)
            for number, kind, content in fields(memoryview(message), what)
            if kind == BYTES
        }
    except FormatError as exc:
        raise StorageError(f"Viam answered no {what}: {exc}") from exc


def _refused(
    exc: Any, host: str
) -> AuthenticationError | StorageError | TargetUnreachableError | InputError:
    import grpc

    code, said = exc.code(), " ".join(str(exc.details()).split())[:300]
    for name in (_KEY, _KEY_ID):
        said = said.replace(os.environ.get(name) or "\0", "…")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return AuthenticationError(
            f"{host} refused the upload: {said}", hint=f"set {_KEY} and {_KEY_ID}"
        )
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return TargetUnreachableError(f"{host} does not answer: {said}")
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS):
        return InputError(f"{host} does not take the package: {said}")
    return StorageError(f"{host} answered {code.name} to the upload: {said}")


def _plain(message: bytes) -> bytes:
    return message


def _field(number: int, content: bytes) -> bytes:
    return key_of(number, len(content)) + content
