"""``verify``: check every byte against its digest."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("verify")
@click.argument("reference", required=False, metavar="REF")
@pass_context
def command(context: Context, *, reference: str | None) -> Any:
    """Read every byte of a version, a model or the whole registry and check it."""
    return context.client.verify(reference)
