"""Runtimes as services of systemd: their units put in place, started, and taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nbmodel import config as settings
from nbmodel.errors import DeployError, InputError
from nbmodel.fleet.known import Known
from nbmodel.fleet.options import StartOptions
from nbmodel.runtime.server import Address
from nbmodel.runtime.systemd import HEAD, Unit, state_folder

DEFAULT_HTTP = "127.0.0.1:8080"  # others must know the port, so it is not any free one

BOOTED = Path("/run/systemd/system")  # there where systemd runs the machine
MACHINE_UNITS = Path("/etc/systemd/system")
_SYSTEMCTL_S = 150.0  # longer than it gives a service to start
_SAID = 500  # characters of what systemctl said


@dataclass(frozen=True, slots=True)
class Systemd:
    """The service manager of the machine, or that of the user.

    Attributes:
        is_user: Which of the two.
        units: Where unit files are; None: where this manager has them.
    """

    is_user: bool
    units: Path | None = None

    @property
    def folder(self) -> Path:
        """Where unit files are."""
        if self.units is not None:
            return self.units
        if not self.is_user:
            return MACHINE_UNITS
        return _user_config() / "systemd" / "user"

    @property
    def command(self) -> str:
        """How people call it: ``systemctl`` or ``systemctl --user``."""
        return "systemctl --user" if self.is_user else "systemctl"

    def check(self, verb: str = "installed") -> None:
        """Refuse where there is no systemd.

        Args:
            verb: What cannot be done without it.

        Raises:
            DeployError: There is none.
        """
        if not BOOTED.is_dir():
            raise DeployError(
                f"systemd does not run this machine, so nothing was {verb}",
                hint="`runtime install … --print` shows the unit; `runtime start NAME "
                "--foreground` is what any other service manager can run",
            )

    def install(self, unit: Unit) -> Path:
        """Put a unit in place, start it, and have it started from now on.

        Returns:
            Where the unit file is.

        Raises:
            DeployError: There is no systemd, the file is somebody else's or cannot be
                written, or the service does not start.
        """
        self.check()
        path = self.folder / unit.file_name
        self._check_ours(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(unit.text(), encoding="utf-8")
        except OSError as exc:
            raise DeployError(
                f"cannot write the unit {path}: {exc.strerror}",
                hint=None
                if self.is_user
                else f"sudo {sys.executable} -m nbmodel runtime install …, or --user for a "
                "service of your own",
            ) from exc
        self._ctl("daemon-reload")
        self._ctl("enable", unit.file_name)
        self._ctl("restart", unit.file_name)
        return path

    def uninstall(self, file_name: str) -> Path:
        """Stop a service and take its unit away; its files stay.

        Returns:
            Where the unit file was.

        Raises:
            DeployError: There is no systemd or no such unit, or it is somebody else's.
        """
        self.check("uninstalled")
        path = self.folder / file_name
        if not path.exists():
            raise DeployError(
                f"no unit {path}",
                hint="without --user for a service of the machine"
                if self.is_user
                else "with --user for a service of your own",
            )
        self._check_ours(path)
        self._ctl("disable", "--now", file_name)
        try:
            path.unlink()
        except OSError as exc:
            raise DeployError(f"cannot remove the unit {path}: {exc.strerror}") from exc
        self._ctl("daemon-reload")
        return path

    def _check_ours(self, path: Path) -> None:
        try:
            is_ours = path.read_text(encoding="utf-8", errors="replace").startswith(HEAD)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise DeployError(f"cannot read the unit {path}: {exc.strerror}") from exc
        if not is_ours:
            raise DeployError(f"the unit {path} was not made by nbmodel: left alone")

    def _ctl(self, *words: str) -> None:
        command = [*self.command.split(), *words]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SYSTEMCTL_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise DeployError(f"{' '.join(command)} failed: {exc}") from exc
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:_SAID]
            scope = "--user " if self.is_user else ""
            raise DeployError(
                f"{' '.join(command)} failed: {said or f'exit status {done.returncode}'}",
                hint=f"journalctl {scope}-u {words[-1]}" if words[0] == "restart" else None,
            )


def service_unit(
    name: str,
    options: StartOptions,
    *,
    is_user: bool,
    home: Path | None = None,
    config: Path | None = None,
    run_as: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> Unit:
    """The unit that runs a runtime of this installation of nbmodel.

    Args:
        name: Of the runtime.
        options: What it is started with.
        is_user: A service of this user, instead of the machine.
        home: Its home folder; None: the usual one.
        config: File with its machine config, or None.
        run_as: The user that a service of the machine runs as; None: one for it alone, where
            that is possible.
        warn: Called with why a service of the machine could not run here, in place of an
            error: the unit may be for another machine.

    Raises:
        InputError: Something given cannot be used.
    """
    Known(name, "http://localhost")  # the name is checked
    ports = []
    for text in filter(None, (options.http, options.grpc)):
        ports.append(Address.parse(text).port)
        if not ports[-1]:
            raise InputError(
                f"a service needs a port that others know, found {text}",
                hint=f"for example {DEFAULT_HTTP}",
            )
    if config is not None and not config.is_file():
        raise InputError(f"no such machine config: {config}")
    program = Path(sys.executable)
    if is_user:
        if run_as is not None:
            raise InputError("--run-as is for a service of the machine, without --user")
        usual, secrets = settings.home() / "runtimes" / name, _user_config() / "nbmodel"
    else:
        named = (options.maintenance_hook, options.trust_policy, options.trusted_key)
        files = [Path(one) for one in (config, *named) if one is not None]
        try:
            run_as = user_for(program, files=files, asked=run_as)
        except InputError as exc:
            if warn is None or run_as is not None:
                raise
            warn(f"{exc}; {exc.hint}")
        usual, secrets = state_folder(name), Path("/etc/nbmodel")
    home = (usual if home is None else home).absolute()
    command = [str(program), "-m", "nbmodel", "runtime", "start", name, "--foreground"]
    command += ["--home", str(home), "--http", options.http]
    command += [] if config is None else ["--config", str(config.absolute())]
    unit = Unit(
        name=name,
        command=[*command, *options.words(without={"http"})],
        home=home,
        is_user=is_user,
        run_as=run_as,
        ports=ports,
        drain_s=options.limits.drain_s,
        secrets=secrets / f"{name}.env",
    )
    if not is_user and run_as is None and unit.temporary is not None:
        unseen = InputError(
            f"a user made for the service alone does not see {unit.temporary}: systemd gives it "
            "folders of its own for temporary files",
            hint="put it elsewhere, for example in /opt/nbmodel; or say --run-as USER",
        )
        if warn is None:
            raise unseen
        warn(f"{unseen}; {unseen.hint}")
    return unit


def user_for(program: Path, *, files: Iterable[Path] = (), asked: str | None) -> str | None:
    """The user that a service of the machine runs as; None: one for it alone.

    Args:
        program: The Python that runs it.
        files: Others that it must be able to read.
        asked: The user asked for; None: one for the service alone, or where what it needs
            may not be read by such a one, the owner of that.

    Raises:
        InputError: There is no such user, or that owner is root.
    """
    import pwd

    if asked is not None:
        try:
            pwd.getpwnam(asked)
        except KeyError:
            raise InputError(f"there is no user {asked!r} on this machine") from None
        return asked
    needed = (program, Path(settings.__file__), *files)
    hidden = next(filter(None, map(_hidden, needed)), None)
    if hidden is None:
        return None
    owned_by = hidden.stat().st_uid
    try:
        owner = pwd.getpwuid(owned_by).pw_name
    except KeyError:
        raise InputError(
            f"{hidden} can be read by user {owned_by} alone, who has no name on this machine",
            hint="put it where all can read it; or say --run-as USER",
        ) from None
    if owner == "root":
        raise InputError(
            f"only root can read {hidden}, and a runtime should not be root",
            hint="put nbmodel, its Python and its files where all can read them, for example in "
            "/opt/nbmodel; or say --run-as USER",
        )
    return owner


def prepare_home(unit: Unit) -> None:
    """Make the home folder of a service of the machine that systemd does not make.

    Raises:
        DeployError: It cannot be made.
    """
    if unit.is_user or unit.run_as is None or unit.home == unit.state_folder:
        return
    import pwd

    try:
        unit.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = pwd.getpwnam(unit.run_as)
        os.chown(unit.home, owner.pw_uid, owner.pw_gid)
    except OSError as exc:
        raise DeployError(f"cannot make {unit.home} for {unit.run_as}: {exc.strerror}") from exc


def lingers() -> bool:
    """Whether services of this user run from boot on, also while nobody is logged in."""
    import pwd

    return (Path("/var/lib/systemd/linger") / pwd.getpwuid(os.getuid()).pw_name).exists()


def _user_config() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME")
    return Path(given) if given else Path.home() / ".config"


def _hidden(file: Path) -> Path | None:
    """The first of a file and its folders, links followed, that others may not enter."""
    for path in (file, file.resolve()):
        for part in (*reversed(path.parents), path):
            needed = 0o005 if part == path else 0o001
            if part.stat().st_mode & needed != needed:
                return part
    return None
