"""Asking a program for a credential: keychains of desktops and logins of clouds.

Source: docker/docker-credential-helpers, "Development": the server goes to stdin, JSON with
``Username`` and ``Secret`` comes from stdout; an end other than 0 says why on stdout.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from json import loads
from typing import Any

from nbmodel.core.credential import TOKEN_VARIABLE, Credential
from nbmodel.errors import AuthenticationError

TIMEOUT_S = 20.0  # a cloud is asked over the network
_MAX_ANSWER = 256 * 1024  # bytes
_LOOK_S = 0.1  # between looks whether anybody still waits for the answer
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}", re.ASCII)
_TOKEN_NAME = "<token>"  # noqa: S105 # the name that says that the secret is an identity token
_NOT_FOUND = "credentials not found"
_SECRETS = (TOKEN_VARIABLE,)  # of this program, not of what it asks


def ask_helper(
    name: str,
    server: str,
    environment: Mapping[str, str],
    *,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float = TIMEOUT_S,
) -> Credential | None:
    """What ``docker-credential-<name> get`` says; None when it knows no such server.

    It is started as it is, without a shell, and ended with all that it started.

    Args:
        name: Of the helper; not a path.
        server: What it is asked for, as the config names it.
        environment: Its environment; ``PATH`` says where it is.
        cancelled: Asked while it is waited for.
        timeout_s: Seconds that it may take.

    Raises:
        AuthenticationError: It cannot be run, took too long, or its answer is none.
        CancelledError: Nobody waits for the answer any more.
    """
    if _NAME.fullmatch(name) is None:
        raise AuthenticationError(f"{name[:100]!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    path = shutil.which(program, path=environment.get("PATH", os.defpath))
    if path is None:
        raise AuthenticationError(
            f"credential helper {program} for {server} is not installed",
            hint="install it, or take it out of the docker config",
        )
    status, answer = _run(path, server, environment, cancelled, timeout_s)
    if status != 0:
        said = answer.decode("utf-8", "replace").strip()
        if _NOT_FOUND in said.lower():
            return None
        # What it said may hold the secret that it was about to tell.
        raise AuthenticationError(
            f"credential helper {program} failed for {server} (status {status})",
            hint=f"try `echo {server} | {program} get`",
        )
    return _read(program, answer)


def _run(
    path: str,
    server: str,
    environment: Mapping[str, str],
    cancelled: Callable[[], bool],
    timeout_s: float,
) -> tuple[int, bytes]:
    """Its exit status and what it wrote."""
    try:
        process = subprocess.Popen(
            [path, "get"],
            env={key: value for key, value in environment.items() if key not in _SECRETS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it started can be killed with it
        )
    except OSError as exc:
        raise AuthenticationError(f"cannot run {path}: {exc.strerror or exc}") from exc
    answer = bytearray()
    reader = threading.Thread(target=_exchange, args=(process, server, answer), daemon=True)
    reader.start()
    deadline = time.monotonic() + timeout_s
    try:
        while reader.is_alive():
            reader.join(_LOOK_S)
            if cancelled():
                raise CancelledError
            if time.monotonic() > deadline:
                raise AuthenticationError(f"{path} gave no answer within {timeout_s:g} s")
        if len(answer) > _MAX_ANSWER:
            raise AuthenticationError(f"{path} answered with more than {_MAX_ANSWER} bytes")
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        _kill(process)
        reader.join(1.0)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
    return process.returncode, bytes(answer)


def _exchange(process: subprocess.Popen[bytes], server: str, answer: bytearray) -> None:
    """Tell it the server, and take what it says, up to one byte more than is taken."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError):  # it does not want to know, or has been ended
        process.stdin.write(f"{server}\n".encode())
        process.stdin.close()
    with suppress(OSError, ValueError):
        answer += process.stdout.read(_MAX_ANSWER + 1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it, with what it started, unless it has ended and was waited for."""
    if process.returncode is not None:
        return  # its number may be another's by now
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _read(program: str, answer: bytes) -> Credential:
    try:
        data: Any = loads(answer)
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise AuthenticationError(f"{program} answered with no username and secret")
    if username == _TOKEN_NAME:
        return Credential("", identity_token=secret)
    return Credential(username, secret)
