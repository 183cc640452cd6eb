"""How long a server is waited for that says "later", or whose line breaks. Rules without I/O.

Source: RFC 9110 §10.2.3 "Retry-After"; OCI distribution specification 1.1, "Error Codes"
(429 TOOMANYREQUESTS).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

#: Statuses of a server, or of a proxy before it, that may do better in a moment.
LATER = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often something is tried again, and after how long.

    Attributes:
        tries: How often it is tried again, ≥ 0.
        first_s: Seconds before the first of them; each later pause is twice as long.
        longest_s: Seconds that a pause takes at most. A server that asks for a longer one
            is not waited for.
    """

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 30.0

    def pause_s(
        self,
        number: int,
        asked: str | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        chance: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds to wait before a try; None when it is not worth it.

        Between half of a pause and all of it, so that many clients that were refused at
        one time do not come back at one time; never less than the server asks for.

        Args:
            number: Which try, counted from 1.
            asked: The ``Retry-After`` of the answer before: seconds, or a date. What is
                neither counts as none.
            now: The time by which a date is read.
            chance: A number in 0..1.
        """
        if number > self.tries:
            return None
        wanted = _wanted_s(asked, now)
        if wanted > self.longest_s:
            return None
        pause = min(self.longest_s, self.first_s * 2.0 ** (number - 1))
        return max(wanted, pause * (0.5 + chance() / 2))


#: For whoever has a way of waiting of his own.
IMPATIENT = Patience(tries=0)


def _wanted_s(asked: str | None, now: Callable[[], datetime]) -> float:
    if asked is None:
        return 0.0
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", asked):
        return float(asked)
    try:
        date = parsedate_to_datetime(asked)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    if date.tzinfo is None:  # "-0000" says UTC without saying where
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - now()).total_seconds())
