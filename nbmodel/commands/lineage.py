"""``lineage``: where a version comes from and where it went."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("lineage")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """Parents, notebook and cell, git commit; children; services that run it."""
    return context.client.lineage(reference)
