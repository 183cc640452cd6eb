"""``verify``: check every byte against its digest."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("verify")
@click.argument("reference", required=False, metavar="REF")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Before that, make a lost or damaged index anew of the list of versions beside the "
    "blobs; aliases, pins, tags and descriptions are in the index alone.",
)
@pass_context
def command(context: Context, *, reference: str | None, rebuild: bool) -> Any:
    """Read every byte of a version, a model or the whole registry and check it."""
    return context.client.verify(reference, rebuild=rebuild)
