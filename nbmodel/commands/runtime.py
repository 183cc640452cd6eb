"""``runtime``: start one, and the list of those known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from nbmodel.commands.context import Context, json_view, pass_context
from nbmodel.commands.options import limit_options
from nbmodel.errors import InputError
from nbmodel.runtime.limits import Limits


@click.group("runtime")
def command() -> None:
    """Runtimes: the processes on edge machines (or on this one) that serve models."""


def _start_options(http: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that a runtime is started with, in the background, here, or as a service.

    Args:
        http: The address when none is given.
    """
    options = (
        click.option("--config", metavar="FILE", help="machine config (JSON) to start with"),
        click.option("--http", default=http, show_default=True, metavar="HOST:PORT"),
        click.option("--home", metavar="FOLDER", help="where the runtime keeps models and state"),
        click.option(
            "--require-token/--no-require-token",
            help="also on loopback; off it, it is always wanted",
        ),
        click.option("--grpc", metavar="HOST:PORT", help="speak gRPC too, there; `off`: no more"),
        click.option(
            "--allow-shared-memory/--no-allow-shared-memory",
            help="let clients on this machine pass tensors in shared memory; not with --workers",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="processes that answer inference requests over HTTP (Linux); above 1 not with "
            "--allow-shared-memory",
        ),
        click.option(
            "--server-name",
            default="nbmodel",
            show_default=True,
            metavar="NAME",
            help="in the server's metadata; some clients want `triton`",
        ),
        click.option(
            "--maintenance-hook",
            metavar="PROGRAM",
            help="asked before a version takes another one's place, and every 15 s while it "
            "waits; ends with 0 for yes; its environment has NBMODEL_SERVICE, NBMODEL_MODEL, "
            "NBMODEL_VERSION and NBMODEL_DIGEST; `off`: no more",
        ),
        click.option(
            "--trust-policy",
            metavar="FILE",
            help="whose signatures count for which model (JSON); what else comes is refused; "
            "`off`: no more",
        ),
        click.option(
            "--trusted-key",
            metavar="PUB.pem",
            help="refuse what this public key has not signed; `off`: no more",
        ),
        click.option(
            "--allow-code/--no-allow-code",
            help="run models that are code (model.py), each in a process of its own: whoever may "
            "deploy may then run code on this machine, so a token is always wanted",
        ),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = limit_options()(function)
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@command.command("start")
@click.argument("name", required=False)
@click.option("--foreground", is_flag=True, help="with NAME: run it here, until it is stopped")
@_start_options("127.0.0.1:0")
@pass_context
def start(
    context: Context,
    /,
    *,
    name: str | None,
    config: str | None,
    http: str,
    home: str | None,
    require_token: bool,
    foreground: bool,
    grpc: str | None,
    allow_shared_memory: bool,
    workers: int,
    server_name: str,
    maintenance_hook: str | None,
    trust_policy: str | None,
    trusted_key: str | None,
    allow_code: bool,
    **limits: Any,
) -> Any:
    """Start a runtime on this machine.

    With NAME: in the background, known here under that name. Started again, it has
    the options that it was started with before, but for those given now; port 0 is
    the one that it had before. Without, or with --foreground: until it is stopped;
    this is how an edge machine runs it. With --foreground, one that is known here has
    its home and its options of before too, unless --home says where it is.

    \b
    %mlmodel runtime start edge
    nbmodel runtime start --config machine.json --http 0.0.0.0:8080 --home /var/lib/nbmodel
    nbmodel runtime start --http 127.0.0.1:8000 --grpc 127.0.0.1:8001
    """
    options: dict[str, Any] = {
        "http": http,
        "home": home,
        "require_token": require_token,
        "grpc": grpc,
        "allow_shared_memory": allow_shared_memory,
        "workers": workers,
        "server_name": server_name,
        "maintenance_hook": maintenance_hook,
        "trust_policy": trust_policy,
        "trusted_key": trusted_key,
        "allow_code": allow_code,
    }
    given = {option: value for option, value in options.items() if _is_given(option)}
    bounds = {limit: value for limit, value in limits.items() if _is_given(limit)}
    if name is not None and not foreground:
        return context.client.runtimes.start(name, config=config, limits=bounds, **given)
    if context.in_notebook:
        raise InputError(
            "a runtime in the foreground would hold up the kernel",
            hint="give it a name: `runtime start edge`",
        )
    from nbmodel.fleet.options import OFF
    from nbmodel.runtime.server import leave, serve

    for name_of in ("grpc", "maintenance_hook", "trust_policy", "trusted_key"):
        options[name_of] = None if options[name_of] == OFF else options[name_of]
    bounded = Limits(**limits)
    if name is not None and home is None:
        before = context.client.runtimes.in_foreground(name, given | bounds)
        if before is not None:
            options["home"], kept = before
            options |= {key: getattr(kept, key) for key in options if key != "home"}
            bounded = kept.limits
    serve(name=name, config=config, limits=bounded, **options)
    leave()
    return None


def _is_given(option: str) -> bool:
    """Whether an option is on the command line, with whatever value."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not ParameterSource.DEFAULT


@command.command("install")
@click.argument("name")
@click.option("--user", is_flag=True, help="a service of yours, instead of the machine's")
@click.option("--run-as", metavar="USER", help="of a service of the machine; one made for it")
@click.option("--print", "print_only", is_flag=True, help="only print the unit")
@_start_options("127.0.0.1:8080")
@pass_context
def install(
    context: Context,
    /,
    *,
    name: str,
    user: bool,
    run_as: str | None,
    print_only: bool,
    config: str | None,
    home: str | None,
    **options: Any,
) -> Any:
    """Make a runtime a service of this machine, which systemd looks after.

    It starts with the machine, again whenever it ends, and when it gives no sign of life
    any more. Installed again, it has the options given then.

    \b
    sudo nbmodel runtime install edge --http 0.0.0.0:8080
    nbmodel runtime install edge --user
    nbmodel runtime install edge --print > nbmodel-edge.service
    """
    given = {option: value for option, value in options.items() if _is_given(option)}
    card = context.client.runtimes.install(
        name,
        user=user,
        run_as=run_as,
        print_only=print_only,
        config=config,
        home=home,
        **given,
    )
    for warning in card.warnings:  # not into the unit that is printed
        click.echo(f"warning: {warning}", err=True)
    return card


@command.command("uninstall")
@click.argument("name")
@click.option("--user", is_flag=True, help="a service of yours, instead of the machine's")
@pass_context
def uninstall(context: Context, *, name: str, user: bool) -> Any:
    """Stop a service that `install` made, and take it away; its files stay."""
    return context.client.runtimes.uninstall(name, user=user)


@command.command("stop")
@click.argument("name")
@pass_context
def stop(context: Context, *, name: str) -> Any:
    """Stop a runtime that was started here; it stays known."""
    return context.client.runtimes.stop(name)


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--token", metavar="TOKEN", help="the token that the runtime showed at its start")
@click.option("--replace", is_flag=True, help="in place of one of that name at another address")
@pass_context
def add(context: Context, *, name: str, url: str, token: str | None, replace: bool) -> Any:
    """Make a runtime known that runs already, or a bare Triton server a runtime of its own.

    A Triton needs --model-control-mode=explicit, and nothing else: versions are sent to it by
    its own protocol.

    \b
    nbmodel runtime add pi http://raspberrypi.local:8080
    nbmodel runtime add jetson triton+grpc://jetson.local:8001
    """
    return context.client.runtimes.add(name, url, token=token, replace=replace)


@command.command("list")
@pass_context
def list_(context: Context) -> Any:
    """All runtimes known, and what they say."""
    return context.client.runtimes.list()


@command.command("remove")
@click.argument("name")
@pass_context
def remove(context: Context, *, name: str) -> Any:
    """Forget a runtime; one that was started here is stopped, its files stay."""
    return context.client.runtimes.remove(name)


@command.command("config")
@click.argument("name")
@click.option("--set", "file", metavar="FILE", help="put this machine config in place")
@click.option("--dry-run", is_flag=True, help="with --set: say what would change")
@pass_context
def config(context: Context, *, name: str, file: str | None, dry_run: bool) -> Any:
    """The machine config of a runtime; with --set, change it and say what that does."""
    if file is None and dry_run:
        raise InputError("--dry-run goes with --set FILE")
    if file is None:
        return context.client.runtimes.config(name)
    return context.client.runtimes.set_config(name, file, dry_run=dry_run)


@command.command("logs")
@click.argument("name")
@click.option("--lines", "-n", type=click.IntRange(1), default=50, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="and those that come, until interrupted")
@pass_context
def logs(context: Context, *, name: str, lines: int, follow: bool) -> Any:
    """The last lines of a runtime's log, also when one started here is down."""
    if not follow:
        return context.client.runtimes.logs(name, lines=lines)
    shown = context.client.runtimes.logs(
        name, lines=lines, follow=True, view=json_view("events") if context.as_json else None
    )
    return shown if context.in_notebook else None
