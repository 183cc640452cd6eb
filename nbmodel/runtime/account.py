"""How one service stands: what it runs, what it should run, and what lies between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nbmodel.errors import DeployError, NbModelError
from nbmodel.runtime.conditions import Activity, Why
from nbmodel.runtime.desired import Wish
from nbmodel.runtime.probe import ProbeReport
from nbmodel.runtime.services import LiveService
from nbmodel.runtime.state import Failed, History


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service does not run what it should.

    Attributes:
        key: Of the wish that failed; None when there was not even a wish.
        digest: Of the version's manifest, or None.
        version: Label of the version, or None.
        error: The reason.
        cause: The reason in one word.
        again: When it is tried again, by the monotonic clock; None: not by itself.
    """

    key: str | None
    digest: str | None
    version: str | None
    error: NbModelError
    cause: str
    again: float | None = None

    @classmethod
    def of_wish(cls, wish: Wish, error: NbModelError, cause: str, again_s: float | None) -> Refusal:
        """Why a wish is not followed for now, ``again_s`` seconds or until somebody asks."""
        version = wish.found.version if wish.found else None
        return cls(
            wish.key,
            None if version is None else version.digest,
            None if version is None else version.label,
            error,
            cause,
            None if again_s is None else time.monotonic() + again_s,
        )

    @classmethod
    def of_damage(cls, wish: Wish, error: NbModelError) -> Refusal:
        """Why a wish is not followed as long as bytes of its version are missing."""
        version = wish.found.version if wish.found else None
        return cls(
            None,
            None if version is None else version.digest,
            None if version is None else version.label,
            error,
            "Damaged",
        )

    @classmethod
    def of_failure(cls, failed: Failed) -> Refusal:
        """A version that is not tried again."""
        error = DeployError(failed.reason, hint=failed.hint)
        return cls(failed.key, failed.digest, failed.version, error, failed.cause)

    def is_about(self, wish: Wish) -> bool:
        """Whether it is what became of a wish, and stays so for now."""
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
        doing: How far that is, in words; may be empty.
        waits: What its trial waits for, or None.
        report: What came of the last probe that it passed, and of which key; or None.
        remaining_s: How long what it runs is still provisional; None when it is not.
        trial_since: When that began to serve; UTC; None when it is not provisional.
        committed: Key of what was committed last in this process, and after how much; or None.
    """

    live: LiveService | None = None
    wish: Wish | NbModelError | None = None
    history: History = field(default_factory=History)
    refusal: Refusal | None = None
    damaged: NbModelError | None = None
    activity: Activity | None = None
    doing: str = ""
    waits: Why | None = None
    report: tuple[str, ProbeReport] | None = None
    remaining_s: float | None = None
    trial_since: str | None = None
    committed: tuple[str, str] | None = None
