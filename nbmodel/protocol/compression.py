"""gzip and deflate of HTTP bodies, both ways, with a bound on what comes out.

Source: RFC 9110 (content codings, ``Accept-Encoding``); Triton's ``data_compressor.h``: both
codings are recognised by their own header, and ``deflate`` is the zlib format.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from nbmodel.errors import FormatError, UnsupportedError

#: What a body may be compressed with.
CODINGS = ("gzip", "deflate")
_DETECT = 15 | 32  # the largest window; gzip or zlib, whichever the header says
_WINDOW = {"gzip": 15 | 16, "deflate": 15}
_LEVEL = 1  # an edge device: most of the gain for a fraction of the CPU
_PIECE = 1024 * 1024  # bytes decompressed at a time


def decompress(data: bytes | bytearray | memoryview, *, limit: int) -> bytearray:
    """What a gzip or deflate body holds.

    Args:
        data: The whole body.
        limit: Most bytes that may come out; no more than that is ever held.

    Raises:
        FormatError: It is not whole, not compressed, or holds more than ``limit``.
    """
    if not data:
        raise FormatError("nothing to be decompressed: the body is empty")
    stream = zlib.decompressobj(_DETECT)
    result = bytearray()
    rest: bytes | bytearray | memoryview = data
    try:
        while not stream.eof:
            # One byte above the limit tells that there is more.
            piece = stream.decompress(rest, min(_PIECE, limit + 1 - len(result)))
            result += piece
            rest = stream.unconsumed_tail
            if len(result) > limit:
                raise FormatError(
                    f"decompressed data size exceeds the maximum allowed value of {limit} bytes",
                    hint="a runtime can be started with a larger --max-request-bytes",
                )
            if not piece and not rest:
                break
    except zlib.error as exc:
        raise FormatError(f"the body cannot be decompressed: {exc}") from exc
    if not stream.eof:
        raise FormatError("the body cannot be decompressed: it ends too early")
    if stream.unused_data:
        raise FormatError("the body cannot be decompressed: bytes follow its end")
    return result


def compress(parts: Iterable[bytes | memoryview], coding: str) -> tuple[bytes, ...]:
    """A body compressed as one stream.

    Args:
        parts: The body, in order.
        coding: One of ``CODINGS``.
    """
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW[coding])
    pieces = [stream.compress(part) for part in parts]
    return tuple(piece for piece in (*pieces, stream.flush()) if piece)


def check_coding(coding: str) -> str | None:
    """The coding that ``Content-Encoding`` names; None when the body is as it is.

    Raises:
        UnsupportedError: It is another.
    """
    if coding in CODINGS:
        return coding
    if coding in ("", "identity"):
        return None
    raise UnsupportedError(
        f"Unsupported compression type: {coding}", hint=f"send {' or '.join(CODINGS)}"
    )


def accepted(header: str) -> str | None:
    """The coding that ``Accept-Encoding`` likes best; None when it is none of ours.

    Of equals the first counts; what cannot be read is passed over.
    """
    best, best_weight = None, 0.0
    for item in header.split(","):
        coding, _, parameter = item.strip().partition(";")
        weight = _weight(parameter.strip())
        if coding.strip() in (*CODINGS, "identity") and weight > best_weight:
            best, best_weight = coding.strip(), weight
    return best if best in CODINGS else None


def _weight(parameter: str) -> float:
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
