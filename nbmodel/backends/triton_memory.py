"""Tensors passed to a Triton on this machine through system shared memory.

A request takes a block for itself, writes its inputs there and finds its outputs behind them.
Measured with Triton 2.51 and its Python backend on two cores of a server, an image of 588 KiB
and one number back, in ms a request: over HTTP 0.6 shared and 3.8 sent, over gRPC 0.7 and 1.1;
the image back as well: HTTP 0.9 and 9.6 to 11.7, gRPC 0.9 and 3.1; 48 KiB: no difference.
Small requests, text, and outputs of an unknown size are sent as they are. Where Triton cannot
open what this process has made (it runs in a container, or as another user), everything is.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.owner import is_left, owner
from nbmodel.backends.triton_client import Answer, Client, Region
from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import InferenceError, NbModelError, UnavailableError
from nbmodel.protocol.datatypes import to_numpy

FOLDER = Path("/dev/shm")  # noqa: S108 # where Linux keeps what shm_open(3) opens
PREFIX = "nbmodel-triton-"
#: Bytes of inputs below which sending them costs less.
WORTH = 32 * 1024
_MOST = 1 << 30  # bytes of one block
_MAX_IDLE = 8  # blocks that are kept for later
_ALIGNED = 64
_count = itertools.count(1)

logger = logging.getLogger(__name__)


class TensorMemory:
    """Shared memory of one model's requests; may be used from several threads.

    Args:
        signature: Of the model.
    """

    def __init__(self, signature: Signature) -> None:
        self._outputs = {tensor.name: tensor for tensor in signature.outputs}
        self._batched = all(
            tensor.shape is not None and tensor.shape[:1] == (-1,)
            for tensor in (*signature.inputs, *signature.outputs)
        )
        self._lock = threading.Lock()
        self._idle: list[_Block] = []
        self._is_usable = FOLDER.is_dir()
        self._is_closed = False
        if self._is_usable:
            _sweep()

    @property
    def is_usable(self) -> bool:
        """Whether it was not found out yet that Triton cannot open it."""
        return self._is_usable

    def infer(
        self,
        client: Client,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Sequence[str],
    ) -> dict[str, NDArray[Any]] | None:
        """Run a model, with tensors in shared memory; None: they have to be sent.

        Args:
            client: Of its Triton.
            model: Its name there.
            version: Digits, or empty.
            inputs: Name → datatype and tensor, in one piece.
            outputs: Names of what is wanted.

        Raises:
            NbModelError: As ``Client.infer``.
        """
        layout = self._layout(inputs, outputs)
        if layout is None or not self._is_usable:
            return None
        with self._block(client, layout.size) as block:
            if block is None:
                return None
            for name, offset in layout.inputs.items():
                array = inputs[name][1]
                block.view(array.dtype, array.shape, offset)[...] = array
            given = {
                name: block.region(offset, inputs[name][1].nbytes)
                for name, offset in layout.inputs.items()
            }
            into = {
                name: block.region(offset, size) for name, (offset, size) in layout.outputs.items()
            }
            try:
                answer = client.infer(model, version, inputs, outputs, given, into)
            except UnavailableError:
                raise
            except InferenceError as exc:
                if "shared memory" not in str(exc):
                    raise
                if block.is_new:
                    self._give_up(exc)
                else:  # Triton was started again, and knows none of them any more
                    block.is_forgotten = True
                    self._drop()
                return None
            return {name: self._taken(answer, name, block, layout) for name in outputs}

    def close(self) -> None:
        """Let go of all of it."""
        with self._lock:
            self._is_closed = True
        self._drop()

    def _taken(self, answer: Answer, name: str, block: _Block, layout: _Layout) -> NDArray[Any]:
        if name not in layout.outputs:
            return answer.array(name)
        offset, size = layout.outputs[name]
        shape, dtype = answer.shape(name), to_numpy(self._outputs[name].datatype)
        if prod(shape) * dtype.itemsize > size:
            raise InferenceError(f"Triton's answer has an output {name!r} of shape {list(shape)}")
        copy: NDArray[Any] = block.view(dtype, shape, offset).copy()
        return copy

    def _layout(
        self, inputs: Mapping[str, tuple[str, NDArray[Any]]], outputs: Sequence[str]
    ) -> _Layout | None:
        """Where each tensor lies; None when it is not worth it."""
        fixed = {
            name: array.nbytes for name, (datatype, array) in inputs.items() if datatype != "BYTES"
        }
        if sum(fixed.values()) < WORTH:
            return None
        rows = {array.shape[0] for _, array in inputs.values()} if self._batched else set()
        end, places = 0, {}
        for name, size in fixed.items():
            places[name], end = end, _aligned(end + size)
        results = {}
        for name in outputs:
            size = _size(self._outputs[name], rows)
            if size:
                results[name], end = (end, size), _aligned(end + size)
        return _Layout(end, places, results) if end <= _MOST else None

    @contextlib.contextmanager
    def _block(self, client: Client, size: int) -> Iterator[_Block | None]:
        """A block for one request; one whose request failed may still be written to by Triton."""
        block = self._idle_block(client, size)
        if block is None:
            try:
                block = _Block(client, 1 << (size - 1).bit_length())
            except (OSError, InferenceError) as exc:
                if isinstance(exc, UnavailableError):
                    raise
                self._give_up(exc)
                yield None
                return
        try:
            yield block
        except BaseException:
            block.close()
            raise
        block.is_new = False
        with self._lock:
            is_wanted = self._is_usable and not self._is_closed and not block.is_forgotten
            if is_wanted and len(self._idle) < _MAX_IDLE:
                self._idle.append(block)
                return
        block.close()

    def _idle_block(self, client: Client, size: int) -> _Block | None:
        with self._lock:
            stale = [block for block in self._idle if block.client is not client]
            self._idle = [block for block in self._idle if block.client is client]
            found = next((block for block in self._idle if block.size >= size), None)
            if found is not None:
                self._idle.remove(found)
        for block in stale:  # of a server that was started again
            block.close()
        return found

    def _give_up(self, why: Exception) -> None:
        if self._is_usable:
            self._is_usable = False
            logger.info("tensors are sent, not shared with Triton: %s", why)
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for block in idle:
            block.close()


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the tensors of a request lie in a block.

    Attributes:
        size: Of all of it, in bytes.
        inputs: Name → offset.
        outputs: Name → offset and size.
    """

    size: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, tuple[int, int]]


