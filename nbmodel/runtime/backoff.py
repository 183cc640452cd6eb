"""How long to wait before something that failed is tried again; no I/O."""

from __future__ import annotations

FIRST_S = 1.0
LONGEST_S = 600.0


def backoff_s(failures: int, draw: float) -> float:
    """Seconds to wait after failures in a row: 1 s, doubling, at most 10 minutes.

    Args:
        failures: How many there were; at least 1.
        draw: Random, 0 to 1, so that devices that failed together do not come back
            together: takes away up to half.
    """
    longest = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 30))
    return longest * (1 - draw / 2)
