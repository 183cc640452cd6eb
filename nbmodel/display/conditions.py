"""Where a service stands, in words that people understand.

From the JSON of a runtime's status. Phases and conditions come from another process, maybe
a newer one: what is not known here is shown as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.summary import AT_REST, brief, entries, fetch_of, number_of, phase_of, share_of
from nbmodel.display.card import Bar, Cell, Chip, Note, Table, Tone
from nbmodel.display.chips import state_chip
from nbmodel.display.quantity import duration, file_size, moment

#: Phase → what a person reads, and how urgent it is.
PHASES: Mapping[str, tuple[str, Tone]] = {
    "waiting": ("waiting", "warn"),
    "fetching": ("fetching", "info"),
    "unpacking": ("unpacking", "info"),
    "probing": ("trying it out", "info"),
    "loading": ("loading", "info"),
    "provisional": ("provisional", "warn"),
    "ready": ("ready", "good"),
    "failed": ("failed", "bad"),
    "stopped": ("stopped", "calm"),
}
#: Condition → what it says when it holds, when it does not, and when nobody knows yet.
CONDITIONS: Mapping[str, tuple[str, str, str]] = {
    "Fetched": ("on the device", "not on the device", "not looked for yet"),
    "Unpacked": ("unpacked", "not unpacked", "not unpacked yet"),
    "Probed": ("tried out", "did not pass its trial", "not tried out yet"),
    "Live": ("serves", "does not serve", "does not serve yet"),
    "Committed": ("committed", "not committed", "not committed yet"),
}
_STATUSES: Mapping[str, tuple[int, Tone]] = {
    "True": (0, "good"),
    "False": (1, "warn"),
    "Unknown": (2, "calm"),
}
_NOW_S = 0.5  # what is tried again sooner is tried again now
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one service stands.

    Attributes:
        status: What the runtime says of itself.
        service: What it says of the service.
    """

    status: Mapping[str, Any]
    service: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the service."""
        return said(self.service, "name")

    def chips(self) -> Cell:
        """What it is at, and whether something serves meanwhile."""
        phase, state = phase_of(self.service), said(self.service, "state")
        if phase not in PHASES:
            return state_chip(state)
        text, tone = PHASES[phase]
        serves = state == "ready" and phase not in ("provisional", "ready")
        own = Chip(text, tone)
        return (Chip("serving", "good"), "·", own) if serves else own

    def notes(self) -> Iterator[Note]:
        """Sentences about what is going on, what is provisional and what failed."""
        yield from self._fetching()
        words = provisional_words(self.service)
        if words:
            number = said(entry(self.service, "provisional"), "number")
            yield Note(f"{self.name}: {version(number)} is {words}", "warn")
        slow = said(entry(self.service, "probe"), "slow")
        if slow and not self.service.get("failed"):
            yield Note(f"{self.name}: it was {slow}", "warn")
        yield from self._waiting()
        yield from self._failed()
        if said(self.service, "note"):
            yield Note(f"{self.name}: {said(self.service, 'note')}", "warn")

    def fetch_cell(self) -> Cell:
        """How far fetching is: a bar and bytes; empty when nothing is fetched."""
        fetch = fetch_of(self.status, self.service)
        share = share_of(fetch)
        if share is None:
            return ""
        return (Bar(share), fetched_words(fetch))

    def _fetching(self) -> Iterator[Note]:
        fetch = fetch_of(self.status, self.service)
        text = fetch_problem(fetch)
        if text:
            yield Note(f"{self.name}: {text}", "bad" if fetch.get("terminal") else "warn")

    def _waiting(self) -> Iterator[Note]:
        if phase_of(self.service) != "waiting":
            return
        probed = condition(self.service, "Probed")
        message = said(probed, "message")
        if message and condition(self.service, "Fetched").get("status") == "True":
            yield Note(f"{self.name}: {message}", "warn")

    def _failed(self) -> Iterator[Note]:
        failed, error = entry(self.service, "failed"), said(self.service, "error")
        number = said(self.service, "number")
        serves = number and said(self.service, "state") != "failed"
        still = f"; {version(number)} keeps serving" if serves else ""
        hint = f" ({said(self.service, 'hint')})" if said(self.service, "hint") else ""
        if failed:
            at = moment(said(failed, "at"))
            reason = said(failed, "reason") or error
            when = f" at {at}" if at else ""
            what = version(said(failed, "number") or said(failed, "version"))
            yield Note(f"{self.name}: {what} was given up{when}: {reason}{still}{hint}", "bad")
        if error and not (failed and error == said(failed, "reason")):
            yield Note(f"{self.name}: {error}{still}{hint}", "bad")


def steps_table(services: list[Mapping[str, Any]]) -> Table | None:
    """How far each service is with the version wanted, a row each; None without any."""
    told = [one for one in services if entries(one, "conditions")]
    rows = [
        (
            said(service, "name"),
            *(_step(condition(service, kind)) for kind in CONDITIONS),
            *_first_open(service),
        )
        for service in told
    ]
    columns = ("service", *(words[0] for words in CONDITIONS.values()), "why", "since (UTC)")
    return Table(columns, rows, title="version wanted") if rows else None


def conditions_table(services: list[Mapping[str, Any]]) -> Table | None:
    """All conditions of all services, in words, with reasons and times; None without any."""
    rows = [
        (
            said(service, "name"),
            condition_chip(one),
            _reason(one),
            moment(said(one, "since")),
        )
        for service in services
        for one in entries(service, "conditions")
    ]
    return Table(("service", "version wanted", "why", "since (UTC)"), rows) if rows else None


def condition_chip(one: Mapping[str, Any]) -> Chip:
    """What a condition says, as it is now."""
    kind, status = said(one, "type"), said(one, "status")
    if kind not in CONDITIONS or status not in _STATUSES:
        return Chip(f"{kind}: {status}")
    place, tone = _STATUSES[status]
    return Chip(CONDITIONS[kind][place], tone)


def provisional_words(service: Mapping[str, Any]) -> str:
    """``provisional since 13:36:51: committed in 8.2 s if …``; empty when nothing is."""
    provisional = entry(service, "provisional")
    if not provisional:
        return ""
    remaining, since = number_of(provisional, "remaining_s"), moment(said(provisional, "since"))
    after = (
        f"committed in {duration(remaining)}"
        if remaining is not None and remaining > 0
        else "about to be committed"
    )
    before = said(entry(service, "rollback"), "number")
    else_ = f"{version(before)} comes back" if before else "it is taken back"
    began = f" since {since.partition(' ')[2]}" if since else ""
    return f"provisional{began}: {after} if it stays healthy, else {else_}"


def probe_words(service: Mapping[str, Any]) -> str:
    """What trying a version out showed; empty when it was not."""
    probe = entry(service, "probe")
    parts = []
    keys = ("latency_ms", "memory_bytes", "load_s")
    latency, memory, load = (number_of(probe, key) for key in keys)
    if latency is not None:
        parts.append(f"{duration(latency / 1000)} an answer")
    if memory is not None:
        parts.append(f"{file_size(int(memory))} of memory")
    if load is not None:
        parts.append(f"loaded in {duration(load)}")
    if not probe:
        probed = condition(service, "Probed")
        return f"no: {said(probed, 'message')}" if _is_known(probed) else ""
    told = [", ".join(parts), said(probe, "golden"), said(probe, "slow"), said(probe, "note")]
    return "; ".join(filter(None, told))


def settings_words(service: Mapping[str, Any]) -> str:
    """The settings of a service's deployment that are not the usual ones: ``confirm_s=60``."""
    given = entry(service, "deployment")
    return ", ".join(f"{name}={_setting(value)}" for name, value in given.items())