class _Block:
    """A piece of shared memory that Triton has opened.

    Args:
        client: Of that Triton.
        size: In bytes.

    Raises:
        OSError: The system does not give it.
        NbModelError: Triton does not open it.
    """

    def __init__(self, client: Client, size: int) -> None:
        self.client = client
        self.size = size
        #: Whether no request has used it yet.
        self.is_new = True
        #: Whether Triton does not know it any more.
        self.is_forgotten = False
        self._name = f"{PREFIX}{owner()}-{next(_count)}"
        self._path = FOLDER / self._name
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Allocated now: a full /dev/shm is an error here, and not a signal later.
            os.posix_fallocate(descriptor, 0, size)
            self._memory = mmap.mmap(descriptor, size)
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        try:
            client.register(self._name, f"/{self._name}", size)
        except BaseException:
            self._path.unlink(missing_ok=True)
            self._memory.close()
            raise

    def view(self, dtype: np.dtype[Any], shape: Sequence[int], offset: int) -> NDArray[Any]:
        """A part of it as an array."""
        count = prod(shape)
        return np.frombuffer(self._memory, dtype, count, offset).reshape(shape)

    def region(self, offset: int, size: int) -> Region:
        """A part of it, as requests name it."""
        return Region(self._name, offset, size)

    def close(self) -> None:
        """Give it back; Triton may have gone already."""
        with contextlib.suppress(NbModelError):
            self.client.unregister(self._name)
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(BufferError):  # an array of a request that failed is still there
            self._memory.close()


def _size(tensor: Tensor, rows: set[int]) -> int:
    """Bytes of an output; 0 when that is not known beforehand."""
    shape = tensor.shape
    if shape is None or tensor.datatype not in DATATYPES:
        return 0
    if shape[:1] == (-1,) and len(rows) == 1:
        shape = (*rows, *shape[1:])
    return 0 if -1 in shape else prod(shape) * DATATYPES[tensor.datatype]


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED


def _sweep() -> None:
    """Remove what processes that are gone have left behind."""
    for entry in FOLDER.glob(f"{PREFIX}*"):
        if is_left(entry.name):
            with contextlib.suppress(OSError):
                entry.unlink()
