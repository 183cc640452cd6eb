"""``remote``: the registries that were used, and which one is the default."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.group("remote", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> Any:
    """The registries that were pushed to or pulled from; the default is meant where none is named.

    It is the first one that was used, until `remote default` chooses another; NBMODEL_REMOTE
    goes before both.

    \b
    nbmodel remote
    nbmodel remote default registry.example/team
    nbmodel remote forget localhost:5000
    """
    if ctx.invoked_subcommand is None:
        return ctx.ensure_object(Context).client.remotes()
    return None


@command.command("default")
@click.argument("remote", metavar="REMOTE")
@pass_context
def default(context: Context, *, remote: str) -> Any:
    """Choose the registry that is meant where none is named, used before or not.

    Where several registries number versions differently, its numbers count.
    """
    return context.client.set_default_remote(remote)


@command.command("forget")
@click.argument("remote", metavar="REMOTE")
@click.option("--force", is_flag=True, help="also when it alone has the files of versions")
@pass_context
def forget(context: Context, *, remote: str, force: bool) -> Any:
    """Forget a registry and what was seen there; nothing changes there."""
    return context.client.forget_remote(remote, force=force)
