"""``package``: the package entry for a machine config."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("package")
@click.argument("reference", metavar="REF")
@pass_context
def command(context: Context, *, reference: str) -> Any:
    """The package JSON for a machine config: at latest (digits), or held (digits:3)."""
    return context.client.package(reference)
