"""``show``: a model or a version."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("show")
@click.argument("reference", metavar="REF")
@click.option(
    "--source",
    is_flag=True,
    help="the cells that a version was made by, in order, and what differed from the git commit",
)
@pass_context
def command(context: Context, *, reference: str, source: bool) -> Any:
    """A model (digits) or one of its versions (digits:3, digits:champion)."""
    if source:
        return context.client.cells(reference)
    return context.client.show(reference)
