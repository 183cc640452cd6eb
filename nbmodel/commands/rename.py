"""``rename``: another name for a model."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("rename")
@click.argument("old", metavar="NAME")
@click.argument("new", metavar="NEW")
@pass_context
def command(context: Context, *, old: str, new: str) -> Any:
    """Give a model another name; versions, aliases and pins come along."""
    return context.client.rename(old, new)
