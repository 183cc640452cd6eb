"""The systemd unit that runs a runtime as a service of its machine. Rules only: text.

A device has nobody who looks after it, so the service is started again whatever ended it,
also when it hangs; and what it could do to the machine if a model or a request took it over
is kept small.

Source: systemd ``systemd.service(5)``, ``systemd.exec(5)``, ``systemd.syntax(7)``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbmodel.errors import InputError

HEAD = "# Made by `nbmodel runtime install`; another install replaces it.\n"
STATE = Path("/var/lib")  # where systemd makes state folders of the machine's services
WATCHDOG_S = 60  # without a sign of life; a small card may be busy for seconds
TIDY_S = 20.0  # to end, besides the time that requests under way are given
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 # nothing is put there
_PLAIN = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?")
_WELL_KNOWN_PORTS = 1024  # below it, one needs a right to listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A runtime as a service.

    Attributes:
        name: Of the runtime.
        command: What runs it; the first word is the absolute path of a program.
        home: Its home folder, absolute.
        is_user: Whether it is a service of one user, instead of the machine.
        run_as: User that a service of the machine runs as; None: one made for it alone.
        ports: Those that it listens on.
        drain_s: Seconds that it gives requests under way when it is ended.
        secrets: File with environment variables; it may be missing.

    Raises:
        InputError: Something in it cannot be written into a unit.
    """

    name: str
    command: Sequence[str]
    home: Path
    is_user: bool
    run_as: str | None = None
    ports: Sequence[int] = ()
    drain_s: float = 10.0
    secrets: Path | None = None

    def __post_init__(self) -> None:
        if self.run_as is not None and _USER.fullmatch(self.run_as) is None:
            raise InputError(f"not the name of a user: {self.run_as!r}")
        if not self.is_user and self.run_as is None and self.home != self.state_folder:
            raise InputError(
                f"a user made for the service alone cannot keep its files in {self.home}",
                hint=f"leave --home out, for {self.state_folder}, or say --run-as USER",
            )
        self.text()  # what cannot be written is refused here

    @property
    def file_name(self) -> str:
        """Of the unit."""
        return unit_name(self.name)

    @property
    def state_folder(self) -> Path:
        """The home of a service of the machine when none is given."""
        return state_folder(self.name)

    @property
    def temporary(self) -> Path | None:
        """The first path of its command that a private folder for temporary files would hide."""
        paths = (Path(word) for word in self.command if word.startswith("/"))
        hidden = (path for path in paths if any(path.is_relative_to(one) for one in _TEMPORARY))
        return next(hidden, None)

    def text(self) -> str:
        """The unit file."""
        wanted_by = "default.target" if self.is_user else "multi-user.target"
        sections = {
            "Unit": [
                ("Description", f"nbmodel runtime {self.name}"),
                ("After", "network.target"),
                # A device that gave up starting would need somebody to come by.
                ("StartLimitIntervalSec", "0"),
            ],
            "Service": [*self._process(), *self._ending(), *self._bounds()],
            "Install": [("WantedBy", wanted_by)],
        }
        return HEAD + "".join(
            f"\n[{section}]\n" + "".join(f"{key}={value}\n" for key, value in lines)
            for section, lines in sections.items()
        )

    def _process(self) -> list[tuple[str, str]]:
        lines = [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("ExecStart", " ".join(map(quoted, self.command))),
            # Python looks for modules in it first: a folder of someone's must not be there.
            ("WorkingDirectory", "/"),
            ("WatchdogSec", str(WATCHDOG_S)),
        ]
        if self.secrets is not None:
            lines.append(("EnvironmentFile", f"-{escaped(str(self.secrets))}"))
        return lines

    def _ending(self) -> list[tuple[str, str]]:
        return [
            ("Restart", "always"),
            ("RestartSec", "2"),
            ("TimeoutStopSec", str(math.ceil(self.drain_s + TIDY_S))),
            # The runtime ends its workers itself; what is left after that is killed.
            ("KillMode", "mixed"),
            # A trial run that takes too much memory is killed alone, not the service.
            ("OOMPolicy", "continue"),
        ]

    def _bounds(self) -> list[tuple[str, str]]:
        """What it may do; a user's manager has not the rights to set more than a few."""
        lines = [
            ("UMask", "0077"),
            ("NoNewPrivileges", "yes"),
            ("LockPersonality", "yes"),
            ("RestrictRealtime", "yes"),
            ("RestrictSUIDSGID", "yes"),
            ("SystemCallArchitectures", "native"),
        ]
        if self.is_user:
            return lines
        rights = (
            "CAP_NET_BIND_SERVICE" if any(0 < p < _WELL_KNOWN_PORTS for p in self.ports) else ""
        )
        lines += [
            ("CapabilityBoundingSet", rights),
            ("ProtectSystem", "strict"),
            # Not hidden: the Python that runs it may be there.
            ("ProtectHome", "read-only"),
            # A user of its own has private ones in any case.
            ("PrivateTmp", "no" if self.run_as is not None and self.temporary else "yes"),
            ("ProtectControlGroups", "yes"),
            ("ProtectHostname", "yes"),
            ("ProtectKernelLogs", "yes"),
            ("ProtectKernelModules", "yes"),
            ("ProtectKernelTunables", "yes"),
            ("RestrictNamespaces", "yes"),
            ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        ]
        if rights:
            lines.append(("AmbientCapabilities", rights))
        if self.home == self.state_folder:
            lines.append(("StateDirectory", str(self.home.relative_to(STATE))))
            lines.append(("StateDirectoryMode", "0700"))
        else:
            lines.append(("ReadWritePaths", _quoted(escaped(str(self.home)))))
        lines.append(("DynamicUser", "yes") if self.run_as is None else ("User", self.run_as))
        return lines


def unit_name(name: str) -> str:
    """``nbmodel-<name>.service``, for a runtime of that name."""
    return f"nbmodel-{name}.service"


def state_folder(name: str) -> Path:
    """Where a service of the machine keeps its files, by the name of the runtime."""
    return STATE / "nbmodel" / name


def quoted(word: str) -> str:
    """One word of a command line in a unit.

    Raises:
        InputError: It has control characters.
    """
    return _quoted(escaped(word).replace("$", "$$"))


def _quoted(text: str) -> str:
    """One of several words of a line; outside of command lines ``$`` means nothing."""
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def escaped(text: str) -> str:
    """Text in a unit, in which ``%`` means nothing.

    Raises:
        InputError: It has control characters.
    """
    if _CONTROL.search(text):
        raise InputError(f"control characters cannot be written into a unit: {text!r}")
    return text.replace("%", "%%")
