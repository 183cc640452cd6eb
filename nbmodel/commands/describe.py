"""``describe``: the description of a model or version."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("describe")
@click.argument("reference", metavar="REF")
@click.argument("text")
@pass_context
def command(context: Context, *, reference: str, text: str) -> Any:
    """Set the description of a model (digits) or version (digits:3)."""
    return context.client.describe(reference, text)
