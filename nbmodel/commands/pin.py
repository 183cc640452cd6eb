"""``pin``: hold a model at a version."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("pin")
@click.argument("reference", metavar="REF")
@click.option("--on", metavar="RUNTIME", help="on one runtime only")
@click.option("--why", default="", metavar="TEXT", help="kept with the pin")
@pass_context
def command(context: Context, *, reference: str, on: str | None, why: str) -> Any:
    """Hold a model at a version, everywhere its name is followed, or on one runtime."""
    return context.client.pin(reference, on=on, why=why)
