"""Makes services run what the config wants: one pass at a time, each service on its own.

What ran well before comes up first. A new version is then tried out beside it: probed in a
process of its own, loaded, and provisional for a while. Every pass looks at all there is
and does what can be done now, so it may end anywhere and begin anew. The rules are
``trial``'s.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from nbmodel.core.machine import MachineConfig
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.version import now
from nbmodel.errors import (
    InferenceError,
    NbModelError,
    ProbeError,
    StorageError,
    TrustError,
    UnavailableError,
    UntrustedModelError,
)
from nbmodel.runtime.account import Refusal
from nbmodel.runtime.board import Board, Trial
from nbmodel.runtime.collector import SHORT_GRACE_S
from nbmodel.runtime.conditions import Why
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.ledger import Ledger
from nbmodel.runtime.maintenance import Candidate
from nbmodel.runtime.plan import Step, plan_steps
from nbmodel.runtime.probe import ProbeLimits, ProbeReport
from nbmodel.runtime.prober import Prober
from nbmodel.runtime.proof import is_out_of_memory
from nbmodel.runtime.resolve import reference_of
from nbmodel.runtime.services import LiveService, Source, load_service
from nbmodel.runtime.state import Failed, Record
from nbmodel.runtime.stock import Stock, Stockroom, record_of
from nbmodel.runtime.trial import (
    Served,
    Standing,
    Verdict,
    check_slowness,
    failure_of,
    is_verdict,
    judge,
    seen_words,
    slowness,
    standing,
    waiting_words,
)

AGAIN_S = 30.0  # after which what is not the version's fault is tried again
COMEBACK_S = 300.0  # after which what ran well before is tried again
SOON_S = 1.0  # between looks that nobody asked for
WINDOW_S = 15.0  # between looks at whether a window is open
WATCH_S = 0.25  # between looks at a provisional version that has bounds to keep
TIDY_S = 3600.0  # between looks at what is of no use
TEND_S = 2.0  # between looks at one that has none

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass goes by.

    Attributes:
        asked: Services whose probe is not over; filled on the way.
        waits: Services whose version waits, and for what; filled on the way.
    """

    stock: Stock
    policies: Mapping[str, DeploymentPolicy]
    urgent: Collection[str]
    overridden: Collection[str]
    asked: set[str] = field(default_factory=set)
    waits: dict[str, Why] = field(default_factory=dict)


