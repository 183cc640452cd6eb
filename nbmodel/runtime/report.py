"""How services and packages are told about, as JSON objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbmodel.core.machine import Package, Service
from nbmodel.errors import NbModelError, VersionNotFoundError
from nbmodel.runtime.desired import Found
from nbmodel.runtime.reconciler import Refusal
from nbmodel.runtime.services import LiveService

if TYPE_CHECKING:
    from nbmodel.runtime.vision_service import VisionService


def service_status(
    service: Service,
    *,
    package: Package | None,
    found: Found | NbModelError | None,
    live: LiveService | None,
    refusal: Refusal | None,
) -> dict[str, Any]:
    """One service: what it runs, since when, what it follows, and why it runs no other.

    ``state`` is ``ready`` while something runs, whatever ``error`` says about a newer
    version; else ``failed`` with an error, and ``loading`` without.

    Args:
        service: As configured.
        package: Of its model; None when it runs a file by path.
        found: What became of that package.
        live: What it runs.
        refusal: Why it does not run what it should.
    """
    installed = live.installed if live is not None else None
    version = installed.version if installed is not None else None
    waiting = "loading" if refusal is None else "failed"
    return {
        "name": service.name,
        "state": "ready" if live is not None else waiting,
        "backend": service.model,
        "package": package.name if package is not None else None,
        "model": version.repository if version is not None else None,
        "version": version.label if version is not None else None,
        "number": version.number if version is not None else None,
        "digest": version.digest if version is not None else None,
        "follows": _follows(package, found),
        "error": str(refusal.error) if refusal is not None else None,
        "hint": refusal.error.hint if refusal is not None else None,
        "refused": refusal.version if refusal is not None else None,
        "since": live.since if live is not None else None,
        "inferences": live.inferences if live is not None else 0,
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


def package_status(package: Package, found: Found | NbModelError | None) -> dict[str, Any]:
    """One package: what is wanted, which version that is, and whether it is here.

    ``state`` is ``ready``, ``loading`` (not looked at yet), ``missing`` (not on this
    device), ``failed``, or ``not_served`` for packages that are no models.

    Args:
        package: As configured.
        found: What became of it.
    """
    status: dict[str, Any] = {
        "name": package.name,
        "package": package.package,
        "type": package.type,
        "wanted": package.version,
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
