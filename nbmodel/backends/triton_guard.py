"""Ends a process group when the process that asked for it is gone, however that ended.

Run as a program of its own, ``triton_guard.py PID GROUP``, by the thread of ``PID`` that will
last longest. A server that is told by the system that its parent is gone does not tell those
that it has started itself: a script around it dies alone.

Source: prctl(2), ``PR_SET_PDEATHSIG``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

STOP_S = 10.0  # that the group may take to end by itself
_LOOK_S = 0.05
_SET_DEATH_SIGNAL = 1


def main() -> None:
    """Wait for the end of the parent, then end the group."""
    parent, group = int(sys.argv[1]), int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM.value, 0, 0, 0)
    if os.getppid() == parent:  # else it is gone already, and no signal comes
        signal.sigwait({signal.SIGTERM})
    end(group)


def end(group: int) -> None:
    """End every process of a group: by itself, or else by force.

    Args:
        group: Its id.
    """
    try:
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            os.killpg(group, 0)  # raises when nobody is left
            time.sleep(_LOOK_S)
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    main()