class Reconciler:
    """Passes that bring the services in line with a config.

    ``run`` and ``tend`` are called by one thread at a time; everything else by any.

    Args:
        board: How the services stand.
        stockroom: Where versions are.
        ledger: Where the histories of services are kept.
        journal: Told of everything that changes.
        changed: Called, from another thread, when a pass has more to do.
        served: What a service did since it serves, in all processes.
        maintenance: Whether new versions may be taken up now, besides what policies say;
            None: always.
        is_short: Whether something found no room on the disk lately.
        damaged: Called when bytes here turned out to be damaged, and were let go of.
    """

    def __init__(
        self,
        *,
        board: Board,
        stockroom: Stockroom,
        ledger: Ledger,
        journal: Journal,
        changed: Callable[[], None],
        served: Callable[[str, LiveService], Served],
        maintenance: Callable[[Candidate], bool] | None = None,
        is_short: Callable[[], bool] = lambda: False,
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self._is_short = is_short
        self._damaged = damaged
        self._board = board
        self._stockroom = stockroom
        self._ledger = ledger
        self._journal = journal
        self._served = served
        self._maintenance = maintenance
        self._prober = Prober(changed, board.tell)
        self._hurried: frozenset[str] = frozenset()  # urgent, and their probe is not over
        self._not_up: dict[str, str] = {}  # what was said of what ran well and does not come up
        self._told_waits: dict[str, tuple[Candidate, str]] = {}  # what waits, and for what
        self._looked = 0.0  # when the last pass was over, time.monotonic() seconds

    @property
    def busy(self) -> bool:
        """Whether something is being tried out in the background."""
        return self._prober.busy

    def plan(self, config: MachineConfig) -> tuple[Step, ...]:
        """What a pass would do now; nothing is changed."""
        found = self._stockroom.look(config)
        return plan_steps(self._stockroom.wishes(config, found), self._board.running())

    def run(
        self,
        config: MachineConfig,
        *,
        retry: Collection[str] = (),
        urgent: Collection[str] = (),
        overridden: Collection[str] = (),
        unloaded: Collection[str] = (),
        abandoned: Collection[str] = (),
    ) -> None:
        """Bring the services in line with a config, as far as that goes right now.

        Args:
            config: What is wanted.
            retry: Services that try again what failed before and has not changed since.
            urgent: Services that wait for no maintenance window.
            overridden: Services that run differently from the config that is on disk;
                nothing of that is remembered.
            unloaded: Services of the config that shall not run; their history stays.
            abandoned: Services whose provisional version a person gave up.
        """
        self._ledger.catch_up()
        self._looked = time.monotonic()
        stock = self._stockroom.fill(config, self._board.unpack)
        wishes = {
            name: wish
            for name, wish in self._stockroom.wishes(config, stock.found).items()
            if name not in unloaded
        }
        policies = {one.name: one.deployment for one in config.services if one.is_served}
        self._board.begin_pass(stock, wishes, policies)
        this = _Pass(stock, policies, self._hurried.union(urgent), overridden)
        for name in retry:
            self._forgive(name)
        for name in abandoned:
            self._abandon(name)
        for name in self._board.running().keys() - wishes.keys():
            self._stop(name)
        self._not_up = {name: text for name, text in self._not_up.items() if name in wishes}
        self._told_waits = {name: one for name, one in self._told_waits.items() if name in wishes}
        for name, wish in wishes.items():
            self._bring_up(name, wish, this)
        for name, wish in wishes.items():
            self._follow(name, wish, this)
        self._hurried = frozenset(this.asked.intersection(this.urgent))
        self._prober.keep(this.asked)
        self._board.end_pass(probing=this.asked, waits=this.waits)
        self._looked = time.monotonic()
        if not this.asked:
            self._clean(config, stock)

    def tend(self) -> bool:
        """Look after what is provisional; whether a pass is needed."""
        trials = self._board.trials()
        changed = [name for name, trial in trials.items() if self._tend(name, trial)]
        return bool(changed) or time.monotonic() >= self._next_look()

    def due_s(self) -> float | None:
        """Seconds until ``tend`` or a pass has something to do; None: not by itself."""
        pauses = [
            # What is not committed when its time is over waits for an answer.
            min(WATCH_S if trial.has_bounds else TEND_S, trial.remaining_s or WATCH_S)
            for trial in self._board.trials().values()
        ]
        look = self._next_look() - time.monotonic()
        pause = max(0.0, min([look, *pauses]))
        return None if math.isinf(pause) else pause

    def _next_look(self) -> float:
        """When a pass is needed whatever happens until then, ``time.monotonic()`` seconds."""
        soon = self._looked + SOON_S
        looks = [max(one.again, soon) for one in self._board.refusals() if one.again is not None]
        if self._board.has_waiting:
            looks.append(self._looked + WINDOW_S)
        if self._board.has_damaged or self._ledger.is_behind:
            looks.append(self._looked + AGAIN_S)
        if self._not_up:
            looks.append(self._looked + COMEBACK_S)
        if self._stockroom.is_untidy:
            looks.append(self._looked + (SHORT_GRACE_S if self._is_short() else TIDY_S))
        return min(looks, default=math.inf)

    def stop(self) -> None:
        """Take no more requests; requests under way finish. The last call."""
        self._prober.close()
        services, serving = self._board.stop_all()
        for service in services:
            service.retire()
        self._ledger.end(serving)

    # What ran well before

    def _bring_up(self, name: str, wish: Wish | NbModelError, this: _Pass) -> None:
        """Where nothing serves that may, have the last good version serve, at once."""
        live = self._board.live(name)
        if live is not None and not self._is_refused(name, live):
            return
        history = self._ledger.of(name)
        for record in (history.current, history.rollback):
            if record is None or (live is not None and live.key == record.key):
                continue
            if self._is_up_again(name, record, wish, this) or name in this.asked:
                return
        if live is not None and not history.records:
            self._stop(name)  # it must not serve, and there is nothing else that could

    def _is_up_again(
        self, name: str, record: Record, wish: Wish | NbModelError, this: _Pass
    ) -> bool:
        """Have what ran well before serve; False when it cannot, or not yet."""
        try:
            source = None
            if isinstance(wish, Wish) and wish.found is not None and wish.key == record.key:
                source = self._stockroom.source(wish, this.stock)
            else:
                source = self._stockroom.former(record, this.stock)
            if self._ledger.is_cautious and not self._is_admitted(name, source, this):
                return False
            live = self._load(name, source)
        except NbModelError as exc:
            damage = self._damage(source, exc)
            why = exc if damage is None else damage
            text = f"{name}: version {record.reference} does not come up: {why}"
            if self._not_up.get(name) != text:
                self._not_up[name] = text
                self._journal.warn(text, service=name, type="NotUp")
            if isinstance(why, ProbeError):
                self._fail(name, record, exc)
            return False
        self._switch(name, live)
        return True

    def _is_refused(self, name: str, live: LiveService) -> bool:
        digest = live.installed.version.digest if live.installed else None
        return self._ledger.of(name).failure(digest, live.key) is not None

    # What is wanted

    def _follow(self, name: str, wish: Wish | NbModelError, this: _Pass) -> None:
        """Go one step towards what a service should run."""
        if name in this.asked:
            return  # it is still being brought up
        if isinstance(wish, NbModelError):
            self._refuse(name, _not_had(wish))
            return
        record = None if name in this.overridden else record_of(wish)
        digest = wish.found.version.digest if wish.found else None
        history = self._ledger.of(name)
        failed = history.failure(digest, wish.key)
        live = self._board.live(name)
        if failed is not None and record is not None:
            self._refuse(name, Refusal.of_failure(failed))
        elif live is not None and live.key == wish.key:
            self._go_on(name, wish, live, record, this)
        elif not self._is_settled(name, wish):
            self._take_up(name, wish, record, this)

    def _is_settled(self, name: str, wish: Wish) -> bool:
        refusal = self._board.refusal(name)
        return refusal is not None and refusal.is_about(wish)

    def _go_on(
        self, name: str, wish: Wish, live: LiveService, record: Record | None, this: _Pass
    ) -> None:
        """What is wanted serves; perhaps it is called otherwise from now on."""
        self._board.accept(name)
        if record is None:
            return
        installed = this.stock.installed[record.package]
        before = None if live.installed is None else live.installed.version
        if before != installed.version:
            live.relabel(installed)  # its number, too, may be told later than its bytes come
            self._point(name, live)
        if before is None or before.digest != record.digest:
            self._journal.note(
                f"{name}: now version {record.reference}, which has the same content",
                service=name,
                type="Relabelled",
            )
        history = self._ledger.of(name)
        known = standing(history, record.key, record.digest)
        if known == "new":  # it was loaded for a client, and is wanted by the config now
            self._ledger.note(name, history.tried(record, now()))
            trial = self._trial(name, record, wish.service.deployment, live)
            self._board.begin_trial(name, trial)
        elif known == "provisional":
            self._ledger.note(name, history.relabelled(record))
        else:
            self._ledger.note(name, history.forgotten().committed(record))

    def _take_up(self, name: str, wish: Wish, record: Record | None, this: _Pass) -> None:
        """Load what is wanted beside what serves, and switch."""
        history = self._ledger.of(name)
        known = "new" if record is None else standing(history, wish.key, record.digest)
        was_on_trial = self._board.trial(name) is not None
        source: Source | None = None
        try:
            source = self._stockroom.source(wish, this.stock)
            if record is not None and known in ("new", "provisional"):
                self._try(name, source, record, this)
                return
            if record is not None and self._is_held(name, known, this):
                return
            if self._needs_probe(record) and not self._is_admitted(name, source, this):
                return
            self._switch(name, self._load(name, source))
        except NbModelError as exc:
            has_run = known in ("committed", "known")
            self._refuse_wish(name, wish, record, exc, source=source, has_run=has_run)
            return
        if record is not None:
            self._journal.note(
                f"{name}: version {record.reference} ran before, so it is not tried out again",
                service=name,
                type="Committed",
            )
        proven = history.promoted() if was_on_trial else history.forgotten()
        self._ledger.note(name, proven if record is None else proven.committed(record))

    def _try(self, name: str, source: Source, record: Record, this: _Pass) -> None:
        """Go on with the trial of a new version: window, probe, load, switch."""
        policy = this.policies[name]
        if not self._prober.knows(name, source) and self._is_held(name, "new", this):
            return
        if not self._is_admitted(name, source, this):
            return
        report = self._board.report(name, source.key)
        latency_ms = None if report is None else report.latency_ms
        check_slowness(policy, latency_ms)
        slow = slowness(policy, latency_ms)
        if slow:
            self._journal.warn(
                f"{name}: version {record.reference} is {slow}", service=name, type="SlowTrial"
            )
        history, serves = self._ledger.of(name), self._board.trial(name) is not None
        tried, attempts = history.provisional, 1
        if tried is not None and tried.record.key == record.key:
            attempts = tried.attempts + 1
        # On disk before it is loaded: whatever kills the runtime from here on, it is to blame.
        self._ledger.write(name, history.tried(record, now(), attempts=attempts, serves=serves))
        try:
            loaded = self._load(name, source)
        except NbModelError:
            # What was provisional until now, if it serves, still is.
            self._ledger.note(name, history if serves else history.forgotten())
            raise
        self._switch(name, loaded, self._trial(name, record, policy, loaded))
        if policy.confirm_s == 0:
            self._commit(name, record, policy, None)

    def _is_held(self, name: str, known: Standing, this: _Pass) -> bool:
        """Whether a version has to wait for its time, because another one serves until then."""
        serves = self._board.live(name) is not None
        # What is committed and does not serve, though nothing is on trial, only comes back.
        comes_back = known == "committed" and self._board.trial(name) is None
        if not serves or comes_back or name in this.urgent:
            return False
        candidate = self._candidate(name)
        waits = self._closed(this.policies[name], candidate)
        if waits is None:
            self._told_waits.pop(name, None)
            return False
        this.waits[name] = waits
        if self._told_waits.get(name) != (candidate, waits.cause):  # once, not with each look
            self._told_waits[name] = (candidate, waits.cause)
            what = f"version {reference_of(candidate.model, candidate.number, candidate.digest)}"
            self._journal.note(
                f"{name}: {what if candidate.model else 'what it should run'} is here; "
                f"{waits.text}",
                service=name,
                type="Waiting",
            )
        return True

    def _candidate(self, name: str) -> Candidate:
        """What a service should run, for who is asked about it."""
        wish = self._board.wish(name)
        found = wish.found if isinstance(wish, Wish) else None
        if found is None:
            return Candidate(name)
        version = found.version
        return Candidate(name, version.repository, version.number, version.digest)

    def _needs_probe(self, record: Record | None) -> bool:
        """Whether what is no new version is probed: where it could take something down."""
        if self._ledger.is_cautious:
            return True
        return record is None and bool(self._board.running()) and not self._board.is_first

    def _is_admitted(self, name: str, source: Source, this: _Pass) -> bool:
        """Whether a probe has let a version pass; False: it is not over.

        Raises:
            NbModelError: It must not serve, or nothing was found out.
        """
        policy = this.policies[name]
        limits = ProbeLimits(
            policy.probe_timeout_s, policy.probe_memory_bytes, policy.allow_non_finite
        )
        outcome = self._prober.ask(name, source, limits)
        if outcome is None:
            this.asked.add(name)
            self._board.probe(name)
            return False
        report = outcome if isinstance(outcome, ProbeReport) else None
        self._board.probed(name, source.key, report)
        if isinstance(outcome, NbModelError):
            raise outcome
        return True

    def _closed(self, policy: DeploymentPolicy, candidate: Candidate) -> Why | None:
        """Why a version may not be taken up now; None when it may."""
        moment = datetime.now(timezone.utc).astimezone()
        if policy.opening(moment) is not None:
            return Why("OutsideWindow", waiting_words(policy, moment))
        again = f"it is asked again every {WINDOW_S:g} s"
        try:
            may = self._maintenance is None or self._maintenance(candidate)
        except Exception as exc:  # noqa: BLE001 # whatever a hook does, the old version serves
            return Why("MaintenanceRefused", f"the maintenance hook failed: {exc}; {again}")
        return None if may else Why("MaintenanceRefused", f"the maintenance hook says no; {again}")

    def _load(self, name: str, source: Source) -> LiveService:
        """Load a model.

        Raises:
            UnavailableError: There is too little memory for it beside what serves.
            NbModelError: It cannot be loaded; nothing is left of it.
        """

        def note(text: str) -> None:
            self._journal.warn(f"{name}: {text}", service=name)

        self._board.load(name)
        try:
            return load_service(source, note)
        except NbModelError as exc:
            if is_out_of_memory(str(exc)):  # says more about this moment than about the version
                raise UnavailableError(f"too little memory just now: {exc}", hint=exc.hint) from exc
            raise
        except Exception as exc:  # a plug-in may raise anything; that stays its service's
            logger.exception("service %s cannot be loaded", name)
            raise InferenceError(f"{source.model} failed: {type(exc).__name__}: {exc}") from exc
        finally:
            self._board.load(None)

    def _switch(self, name: str, live: LiveService, trial: Trial | None = None) -> None:
        old = self._board.switch(name, live, trial)
        self._not_up.pop(name, None)
        if old is not None:
            old.retire()
        self._point(name, live)
        version = live.installed.version if live.installed else None
        what = f"version {version.reference}" if version else "the file of its config"
        self._journal.note(
            f"{name}: {what} is live on {live.source.model}", service=name, type="Live"
        )

    def _point(self, name: str, live: LiveService) -> None:
        wish = self._board.wish(name)
        package = wish.package if isinstance(wish, Wish) else None
        if package is None or live.installed is None:
            return
        try:
            self._stockroom.activate(package, live.installed)
        except NbModelError as exc:
            self._journal.warn(f"{name}: {exc}", service=name)

    def _stop(self, name: str) -> None:
        live = self._board.stop(name)
        if live is not None:
            live.retire()
            self._journal.note(f"{name}: stopped", service=name, type="Stopped")
        self._ledger.note(name, self._ledger.of(name).forgotten())

    # What is provisional

    def _trial(
        self, name: str, record: Record, policy: DeploymentPolicy, live: LiveService
    ) -> Trial:
        deaths = self._served(name, live).deaths
        return Trial(record, policy, time.monotonic(), deaths, now())

    def _tend(self, name: str, trial: Trial) -> bool:
        live = self._board.live(name)
        if live is None or live.key != trial.record.key:
            self._board.end_trial(name)
            return True
        served = self._served(name, live)
        since = replace(served, deaths=served.deaths - trial.deaths)
        verdict = judge(trial.policy, trial.age_s, since)
        if verdict.action == "wait":
            return False
        tried = self._ledger.of(name).provisional
        record = trial.record if tried is None else tried.record  # relabelled meanwhile
        if verdict.action == "commit":
            self._commit(name, record, trial.policy, since)
        else:
            self._roll_back(name, record, verdict)
        return True

    def _commit(
        self, name: str, record: Record, policy: DeploymentPolicy, served: Served | None
    ) -> None:
        self._ledger.note(name, self._ledger.of(name).committed(record))
        self._board.end_trial(name)
        seen = seen_words(policy, served)
        self._board.note_commit(name, record.key, seen)
        report = self._board.report(name, record.key)
        slow = slowness(policy, None if report is None else report.latency_ms)
        self._journal.note(
            f"{name}: version {record.reference} is committed {seen}"
            f"{f'; it was {slow}' if slow else ''}",
            service=name,
            type="Committed",
        )

    def _roll_back(self, name: str, record: Record, verdict: Verdict) -> None:
        self._board.end_trial(name)
        failed = Failed(
            record.digest,
            record.key,
            record.label,
            verdict.cause,
            verdict.reason,
            now(),
            number=record.number,
        )
        history = self._ledger.of(name).refused(failed)
        self._ledger.note(name, history)
        before = history.current
        to = f"back to version {before.reference}" if before else "it is stopped"
        self._journal.warn(
            f"{name}: version {record.reference} is given up: {verdict.reason}; {to}",
            service=name,
            type="RolledBack",
        )

    def _abandon(self, name: str) -> None:
        tried = self._ledger.of(name).provisional
        if tried is not None:
            verdict = Verdict("roll back", "GivenUp", "a person went back")
            self._roll_back(name, tried.record, verdict)

    # What does not run

    def _refuse_wish(
        self,
        name: str,
        wish: Wish,
        record: Record | None,
        error: NbModelError,
        *,
        source: Source | None,
        has_run: bool,
    ) -> None:
        damage = self._damage(source, error)
        if damage is not None:  # not the version's fault: it is taken up when the bytes are back
            self._refuse(name, Refusal.of_damage(wish, damage))
            return
        # What ran well once may do so again: the machine may be short of something just now.
        is_final = isinstance(error, ProbeError) if has_run else is_verdict(error)
        if record is not None and is_final:
            self._fail(name, record, error)
        cause = error.reason if isinstance(error, ProbeError) else "LoadFailed"
        again_s = COMEBACK_S if has_run else AGAIN_S if _is_passing(error) else None
        self._refuse(name, Refusal.of_wish(wish, error, cause, again_s))

    def _damage(self, source: Source | None, error: NbModelError) -> NbModelError | None:
        """That the device's copy of a version is damaged, where that is why it does not run.

        What is damaged is let go of, so that it can be sent or fetched again.
        """
        if (
            source is None
            or source.installed is None
            or not (is_verdict(error) or isinstance(error, StorageError))
        ):
            return None
        try:
            damage = self._stockroom.drop_damaged(source.installed)
        except (NbModelError, OSError) as exc:
            logger.warning("%s cannot be checked: %s", source.installed.folder, exc)
            return None
        if damage is not None:
            self._damaged()
        return damage

    def _fail(self, name: str, record: Record, error: NbModelError) -> None:
        failed = failure_of(error, record, at=now())
        self._ledger.note(name, self._ledger.of(name).refused(failed))

    def _refuse(self, name: str, refusal: Refusal) -> None:
        before = self._board.refuse(name, refusal)
        still = "; what ran before goes on" if self._board.live(name) is not None else ""
        if before is None or str(before.error) != str(refusal.error):
            wish = self._board.wish(name)
            found = wish.found if isinstance(wish, Wish) else None
            what = f"version {refusal.version}" if refusal.version else "what it should run"
            if found is not None and found.version.digest == refusal.digest:
                what = f"version {found.version.reference}"
            self._journal.warn(
                f"{name}: cannot run {what}: {refusal.error}{still}", service=name, type="Refused"
            )

    def _forgive(self, name: str) -> None:
        self._board.accept(name)
        self._ledger.note(name, self._ledger.of(name).forgiven())

    # What is kept

    def _clean(self, config: MachineConfig, stock: Stock) -> None:
        """Let go of what nothing needs; a disk that refuses keeps no model from running."""
        names = {service.name for service in config.services}
        self._ledger.retain(names)
        self._board.forget_reports(but=names)
        sources = self._board.sources().values()
        running = [source.installed for source in sources]
        held = {record.digest for name in names for record in self._ledger.of(name).records}
        held |= {installed.version.digest for installed in running if installed is not None}
        held |= {there.version.digest for there in stock.found.values() if isinstance(there, Found)}
        try:
            gone = self._stockroom.sweep(config.packages, held=held, is_short=self._is_short())
        except (NbModelError, OSError) as exc:
            self._journal.warn(f"cannot clean up: {exc}")
            return
        if gone.blobs or gone.tags:
            self._journal.note(
                f"let go of {gone.blobs} blobs ({gone.size} bytes) and {gone.tags} tags"
            )


def _not_had(error: NbModelError) -> Refusal:
    """Why what a service should run cannot be had."""
    if isinstance(error, UntrustedModelError):
        return Refusal(None, None, None, error, "NotTrusted")
    if not isinstance(error, TrustError):
        return Refusal(None, None, None, error, "NotOnDevice")
    # Clocks are set, and certificates begin to be valid, without anybody telling.
    again = time.monotonic() + AGAIN_S if error.reason == "NotValidNow" else None
    return Refusal(None, None, None, error, "NotTrusted", again)


def _is_passing(error: NbModelError) -> bool:
    """Whether an error may be over soon, whatever the version is."""
    return isinstance(error, UnavailableError | StorageError)
