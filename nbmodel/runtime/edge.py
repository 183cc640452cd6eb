"""One runtime: its config, its services, its packages, and the thread that aligns them.

No HTTP here; the front end calls these methods from any thread.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import MachineConfig, Service, refuse
from nbmodel.core.signature import Signature
from nbmodel.core.version import now, parse_time, stamp_of
from nbmodel.errors import (
    ConfigConflictError,
    ConfigError,
    DeployError,
    InputError,
    NbModelError,
    TargetError,
    UnavailableError,
)
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.board import Board
from nbmodel.runtime.code_gate import code_problems, without_code
from nbmodel.runtime.confined import without_secrets
from nbmodel.runtime.desired import changed_services, read_config
from nbmodel.runtime.device import DeviceWatch
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.journal import EVENTS_FILE, Journal
from nbmodel.runtime.ledger import Ledger
from nbmodel.runtime.leftovers import remove_leftovers
from nbmodel.runtime.lookup import unknown
from nbmodel.runtime.maintenance import Candidate
from nbmodel.runtime.model_control import ModelControl
from nbmodel.runtime.packages import PackageFolder
from nbmodel.runtime.passes import Errand, Passes
from nbmodel.runtime.plan import Plan
from nbmodel.runtime.reconciler import Reconciler
from nbmodel.runtime.repository import LoadRequest
from nbmodel.runtime.reserve import Reserve
from nbmodel.runtime.scheduler import Pending, RetiredError
from nbmodel.runtime.server_settings import LogSettings, TraceSettings
from nbmodel.runtime.services import LiveService, ServiceView
from nbmodel.runtime.serving import Serving
from nbmodel.runtime.shared_memory import SharedMemory
from nbmodel.runtime.state import Record, StateFolder
from nbmodel.runtime.statistics import ModelStatistics
from nbmodel.runtime.stock import Stockroom
from nbmodel.runtime.teller import Teller
from nbmodel.runtime.trial import Served
from nbmodel.runtime.trust import TrustGate
from nbmodel.runtime.visions import Visions
from nbmodel.signing.policy import TrustPolicy
from nbmodel.storage import OciLayout
from nbmodel.storage.access import Access
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.tags import TagStore

ROLLBACK_TIMEOUT_S = 120.0  # a big model on a slow card loads this long
LOAD_TIMEOUT_S = 600.0  # nobody loads anew while somebody waits for this
CALM_S = 60.0  # up and well for so long: earlier ends do not count any more

if TYPE_CHECKING:
    from nbmodel.runtime.vision_service import VisionService
    from nbmodel.runtime.workers import Workers

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class EdgeRuntime:
    """All state of one runtime process.

    Everything is under ``home``: ``blobs``, ``tags``, ``packages``, ``config.json`` and
    ``state.json``; with those it starts again without a network. Only one process may use
    a home at a time.

    A config file that is given at the start is taken when it differs from the one given
    at the last start. Otherwise what was set since then stays: a restart undoes no
    deployment.

    Args:
        home: The folder; made when it is missing.
        config: The machine config to start with, a JSON document; None to run what was set
            last.
        name: What it calls itself; None for the machine's name.
        environment: Variables: how registries are entered, and what placeholders may name,
            which is all that does not look like a secret. None for the process's own.
        shared_memory: Where requests may have their tensors; None: clients may register
            no region.
        server_name: What the inference protocol calls it.
        maintenance: Whether new versions may be taken up now, besides what the config says;
            None: always. Asked again and again while one waits, for each version.
        trust: Which versions may run, by who signed them; None: all may.
        allow_code: Whether models may be code of their own.

    Raises:
        ConfigError: ``config`` cannot be followed; ``problems`` lists everything.
        StorageUnavailableError: ``home`` cannot be written to.
    """

    def __init__(
        self,
        home: Path,
        *,
        config: object = None,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        shared_memory: SharedMemory | None = None,
        server_name: str = "nbmodel",
        maintenance: Callable[[Candidate], bool] | None = None,
        trust: TrustPolicy | None = None,
        allow_code: bool = False,
    ) -> None:
        self._allow_code = allow_code
        self.server_name = server_name
        self.shared_memory = SharedMemory() if shared_memory is None else shared_memory
        self.storage = OciLayout(home / "blobs")
        self.tags = TagStore(home / "tags")
        #: What refers to the versions that are here, as signatures do.
        self.referrers = ReferrerStore(home / "referrers")
        gate = None if trust is None else TrustGate(trust, self.storage, self.referrers, home)
        self.name = name or platform.node()
        given = os.environ if environment is None else environment
        # Whoever sets a config reads what it comes to, in errors at the latest.
        self._environment = without_secrets(given)
        #: What it did and why.
        self.journal = self._journal = Journal(home / EVENTS_FILE)
        remove_leftovers(home)
        if trust is not None:
            rules = "; ".join(f"{rule.name} by {rule.trusted}" for rule in trust.rules)
            self._journal.note(f"it runs what is signed alone: {rules}", type="TrustPolicy")
        if allow_code:
            self._journal.note("models may be code of their own", type="CodeAllowed")
        self._reserve = Reserve(home)
        self._states = StateFolder(home, self._reserve)
        self._ledger = Ledger(self._states, self._journal)
        packages = PackageFolder(home / "packages", self.storage)
        self._board = Board(self._ledger)
        self._reconciler = Reconciler(
            board=self._board,
            stockroom=Stockroom(
                storage=self.storage,
                tags=self.tags,
                packages=packages,
                environment=self._environment,
                engines=(home / "engines").absolute(),
                referrers=self.referrers,
                trust=gate,
                allow_code=allow_code,
            ),
            ledger=self._ledger,
            journal=self._journal,
            changed=lambda: self.reconcile(retry=False),
            served=self._served,
            maintenance=maintenance,
            is_short=lambda: self._reserve.is_short,
            damaged=self.catch_up,
        )
        self._follower = Follower(
            self.storage,
            self.tags,
            self._journal,
            on_change=self.tags_changed,
            free_bytes=lambda: shutil.disk_usage(home).free,
            access=Access.of(given),
            referrers=self.referrers,
            trust=gate,
        )
        self._visions = Visions(
            infer=lambda request, deadline: self.infer(request, deadline=deadline),
            try_out=self._try_out,
            board=self._board,
            why_not=self._why_not,
            folder=packages.link,
            environment=self._environment,
            journal=self._journal,
        )
        self._workers: Workers | None = None
        self._serving = Serving(self._live, self.shared_memory)
        self._started = now()
        self._version = version("nbmodel")
        self._device = DeviceWatch()
        #: What clients set with the logging and trace extensions.
        self.log_settings = LogSettings()
        self.trace_settings = TraceSettings()
        self._control = ModelControl(
            home / "overrides",
            board=self._board,
            config=lambda: self._config,
            follow=self._follow,
        )
        self._config_lock = threading.Lock()
        #: What taking the config file did, or None when nothing was taken from it.
        self.config_note: str | None = None
        self._config_trouble: str | None = None  # as long as another config counts than was set
        try:
            self._config = self._first_config(config)
        except BaseException:
            self._ledger.end()
            raise
        self._reserve.make()
        self._good: str | None = None  # etag of the last config that all could follow
        self._began = time.monotonic()
        self._draining = False
        self._passes = Passes(
            self._turn,
            pause_s=self._pause_s,
            is_busy=lambda: self._reconciler.busy,
            journal=self._journal,
        )
        self._teller = Teller(
            board=self._board,
            follower=self._follower,
            control=self._control,
            visions=self._visions,
            passes=self._passes,
        )
        self._follower.follow(self._fetched(self._config))
        self._passes.start()

    # The config

    @property
    def config(self) -> tuple[dict[str, Any], str]:
        """The machine config and its etag, ``sha256:…``."""
        config = self._config
        return config.to_json(), config.etag

    def set_config(
        self, data: Mapping[str, Any], *, if_match: str | None, dry_run: bool = False
    ) -> Plan:
        """Replace the machine config; services follow soon after.

        Args:
            data: The JSON document.
            if_match: Etag of the config that it replaces; None for whichever there is.
            dry_run: Check and plan only.

        Returns:
            What this does to the services, as far as their packages are here now.

        Raises:
            ConfigError: It cannot be followed; nothing was changed.
            ConfigConflictError: Another config is in place than the one expected.
            StorageUnavailableError: It cannot be kept; nothing was changed.
        """
        config = read_config(data, self._environment)
        if not self._allow_code:
            refuse(code_problems(config))
        with self._config_lock:
            current = self._config.etag
            if if_match is not None and if_match != current:
                raise ConfigConflictError(
                    f"the machine config changed: expected {if_match}, found {current}",
                    hint="read it again, and make the change on that",
                )
            overlaid = self._control.overlay.after(self._config, config).applied(config)
            steps = (*self._reconciler.plan(overlaid), *self._visions.plan(config))
            plan = Plan(config.etag, config.etag != current, steps)
            if not dry_run:
                self._replace(config, "config replaced")
        return plan

    def rollback(self, service: str) -> dict[str, Any]:
        """Back to the version that a service ran well before, and hold it there.

        From a version that is still provisional that is the committed one, else the one that
        was committed before it. The package's version in the config becomes that version, so
        the config stays the truth; services that share the package follow. It waits for no
        maintenance window. Returns when the version is live.

        Returns:
            ``service``, ``package`` (its local name), ``from`` and ``to`` (``digits:2``), and
            ``version``, which the config says now.

        Raises:
            TargetError: There is no such service.
            DeployError: There is nothing to go back to, or it cannot be brought back; the
                config is as before.
        """
        with self._config_lock:
            self._configured(service)
            history = self._ledger.of(service)
            target = history.rollback if history.provisional is None else history.current
            if target is None:
                raise DeployError(
                    f"service {service!r} has no earlier version to go back to",
                    hint="rollback works after a second version has been live",
                )
            if self._config.package(target.package) is None:
                raise DeployError(
                    f"package {target.package!r} of service {service!r} is not in the config"
                )
            live = self._board.live(service)
            before = None if live is None or live.installed is None else live.installed.version
            label = self._tag(target)
            former = self._config
            wanted = former.with_version(target.package, label)
            if wanted.etag != former.etag:
                away = "" if before is None else f" from {before.reference}"
                self._keep_config(wanted, f"{service}: rolled back{away} to {target.reference}")
            number = self._passes.ask(
                Errand(
                    retry=changed_services(former, wanted),
                    urgent=frozenset([service]),
                    abandoned=frozenset([service]),
                )
            )
        self._wait(service, number, ROLLBACK_TIMEOUT_S)
        try:
            self._check_live(service, target)
        except DeployError:
            with self._config_lock:
                if self._config is wanted:
                    self._replace(former, f"{service}: not rolled back after all")
            raise
        return {
            "service": service,
            "package": target.package,
            "from": None if before is None else before.reference,
            "to": target.reference,
            "version": label,
        }

    # Following it

    @property
    def ready(self) -> bool:
        """Whether what the config wants has been brought up once, or been given up."""
        if self._draining or self._passes.is_closing:
            return False
        # What is being tried out need not be waited for where something serves meanwhile.
        return self._passes.was_settled or (self._passes.was_made and self._all_serve())

    @property
    def is_alive(self) -> bool:
        """Whether the thread that follows the config lives."""
        return self._passes.is_alive

    def share(self, workers: Workers) -> None:
        """Have worker processes serve what is live, from now on."""
        self._workers = workers
        self.reconcile(retry=False)

    def drain(self) -> None:
        """Say that it is not ready any more: it is about to end. Requests are still answered."""
        self._draining = True

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to look at."""
        return self._passes.settled

    def reconcile(self, *, retry: bool = True) -> None:
        """Look again, in the background, at what should run.

        Args:
            retry: Whether to try again what failed before and has not changed since.
        """
        if retry:
            self._follower.check_now()
        everything = frozenset(service.name for service in self._control.served())
        self._passes.ask(Errand(retry=everything, visions=True) if retry else Errand())

    def catch_up(self) -> None:
        """Look again at what should run, at the registries, too; what failed stays failed."""
        self._follower.check_now()
        self.reconcile(retry=False)

    def tags_changed(self, _name: str) -> None:
        """Look again after a push: a repository's tags changed."""
        self.reconcile(retry=False)

    def lacks_room(self) -> None:
        """Look again at what can be let go of: something did not fit on the disk."""
        self._reserve.lack()
        self.reconcile(retry=False)

    def wait_settled(self, timeout_s: float) -> bool:
        """Wait until there is nothing left to look at; whether that was in time.

        A runtime that is closed looks at nothing any more, and is not waited for.
        """
        return self._passes.wait_settled(timeout_s)

    # Services

    def service(self, name: str) -> ServiceView:
        """A service of the config, ready or not.

        Raises:
            TargetError: There is none of that name; the message lists those there are.
        """
        self._configured(name)
        return self._view(name)

    def services(self) -> tuple[ServiceView, ...]:
        """All services of the config, in its order, ready or not."""
        return tuple(self._view(one.name) for one in self._control.served())

    def infer(self, request: InferRequest, *, deadline: float | None = None) -> InferResponse:
        """Run a service's model once; raises as ``Serving.infer`` does."""
        return self._serving.infer(request, deadline=deadline)

    def submit(
        self,
        request: InferRequest,
        done: Callable[[InferResponse | NbModelError], None],
        *,
        deadline: float | None = None,
    ) -> Pending:
        """Run a service's model once without blocking for long, as ``Serving.submit`` does."""
        return self._serving.submit(request, done, deadline=deadline)

    def load(self, name: str, request: LoadRequest) -> None:
        """Make a service run, as ``ModelControl.load`` does."""
        self._control.load(name, request)

    def unload(self, name: str) -> None:
        """Make a service stop, as ``ModelControl.unload`` does."""
        self._control.unload(name)

    def statistics(self, name: str | None = None) -> tuple[ModelStatistics, ...]:
        """What the services that are ready have done since their models were loaded.

        Args:
            name: Of one service; None for all, in the config's order.

        Raises:
            TargetError: There is no service of that name.
        """
        if name is not None:
            self._configured(name)
        names = [name] if name is not None else [one.name for one in self._control.served()]
        elsewhere = () if self._workers is None else self._workers.statistics(name)
        found = ((one, self._board.live(one)) for one in names)
        return tuple(_counts(one, live, elsewhere) for one, live in found if live is not None)

    def vision(self, name: str) -> VisionService:
        """A vision service of the config.

        Raises:
            TargetError: There is none of that name; the message lists those there are.
            UnavailableError: It cannot be set up, or has not been yet.
        """
        names = [service.name for service in self._config.services if service.is_vision]
        if name not in names:
            raise TargetError(
                f"no vision service {name!r} on runtime {self.name!r}",
                hint=f"vision services: {', '.join(names)}" if names else "it has none",
            )
        found = self._visions.get(name)
        if found is None:
            error = self._visions.error(name)
            why = str(error) if error is not None else "it is still being set up"
            raise UnavailableError(f"vision service {name!r} is not ready: {why}")
        return found

    def do(self, service: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """A free-form command to a service, as Viam's ``DoCommand``.

        What is for a vision service goes to the model service that it uses.

        ``{"command": "check"}`` runs the golden sample now; ``{"command": "stats"}``
        counts what it answered since it was loaded.

        Raises:
            TargetError: There is no such service.
            InputError: There is no such command.
            GoldenSampleError: The answers are not the golden ones.
        """
        commands: dict[str, Callable[[LiveService], dict[str, Any]]] = {
            "check": _check,
            "stats": LiveService.stats,
        }
        vision = self.vision_status(service)
        model = service if vision is None else str(vision["mlmodel_name"])
        self._configured(model)
        hint = f'send {{"command": …}} with one of {", ".join(commands)}'
        if "command" not in command:
            raise InputError(f'what was sent to service {service!r} has no "command"', hint=hint)
        known = commands.get(str(command["command"]))
        if known is None:
            raise InputError(
                f"unknown command {command['command']!r} for service {service!r}", hint=hint
            )
        return self._with_live(model, known)

    # Telling about it

    def status(self) -> dict[str, Any]:
        """What runs, what should, and why where they differ, as a JSON object."""
        config = self._config
        return {
            "runtime": self.name,
            "version": self._version,
            "started": self._started,
            "settled": self.settled and not self._follower.busy,
            "config": config.etag,
            "device": self._device.look().to_json(),
            "warnings": [] if self._config_trouble is None else [self._config_trouble],
            **self._teller.told(config),
        }

    def vision_status(self, name: str) -> dict[str, Any] | None:
        """A vision service as ``status`` tells it; None when there is none of that name.

        A model service of the same name comes first.
        """
        if any(service.name == name for service in self._control.served()):
            return None
        for service in self._config.services:
            if service.is_vision and service.name == name:
                return self._teller.vision(service)
        return None

    def logs(self, lines: int) -> list[str]:
        """The last lines of the log, oldest first."""
        return self._journal.lines(lines)

    def close(self) -> None:
        """Stop. Requests under way finish; what is on disk stays as it is."""
        self._passes.close()
        self._follower.close()
        self._reconciler.stop()
        self._control.close()

    # Inside

    def _first_config(self, given: object) -> MachineConfig:
        kept = self._kept_config()
        if given is None:
            return kept if kept is not None else MachineConfig.from_json({})
        checked = read_config(given, self._environment)
        if kept is not None and self._ledger.given == checked.etag:
            if kept.etag != checked.etag:
                self._journal.note("the config file is as before; what was set since stays")
            return kept
        self.config_note = _taken(checked, kept, was_given=self._ledger.given is not None)
        self._states.save_config(checked)
        self._config_trouble = None
        self._ledger.remember_given(checked.etag)
        self._journal.note(self.config_note, type="Config")
        return checked

    def _kept_config(self) -> MachineConfig | None:
        """What was set last; where that cannot be read, the last one that went well."""
        try:
            return self._states.config()
        except ConfigError as exc:
            good = self._good_config(exc)
            self._config_trouble = f"{exc}; the last config that went well counts"
            self._journal.warn(self._config_trouble, type="Config")
            return good

    def _good_config(self, error: ConfigError) -> MachineConfig:
        try:
            good = self._states.good_config()
            why = "and there is no config.good.json, the last config that went well"
        except ConfigError as exc:
            good, why = None, f"and neither can the last config that went well: {exc}"
        if good is not None:
            return good
        raise ConfigError(
            f"{error}; {why}",
            hint="put a machine config in the place of config.json; or move both files away: "
            "the runtime then starts with no services, and what is deployed sets them anew",
        ) from error

    def _replace(self, config: MachineConfig, why: str) -> None:
        changed = changed_services(self._config, config)
        self._keep_config(config, why)
        self._passes.ask(Errand(retry=changed, visions=True))

    def _keep_config(self, config: MachineConfig, why: str) -> None:
        self._states.save_config(config)
        self._config_trouble = None
        self._control.config_changes(self._config, config)
        self._config = config
        self._follower.follow(self._fetched(config))
        self._journal.note(why, type="Config")

    def _fetched(self, config: MachineConfig) -> MachineConfig:
        """The config with the packages that may be fetched."""
        return config if self._allow_code else without_code(config)

    def _turn(self, errand: Errand) -> None:
        if errand.is_asked or self._reconciler.tend():
            self._pass(errand)
            self._reserve.make()
        self._look_back()

    def _pause_s(self) -> float | None:
        """How long there is nothing to do, in seconds; None: until somebody asks."""
        pause = self._reconciler.due_s()
        calm = self._began + CALM_S - time.monotonic()
        if not self._ledger.unclean or calm < 0:
            return pause
        return calm if pause is None else min(pause, calm)

    def _pass(self, errand: Errand) -> None:
        overlay, config = self._control.overlay, self._config
        config = overlay.applied(config)
        self._reconciler.run(
            config,
            retry=errand.retry,
            urgent=errand.urgent,
            abandoned=errand.abandoned,
            overridden=overlay.overrides.keys(),
            unloaded=overlay.unloaded,
        )
        self._visions.follow(config, retry=errand.visions)
        if self._workers is not None:
            self._workers.follow(self._board.sources())
        self._teller.look(config)

    def _look_back(self) -> None:
        """Remember that all went well, where it did."""
        overlay, config = self._control.overlay, self._config
        if overlay.overrides or overlay.unloaded or not self._board.is_sound:
            return
        if time.monotonic() - self._began >= CALM_S:
            self._ledger.calm()
        if self._good != config.etag:
            self._good = config.etag
            try:
                self._states.save_good_config(config)
            except NbModelError as exc:
                self._journal.warn(str(exc))

    def _all_serve(self) -> bool:
        names = [service.name for service in self._control.served()]
        return all(self._board.live(name) is not None for name in names)

    def _follow(self, name: str) -> None:
        errand = Errand(retry=frozenset([name]), urgent=frozenset([name]), visions=True)
        self._wait(name, self._passes.ask(errand), LOAD_TIMEOUT_S)

    def _wait(self, name: str, number: int, timeout_s: float) -> None:
        """Wait until what a pass is made for is done for a service, and for no other one."""
        self._passes.wait_made(
            number, timeout_s, goes_on=lambda: self._board.account(name, None).activity is not None
        )

    def _served(self, name: str, live: LiveService) -> Served:
        """What a service did since it serves, in all processes."""
        workers = self._workers
        counts = _counts(name, live, () if workers is None else workers.statistics(name))
        answered, ns = counts.success.count, counts.success.ns
        return Served(
            answered=answered,
            failed=counts.engine_failures,
            mean_ms=ns / answered / 1e6 if answered else None,
            deaths=0 if workers is None else workers.deaths,
            under_way_s=counts.under_way_ns / 1e9,
        )

    def _configured(self, name: str) -> Service:
        served = self._control.served()
        for service in served:
            if service.name == name:
                return service
        visions = [service for service in self._config.services if service.is_vision]
        for service in visions:
            if service.name == name:
                model = service.attributes.get("mlmodel_name")
                raise TargetError(
                    f"{name!r} is a vision service over {model!r}, on runtime {self.name!r}",
                    hint=f"use {model}, or POST a picture to /nbmodel/services/{name}/detections "
                    "or …/classifications",
                )
        raise TargetError(
            f"no service {name!r} on runtime {self.name!r}", hint=_listed(served, visions)
        )

    def _view(self, name: str) -> ServiceView:
        live = self._board.live(name)
        if live is None:
            return ServiceView(name, False, "1", Signature(), reason=self._why_not(name))
        return live.view(name)

    def _why_not(self, name: str) -> str:
        if name in self._control.overlay.unloaded:
            return "unloaded"
        refusal = self._board.refusal(name)
        return str(refusal.error) if refusal is not None else "it is still being loaded"

    def _live(self, name: str) -> LiveService:
        live = self._board.live(name)
        if live is not None:
            return live
        try:
            self._configured(name)
        except TargetError as exc:
            raise unknown(name, hint=exc.hint) from exc
        raise UnavailableError(f"service {name!r} is not ready: {self._why_not(name)}")

    def _with_live(self, name: str, action: Callable[[LiveService], _T]) -> _T:
        while True:
            self._configured(name)
            try:
                return action(self._live(name))
            except RetiredError:
                continue

    def _try_out(self, request: InferRequest) -> Mapping[str, NDArray[Any]]:
        return self._with_live(request.model, lambda live: live.try_out(request.inputs))

    def _tag(self, previous: Record) -> str:
        """The tag that names an earlier version, made anew when it is missing."""
        try:
            label = self._tag_of(previous)
            there = self.tags.get(previous.repository, label)
            if there is None:
                self.tags.set(previous.repository, label, previous.digest)
        except NbModelError as exc:
            raise DeployError(f"the earlier version cannot be brought back: {exc}") from exc
        if there not in (None, previous.digest):
            raise DeployError(
                f"tag {label!r} of {previous.repository!r} names another version by now"
            )
        return label

    def _tag_of(self, previous: Record) -> str:
        if previous.stamp is not None:
            return previous.stamp
        if previous.number is not None:
            return str(previous.number)
        # Pushed by a foreign client, under a tag that has moved on.
        return stamp_of(parse_time(load_manifest(self.storage, previous.digest).created))

    def _check_live(self, service: str, target: Record) -> None:
        live = self._board.live(service)
        if live is None or live.installed is None or live.installed.version.digest != target.digest:
            refusal = self._board.refusal(service)
            why = str(refusal.error) if refusal is not None else "it takes too long to load"
            raise DeployError(f"service {service!r} cannot go back to {target.reference}: {why}")


def _counts(
    name: str, live: LiveService, elsewhere: Sequence[tuple[str, ModelStatistics]]
) -> ModelStatistics:
    """What a service did in this process and in others."""
    others = (counts for key, counts in elsewhere if (key, counts.name) == (live.key, name))
    return sum(others, live.statistics(name))


def _listed(served: Sequence[Service], visions: Sequence[Service]) -> str:
    """The services that there are, in words."""
    groups = {"services": served, "vision services": visions}
    lists = [
        f"{what}: {', '.join(service.name for service in given)}"
        for what, given in groups.items()
        if given
    ]
    return "; ".join(lists) or "it has no services"


def _taken(config: MachineConfig, before: MachineConfig | None, *, was_given: bool) -> str:
    """What a config file does that is taken at the start."""
    if before is None or before.etag == config.etag or not before.to_json():
        return "config taken from the file that was given"
    kept = {service.name for service in config.services}
    gone = sorted({service.name for service in before.services} - kept)
    services = ", ".join(gone) or "none"
    why = "changed since the last start" if was_given else "given for the first time"
    return (
        f"config file {why}: it replaces the config that was set, "
        f"{short_digest(before.etag)}; removed services: {services}"
    )


def _check(live: LiveService) -> dict[str, Any]:
    difference = live.check()
    if difference is None:
        return {"golden": False, "message": "the version has no golden sample"}
    return {"golden": True, "max_abs": difference.max_abs, "message": str(difference)}
