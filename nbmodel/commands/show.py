"""``show``: a model or a version."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("show")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """A model (digits) or one of its versions (digits:3, digits:champion)."""
    return context.client.show(reference)
