"""Asking a program of the machine whether a new version may be taken up now.

It knows what a config cannot: that the robot stands still, that the door is closed. It ends
with 0 for yes, anything else for no, and is asked again every 15 seconds while a version waits.
Its environment is the runtime's, without secrets, and says what waits:

=====================  ==================================================
``NBMODEL_SERVICE``    name of the service
``NBMODEL_MODEL``      name of the model
``NBMODEL_VERSION``    number of the version; empty when it has none
``NBMODEL_DIGEST``     of its manifest, ``sha256:…``
=====================  ==================================================

The first version of a service is not asked for: nothing serves that it could disturb.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbmodel.core.credential import TOKEN_VARIABLE
from nbmodel.errors import DeployError, NbModelError, UnavailableError

TIMEOUT_S = 10.0  # the config is not followed meanwhile
AGAIN_S = 1.0  # an answer holds so long, for all services that wait
_SECRETS = (TOKEN_VARIABLE,)  # of the runtime, not of what it asks


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that may be taken up.

    Attributes:
        service: Name of the service that it is for.
        model: Name of its model; empty for a file by path.
        number: Its integer, or None.
        digest: Of its manifest; empty for a file by path.
    """

    service: str
    model: str = ""
    number: int | None = None
    digest: str = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a hook is told of it."""
        return {
            "NBMODEL_SERVICE": self.service,
            "NBMODEL_MODEL": self.model,
            "NBMODEL_VERSION": "" if self.number is None else str(self.number),
            "NBMODEL_DIGEST": self.digest,
        }


class MaintenanceHook:
    """A program that ends with 0 for yes. For one thread.

    Args:
        program: Its path.
        timeout_s: Seconds until it must have ended.
        again_s: Seconds for which its answer about a version holds, or that it gave none.
    """

    def __init__(
        self, program: Path, *, timeout_s: float = TIMEOUT_S, again_s: float = AGAIN_S
    ) -> None:
        self._program = program
        self._timeout_s = timeout_s
        self._again_s = again_s
        self._answers: dict[Candidate, tuple[float, bool | NbModelError]] = {}

    def __call__(self, candidate: Candidate) -> bool:
        """Whether it says yes to a version.

        Raises:
            DeployError: It cannot be run.
            UnavailableError: It did not end in time; it was killed.
        """
        known = self._known(candidate)
        if known is None:
            try:
                known = self._ask(candidate)
            except NbModelError as exc:
                known = exc
            self._answers[candidate] = (time.monotonic(), known)
        if isinstance(known, NbModelError):
            raise known
        return known

    def _known(self, candidate: Candidate) -> bool | NbModelError | None:
        """What it said of a version lately; that it hangs is said of all of them."""
        now = time.monotonic()
        self._answers = {
            one: answer for one, answer in self._answers.items() if now - answer[0] < self._again_s
        }
        if candidate in self._answers:
            return self._answers[candidate][1]
        errors = (said for _, said in self._answers.values() if isinstance(said, NbModelError))
        return next(errors, None)

    def _ask(self, candidate: Candidate) -> bool:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        environment.update(candidate.environment)
        try:
            process = subprocess.Popen(
                [str(self._program)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that what it started can be killed with it
            )
        except OSError as exc:
            raise DeployError(f"cannot run {self._program}: {exc.strerror or exc}") from exc
        try:
            return process.wait(self._timeout_s) == 0
        except subprocess.TimeoutExpired:
            _kill(process)
            raise UnavailableError(
                f"{self._program} gave no answer within {self._timeout_s:g} s"
            ) from None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it, with what it started."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
