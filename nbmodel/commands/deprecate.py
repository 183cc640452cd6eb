"""``deprecate``: say why nobody should use it any more."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("deprecate")
@click.argument("reference", metavar="REF")
@click.argument("message", required=False)
@click.option("--undo", is_flag=True, help="take it back")
@pass_context
def command(context: Context, *, reference: str, message: str | None, undo: bool) -> Any:
    """Say with MESSAGE why nobody should use a model or version any more."""
    if undo == (message is not None):
        raise InputError(
            "deprecate takes a message, or --undo",
            hint=f"`deprecate {reference} 'wrong labels, use {reference.partition(':')[0]}:4'`",
        )
    return context.client.deprecate(reference, message)
