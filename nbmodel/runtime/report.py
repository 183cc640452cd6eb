"""How services and packages are told about, as JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbmodel.core.machine import Package, Service
from nbmodel.errors import (
    DeployError,
    NbModelError,
    StorageError,
    TrustError,
    UnavailableError,
    UntrustedModelError,
    VersionNotFoundError,
)
from nbmodel.runtime.account import Account
from nbmodel.runtime.conditions import Condition, Facts, Phase, Why
from nbmodel.runtime.desired import Found, Wish
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.probe import ProbeReport
from nbmodel.runtime.services import LiveService
from nbmodel.runtime.state import History, Record
from nbmodel.runtime.trial import AFTER_PROBE, slowness

if TYPE_CHECKING:
    from nbmodel.runtime.vision_service import VisionService


def facts_of(
    account: Account,
    *,
    fetch: FetchStatus | None,
    is_overridden: bool = False,
    is_stopped: bool = False,
) -> Facts:
    """What is known of a service and of the version that it should run.

    Args:
        account: How it stands.
        fetch: How far fetching its package is; None when nobody fetches it.
        is_overridden: Whether it runs what a client loaded.
        is_stopped: Whether it shall not run.
    """
    live, refusal, report = account.live, account.refusal, account.report
    wish = account.wish if isinstance(account.wish, Wish) else None
    key = None if wish is None else wish.key
    found = None if wish is None else wish.found
    current = account.history.current
    refused = None
    if refusal is not None and (refusal.key is not None or refusal.cause == "Damaged"):
        refused = Why(refusal.cause, str(refusal.error))
    is_wanted = live is not None and live.key == key
    return Facts(
        wanted=None if found is None else found.version.label,
        is_path=wish is not None and (is_overridden or found is None),
        stopped=is_stopped,
        missing=_missing(account),
        fetch=fetch,
        unpacked=None if account.damaged is None else Why("UnpackFailed", str(account.damaged)),
        activity=account.activity,
        waits=account.waits,
        probe=_told_probe(account, report[1])
        if report is not None and report[0] == key and not _is_slow(account)
        else None,
        doing=account.doing,
        refused=refused,
        probed_well=refusal is not None and refusal.cause in AFTER_PROBE,
        serves=None if live is None else _what(live),
        is_live=is_wanted and refused is None,
        remaining_s=account.remaining_s,
        is_committed=is_wanted and current is not None and current.key == key,
        committed_after=account.committed[1]
        if account.committed is not None and account.committed[0] == key
        else "",
    )


def service_status(
    service: Service,
    account: Account,
    *,
    package: Package | None,
    found: Found | NbModelError | None,
    fetch: FetchStatus | None,
    phase: Phase,
    conditions: Sequence[Condition],
) -> dict[str, Any]:
    """One service: what it runs, since when, what it follows, and why it runs no other.

    ``state`` is ``ready`` while something runs, whatever ``error`` says about a newer
    version; ``failed`` while the engine of what runs is gone and brought back; else ``failed``
    with an error, and ``loading`` without. ``rollback`` is where a rollback leads.

    Args:
        service: As configured.
        account: How it stands.
        package: Of its model; None when it runs a file by path.
        found: What became of that package.
        fetch: How far fetching that package is; None when nobody fetches it.
        phase: What it is at.
        conditions: How far it is.
    """
    live, refusal = account.live, account.refusal
    installed = live.installed if live is not None else None
    version = installed.version if installed is not None else None
    error = refusal.error if refusal is not None else None
    if (
        refusal is not None
        and refusal.key is None
        and fetch is not None
        and not isinstance(error, TrustError)
        and not (refusal.cause == "Damaged" and fetch.error is None)
    ):
        # That it is not here says less than why it does not come.
        error = None if fetch.error is None else DeployError(fetch.error, hint=fetch.hint)
    trouble = None if live is None else live.trouble
    if trouble is not None:  # what it runs says more just now than what it does not
        error = UnavailableError(trouble, hint="it is brought back by itself")
    waiting = "loading" if error is None else "failed"
    return {
        "name": service.name,
        "state": "ready" if live is not None and trouble is None else waiting,
        "phase": phase,
        "conditions": [condition.to_json() for condition in conditions],
        "backend": service.model,
        "runs_on": (live.runs_on or None) if live is not None else None,
        "note": (live.note or None) if live is not None else None,
        "package": package.name if package is not None else None,
        "model": version.repository if version is not None else None,
        "version": version.label if version is not None else None,
        "number": version.number if version is not None else None,
        "digest": version.digest if version is not None else None,
        "follows": _follows(package, found),
        "error": str(error) if error is not None else None,
        "hint": error.hint if error is not None else None,
        "refused": refusal.version if refusal is not None else None,
        "since": live.since if live is not None else None,
        "inferences": live.inferences if live is not None else 0,
        "provisional": _provisional(account),
        "rollback": _rollback(account.history),
        "probe": _probe(account),
        "failed": _failed(account),
        "deployment": service.deployment.to_json(),
    }


def vision_status(
    service: Service, *, vision: VisionService | None, error: NbModelError | None
) -> dict[str, Any]:
    """One vision service: the model service it uses, what it can do, and what ails it.

    ``state`` is ``ready``, ``failed`` with an error, or ``loading``. ``classifications``
    and ``detections`` are None while it is not ready.

    Args:
        service: As configured.
        vision: As it was set up, or None.
        error: Why it does not work, or None.
    """
    is_ready = vision is not None and vision.is_ready
    able = vision.abilities if vision is not None and is_ready else (None, None)
    if is_ready:
        error = None  # what ailed it is over, whether or not anybody has looked since
    waiting = "loading" if error is None else "failed"
    return {
        "name": service.name,
        "state": "ready" if is_ready else waiting,
        "backend": service.model,
        "mlmodel_name": service.attributes.get("mlmodel_name"),
        "classifications": able[0],
        "detections": able[1],
        "error": str(error) if error is not None else None,
        "hint": error.hint if error is not None else None,
        "since": vision.since if vision is not None and is_ready else None,
        "inferences": vision.calls if vision is not None else 0,
    }


def package_status(
    package: Package, found: Found | NbModelError | None, fetch: FetchStatus | None = None
) -> dict[str, Any]:
    """One package: what is wanted, which version that is, and whether it is here.

    ``state`` is ``ready``, ``loading`` (not looked at yet), ``missing`` (not on this
    device), ``failed``, or ``not_served`` for packages that are no models.

    Args:
        package: As configured.
        found: What became of it.
        fetch: How far fetching it is; None when nobody fetches it.
    """
    status: dict[str, Any] = {
        "name": package.name,
        "package": package.package,
        "type": package.type,
        "wanted": package.version,
        "registry": package.registry,
        "fetch": None if fetch is None else fetch.to_json(),
        "version": None,
        "number": None,
        "digest": None,
        "bytes": None,
        "state": "loading",
        "error": None,
    }
    if not package.is_model:
        return {**status, "state": "not_served"}
    if found is None:
        return status
    if isinstance(found, NbModelError):
        state = "missing" if isinstance(found, VersionNotFoundError) else "failed"
        return {**status, "state": state, "error": str(found)}
    return {
        **status,
        "version": found.version.label,
        "number": found.version.number,
        "digest": found.version.digest,
        "bytes": found.manifest.size,
        "state": "ready",
    }


def _follows(package: Package | None, found: Found | NbModelError | None) -> str | None:
    """The tag that decides, ``pinned`` for a held ``latest``; as configured without one."""
    if package is None:
        return None
    return found.version.follows if isinstance(found, Found) else package.version


def _missing(account: Account) -> Why | None:
    wish = account.wish
    if not isinstance(wish, NbModelError) or account.damaged is not None:
        return None
    if isinstance(wish, TrustError | UntrustedModelError):
        return Why("NotTrusted", str(wish))
    gone = isinstance(wish, VersionNotFoundError | StorageError)
    return Why("NotOnDevice" if gone else "NotPossible", str(wish))


def _what(live: LiveService) -> str:
    if live.installed is None:
        return "the file of its config"
    version = live.installed.version
    return f"version {version.label if version.number is None else version.number}"


def _provisional(account: Account) -> dict[str, Any] | None:
    tried = account.history.provisional
    if tried is None or account.remaining_s is None:
        return None
    return {
        **_named(tried.record),
        "since": account.trial_since or tried.since,
        "remaining_s": round(account.remaining_s, 1),
    }


def _rollback(history: History) -> dict[str, Any] | None:
    target = history.rollback if history.provisional is None else history.current
    return None if target is None else _named(target)


def _named(record: Record) -> dict[str, Any]:
    return {"version": record.label, "number": record.number, "digest": record.digest}


def _probe(account: Account) -> dict[str, Any] | None:
    """What came of the probe of the version that is wanted; None when it was not probed."""
    report, wish = account.report, account.wish
    if report is None or not isinstance(wish, Wish) or report[0] != wish.key:
        return None
    slow = slowness(wish.service.deployment, report[1].latency_ms)
    return {**report[1].to_json(), "slow": slow or None}


def _told_probe(account: Account, report: ProbeReport) -> ProbeReport:
    """A probe's report, which says, too, that it was slower than it may be."""
    assert isinstance(account.wish, Wish)
    slow = slowness(account.wish.service.deployment, report.latency_ms)
    note = "; ".join(filter(None, [report.note, slow and f"it was {slow}"]))
    return replace(report, note=note)


def _is_slow(account: Account) -> bool:
    """Whether the version that is wanted is refused since it was far too slow in its probe."""
    return account.refusal is not None and account.refusal.cause == "SlowTrial"


def _failed(account: Account) -> dict[str, Any] | None:
    wish = account.wish
    if not isinstance(wish, Wish) or wish.found is None:
        return None
    failed = account.history.failure(wish.found.version.digest, wish.key)
    if failed is None:
        return None
    return {
        "version": failed.version,
        "number": failed.number,
        "digest": failed.digest,
        "reason": failed.reason,
        "at": failed.at,
    }
