"""``restore``: take a model or version out of the archive."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("restore")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """Take a model or version out of the archive."""
    return context.client.restore(reference)
