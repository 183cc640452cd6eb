"""Load and its cost: raw clients that do nothing but send and receive, CPU time of others.

A client here has its request as bytes beforehand and reads no more of an answer than it
takes to know where it ends, so that what is measured is the server.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_OIP = {"int32": "INT32", "float32": "FP32", "uint8": "UINT8"}
_TIMEOUT_S = 60


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@contextmanager
def pinned(*chosen: int) -> Iterator[None]:
    """Run this thread, and what it starts, on some cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process and its living descendants have taken.

    Source: clock_getcpuclockid(3); the clock counts nanoseconds, and threads that ended too.
    """
    return sum(_cpu_s(process) for process in tree(pid))


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, MB (10⁶ bytes)."""
    return sum(_resident(process) for process in tree(pid)) / 1e6


def tree(pid: int) -> list[int]:
    """A process and its descendants; threads and processes may end meanwhile."""
    found = [pid]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, children.read_text().split())
    return found


def _cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # it has ended since it was found
        return 0.0


def _resident(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since it was found
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def infer_body(inputs: Arrays, *, binary: bool = True) -> tuple[bytes, bytes]:
    """The JSON and the tensors of a request for inference whose outputs come as bytes too."""
    described = []
    for name, array in inputs.items():
        entry = {"name": name, "datatype": _OIP[array.dtype.name], "shape": array.shape}
        if binary:
            entry["parameters"] = {"binary_data_size": array.nbytes}
        else:
            entry["data"] = array.reshape(-1).tolist()
        described.append(entry)
    head: dict[str, Any] = {"inputs": described}
    if binary:
        head["parameters"] = {"binary_data_output": True}
    tensors = b"".join(array.tobytes() for array in inputs.values()) if binary else b""
    return json.dumps(head, separators=(",", ":")).encode(), tensors


class RawHttp:
    """One connection that sends the same request again and again.

    Args:
        address: ``host:port``.
        model: Whose inference is asked for.
        inputs: Its tensors.
        token: Bearer token, or None.
        binary: Whether tensors travel as bytes.
    """

    def __init__(
        self,
        address: str,
        model: str,
        inputs: Arrays,
        *,
        token: str | None = None,
        binary: bool = True,
    ) -> None:
        head, tensors = infer_body(inputs, binary=binary)
        lines = [f"POST /v2/models/{model}/infer HTTP/1.1", f"Host: {address}"]
        if binary:
            lines.append(f"Inference-Header-Content-Length: {len(head)}")
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        lines += [
            "Content-Type: application/octet-stream" if binary else "Content-Type: application/json"
        ]
        lines += [f"Content-Length: {len(head) + len(tensors)}", "", ""]
        self._request = "\r\n".join(lines).encode() + head + tensors
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(4 * 1024 * 1024)

    def __call__(self) -> bytes:
        """Ask once; the answer, head and all."""
        self._socket.sendall(self._request)
        view, filled, total = memoryview(self._buffer), 0, 1 << 62
        while filled < total:
            count = self._socket.recv_into(view[filled:])
            if not count:
                raise ConnectionError(f"closed after {bytes(view[:filled])[:300]!r}")
            filled += count
            if total == 1 << 62 and (end := self._buffer.find(b"\r\n\r\n", 0, filled)) >= 0:
                total = end + 4 + _content_length(bytes(view[:end]))
        answer = bytes(view[:filled])
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:500].decode(errors="replace"))
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError(f"an answer of unknown length: {head!r}")


class RawGrpc:
    """One channel that calls the same method with the same bytes again and again.

    Args:
        address: ``host:port``.
        method: ``/package.Service/Method``.
        request: The message as it travels.
        token: Bearer token, or None.
    """

    def __init__(
        self, address: str, method: str, request: bytes, *, token: str | None = None
    ) -> None:
        import grpc

        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=unlimited)
        self._call = self._channel.unary_unary(method)
        self._request = request
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    def __call__(self) -> bytes:
        """Call once; the answer's bytes."""
        answer: bytes = self._call(self._request, timeout=_TIMEOUT_S, metadata=self._metadata)
        return answer

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def oip_grpc_request(model: str, inputs: Arrays) -> bytes:
    """A ``ModelInferRequest`` with raw contents."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=_OIP[array.dtype.name], shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    content: bytes = message.SerializeToString()
    return content


def viam_request(service: str, inputs: Mapping[str, NDArray[np.float32]]) -> bytes:
    """An ``InferRequest`` of Viam's ML model service with float tensors."""
    from viam.gen.service.mlmodel.v1 import mlmodel_pb2

    message = mlmodel_pb2.InferRequest(name=service)
    for name, array in inputs.items():
        tensor = message.input_tensors.tensors[name]
        tensor.shape.extend(array.shape)
        tensor.float_tensor.data.extend(array.reshape(-1).tolist())
    content: bytes = message.SerializeToString()
    return content


def cpu_us(pid: int, ask: Callable[[], object], count: int) -> float:
    """CPU microseconds that a server takes for each of ``count`` requests, one at a time."""
    before = cpu_s(pid)
    for _ in range(count):
        ask()
    return (cpu_s(pid) - before) / count * 1e6
