"""Several blobs at once: one connection to a server a thread, and all end with the first error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from queue import Empty, SimpleQueue
from typing import TypeVar

from nbmodel.storage.origin import Origin

_T = TypeVar("_T")
_R = TypeVar("_R")


class Lanes:
    """Origins of one server, as many as are used at a time.

    The first one is the caller's; the others are made when there is something for them.

    Args:
        first: The caller's own.
        make: Gives another one, whose ``cancelled`` asks ``is_over`` too.
        width: How many there are at most, ≥ 1.
    """

    def __init__(self, first: Origin, make: Callable[[], Origin], width: int) -> None:
        self._origins = [first]
        self._make = make
        self._width = width
        self._over = threading.Event()

    def is_over(self) -> bool:
        """Whether one of them failed, so that the others are to end."""
        return self._over.is_set()

    def close(self) -> None:
        """Close the connections of all but the first."""
        for origin in self._origins[1:]:
            origin.close()
        del self._origins[1:]

    def each(self, action: Callable[[Origin, _T], _R], items: Sequence[_T]) -> list[_R]:
        """What an action gives for each item, in the order of the items.

        Args:
            action: Called in several threads at a time, each with an origin of its own.
            items: What it is called with; begun in this order.

        Raises:
            BaseException: The first that an action raised, after all others ended.
        """
        width = min(self._width, len(items))
        while len(self._origins) < width:
            self._origins.append(self._make())
        waiting: SimpleQueue[tuple[int, _T]] = SimpleQueue()
        for item in enumerate(items):
            waiting.put(item)
        done: dict[int, _R] = {}
        errors: list[BaseException] = []

        def work(origin: Origin) -> None:
            try:
                while not self._over.is_set():
                    number, item = waiting.get_nowait()
                    done[number] = action(origin, item)
            except Empty:
                return
            except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
                # An interrupt is told even when it came while the others were ending.
                if not self._over.is_set() or not isinstance(exc, CancelledError):
                    errors.append(exc)
                self._end(origin)

        others = [
            threading.Thread(target=work, args=(origin,), name="nbmodel-lane", daemon=True)
            for origin in self._origins[1:width]
        ]
        try:
            for thread in others:
                thread.start()
            work(self._origins[0])
            for thread in others:
                thread.join()
        except BaseException:  # an interrupt while the others are waited for
            self._end(self._origins[0])
            for thread in others:
                thread.join()
            raise
        finally:
            self._over.clear()
        if errors:
            raise errors[0]
        return [done[number] for number in range(len(items))]

    def _end(self, mine: Origin) -> None:
        """End the other lanes: they do not wait for a server to say something."""
        self._over.set()
        for origin in self._origins:
            if origin is not mine:
                origin.abort()
