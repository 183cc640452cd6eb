"""Objects below an address of an object store: S3 and its like, Google's, Azure's, a folder.

What a server sends is bounded: objects are read in ranges of a few MiB, some at a time, and
a range that is longer than asked for is left. Credentials are those that the environment
holds for the store (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``,
``AZURE_STORAGE_ACCOUNT_NAME``, …), and a machine's or workload's own identity; no message
tells any of them.

Source: obstore's documentation, "Store builders", "Authentication".
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nbmodel.core.address import is_loopback, store_address
from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    ConfigError,
    InputError,
    PluginError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_RANGE = 8 * 1024 * 1024  # bytes of one request
_AT_ONCE = 3  # requests: 24 MiB on their way at most
_PIECE = 1024 * 1024  # bytes handed on at a time
_MAX_PARTS = 10_000  # of one upload; S3's limit
_MAX_KEY = 1024  # characters; S3's limit is in bytes
_MAX_SAID = 300  # characters of what a store says
_HINT = "credentials and settings of the store come from the environment"
_REQUEST_S, _CONNECT_S, _RETRIES = 120, 5, 4
_SECRETS = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY|SAS|PRIVATE|CREDENTIAL")
_NO_CONDITIONS = re.compile(r"status code: 501|<Code>NotImplemented<|Missing(?:ETag|Version)")
_S3_SAYS = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")


@dataclass(frozen=True, slots=True)
class Item:
    """An object.

    Attributes:
        key: Its name below the address.
        size: Its bytes.
        at: When it was written, seconds since 1970 by the store's clock.
        etag: What the store calls this state of it; None where it does not.
        version: What some stores call it besides.
    """

    key: str
    size: int
    at: float
    etag: str | None
    version: str | None = None


def open_store(url: str) -> Bucket:
    """The objects below an address.

    Nothing is asked of the store yet.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix`` or
            ``file:///folder``.

    Raises:
        InputError: It is no such address, or has a credential in it.
        ConfigError: The environment's settings for such a store cannot be used.
        PluginError: The extra is not installed.
    """
    address = store_address(url)
    try:
        from obstore import store as stores
        from obstore.exceptions import BaseError
    except ImportError as exc:
        raise PluginError(
            f"{address} needs obstore, which is not installed",
            hint="pip install 'nbmodel[object-store]'",
        ) from exc
    scheme = address.partition(":")[0]
    try:
        if scheme == "file":
            folder = Path(unquote(address.removeprefix("file://")))
            if (
                not folder.is_dir()
            ):  # made here, an empty one could hide a share that is not mounted
                raise InputError(f"there is no folder {folder}", hint=f"mkdir -p {folder}")
            return Bucket(stores.LocalStore(folder), address)
        options: Any = {
            "timeout": timedelta(seconds=_REQUEST_S),
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            **_trust(),
        }
        if _is_loopback_endpoint(scheme, os.environ):
            options["allow_http"] = True
        retries: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_REQUEST_S)}
        parts = urlsplit(address)
        # Without the prefix, which obstore's versions treat differently.
        store = stores.from_url(
            f"{scheme}://{parts.netloc}", client_options=options, retry_config=retries
        )
        return Bucket(store, address, unquote(parts.path).strip("/"))
    except (BaseError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"{address} cannot be opened: {_told(exc)}",
            hint=_HINT,
        ) from exc


class Bucket:
    """Objects below one address.

    Every method raises TargetUnreachableError when the store does not answer,
    AuthenticationError when it refuses the credential, StorageUnavailableError when a folder
    does not take bytes, and StorageError for anything else. Methods may be called from
    several threads.

    Args:
        store: Where they are.
        url: Its address, for messages.
        prefix: What the store's keys have before ours; empty for nothing.
    """

    def __init__(self, store: ObjectStore, url: str, prefix: str = "") -> None:
        self._store = store
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = url

    def find(self, key: str) -> Item | None:
        """What is known of an object; None when there is none."""
        try:
            with self._translated("look for", key):
                return _item(key, self._store.head(self._key(key)))
        except BlobNotFoundError:
            return None

    def items(self, prefix: str = "", *, at_most: int = 1_000_000) -> Iterator[Item]:
        """The objects below a prefix, which ends at a ``/`` of the key, in any order.

        Raises:
            StorageError: There are more than ``at_most``.
        """
        count = 0
        with self._translated("list", prefix):
            below = (self._prefix + prefix).rstrip("/")
            for page in self._store.list(below or None, chunk_size=1000):
                for meta in page:
                    count += 1
                    if count > at_most:
                        raise StorageError(f"{self.url} has more than {at_most} objects")
                    yield _item(meta["path"].removeprefix(self._prefix), meta)

    def read(self, key: str, *, limit: int) -> tuple[Item, bytes]:
        """All of a small object.

        Raises:
            BlobNotFoundError: There is none.
            StorageError: It is larger than ``limit`` bytes.
        """
        with self._translated("read", key):
            answer = self._store.get(self._key(key))
            item = _item(key, answer.meta)
            data = bytearray()
            if item.size <= limit:
                for piece in answer.stream(min_chunk_size=1):
                    data += piece
                    if len(data) > limit:
                        break
        if item.size > limit or len(data) > limit:
            raise StorageError(f"{self.url}: {key} is larger than {limit} bytes")
        return item, bytes(data)

    def stream(
        self, item: Item, *, start: int = 0, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[bytes]:
        """The bytes of an object in order, from ``start`` on, some ranges fetched ahead.

        Raises:
            BlobNotFoundError: It is gone.
            StorageError: It changed since it was found, or is shorter than it was.
            CancelledError: ``cancelled`` says so.
        """
        ranges = deque((at, min(at + _RANGE, item.size)) for at in range(start, item.size, _RANGE))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbmodel-object") as pool:
            ahead: deque[Future[list[bytes]]] = deque()
            try:
                while ranges or ahead:
                    while ranges and len(ahead) < _AT_ONCE:
                        ahead.append(pool.submit(self._range, item, *ranges.popleft()))
                    if cancelled():
                        raise CancelledError
                    yield from ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def put(self, key: str, data: bytes, *, over: Item | None = None, new: bool = False) -> bool:
        """Write a small object.

        Args:
            key: Its name.
            data: All of it.
            over: Only over this state of it; None: over any.
            new: Only where there is none.

        Returns:
            Whether it was written; False: it was not in that state.

        Raises:
            NotImplementedError: The store cannot write over one state only, or where there is none.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        mode: Any = "create" if new else "overwrite"
        if over is not None and not new:
            mode = {"e_tag": over.etag, "version": over.version}
            mode = {name: value for name, value in mode.items() if value is not None}
        try:
            with self._translated("write", key):
                try:
                    self._store.put(self._key(key), data, mode=mode, use_multipart=False)
                except BaseError as exc:
                    if mode != "overwrite" and _NO_CONDITIONS.search(str(exc)):
                        raise NotImplementedError from exc
                    raise
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def upload(self, key: str, pieces: Iterable[bytes], size: int) -> None:
        """Write a large object in parts; it is there with its last byte, or not at all.

        Args:
            key: Its name.
            pieces: Its bytes. What they raise ends the upload and is raised again.
            size: How many they are.
        """
        part = max(_RANGE, -(-size // _MAX_PARTS))
        with self._translated("write", key):
            self._store.put(
                self._key(key), iter(pieces), use_multipart=True, chunk_size=part, max_concurrency=2
            )

    def delete(self, key: str) -> None:
        """Take an object away; nothing to do when there is none."""
        try:
            with self._translated("delete", key):
                self._store.delete(self._key(key))
        except BlobNotFoundError:
            return

    def _key(self, key: str) -> str:
        full = self._prefix + key
        if not key or len(full) > _MAX_KEY or not key.isprintable() or _has_dots(key):
            raise StorageError(f"not the name of an object: {key[:100]!r}")
        return full

    def _range(self, item: Item, start: int, end: int) -> list[bytes]:
        options: Any = {"range": (start, end)}
        if item.etag is not None:
            options["if_match"] = item.etag
        pieces, left = [], end - start
        with self._translated("read", item.key):
            for piece in self._store.get(self._key(item.key), options=options).stream(_PIECE):
                left -= len(piece)
                if left < 0:
                    break
                pieces.append(bytes(piece))
        if left:
            raise StorageError(f"{self.url}: {item.key} is not the {item.size} bytes that it was")
        return pieces

    @contextmanager
    def _translated(self, what: str, key: str) -> Iterator[None]:
        from obstore import exceptions

        name = f"{key} in {self.url}" if key else self.url
        try:
            yield
        except (exceptions.AlreadyExistsError, NotImplementedError):
            raise
        except exceptions.PreconditionError as exc:
            if what == "write":
                raise
            raise StorageError(f"{name} changed while it was read") from exc
        except FileNotFoundError as exc:
            missing = "NoSuchBucket" in str(exc)
            raise BlobNotFoundError(
                f"there is no bucket at {self.url}" if missing else f"there is no {name}"
            ) from exc
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
            raise AuthenticationError(
                f"cannot {what} {name}: {_told(exc)}",
                hint=_HINT,
            ) from exc
        except exceptions.BaseError as exc:
            raise _refused(f"cannot {what} {name}: {_told(exc)}", str(exc), self.url) from exc
        except OSError as exc:
            raise StorageUnavailableError(f"cannot {what} {name}: {exc.strerror or exc}") from exc


def _refused(
    message: str, said: str, url: str
) -> AuthenticationError | StorageError | TargetUnreachableError:
    if url.startswith("file:"):
        return StorageUnavailableError(
            message, hint="check free space and permissions of the folder"
        )
    if "NoSuchBucket" in said:
        return BlobNotFoundError(f"there is no bucket at {url}")
    if "169.254." in said:
        return AuthenticationError(f"no credential for {url} was found", hint=_HINT)
    if re.search(r"HTTP error|status code: (?:429|50[0234])", said):
        return TargetUnreachableError(message, hint="is the address of the store right?")
    return StorageError(message)


def _told(exc: BaseException) -> str:
    """What an error says, on one line and without what nobody should read."""
    said = str(exc).partition("\n\nDebug source")[0]
    own = _S3_SAYS.search(said)
    head = " ".join(said.partition("\n")[0].partition("<?xml")[0].split())
    if own:
        head = f"{head.rstrip(': ')}: {own[1]} {own[2] or ''}".rstrip()
    head = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", head)  # signatures are in queries
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRETS.search(name.upper()):
            head = head.replace(value, "…")
    return head[:_MAX_SAID]


def _has_dots(key: str) -> bool:
    return any(part in ("", ".", "..") for part in key.split("/"))


def _item(key: str, meta: Any) -> Item:
    at = meta["last_modified"].timestamp()
    return Item(key, int(meta["size"]), at, meta["e_tag"], meta["version"])


def _is_loopback_endpoint(scheme: str, environment: Mapping[str, str]) -> bool:
    """Whether the environment names a store on this machine, which has no certificate."""
    if scheme != "s3":
        return False
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    given = next(filter(None, map(environment.get, names)), "")
    return given.startswith("http://") and is_loopback(urlsplit(given).hostname or "")


def _trust() -> dict[str, bytes]:
    from nbmodel.storage.access import CA_VARIABLE

    given = os.environ.get(CA_VARIABLE) or os.environ.get("SSL_CERT_FILE")
    if not given:
        return {}
    try:
        return {"root_certificate": Path(given).read_bytes()}
    except OSError as exc:
        raise ConfigError(
            f"no certificates can be read from {given}: {exc.strerror or exc}",
            hint=f"it must be a PEM file; see {CA_VARIABLE} and SSL_CERT_FILE",
        ) from exc
