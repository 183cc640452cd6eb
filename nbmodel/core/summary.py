"""What a runtime's status comes to, in one line. Rules only.

The status is JSON from a process that may be older or newer than this one, so everything
in it may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Phases of a service in which nothing is going on.
AT_REST = frozenset({"ready", "failed", "stopped"})
#: Why a version that is there is not taken up, in the word of a condition.
HELD = frozenset({"OutsideWindow", "MaintenanceRefused"})
STUCK_S = 10.0  # a fetch that is not tried again for longer does not come by waiting a moment
MAX_NUMBER = 1e15  # beyond it, nothing that a runtime counts or measures makes sense
_SHOWN = 5  # services that are told of one by one


def entries(status: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The objects of a list of a status: ``services``, ``vision`` or ``packages``."""
    found = status.get(kind)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def phase_of(service: Mapping[str, Any]) -> str:
    """What a service is at; of a runtime that knows no phases, its state."""
    return str(service.get("phase") or service.get("state") or "")


def fetch_of(status: Mapping[str, Any], service: Mapping[str, Any]) -> Mapping[str, Any]:
    """How far the fetch of a service's package is; empty when there is none."""
    for package in entries(status, "packages"):
        if package.get("name") == service.get("package") and package.get("name") is not None:
            fetch = package.get("fetch")
            return fetch if isinstance(fetch, Mapping) else {}
    return {}


def share_of(fetch: Mapping[str, Any]) -> float | None:
    """How much of a package is there, 0..1; None when nobody knows."""
    if fetch.get("state") != "fetching":
        return None
    percent = number_of(fetch, "percent")
    return None if percent is None else min(max(percent / 100, 0.0), 1.0)


def number_of(of: Mapping[str, Any], key: str) -> float | None:
    """A finite number in an object; None when there is none."""
    value = of.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < MAX_NUMBER else None


def is_at_rest(status: Mapping[str, Any]) -> bool:
    """Whether nothing is going on, and nothing will without anybody's doing."""
    moving = (phase_of(one) not in AT_REST for one in entries(status, "services"))
    fetching = (
        is_under_way(fetch)
        for fetch in (one.get("fetch") for one in entries(status, "packages"))
        if isinstance(fetch, Mapping)
    )
    return status.get("settled") is not False and not any(moving) and not any(fetching)


def is_decided(status: Mapping[str, Any]) -> bool:
    """Whether waiting a moment longer changes nothing.

    As at rest, and besides: what waits for its window, and what is not fetched again soon.
    """
    services = entries(status, "services")
    stuck = [one for one in services if is_stuck(fetch_of(status, one))]
    moving = [
        one
        for one in services
        if phase_of(one) not in AT_REST and not held_by(one) and one not in stuck
    ]
    fetching = [
        fetch
        for fetch in (one.get("fetch") for one in entries(status, "packages"))
        if isinstance(fetch, Mapping) and is_under_way(fetch) and not is_stuck(fetch)
    ]
    is_settled = status.get("settled") is not False or bool(stuck)
    return is_settled and not moving and not fetching


def held_by(service: Mapping[str, Any]) -> str:
    """What a service waits for before it takes up a version that is there; empty: nothing."""
    if phase_of(service) != "waiting":
        return ""
    held = (one for one in entries(service, "conditions") if one.get("reason") in HELD)
    return next((str(one.get("message") or "it waits for its window") for one in held), "")


def is_stuck(fetch: Mapping[str, Any]) -> bool:
    """Whether a fetch failed, and is not tried again for longer than ``STUCK_S``."""
    again = number_of(fetch, "retry_in_s")
    is_failed = bool(fetch.get("error")) and fetch.get("state") != "fetching"
    return is_failed and is_under_way(fetch) and again is not None and again > STUCK_S


def under_way(status: Mapping[str, Any]) -> list[str]:
    """What is not decided, a few words each: ``digits fetching 42 %``."""
    services = entries(status, "services")
    doing = [
        f"{one.get('name')} {progress_of(status, one)}"
        for one in services
        if phase_of(one) not in AT_REST and not held_by(one)
    ]
    fetching = [
        f"package {one.get('name')}"
        for one in entries(status, "packages")
        if isinstance(one.get("fetch"), Mapping) and is_under_way(one["fetch"])
    ]
    return doing or fetching or ["what the runtime is at"]


def troubles(status: Mapping[str, Any]) -> list[str]:
    """Why packages could not be fetched, a line each."""
    return [
        f"{one.get('name')} could not be fetched: {one['fetch']['error']}"
        for one in entries(status, "packages")
        if isinstance(one.get("fetch"), Mapping) and one["fetch"].get("error")
    ]


def brief(text: str, most: int = 120) -> str:
    """A reason where it is told in full elsewhere: at most so many characters of it."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def is_under_way(fetch: Mapping[str, Any]) -> bool:
    """Whether something more of a package comes, or is tried again, by itself."""
    state = fetch.get("state")
    return state in ("waiting", "fetching") or (state == "failed" and not fetch.get("terminal"))


def summary(status: Mapping[str, Any]) -> str:
    """``2 of 3 services ready; digits fetching 42 %``."""
    services = entries(status, "services")
    if not services:
        return "no services"
    ready = sum(one.get("state") == "ready" for one in services)
    noun = "service" if len(services) == 1 else "services"
    counted = f"{len(services)} {noun}" if ready == len(services) else f"{ready} of {len(services)}"
    if ready != len(services):
        counted += f" {noun}"
    doing = list(_doing(status, services))
    more = [f"{len(doing) - _SHOWN} more"] if len(doing) > _SHOWN else []
    return "; ".join([f"{counted} ready", *filter(None, [", ".join(doing[:_SHOWN] + more)])])


def progress_of(status: Mapping[str, Any], service: Mapping[str, Any]) -> str:
    """What a service is at, for who waits for it: ``fetching 42 %``; empty when nothing."""
    phase = phase_of(service)
    if phase in AT_REST:
        return ""
    share = share_of(fetch_of(status, service)) if phase == "fetching" else None
    return phase if share is None else f"{phase} {share:.0%}".replace("%", " %")


def _doing(status: Mapping[str, Any], services: list[Mapping[str, Any]]) -> Iterator[str]:
    for service in services:
        if phase_of(service) != "ready":
            yield f"{service.get('name')} {progress_of(status, service) or phase_of(service)}"
