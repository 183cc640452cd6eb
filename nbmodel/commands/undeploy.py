"""``undeploy``: stop a service and take it out of its runtime's config."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("undeploy")
@click.argument("target", metavar="SERVICE[@RUNTIME]")
@click.option("--on", metavar="RUNTIME", help="in place of @RUNTIME")
@pass_context
def command(context: Context, *, target: str, on: str | None) -> Any:
    """Stop a service and take it out of its runtime's config."""
    if on is not None:
        if "@" in target and target.rpartition("@")[2] != on:
            raise InputError(f"{target!r} is not on {on!r}", hint="say the runtime once")
        target = f"{target.rpartition('@')[0] or target}@{on}"
    return context.client.undeploy(target)