def _setting(value: object) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_known(probed: Mapping[str, Any]) -> bool:
    """Whether a version was not tried out since it ran before."""
    return said(probed, "reason") == "NotNeeded" and bool(said(probed, "message"))


def fetched_words(fetch: Mapping[str, Any]) -> str:
    """``3.1 MB of 7.4 MB, 1.0 MB reused``."""
    done, total, reused = (number_of(fetch, key) for key in ("bytes", "total", "reused"))
    if done is None or not total:
        return ""
    told = f"{file_size(int(done))} of {file_size(int(total))}"
    return f"{told}, {file_size(int(reused))} reused" if reused else told


def fetch_problem(fetch: Mapping[str, Any]) -> str:
    """Why a package is not fetched, and whether it is tried again; empty when all is well."""
    error = said(fetch, "error")
    if not error:
        return ""
    retry, attempt = number_of(fetch, "retry_in_s"), number_of(fetch, "attempt")
    if fetch.get("terminal"):
        return f"cannot be fetched: {error}; not tried again until something changes"
    again = "" if retry is None else f"; tried again in {duration(retry)}"
    if retry is not None and retry < _NOW_S:
        again = "; tried again now"
    tries = f" (attempt {attempt:.0f})" if attempt is not None and attempt > 1 else ""
    return f"could not be fetched{tries}: {error}{again}"


def is_quiet(service: Mapping[str, Any]) -> bool:
    """Whether nothing is to be said of a service beyond its row."""
    return phase_of(service) in AT_REST and not service.get("error") and not service.get("failed")


def condition(service: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition of a service; empty when it has none of that type."""
    found = (one for one in entries(service, "conditions") if one.get("type") == kind)
    return next(found, {})


def entry(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object in an object; empty when there is none."""
    value = of.get(key)
    return value if isinstance(value, Mapping) else {}


def said(of: Mapping[str, Any], key: str) -> str:
    """A value as text; empty when there is none."""
    value = of.get(key)
    return "" if value is None else str(value)


def version(number: str) -> str:
    """``version 3``; one that has no number is ``what ran before``."""
    return f"version {number}" if number else "what ran before"


def _step(one: Mapping[str, Any]) -> Cell:
    if not one:
        return ""
    text = {"True": "yes", "False": "no", "Unknown": "not yet"}.get(said(one, "status"), "?")
    return Chip(text, _STATUSES.get(said(one, "status"), (0, "calm"))[1])


def _first_open(service: Mapping[str, Any]) -> tuple[str, str]:
    """Why the first condition that does not hold does not, and since when."""
    for kind in CONDITIONS:
        one = condition(service, kind)
        if one and one.get("status") != "True":
            return _reason(one), moment(said(one, "since"))
    return "", ""


def _reason(one: Mapping[str, Any]) -> str:
    """Why, in words; that something holds says enough."""
    message = said(one, "message")
    if message or one.get("status") == "True":
        return brief(message)  # the note above has all of it
    return _CAMEL.sub(" ", said(one, "reason")).capitalize()
