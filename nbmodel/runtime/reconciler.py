"""Makes services run what the config wants: one pass at a time, each service on its own.

What ran well before comes up first. A new version is then tried out beside it: probed in a
process of its own, loaded, and provisional for a while. ``trial`` has the rules.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from nbmodel.core.machine import MachineConfig
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.version import now
from nbmodel.errors import DeployError, InferenceError, NbModelError, StorageError, UnavailableError
from nbmodel.runtime.conditions import Activity, Why
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.ledger import Ledger
from nbmodel.runtime.packages import Installed
from nbmodel.runtime.plan import Running, Step, plan_steps
from nbmodel.runtime.probe import ProbeLimits, ProbeReport
from nbmodel.runtime.prober import Prober
from nbmodel.runtime.services import LiveService, Source, load_service
from nbmodel.runtime.state import Failed, History, Record
from nbmodel.runtime.stock import Stock, Stockroom, record_of
from nbmodel.runtime.trial import Served, failure_of, is_verdict, judge, standing

AGAIN_S = 30.0  # after which what is not the version's fault is tried again
WINDOW_S = 15.0  # between looks at whether a window is open
WATCH_S = 0.25  # between looks at a version that has bounds to keep

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service does not run what it should.

    Attributes:
        key: Of the wish that failed; None when there was not even a wish.
        digest: Of the version's manifest, or None.
        version: Label of the version, or None.
        error: The reason.
        cause: The reason in one word.
        probed_well: Whether the version passed its probe.
        again: When it is tried again, by the monotonic clock; None: not by itself.
    """

    key: str | None
    digest: str | None
    version: str | None
    error: NbModelError
    cause: str = "LoadFailed"
    probed_well: bool = False
    again: float | None = None

    def is_about(self, wish: Wish) -> bool:
        """Whether it is what a wish came to, and stays so for now."""
        digest = wish.found.version.digest if wish.found else None
        if self.again is not None and time.monotonic() >= self.again:
            return False
        return (self.key, self.digest) == (wish.key, digest)


@dataclass(frozen=True, slots=True)
class Account:
    """How a service stands.

    Attributes:
        live: What it runs, or None.
        wish: What it should run, or why it cannot be had; None before the first look.
        history: How it came to run what it runs.
        refusal: Why it does not run what it should, or None.
        damaged: Why the files of what it should run cannot be laid out, or None.
        activity: What is being done for it right now.
        waits: What its trial waits for, or None.
        report: What came of the last probe that it passed, of which key; or None.
        remaining_s: How long what it runs is still provisional; None when it is not.
    """

    live: LiveService | None = None
    wish: Wish | NbModelError | None = None
    history: History = field(default_factory=History)
    refusal: Refusal | None = None
    damaged: NbModelError | None = None
    activity: Activity | None = None
    waits: Why | None = None
    report: tuple[str, ProbeReport] | None = None
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass goes by."""

    config: MachineConfig
    stock: Stock
    urgent: Collection[str]
    overridden: Collection[str]


@dataclass(frozen=True, slots=True)
class _Trial:
    """A provisional version that serves."""

    record: Record
    policy: DeploymentPolicy
    began: float  # time.monotonic() seconds
    deaths: int  # of processes that serve, before it began


class Reconciler:
    """The services that run, and the passes that bring them in line with a config.

    ``run`` and ``tend`` are called by one thread at a time; everything else by any.

    Args:
        stockroom: Where versions are.
        ledger: Where the histories of services are kept.
        journal: Told of everything that changes.
        changed: Called, from another thread, when a pass has more to do.
        served: What a service did since it serves, in all processes.
        maintenance: Whether new versions may be taken up now, besides what policies say;
            None: always. Called where one could be.
    """

    def __init__(
        self,
        *,
        stockroom: Stockroom,
        ledger: Ledger,
        journal: Journal,
        changed: Callable[[], None],
        served: Callable[[str, LiveService], Served],
        maintenance: Callable[[], bool] | None = None,
    ) -> None:
        self._stockroom = stockroom
        self._ledger = ledger
        self._journal = journal
        self._served = served
        self._maintenance = maintenance
        self._prober = Prober(changed)
        self._lock = threading.Lock()
        self._live: dict[str, LiveService] = {}
        self._refusals: dict[str, Refusal] = {}
        self._trials: dict[str, _Trial] = {}
        self._wishes: dict[str, Wish | NbModelError] = {}
        self._found: Mapping[str, Found | NbModelError] = {}
        self._damaged: Mapping[str, NbModelError] = {}
        self._waits: dict[str, Why] = {}
        self._reports: dict[str, tuple[str, ProbeReport]] = {}
        self._probing: set[str] = set()
        self._loading: str | None = None
        self._is_first = True

    # What others may ask

    def live(self, name: str) -> LiveService | None:
        """What a service runs, or None."""
        with self._lock:
            return self._live.get(name)

    def sources(self) -> dict[str, Source]:
        """What the services that run were loaded from, by name."""
        with self._lock:
            return {name: live.source for name, live in self._live.items()}

    def refusal(self, name: str) -> Refusal | None:
        """Why a service does not run what it should, or None."""
        with self._lock:
            return self._refusals.get(name)

    def found(self, package: str) -> Found | NbModelError | None:
        """What became of a package in the last pass."""
        with self._lock:
            return self._found.get(package)

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
                waits=self._waits.get(name),
                report=self._reports.get(name),
                remaining_s=None if trial is None else _remaining_s(trial),
            )

    @property
    def busy(self) -> bool:
        """Whether something is being tried out in the background."""
        return self._prober.busy

    def is_sound(self) -> bool:
        """Whether all services run what they should, and have proven it."""
        with self._lock:
            return (
                not self._is_first
                and not self._refusals
                and not self._trials
                and not self._waits
                and self._wishes.keys() == self._live.keys()
            )

    def plan(self, config: MachineConfig) -> tuple[Step, ...]:
        """What a pass would do now; nothing is changed."""
        found = self._stockroom.look(config)
        return plan_steps(self._stockroom.wishes(config, found), self._running())

    # A pass

    def run(
        self,
        config: MachineConfig,
        *,
        retry: Collection[str] = (),
        urgent: Collection[str] = (),
        overridden: Collection[str] = (),
        unloaded: Collection[str] = (),
    ) -> None:
        """Bring the services in line with a config, as far as that goes right now.

        Args:
            config: What is wanted.
            retry: Services that try again what failed before and has not changed since.
            urgent: Services that wait for no maintenance window.
            overridden: Services that run differently from the config that is on disk;
                nothing of that is remembered.
            unloaded: Services of the config that shall not run; their history stays.
        """
        self._ledger.catch_up()
        stock = self._stockroom.fill(config)
        wishes = {
            name: wish
            for name, wish in self._stockroom.wishes(config, stock.found).items()
            if name not in unloaded
        }
        with self._lock:
            self._found, self._damaged, self._wishes = stock.found, stock.damaged, wishes
            self._waits = {}
        this = _Pass(config, stock, urgent, overridden)
        asked: set[str] = set()
        for name in retry:
            self._forgive(name)
        for name in [name for name in self._running() if name not in wishes]:
            self._stop(name)
        for name, wish in wishes.items():
            self._each(name, this, lambda n=name, w=wish: self._bring_up(n, w, this, asked))  # type: ignore[misc]
        for name, wish in wishes.items():
            self._each(name, this, lambda n=name, w=wish: self._follow(n, w, this, asked))  # type: ignore[misc]
        self._prober.keep(asked)
        with self._lock:
            self._probing, self._is_first = asked, False
        if not asked:
            self._clean(config, stock)
