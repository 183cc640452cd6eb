"""``pull``: copy a version's files into a folder."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("pull")
@click.argument("reference", metavar="REF")
@click.argument("folder", default=".", metavar="[FOLDER]")
@pass_context
def command(context: Context, *, reference: str, folder: str) -> Any:
    """Copy a version's files into FOLDER (here when not given), digests checked."""
    return context.client.pull(reference, folder)
