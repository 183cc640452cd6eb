"""Whether a Triton elsewhere has room for what is sent to it.

Seen with Triton 2.51, and in the source of 2.70: files that come with a request to load are
written into a folder under ``/tmp`` without a look at whether the disk took them. On a full one
they are cut short, or empty, and the model is then refused with the words of a bad one. So
after a refusal a model is sent that weighs as much and only says how much of it has arrived.
"""

from __future__ import annotations

import re
from typing import Any

from nbmodel.backends.triton_config import PYTHON

MAX_BALLAST = 256 << 20  # bytes that are sent to find out, at most
_FOLDERS = 256 << 10  # bytes that its folders, and ends of blocks, may have taken
_BALLAST = "ballast"
_PROGRAM = b"""\
import os


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.dirname(os.path.abspath(__file__))
        size = os.path.getsize(os.path.join(folder, "ballast"))
        raise RuntimeError("nbmodel: %d bytes have arrived" % size)
"""
_ARRIVED = re.compile(r"nbmodel: (\d{1,12}) bytes have arrived")
#: What the Python backend says of a program of which nothing, or only a part, has arrived.
_NO_PROGRAM = re.compile(r"has no attribute 'TritonPythonModel'|SyntaxError|IndentationError")


def ballast(size: int) -> int:
    """How many bytes are sent to find out whether there is room for as many.

    Args:
        size: Of the files that were refused, in bytes.
    """
    return min(size + _FOLDERS, MAX_BALLAST)


def weight(ballast: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A model that is always refused, with how much of it has arrived.

    Args:
        ballast: Bytes that it has besides its program.

    Returns:
        Its configuration, without a name, and its files by their path in the version's folder.
    """
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    config: dict[str, Any] = {
        "backend": PYTHON.backend,
        "input": [{"name": "x", **tensor}],
        "output": [{"name": "y", **tensor}],
    }
    return config, {_BALLAST: bytes(ballast), PYTHON.file: _PROGRAM}


def arrived(words: str, ballast: int) -> int | None:
    """How many bytes of a weight have arrived where not all have; None: all, or not known.

    Args:
        words: With which it was refused.
        ballast: Bytes that it had.
    """
    found = _ARRIVED.search(words)
    if found is None:
        return 0 if _NO_PROGRAM.search(words) else None
    return int(found[1]) if int(found[1]) < ballast else None
