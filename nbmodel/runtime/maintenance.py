"""Asking a program of the machine whether a new version may be taken up now.

It knows what a config cannot: that the robot stands still, that the door is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from nbmodel.core.credential import TOKEN_VARIABLE
from nbmodel.errors import DeployError, NbModelError, UnavailableError

TIMEOUT_S = 10.0  # the config is not followed meanwhile
AGAIN_S = 1.0  # an answer holds so long, for all services that wait
_SECRETS = (TOKEN_VARIABLE,)  # of the runtime, not of what it asks


class MaintenanceHook:
    """A program that ends with 0 for yes. For one thread.

    Args:
        program: Its path.
        timeout_s: Seconds until it must have ended.
        again_s: Seconds for which its answer holds, or that it gave none.
    """

    def __init__(
        self, program: Path, *, timeout_s: float = TIMEOUT_S, again_s: float = AGAIN_S
    ) -> None:
        self._program = program
        self._timeout_s = timeout_s
        self._again_s = again_s
        self._answer: bool | NbModelError = False
        self._asked: float | None = None

    def __call__(self) -> bool:
        """Whether it says yes.

        Raises:
            DeployError: It cannot be run.
            UnavailableError: It did not end in time; it was killed.
        """
        if self._asked is None or time.monotonic() - self._asked >= self._again_s:
            try:
                self._answer = self._ask()
            except NbModelError as exc:  # one that hangs is not waited for by each service anew
                self._answer = exc
            self._asked = time.monotonic()
        if isinstance(self._answer, NbModelError):
            raise self._answer
        return self._answer

    def _ask(self) -> bool:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
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
