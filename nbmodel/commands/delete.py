"""``delete``: delete a version or a model."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("delete")
@click.argument("reference", metavar="REF")
@click.option("--force", is_flag=True, help="though something uses it")
@pass_context
def command(context: Context, *, reference: str, force: bool) -> Any:
    """Delete a version, or a model with all versions; `gc` frees the bytes."""
    return context.client.delete(reference, force=force)
