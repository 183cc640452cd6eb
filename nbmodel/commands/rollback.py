"""``rollback``: bring back the version that a service ran before, and hold it there."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("rollback")
@click.argument("target", metavar="SERVICE[@RUNTIME]")
@pass_context
def command(context: Context, *, target: str) -> Any:
    """Bring back the version that a service ran before, and hold it there."""
    return context.client.rollback(target)
