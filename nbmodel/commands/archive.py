"""``archive``: leave a model or version out of lists."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("archive")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """Leave a model or version out of lists; `restore` takes it back."""
    return context.client.archive(reference)
