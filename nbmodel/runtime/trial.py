"""What becomes of a version that a service should run. Rules only, no I/O and no clock.

::

    new ─ window ─ unpack ─ probe ─▶ provisional ─ load ─ switch ─ healthy ─▶ committed
                             │                       │        │
                             └───────── failed ◀─────┴────────┘   current serves

A version that is *provisional* is on trial: the runtime goes back to the committed one when
it fails, and when the runtime itself dies meanwhile. One that failed is not tried again
with the same settings until a person asks.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

from nbmodel.core.policy import DAYS, DeploymentPolicy
from nbmodel.errors import (
    ConfigError,
    NbModelError,
    PluginError,
    ProbeError,
    StorageError,
    UnavailableError,
)
from nbmodel.runtime.state import Failed, History, Record, State

MAX_ATTEMPTS = 3  # in a row, of a version with nothing to go back to
#: Ends without a word in a row, after which nothing is loaded before it was probed.
CAUTIOUS_AFTER = 2
#: How many times as long as it may a version may take for an answer in its probe. There it runs
#: alone and warm, but beside what serves, and on other inputs than it will be asked.
FAR_TOO_SLOW = 5.0
#: What makes a version fail that passed its probe.
AFTER_PROBE = frozenset(
    ["RuntimeEnded", "ProcessDied", "TooManyFailures", "TooSlow", "Stuck", "GivenUp"]
)

#: ``committed``: it is what ran well last; ``known``: it did before that; ``provisional``: it
#: is on trial; ``failed``: it is not tried again; ``new``: nothing is known of it.
Standing: TypeAlias = Literal["committed", "known", "provisional", "failed", "new"]


@dataclass(frozen=True, slots=True)
class Served:
    """What a version did since it serves.

    Attributes:
        answered: Requests.
        failed: Requests that failed in the engine; a client's mistakes are none.
        mean_ms: Of an answer, from the request's arrival; None before there was one.
        deaths: Processes that died while they served it.
        under_way_s: How long the request has been in the engine that is there for longest,
            in seconds; 0: there is none.
    """

    answered: int = 0
    failed: int = 0
    mean_ms: float | None = None
    deaths: int = 0
    under_way_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a version on trial.

    Attributes:
        action: ``wait``, ``commit`` or ``roll back``.
        cause: Why, in one word, for conditions.
        reason: Why, for people.
    """

    action: Literal["wait", "commit", "roll back"]
    cause: str = ""
    reason: str = ""


def standing(history: History, key: str, digest: str | None) -> Standing:
    """What is known of what a service should run.

    Args:
        history: Of the service.
        key: Of the wish; versions with the same content have the same.
        digest: Of the version's manifest; None for a file by path.
    """
    if history.failure(digest, key) is not None:
        return "failed"
    if history.current is not None and history.current.key == key:
        return "committed"
    if history.provisional is not None and history.provisional.record.key == key:
        return "provisional"
    if history.rollback is not None and history.rollback.key == key:
        return "known"
    return "new"


def judge(policy: DeploymentPolicy, age_s: float, served: Served) -> Verdict:
    """What becomes of a version on trial.

    A request that gets no answer counts, too. It keeps a version from being committed when it
    began in the first half of the trial, or when nothing was answered yet. It is too slow when
    the mean of ``min_requests`` answers would be, even if the others took no time. And none
    may take longer than a whole probe may.

    Args:
        policy: Its service's.
        age_s: How long it serves, in seconds.
        served: What it did meanwhile.
    """
    if served.deaths:
        return Verdict(
            "roll back", "ProcessDied", "a process that served it died while it was provisional"
        )
    total = served.answered + served.failed
    under_way_s, bound_ms = served.under_way_s, policy.max_latency_ms
    if bound_ms is not None and under_way_s * 1e3 > bound_ms * max(policy.min_requests, total):
        return Verdict(
            "roll back",
            "TooSlow",
            f"a request has been under way for {under_way_s:.3g} s, "
            f"expected answers in at most {bound_ms:.3g} ms on average",
        )
    if under_way_s > policy.probe_timeout_s:
        return Verdict(
            "roll back",
            "Stuck",
            f"a request has been under way for {under_way_s:.3g} s without an answer, "
            f"expected at most {policy.probe_timeout_s:.3g} s (probe_timeout_s)",
        )
    if total >= policy.min_requests:
        rate = served.failed / total
        if policy.max_failure_rate is not None and rate > policy.max_failure_rate:
            return Verdict(
                "roll back",
                "TooManyFailures",
                f"{served.failed} of {total} requests failed ({rate:.0%}), "
                f"expected at most {policy.max_failure_rate:.0%}",
            )
        mean = served.mean_ms
        if mean is not None and bound_ms is not None and mean > bound_ms:
            return Verdict(
                "roll back",
                "TooSlow",
                f"an answer takes {mean:.3g} ms on average of {served.answered}, "
                f"expected at most {bound_ms:.3g} ms",
            )
    is_held = under_way_s > 0 and (total == 0 or under_way_s > age_s / 2)
    return Verdict("commit" if age_s >= policy.confirm_s and not is_held else "wait")


