"""Credentials that ``docker login``, ``podman login`` and clouds left on this machine.

Files are read when they are asked, since logins change while a process lives. An entry for
one namespace of a registry, as Podman writes it when told to, is not for the registry and
is not used.

Sources: docker CLI, "docker login", "Credential stores"; containers-auth.json(5).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from json import loads
from pathlib import Path
from typing import Any

from nbmodel.core.credential import TOKEN_VARIABLE, Credential
from nbmodel.errors import AuthenticationError
from nbmodel.storage.credential_helper import ask_helper

_MAX_FILE = 4 * 1024 * 1024  # bytes
_HUB = "https://index.docker.io/v1/"  # what Docker calls its own registry, for old times' sake
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")


def find_credential(
    host: str,
    environment: Mapping[str, str],
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> Credential | None:
    """The credential for a registry; None when nobody logged in there.

    The first file that has one counts. In a file, a helper for the registry comes before
    the store for all, and that before what is written there.

    Args:
        host: ``host[:port]`` of the registry.
        environment: Says where the files are, and is that of helpers.
        cancelled: Asked while a helper is waited for.

    Raises:
        AuthenticationError: A file cannot be read, or a helper fails.
        CancelledError: Nobody waits any more.
    """
    names = _names(host)
    for path in config_files(environment):
        config = _load(path)
        if config is None:
            continue
        found = _find(_File(path, config), names, environment, cancelled)
        if found is not None:
            return found
    return None


def config_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files in which credentials may be, in the order in which they count.

    Args:
        environment: ``REGISTRY_AUTH_FILE``, ``DOCKER_CONFIG``, ``HOME``,
            ``XDG_RUNTIME_DIR`` and ``XDG_CONFIG_HOME`` are looked at.
    """
    home = environment.get("HOME")
    if file := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(file)
    if folder := environment.get("DOCKER_CONFIG") or (home and f"{home}/.docker"):
        yield Path(folder) / "config.json"
    if folder := environment.get("XDG_RUNTIME_DIR"):
        yield Path(folder) / "containers" / "auth.json"
    if folder := environment.get("XDG_CONFIG_HOME") or (home and f"{home}/.config"):
        yield Path(folder) / "containers" / "auth.json"


class _File:
    """One file: what it says about servers."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.auths = self._table(config, "auths")
        self.helpers = self._table(config, "credHelpers")
        self.store = config.get("credsStore") or None
        if self.store is not None and not isinstance(self.store, str):
            raise _damaged(f"credsStore of {path} is no name")

    def _table(self, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        table = config.get(key) or {}
        if not isinstance(table, dict):
            raise _damaged(f"{key} of {self.path} is no table")
        return table


def _find(
    file: _File,
    names: tuple[str, ...],
    environment: Mapping[str, str],
    cancelled: Callable[[], bool],
) -> Credential | None:
    entry = next((name for name in names if name in file.auths), None)
    for name in names:
        if name in file.helpers:
            return ask_helper(str(file.helpers[name]), name, environment, cancelled=cancelled)
    if file.store is not None:
        server = entry or names[0]
        found = ask_helper(file.store, server, environment, cancelled=cancelled)
        if found is not None:
            return found
    return None if entry is None else _inline(file, entry)


def _inline(file: _File, name: str) -> Credential | None:
    """What is written in a file itself; None for an entry that only marks a login."""
    entry = file.auths[name]
    if not isinstance(entry, dict):
        raise _damaged(f"the entry for {name} in {file.path} is no table")
    given = {key: entry.get(key) or "" for key in ("auth", "username", "password")}
    token = entry.get("identitytoken") or None
    if not all(isinstance(value, str) for value in (*given.values(), token or "")):
        raise _damaged(f"the entry for {name} in {file.path} is not made of words")
    username, password = given["username"], given["password"]
    if given["auth"]:
        try:
            plain = b64decode(given["auth"], validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            plain = ""
        username, colon, password = plain.partition(":")
        if not colon:
            raise AuthenticationError(
                f"auth of the entry for {name} in {file.path} is not base64 of user:password",
                hint=f"log in again: `docker login {name}`",
            )
        password = password.rstrip("\0")  # some old clients padded it
    if token is None and not username:
        return None
    return Credential(username, password, token)


def _names(host: str) -> tuple[str, ...]:
    """What files call a registry, the usual one first."""
    plain = ("docker.io", "index.docker.io") if host in _HUB_HOSTS else (host,)
    legacy = (f"{scheme}{one}{end}" for one in plain for scheme, end in _FORMS)
    return ((_HUB,) if host in _HUB_HOSTS else ()) + tuple(dict.fromkeys((*plain, *legacy)))


_FORMS = tuple(
    (scheme, end) for scheme in ("https://", "http://", "") for end in ("", "/", "/v1/", "/v2/")
)


def _load(path: Path) -> Mapping[str, Any] | None:
    """What a file says; None when there is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise AuthenticationError(f"cannot read {path}: {exc.strerror or exc}") from exc
    if len(raw) > _MAX_FILE:
        raise AuthenticationError(f"{path} has more than {_MAX_FILE} bytes")
    try:
        config = loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        config = None  # the error would show what is in it
    if not isinstance(config, dict):
        raise _damaged(f"{path} is not a JSON object")
    return config


def _damaged(what: str) -> AuthenticationError:
    return AuthenticationError(
        f"credentials cannot be read: {what}",
        hint=f"mend that file, or move it away and `docker login` again; {TOKEN_VARIABLE} goes "
        "before it",
    )
