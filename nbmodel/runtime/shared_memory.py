"""System shared memory that clients register: tensors that are not sent, only named.

A region is read and written through its file, not mapped: a client that shortens a mapped
file kills the process that touches it, while here it gets an error. The price is one copy.

Source: Triton's shared memory extension, ``shared_memory_manager.cc`` for checks and texts.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbmodel.errors import (
    FormatError,
    InferenceError,
    InputError,
    StorageError,
    TargetError,
    UnsupportedError,
)
from nbmodel.protocol.inference import Region, SharedTensor
from nbmodel.protocol.raw import decode_raw, encode_raw

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory objects are on Linux
MAX_REGIONS = 1024  # each holds a file descriptor
MAX_NAME = 256  # characters of a region's name


@dataclass(frozen=True, slots=True)
class Registration:
    """A region as it was registered.

    Attributes:
        name: What requests call it.
        key: Of the shared memory object, as given.
        offset: Where the region begins in the object, bytes.
        byte_size: Bytes of the region.
    """

    name: str
    key: str
    offset: int
    byte_size: int


class _Object:
    """An open shared memory object; closed when its last user lets go of it."""

    def __init__(self, registration: Registration, descriptor: int) -> None:
        self.registration = registration
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)


class SharedMemory:
    """The regions that clients registered with one runtime; for use from any thread.

    Args:
        allowed: Whether clients may register regions at all.
        folder: Where shared memory objects are.
    """

    def __init__(self, *, allowed: bool = False, folder: Path = FOLDER) -> None:
        self._allowed = allowed
        self._folder = folder
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}

    def register(self, name: str, key: str, *, byte_size: int, offset: int = 0) -> None:
        """Make a part of a shared memory object known under a name.

        Args:
            name: What requests will call it.
            key: Of the object, as for ``shm_open``: one slash or none, then a file name.
            byte_size: Bytes of the part.
            offset: Where it begins in the object, bytes.

        Raises:
            UnsupportedError: Clients may not register regions here.
            InputError: The name is taken, the key names no object, or the part is not
                within it.
            StorageError: There is no such object, or it may not be opened.
        """
        self.check_allowed()
        if not 0 < len(name) <= MAX_NAME:
            raise InputError(f"the name of a region has 1 to {MAX_NAME} characters")
        path = self._path(name, key)
        with self._lock:
            if name in self._objects:
                raise InputError(f"shared memory region {name!r} already in manager")
            if len(self._objects) >= MAX_REGIONS:
                raise InputError(f"no more than {MAX_REGIONS} shared memory regions")
            opened = _Object(Registration(name, key, offset, byte_size), _open(path, key))
            status = os.fstat(opened.descriptor)
            if not stat.S_ISREG(status.st_mode) or offset + byte_size > status.st_size:
                raise InputError(
                    f"failed to register shared memory region {name!r}: invalid args: the "
                    f"object has {status.st_size} bytes, expected {offset + byte_size}"
                )
            self._objects[name] = opened

    def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all of them; requests that use it finish.

        A name that is not registered is no error, as in Triton.

        Raises:
            UnsupportedError: Clients may not register regions here.
        """
        self.check_allowed()
        with self._lock:
            if name is None:
                self._objects.clear()
            else:
                self._objects.pop(name, None)

    def status(self, name: str | None = None) -> tuple[Registration, ...]:
        """One region, or all of them.

        Raises:
            TargetError: There is none of that name.
        """
        with self._lock:
            if name is None:
                return tuple(one.registration for one in self._objects.values())
            if name not in self._objects:
                raise TargetError(f"Unable to find system shared memory region: {name!r}")
            return (self._objects[name].registration,)

    def check(self, region: Region) -> None:
        """Refuse a part that is not within a registered region.

        Raises:
            TargetError: There is no region of that name.
            InputError: The part is not within it.
        """
        self._find(region)

    def read(self, name: str, tensor: SharedTensor) -> NDArray[Any]:
        """The tensor in a region, copied.

        Args:
            name: Of the tensor, for messages.
            tensor: What it is and where.

        Raises:
            TargetError, InputError: As ``check``.
            DatatypeError, ShapeError, FormatError: The bytes are not such a tensor.
        """
        found = self._find(tensor.region)
        data = bytearray(tensor.region.byte_size)
        start = found.registration.offset + tensor.region.offset
        if _read(found.descriptor, memoryview(data), start) != len(data):
            raise FormatError(
                f"shared memory region {tensor.region.name!r} became shorter than it was "
                f"when it was registered"
            )
        return decode_raw(name, tensor.datatype, tensor.shape, memoryview(data))

    def write(self, name: str, region: Region, array: NDArray[Any]) -> None:
        """Put a tensor into a region.

        Args:
            name: Of the tensor, for messages.
            region: Where to.
            array: In the protocol's form.

        Raises:
            TargetError, InputError: As ``check``.
            InferenceError: It does not fit, or the object became shorter.
        """
        found = self._find(region)
        data = memoryview(encode_raw(array)).cast("B")
        if data.nbytes > region.byte_size:
            raise InferenceError(
                f"shared memory size specified with the request for output {name!r} "
                f"({region.byte_size} bytes) should be at least {data.nbytes} bytes to hold "
                f"the results"
            )
        start = found.registration.offset + region.offset
        # Writing beyond the end would make the object grow, and fill the memory.
        if start + data.nbytes > os.fstat(found.descriptor).st_size:
            raise InferenceError(
                f"shared memory region {region.name!r} became shorter than it was when it "
                f"was registered"
            )
        written = 0
        while written < data.nbytes:
            written += os.pwrite(found.descriptor, data[written:], start + written)

    def check_allowed(self) -> None:
        """Refuse where clients may not register regions.

        Raises:
            UnsupportedError: They may not.
        """
        if not self._allowed:
            raise UnsupportedError(
                "Client shared memory is disabled.",
                hint="start the runtime with --allow-shared-memory to enable it",
            )

    def _find(self, region: Region) -> _Object:
        with self._lock:
            found = self._objects.get(region.name)
        if found is None:
            raise TargetError(f"Unable to find shared memory region: {region.name!r}")
        size = found.registration.byte_size
        if region.offset >= size:
            raise InputError(f"Invalid offset for shared memory region: {region.name!r}")
        if region.offset + region.byte_size > size:
            raise InputError(
                f"Invalid offset + byte size for shared memory region: {region.name!r}"
            )
        return found

    def _path(self, name: str, key: str) -> Path:
        file = key.removeprefix("/")
        if file in ("", ".", "..") or "/" in file or "\0" in file:
            raise InputError(
                f"cannot register shared memory region {name!r} - invalid shm key {key!r}: "
                f"expected the name of an object in {self._folder}"
            )
        return self._folder / file


def _open(path: Path, key: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise StorageError(f"Unable to open shared memory region: {key!r}: {exc.strerror}") from exc


def _read(descriptor: int, into: memoryview, start: int) -> int:
    """Fill ``into`` from ``start`` on; how many bytes there were."""
    done = 0
    while done < into.nbytes:
        count = os.preadv(descriptor, [into[done:]], start + done)
        if count == 0:
            break
        done += count
    return done