def slowness(policy: DeploymentPolicy, latency_ms: float | None) -> str:
    """What is to be said of a version that was slow in its probe; empty: nothing.

    Args:
        policy: Its service's.
        latency_ms: What an answer took there, warm; None when there was none.
    """
    bound = policy.max_latency_ms
    if bound is None or latency_ms is None or latency_ms <= bound:
        return ""
    return f"slower than the limit in its trial ({_took(latency_ms)}, limit {_took(bound)})"


def check_slowness(policy: DeploymentPolicy, latency_ms: float | None) -> None:
    """Refuse a version that was far too slow in its probe: no number of requests is waited for.

    Args:
        policy: Its service's.
        latency_ms: As for ``slowness``.

    Raises:
        ProbeError: It took more than ``FAR_TOO_SLOW`` times what an answer may.
    """
    bound = policy.max_latency_ms
    if bound is None or latency_ms is None or latency_ms <= FAR_TOO_SLOW * bound:
        return
    raise ProbeError(
        f"is {slowness(policy, latency_ms)}, more than {FAR_TOO_SLOW:g} times",
        reason="SlowTrial",
        hint='use a faster model or backend, or set a larger "max_latency_ms" in its deployment',
    )


def waiting_words(policy: DeploymentPolicy, moment: datetime) -> str:
    """Which window a version waits for: ``… Mon 02:00-04:00, which opens Mon 02:00 …``.

    Args:
        policy: Its service's; none of its windows is open.
        moment: Now, in local time.
    """
    found = policy.opening(moment)
    if found is None:
        return ""
    window, opens = found
    zone = moment.strftime("%Z") or "local time"
    return (
        f"it waits for its maintenance window {window}: that opens "
        f"{DAYS[opens.weekday()]} {opens:%H:%M} local time ({zone}), "
        f"in {_ahead((opens - moment).total_seconds())}"
    )


def seen_words(policy: DeploymentPolicy, served: Served | None) -> str:
    """How much a version was asked before it was committed: ``after 3 requests``.

    Args:
        policy: Its service's.
        served: What it did until then; None: it was committed as soon as it served.
    """
    if served is None:
        return "at once: confirm_s is 0"
    total = served.answered + served.failed
    said = f"after {total} request{'' if total == 1 else 's'}"
    is_bounded = policy.max_failure_rate is not None or policy.max_latency_ms is not None
    if is_bounded and total < policy.min_requests:
        said += f", too few to judge it by (min_requests is {policy.min_requests})"
    return said


def started(state: State, at: str) -> State:
    """The state of a runtime that starts, whatever end it had.

    When it ended without a word, what was provisional is to blame; with nothing to go back
    to, it is tried again, ``MAX_ATTEMPTS`` times in a row at most.

    Args:
        state: As it was saved last.
        at: When it starts; UTC.
    """
    if not state.running:
        return replace(ended(state), running=True)
    return replace(
        state,
        unclean=state.unclean + 1,
        services={name: _survived(history, at) for name, history in state.services.items()},
    )


def ended(state: State, serving: Collection[str] = ()) -> State:
    """The state of a runtime that was told to end: nobody blames what was provisional.

    Args:
        state: As it is.
        serving: Services whose provisional version served until the end. With nothing
            committed it becomes current: nothing better is known to go back to.
    """
    services = {
        name: history.promoted() if name in serving else history.forgotten()
        for name, history in state.services.items()
    }
    return replace(state, running=False, unclean=0, services=services)


def is_verdict(error: NbModelError) -> bool:
    """Whether an error says something about a version, or only about here and now."""
    return not isinstance(error, UnavailableError | StorageError | ConfigError | PluginError)


def failure_of(error: NbModelError, record: Record, *, at: str) -> Failed:
    """A version that is not tried again, because of an error."""
    cause = error.reason if isinstance(error, ProbeError) else "LoadFailed"
    return Failed(
        record.digest,
        record.key,
        record.label,
        cause,
        str(error),
        at,
        error.hint,
        number=record.number,
    )


def _survived(history: History, at: str) -> History:
    tried = history.provisional
    if tried is None:
        return history
    times = "" if tried.attempts < 2 else f" {tried.attempts} times in a row"
    if history.current is None and tried.attempts < MAX_ATTEMPTS:
        return history
    return history.refused(
        Failed(
            digest=tried.record.digest,
            key=tried.record.key,
            version=tried.record.label,
            cause="RuntimeEnded",
            reason=f"the runtime ended{times} while it was provisional",
            at=at,
            hint="it may have killed the process, or the power was cut; "
            "ask for it again to try once more",
            number=tried.record.number,
        )
    )


def _ahead(seconds: float) -> str:
    """``5 h``, ``12 min``, ``2 days``; never less than there is."""
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"


def _took(ms: float) -> str:
    return f"{ms / 1e3:.3g} s" if ms >= 1e3 else f"{ms:.3g} ms"
