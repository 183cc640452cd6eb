"""``do``: a free-form command for a service."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import command_object


@click.command("do")
@click.argument("target", metavar="SERVICE@RUNTIME")
@click.argument("json_", metavar="JSON")
@pass_context
def command(context: Context, *, target: str, json_: str) -> Any:
    """Send a JSON object to a service (Viam's DoCommand) and give its answer."""
    return context.client.do(target, command_object(json_))
