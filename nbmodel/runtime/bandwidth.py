"""How long to wait so that what is fetched stays below a rate; no I/O."""

from __future__ import annotations


class Bandwidth:
    """A bound on bytes in a second, over everything that is told to it.

    Attributes:
        bytes_per_s: The rate; None: there is no bound.
    """

    def __init__(self, bytes_per_s: int | None = None) -> None:
        self.bytes_per_s = bytes_per_s
        self._paid = 0.0

    def delay_s(self, count: int, now: float) -> float:
        """Seconds to wait after bytes that just came.

        Args:
            count: How many.
            now: Seconds of a clock that nobody sets.
        """
        if self.bytes_per_s is None:
            return 0.0
        # Time in which nothing came is not saved up: that would be a burst.
        self._paid = max(self._paid, now) + count / self.bytes_per_s
        return self._paid - now
