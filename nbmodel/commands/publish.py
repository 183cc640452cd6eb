"""``publish``: make a version read-only."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("publish")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """Make a version read-only, for good."""
    return context.client.publish(reference)
