"""Names for what this process leaves outside itself, so that others see when it is gone."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
import uuid
from pathlib import Path

_OWNER = r"(?P<place>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<start>\d{1,20})"
_IN_NAME = re.compile(rf"(?:^|[.-]){_OWNER}(?:[.-]|$)")


def owner() -> str:
    """This process, called as no other is or was: ``0f3a9c1e-4711-28930``."""
    return f"{_place()}-{os.getpid()}-{_start(os.getpid())}"


def is_owned(name: str) -> bool:
    """Whether a name has the ``owner`` of any process in it, of whichever machine."""
    return _IN_NAME.search(name) is not None


def is_left(name: str) -> bool:
    """Whether a name has the ``owner`` of a process in it that ran here and is gone.

    What processes of other machines and containers have named is not ours to judge.
    """
    found = _IN_NAME.search(name)
    if found is None or found["place"] != _place():
        return False
    return _start(int(found["pid"])) != found["start"]


@functools.cache
def _place() -> str:
    """Where process ids mean what they do here: the machine, and its namespace of them."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        namespace, boot = "", str(uuid.getnode())
    return hashlib.sha256(f"{socket.gethostname()} {boot} {namespace}".encode()).hexdigest()[:8]


def _start(pid: int) -> str:
    """When a process was started, in a unit of the system's; ``0`` where it is not known."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "0"
    # After the name, which may have anything in it, comes the third of proc(5)'s fields.
    return status.rpartition(")")[2].split()[19]
