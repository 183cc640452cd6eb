"""What the services of a runtime run, should run, and why they differ: all in one table."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from nbmodel.core.policy import DeploymentPolicy
from nbmodel.errors import NbModelError
from nbmodel.runtime.account import Account, Refusal
from nbmodel.runtime.conditions import Activity, Why
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.ledger import Ledger
from nbmodel.runtime.plan import Running
from nbmodel.runtime.probe import ProbeReport
from nbmodel.runtime.services import LiveService, Source
from nbmodel.runtime.state import Record
from nbmodel.runtime.stock import Stock


@dataclass(frozen=True, slots=True)
class Trial:
    """A provisional version that serves.

    Attributes:
        record: Which one.
        policy: Its service's.
        began: When it began to serve, ``time.monotonic()`` seconds.
        deaths: Of processes that serve, before that.
        since: When it began to serve, for people; UTC.
    """

    record: Record
    policy: DeploymentPolicy
    began: float
    deaths: int
    since: str = ""

    @property
    def age_s(self) -> float:
        """How long it serves, in seconds."""
        return time.monotonic() - self.began

    @property
    def remaining_s(self) -> float:
        """How long it is still provisional, in seconds, ≥ 0."""
        return max(0.0, self.policy.confirm_s - self.age_s)

    @property
    def has_bounds(self) -> bool:
        """Whether it may be rolled back for how it answers."""
        return self.policy.max_failure_rate is not None or self.policy.max_latency_ms is not None


class Board:
    """How the services of a runtime stand.

    The reconciler's thread writes on it; whoever wants to know reads, from any thread.

    Args:
        ledger: Where the histories of services are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._live: dict[str, LiveService] = {}
        self._trials: dict[str, Trial] = {}
        self._refusals: dict[str, Refusal] = {}
        self._reports: dict[str, tuple[str, ProbeReport]] = {}
        self._commits: dict[str, tuple[str, str]] = {}
        self._wishes: Mapping[str, Wish | NbModelError] = {}
        self._found: Mapping[str, Found | NbModelError] = {}
        self._damaged: Mapping[str, NbModelError] = {}
        self._waits: Mapping[str, Why] = {}
        self._probing: frozenset[str] = frozenset()
        self._doing: tuple[str, str] = ("", "")  # of the probe that is under way
        self._loading: str | None = None
        self._unpacking: str | None = None
        self._is_first = True

    # For everybody

    def live(self, name: str) -> LiveService | None:
        """What a service runs, or None."""
        with self._lock:
            return self._live.get(name)

    def sources(self) -> dict[str, Source]:
        """What the services that run were loaded from, by name."""
        with self._lock:
            return {name: live.source for name, live in self._live.items()}

    def running(self) -> dict[str, Running]:
        """What the services run, by name."""
        with self._lock:
            return {
                name: Running(live.key, live.installed.version.digest if live.installed else None)
                for name, live in self._live.items()
            }

    def refusal(self, name: str) -> Refusal | None:
        """Why a service does not run what it should, or None."""
        with self._lock:
            return self._refusals.get(name)

    def found(self, package: str) -> Found | NbModelError | None:
        """What became of a package in the last pass."""
        with self._lock:
            return self._found.get(package)

    def wish(self, name: str) -> Wish | NbModelError | None:
        """What a service should run, or why it cannot be had; None before the first look."""
        with self._lock:
            return self._wishes.get(name)

    def account(self, name: str, package: str | None) -> Account:
        """How a service stands.

        Args:
            name: Of the service.
            package: Local name of the package that its model is in; None for a path.
        """
        with self._lock:
            trial = self._trials.get(name)
            return Account(
                live=self._live.get(name),
                wish=self._wishes.get(name),
                history=self._ledger.of(name),
                refusal=self._refusals.get(name),
                damaged=None if package is None else self._damaged.get(package),
                activity=self._activity(name, package),
                doing=self._doing[1] if self._doing[0] == name else "",
                waits=self._waits.get(name),
                report=self._reports.get(name),
                remaining_s=None if trial is None else trial.remaining_s,
                trial_since=None if trial is None else trial.since or None,
                committed=self._commits.get(name),
            )

    @property
    def is_sound(self) -> bool:
        """Whether all services run what they should, and have proven it."""
        with self._lock:
            return (
                not (self._is_first or self._refusals or self._trials or self._waits)
                and self._wishes.keys() == self._live.keys()
            )

    @property
    def is_first(self) -> bool:
        """Whether no pass was finished yet."""
        return self._is_first

    @property
    def has_waiting(self) -> bool:
        """Whether a version waits for its time."""
        return bool(self._waits)

    @property
    def has_damaged(self) -> bool:
        """Whether the files of a version cannot be laid out."""
        return bool(self._damaged)

    def trial(self, name: str) -> Trial | None:
        """The trial of what a service runs, or None."""
        with self._lock:
            return self._trials.get(name)

    def report(self, name: str, key: str) -> ProbeReport | None:
        """What came of the last probe of a service, when it was of the wish with that key."""
        with self._lock:
            found = self._reports.get(name)
        return found[1] if found is not None and found[0] == key else None

    def trials(self) -> dict[str, Trial]:
        """The trials of what services run, by name."""
        with self._lock:
            return dict(self._trials)

    def refusals(self) -> tuple[Refusal, ...]:
        """Why services do not run what they should."""
        with self._lock:
            return tuple(self._refusals.values())

    # For the reconciler

    def begin_pass(
        self,
        stock: Stock,
        wishes: Mapping[str, Wish | NbModelError],
        policies: Mapping[str, DeploymentPolicy],
    ) -> None:
        """Note what a pass goes by: what is here, what is wanted, and how it is taken up."""
        with self._lock:
            self._found, self._damaged, self._wishes = stock.found, stock.damaged, wishes
            self._refusals = {name: one for name, one in self._refusals.items() if name in wishes}
            self._trials = {
                name: replace(trial, policy=policies.get(name, trial.policy))
                for name, trial in self._trials.items()
            }

    def end_pass(self, *, probing: Collection[str], waits: Mapping[str, Why]) -> None:
        """Note what a pass could not finish: what is probed, and what waits."""
        with self._lock:
            self._probing, self._waits, self._is_first = frozenset(probing), waits, False

    def forget_reports(self, *, but: Collection[str]) -> None:
        """Forget what came of the probes of other services."""
        with self._lock:
            self._reports = {name: one for name, one in self._reports.items() if name in but}
            self._commits = {name: one for name, one in self._commits.items() if name in but}

    def unpack(self, package: str | None) -> None:
        """A package is being laid out, or (None) is not any more."""
        self._unpacking = package

    def load(self, name: str | None) -> None:
        """A service's model is being loaded, or (None) is not any more."""
        self._loading = name

    def probe(self, name: str) -> None:
        """A service's model is being probed."""
        with self._lock:
            self._probing |= {name}
            self._refusals.pop(name, None)
            self._reports.pop(name, None)

    def tell(self, name: str, doing: str) -> None:
        """How far trying a service's model out is, in words."""
        self._doing = (name, doing)

    def probed(self, name: str, key: str, report: ProbeReport | None) -> None:
        """What came of the probe of a wish with that key; None: it must not serve."""
        with self._lock:
            if report is None:
                self._reports.pop(name, None)
            else:
                self._reports[name] = (key, report)

    def note_commit(self, name: str, key: str, seen: str) -> None:
        """The wish with that key was committed, after so much."""
        with self._lock:
            self._commits[name] = (key, seen)

    def switch(self, name: str, live: LiveService, trial: Trial | None) -> LiveService | None:
        """Have a service run something; what it ran before, which still has to be retired."""
        with self._lock:  # at once, so that nobody takes what is on trial for committed
            old = self._live.get(name)
            self._live[name] = live
            self._refusals.pop(name, None)
            self._trials.pop(name, None)
            if trial is not None:
                self._trials[name] = trial
        return old

    def stop(self, name: str) -> LiveService | None:
        """Have a service run nothing; what it ran, which still has to be retired."""
        with self._lock:
            self._refusals.pop(name, None)
            self._trials.pop(name, None)
            return self._live.pop(name, None)

    def stop_all(self) -> tuple[list[LiveService], list[str]]:
        """Have no service run anything: what ran, and the names of those on trial."""
        with self._lock:
            services, self._live = list(self._live.values()), {}
            serving, self._trials = list(self._trials), {}
        return services, serving

    def begin_trial(self, name: str, trial: Trial) -> None:
        """What a service runs is on trial."""
        with self._lock:
            self._trials[name] = trial

    def end_trial(self, name: str) -> None:
        """What a service runs is not on trial any more."""
        with self._lock:
            self._trials.pop(name, None)

    def refuse(self, name: str, refusal: Refusal) -> Refusal | None:
        """A service does not run what it should; why it did not before."""
        with self._lock:
            before = self._refusals.get(name)
            self._refusals[name] = refusal
        return before

    def accept(self, name: str) -> None:
        """Nothing keeps a service from running what it should."""
        with self._lock:
            self._refusals.pop(name, None)

    def _activity(self, name: str, package: str | None) -> Activity | None:
        if self._loading == name:
            return "loading"
        if name in self._probing:
            return "probing"
        return "unpacking" if package is not None and self._unpacking == package else None
