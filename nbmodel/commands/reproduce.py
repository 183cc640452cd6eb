"""``reproduce``: make a version again from its cells, and compare."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.client import REPRODUCE_S
from nbmodel.commands.context import Context, pass_context


@click.command("reproduce")
@click.argument("reference", metavar="REF")
@click.option(
    "--folder", metavar="FOLDER", help="where paths in the cells are looked up; else right here"
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=REPRODUCE_S,
    show_default=True,
    metavar="SECONDS",
    help="for all cells together",
)
@pass_context
def command(context: Context, *, reference: str, folder: str | None, timeout: float) -> Any:
    """Run the cells that made a version in a fresh kernel, and compare what comes of it.

    This runs code that came with the version: look at it first, `show REF --source`. What it
    logs goes to a home that is thrown away; what else it does, it does. Ctrl-C ends it.

    \b
    nbmodel show digits:3 --source
    nbmodel reproduce digits:3 --folder notebooks
    """
    return context.client.reproduce(reference, folder=folder, timeout=timeout)
