"""``diff``: what differs between two versions."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("diff")
@click.argument("old", metavar="REF")
@click.argument("new", metavar="REF")
@pass_context
def command(context: Context, *, old: str, new: str) -> Any:
    """What differs between two versions: files, signature, labels, metadata, metrics."""
    return context.client.diff(old, new)
