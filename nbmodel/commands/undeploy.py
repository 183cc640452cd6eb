"""``undeploy``: stop a service and take it out of its runtime's config."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("undeploy")
@click.argument("target", metavar="SERVICE@RUNTIME")
@pass_context
def command(context: Context, *, target: str) -> Any:
    """Stop a service and take it out of its runtime's config."""
    return context.client.undeploy(target)
