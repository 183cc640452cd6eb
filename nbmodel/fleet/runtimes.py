"""The runtimes that this machine knows, and the verbs on them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbmodel.display import ConfigCard, ConfigPlan, InstallCard, LogLines, RuntimeTable
from nbmodel.display.live import View, view_here
from nbmodel.errors import (
    ConfigError,
    InputError,
    NbModelError,
    RuntimeNotFoundError,
    TargetError,
    TargetUnreachableError,
)
from nbmodel.fleet.kinds import Runtime, open_runtime, wishes_file
from nbmodel.fleet.known import Known, KnownRuntimes
from nbmodel.fleet.local import as_before, is_running, last_words, start_local, stop_local
from nbmodel.fleet.options import OFF, StartOptions
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.triton_address import is_triton
from nbmodel.fleet.triton_runtime import TritonRuntime
from nbmodel.runtime.auth import TOKEN_FILE, ensure_token
from nbmodel.runtime.limits import Limits
from nbmodel.runtime.server import Address, check_hook

_TRITON = "triton"  # what a Triton server calls itself
ASKED_AT_ONCE = 16  # runtimes whose status is asked for side by side
LIST_TIMEOUT_S = 3.0  # one that is slower than this is shown as unreachable in a list
SETTLE_S = 3.0  # a start that takes longer to load its services shows them as loading
_SETTLE_POLL_S = 0.05


class Runtimes:
    """The runtimes known to one user.

    Args:
        home: The user's nbmodel folder; runtimes started here keep their state in it.
        on_up: Called with the name of a runtime that was just started or added; gives a
            line for each service that was brought up to date.
    """

    def __init__(self, home: Path, *, on_up: Callable[[str], Iterable[str]]) -> None:
        self._home = home
        self._on_up = on_up
        self._known = KnownRuntimes(home)
        self._remotes: dict[Known, Runtime] = {}

    def close(self) -> None:
        """Close the connections to all of them."""
        while self._remotes:
            self._remotes.popitem()[1].close()

    def get(self, name: str | None = None) -> Runtime:
        """The runtime of that name; without one, the only runtime known.

        Raises:
            RuntimeNotFoundError: There is none, or ``name`` is needed to tell which.
        """
        if name is None:
            name = self._only().name
        known = self._known.get(name)
        if known not in self._remotes:
            self._remotes[known] = open_runtime(known, self._home)
        return self._remotes[known]

    def start(
        self,
        name: str,
        *,
        config: str | os.PathLike[str] | None = None,
        http: str | None = None,
        home: str | os.PathLike[str] | None = None,
        require_token: bool | None = None,
        grpc: str | None = None,
        allow_shared_memory: bool | None = None,
        workers: int | None = None,
        server_name: str | None = None,
        maintenance_hook: str | os.PathLike[str] | None = None,
        trust_policy: str | os.PathLike[str] | None = None,
        trusted_key: str | os.PathLike[str] | None = None,
        allow_code: bool | None = None,
        limits: Limits | Mapping[str, float] | None = None,
    ) -> RuntimeTable:
        """Start a runtime on this machine, in a process that outlives this one.

        Started again after it ended, it goes on with the services it had, and as it was
        started before: what is None here is as it was then, and by default at first.

        Args:
            name: What it is called from now on.
            config: File with the machine config to start with.
            http: ``HOST:PORT``; port 0 is the one it had before, if that is free, else any
                free one. By default 127.0.0.1:0.
            home: Where it keeps models and state; a folder of its own when never given.
            require_token: Want a token on loopback too; off it, one is always wanted.
            grpc: ``HOST:PORT`` to speak gRPC on too, ``"off"`` to end that; the port may be
                0 as that of ``http``.
            allow_shared_memory: Let clients on this machine pass tensors in shared memory.
            workers: Processes that answer inference requests over HTTP; 1 by default.
            server_name: What the inference protocol calls it.
            maintenance_hook: A program that is asked before a version is taken up: it ends
                with 0 for yes; ``"off"`` to ask no more.
            trust_policy: A file that says whose signatures count for which model: nothing
                else runs then; ``"off"`` to demand no more.
            trusted_key: A file with a public key: nothing runs that it has not signed;
                ``"off"`` to demand no more.
            allow_code: Run models that are code of their own (``model.py``), each in a
                process of its own: whoever may deploy may then run code on this machine,
                so that a token is always wanted.
            limits: What clients may use: all limits, or some by name.

        Raises:
            InputError: A runtime of that name is running, or is somewhere else.
            DeployError: It did not come up, with what it said.
        """
        before = next((known for known in self._known.list() if known.name == name), None)
        if before is not None:
            self._check_startable(before)
        given: dict[str, Any] = {
            "http": http,
            "require_token": require_token,
            "grpc": grpc,
            "allow_shared_memory": allow_shared_memory,
            "workers": workers,
            "server_name": server_name,
            "maintenance_hook": hook_path(maintenance_hook),
            "trust_policy": trust_path(trust_policy),
            "trusted_key": trust_path(trusted_key),
            "allow_code": allow_code,
        }
        given = {option: value for option, value in given.items() if value is not None}
        given |= asdict(limits) if isinstance(limits, Limits) else dict(limits or {})
        options = _options_before(before).changed(given)
        usual = self._home / "runtimes" / name
        folder = usual if before is None or before.home is None else before.home
        words = options.words(without=given)
        if home is not None:
            folder = Path(home).expanduser().absolute()
        elif folder.absolute() != usual.absolute():
            words += ["--home", str(folder)]
        file = None if config is None else Path(config).expanduser()
        if file is not None and not file.is_file():
            raise InputError(f"no such machine config: {file}")
        had_token = (folder / TOKEN_FILE).exists()
        was_there = folder.exists()
        try:
            started = start_local(
                name,
                folder.absolute(),
                config=file,
                http=options.http,
                require_token=options.require_token,
                grpc=options.grpc,
                allow_shared_memory=options.allow_shared_memory,
                workers=options.workers,
                server_name=options.server_name,
                maintenance_hook=options.maintenance_hook,
                trust_policy=options.trust_policy,
                trusted_key=options.trusted_key,
                allow_code=options.allow_code,
                limits=options.limits,
                before=before,
            )
        except NbModelError:  # with what it said: nothing of it is worth keeping
            if not was_there:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._known.add(started)
        self._settle(started)
        extra: dict[str, Any] = {"reused": words} if words else {}
        if started.token is not None and not had_token:
            extra["new_token"] = started.token
        return self._up(started, extra)

    def in_foreground(
        self, name: str, given: Mapping[str, Any]
    ) -> tuple[Path, StartOptions] | None:
        """Where and how a runtime that has a home here is run by the process that asks.

        Args:
            name: What it is called.
            given: Options and limits given now, by name; the others are as it was started
                before.

        Returns:
            Its home and its options; None: none of that name has a home here.

        Raises:
            InputError: It is running, or an option cannot be used.
        """
        before = next((known for known in self._known.list() if known.name == name), None)
        if before is None or before.home is None:
            return None
        if _asked(before)["state"] == "ready":
            raise InputError(
                f"runtime {name!r} is running at {before.url}",
                hint=f"runtime stop {name}" if before.is_local else "stop its service first",
            )
        options = _options_before(before).changed(given)
        grpc_before = None if before.grpc is None else f"//{before.grpc}"
        return before.home, replace(
            options,
            http=as_before(options.http, before.url),
            grpc=None if options.grpc is None else as_before(options.grpc, grpc_before),
        )

    def install(
        self,
        name: str,
        *,
        user: bool = False,
        run_as: str | None = None,
        print_only: bool = False,
        config: str | os.PathLike[str] | None = None,
        home: str | os.PathLike[str] | None = None,
        limits: Limits | Mapping[str, float] | None = None,
        **options: Any,
    ) -> InstallCard:
        """Make a runtime a service of systemd on this machine, and start it.

        It is started with the machine, again whenever it ends, and when it gives no sign of
        life any more. A service of the user is known here afterwards.

        Args:
            name: Of the runtime; the service is called ``nbmodel-<name>``.
            user: A service of this user, instead of the machine.
            run_as: The user that a service of the machine runs as; by default one made for
                it alone.
            print_only: Only give the unit, also where it could not be installed.
            config: File with the machine config to start with.
            home: Where it keeps models and state.
            limits: What clients may use: all limits, or some by name.
            options: Further ones of ``start``; ``http`` is 127.0.0.1:8080 by default.

        Raises:
            InputError: An option cannot be used, or a runtime of that name is running.
            DeployError: There is no systemd, or it does not start the service.
        """
        from nbmodel.fleet.installation import (
            DEFAULT_HTTP,
            Systemd,
            lingers,
            prepare_home,
            service_unit,
        )

        before = next((one for one in self._known.list() if one.name == name), None)
        if before is not None and user and home is None:
            home = before.home
        given = {option: value for option, value in options.items() if value is not None}
        given |= asdict(limits) if isinstance(limits, Limits) else dict(limits or {})
        if "maintenance_hook" in given:
            given["maintenance_hook"] = hook_path(given["maintenance_hook"])
        for option in ("trust_policy", "trusted_key"):
            if option in given:
                given[option] = trust_path(given[option])
        start = StartOptions(http=DEFAULT_HTTP).changed(given)
        warnings: list[str] = []
        unit = service_unit(
            name,
            start,
            is_user=user,
            home=None if home is None else Path(home).expanduser(),
            config=None if config is None else Path(config).expanduser(),
            run_as=run_as,
            warn=warnings.append if print_only else None,
        )
        systemd = Systemd(user)
        url = url_here(start.http)
        card = InstallCard(
            name, str(systemd.folder / unit.file_name), unit.text(), url, str(unit.home), user
        )
        if print_only:
            return replace(card, warnings=tuple(warnings))
        systemd.check()
        if before is not None and before.is_local and _asked(before)["state"] != "stopped":
            raise InputError(
                f"runtime {name!r} is running at {before.url}", hint=f"runtime stop {name}"
            )
        prepare_home(unit)
        systemd.install(unit)
        if user:
            has_token = (unit.home / TOKEN_FILE).exists()
            token = ensure_token(unit.home)[0] if has_token else None
            self._known.add(Known(name, url, token=token, home=unit.home))
        return replace(card, state="running", lingers=not user or lingers())

    def uninstall(self, name: str, *, user: bool = False) -> InstallCard:
        """Take a service that ``install`` made away; the runtime's files stay.

        A service of the user is forgotten here.

        Raises:
            DeployError: There is no such service, or systemd refuses.
        """
        from nbmodel.fleet.installation import Systemd
        from nbmodel.runtime.systemd import unit_name

        Known(name, "http://localhost")  # the name is checked
        path = Systemd(user).uninstall(unit_name(name))
        known = next((one for one in self._known.list() if one.name == name), None)
        home = ""
        if user and known is not None and not known.is_local:
            home = str(known.home or "")
            self._known.remove(name)
        return InstallCard(name, str(path), "", "", home, user, state="removed")

    def stop(self, name: str) -> RuntimeTable:
        """Stop a runtime that was started here; it stays known.

        Raises:
            DeployError: It was not started here, or did not end.
        """
        known = self._known.get(name)
        stop_local(known)
        return RuntimeTable([{"name": name, "url": known.url, "state": "stopped"}])

    def add(
        self, name: str, url: str, *, token: str | None = None, replace: bool = False
    ) -> RuntimeTable:
        """Make a runtime known that runs already, here or elsewhere.

        What was deployed to one of that name before is brought there.

        Args:
            name: What it is called from now on.
            url: ``http://host:port``; of a bare Triton server with explicit model control,
                ``triton+grpc://host:port`` or ``triton+http://host:port``.
            token: What it showed when it was first started off loopback.
            replace: It takes the place of one of that name that is known at another address.

        Raises:
            TargetUnreachableError, AuthenticationError: It does not answer, or wants
                another token; it is not made known then.
            ConfigError: It is a Triton server that takes no models from clients.
            InputError: It is a Triton server, and the address is not one of those; or one of
                that name is at another address, or was started here.
        """
        known = Known(name, url, token=token)
        others = {one.name: one for one in self._known.list()}
        before = others.pop(name, None)
        if before is not None and before.url != known.url and (before.is_local or not replace):
            forget = f"`runtime remove {name}` first" if before.is_local else "add --replace"
            raise InputError(
                f"runtime {name!r} is at {before.url} already",
                hint=f"choose another name; or {forget}: what was deployed there is brought to "
                "the new one then",
            )
        with open_runtime(known, self._home) as remote:
            if isinstance(remote, TritonRuntime):
                if token is not None:
                    raise InputError("a Triton server wants no token", hint="leave it out")
                remote.check_control()
            try:
                remote.status()
            except TargetError as exc:
                if isinstance(remote, RemoteRuntime) and _is_bare_triton(remote):
                    raise InputError(
                        f"at {url} is a bare Triton server",
                        hint=f"its address here is triton+{url}",
                    ) from exc
                raise
        self._known.add(known)
        table = self._up(known)
        same = ", ".join(one.name for one in others.values() if one.url == known.url)
        if not same:
            return table
        note = f"{known.url} is known as {same} too: their services and pins are not kept apart"
        return table.with_notes([note])

    def list(self) -> RuntimeTable:
        """All runtimes known, and what they say of themselves, asked side by side."""
        known = self._known.list()
        if not known:
            return RuntimeTable()
        with ThreadPoolExecutor(min(len(known), ASKED_AT_ONCE)) as pool:
            return RuntimeTable(pool.map(_asked, known))

    def remove(self, name: str) -> RuntimeTable:
        """Forget a runtime; one that was started here is stopped first.

        Raises:
            RuntimeNotFoundError: None of that name is known.
        """
        known = self._known.get(name)
        if known.is_local:
            stop_local(known)
        if is_triton(known.url):
            wishes_file(self._home, name).unlink(missing_ok=True)
        self._known.remove(name)
        if known in self._remotes:
            self._remotes.pop(known).close()
        row: dict[str, Any] = {"name": name, "url": known.url, "state": "removed"}
        if known.home is None or not known.home.exists():
            return RuntimeTable([row])
        kept = f"its files stay in {known.home}; how it was started is forgotten"
        return RuntimeTable([{**row, "home": str(known.home)}]).with_notes([kept])

    def config(self, name: str) -> ConfigCard:
        """The machine config of a runtime."""
        config, _ = self.get(name).config()
        return ConfigCard(config)

    def set_config(
        self,
        name: str,
        config: str | os.PathLike[str] | Mapping[str, Any],
        *,
        dry_run: bool = False,
    ) -> ConfigPlan:
        """Put another machine config in place; an invalid one changes nothing.

        What comes back says what that does to each service.

        Args:
            name: The runtime.
            config: The config, or a file that holds it.
            dry_run: Check it and change nothing.

        Raises:
            ConfigError: Everything that is wrong with it is in ``problems``.
            ConfigConflictError: Somebody else changed the config meanwhile.
        """
        wanted = config if isinstance(config, Mapping) else _read_config(Path(config))
        remote = self.get(name)
        _, etag = remote.config()
        plan = ConfigPlan(remote.put_config(wanted, if_match=etag, dry_run=dry_run))
        plan = plan.of(name, is_dry=dry_run)
        if "services" in wanted or "packages" in wanted:
            return plan
        what = "the config" if isinstance(config, Mapping) else str(config)
        return plan.with_notes(
            [f"warning: {what} has neither 'services' nor 'packages'; is it a machine config?"]
        )

    def logs(
        self, name: str, *, lines: int = 50, follow: bool = False, view: View | None = None
    ) -> LogLines:
        """The last lines of a runtime's log, oldest first; followed, also those that come.

        Of one that was started here and does not answer any more, they come from the files
        in its home folder.

        Args:
            name: The runtime.
            lines: How many, at most; of before, when it is followed.
            follow: Show lines as they come, until interrupted.
            view: Where they are seen then; None: the notebook or the terminal.

        Raises:
            TargetUnreachableError: It is elsewhere and does not answer.
        """
        known = self._known.get(name)
        remote = self.get(name)
        if isinstance(remote, TritonRuntime):
            remote.logs()
        if follow:
            from nbmodel.fleet.follow import Follower

            view = view_here(headlines=False) if view is None else view
            return Follower(remote, view, remote.status).logs(lines)
        try:
            return LogLines(remote.logs(lines))
        except TargetUnreachableError:
            if known.home is None or not known.home.is_dir():
                raise
        note = f"runtime {name!r} does not answer; these lines are from the files in {known.home}"
        return LogLines(last_words(known.home, lines)).with_notes([note])

    def reachable(self) -> dict[str, Runtime]:
        """All runtimes by name, for bringing them versions; they may be away."""
        return {known.name: self.get(known.name) for known in self._known.list()}

    def _up(self, known: Known, extra: Mapping[str, Any] = MappingProxyType({})) -> RuntimeTable:
        lines = tuple(self._on_up(known.name))
        return RuntimeTable([{**_row(known, self.get(known.name)), **extra}]).with_notes(lines)

    def _settle(self, known: Known) -> None:
        """Wait a moment for services that are being loaded."""
        remote = self.get(known.name)
        deadline = time.monotonic() + SETTLE_S
        while remote.status().get("settled") is False and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL_S)

    def _only(self) -> Known:
        known = self._known.list()
        if len(known) == 1:
            return known[0]
        names = ", ".join(runtime.name for runtime in known)
        raise RuntimeNotFoundError(
            "no runtime is known here" if not known else f"{len(known)} runtimes are known here",
            hint=f"say which: {names}"
            if known
            else "start one with `runtime start NAME`, or add one with `runtime add NAME URL`",
        )

    def _check_startable(self, known: Known) -> None:
        if not known.is_local:
            raise InputError(
                f"runtime {known.name!r} is at {known.url}",
                hint="choose another name, or remove that one first",
            )
        if _asked(known)["state"] not in ("unreachable", "stopped"):
            raise InputError(
                f"runtime {known.name!r} is running at {known.url}",
                hint=f"runtime stop {known.name}",
            )


def url_here(http: str) -> str:
    """The URL at which this machine reaches ``HOST:PORT``."""
    address = Address.parse(http)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 # not bound here
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"


def hook_path(given: str | os.PathLike[str] | None) -> str | None:
    """The absolute path of a maintenance hook, ``OFF`` or None as they are.

    Raises:
        InputError: It is no program that can be run.
    """
    if given is None:
        return None
    return OFF if given == OFF else str(check_hook(given))


def trust_path(given: str | os.PathLike[str] | None) -> str | None:
    """The absolute path of a trust policy or a key, ``OFF`` or None as they are.

    Raises:
        InputError: There is no such file.
    """
    if given is None or given == OFF:
        return None if given is None else OFF
    file = Path(given).expanduser().absolute()
    if not file.is_file():
        raise InputError(f"no such file: {file}")
    return str(file)


def _options_before(known: Known | None) -> StartOptions:
    """What a runtime was started with; entries of older versions say only who may call."""
    if known is None:
        return StartOptions()
    return known.options or StartOptions(require_token=known.token is not None)


def _is_bare_triton(remote: RemoteRuntime) -> bool:
    try:
        return remote.server() == _TRITON
    except NbModelError:
        return False


def _asked(known: Known) -> Mapping[str, Any]:
    """A runtime's row in the list; what went wrong in place of what it says."""
    with open_runtime(known, timeout_s=LIST_TIMEOUT_S) as remote:
        try:
            return _row(known, remote)
        except TargetUnreachableError as exc:
            if known.pid is not None and not is_running(known.pid):
                return {**_place(known), "state": "stopped"}
            return {**_place(known), "state": "unreachable", "error": str(exc)}
        except NbModelError as exc:
            return {**_place(known), "state": "unreachable", "error": str(exc)}


def _row(known: Known, remote: Runtime) -> dict[str, Any]:
    status = remote.status()
    entries = [*(status.get("services") or ()), *(status.get("vision") or ())]
    return {
        **_place(known),
        "state": "ready",
        "grpc": remote.version().get("grpc"),
        "version": status.get("version") or status.get("server"),
        "services": [entry.get("name") for entry in status.get("services") or ()],
        "loading": [entry.get("name") for entry in entries if entry.get("state") == "loading"],
        "failed": [entry.get("name") for entry in entries if entry.get("state") == "failed"],
        "asked": len(entries),
    }


def _place(known: Known) -> dict[str, Any]:
    """Where a runtime is, and where it keeps its files when that is here."""
    place: dict[str, Any] = {"name": known.name, "url": known.url}
    if known.home is not None:
        place["home"] = str(known.home)
        if known.token is not None:
            place["token_file"] = str(known.home / TOKEN_FILE)
    return place


def _read_config(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.expanduser().read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read the machine config {file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"machine config {file} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise ConfigError(
            f"machine config {file}: expected an object, found a {type(data).__name__}"
        )
    return data
