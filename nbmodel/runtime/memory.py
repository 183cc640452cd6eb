"""Giving memory back to the system when a model is let go of.

glibc keeps what is freed. It gives it back when asked, but of the heaps that it makes for
threads it keeps the ends even then, as large as twice the largest block that was ever freed:
28 MB a heap, once a model of 14 MB was let go of. With one heap for all threads, and asking,
100 swaps of such a model under load left 94 MB resident, as the first five did; without, 185.

Source: glibc's ``malloc.c``, ``mtrim`` and ``heap_trim``; ``mallopt(3)``.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache

_M_ARENA_MAX = -8  # glibc's <malloc.h>


def share_one_heap() -> None:
    """Have all threads that are started from now on share the process's heap.

    They do not contend for it: Python's small objects are not on it, and what a request has
    there are a few tensors. Nothing is done where the C library is not glibc.
    """
    set_option = _glibc("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give what is free back to the system, in a thread of its own: it may take milliseconds.

    Nothing is done where the C library is not glibc; others do it themselves.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        with suppress(RuntimeError):  # no more threads: whoever lets a model go must not fail
            threading.Thread(target=trim, args=(0,), name="nbmodel-trim", daemon=True).start()


@cache
def _glibc(function: str) -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        found: Callable[..., int] = ctypes.CDLL(None)[function]
    except (OSError, AttributeError):
        return None
    return found
