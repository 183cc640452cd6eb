"""``unpin``: let go of a pin."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("unpin")
@click.argument("name")
@click.option("--on", metavar="RUNTIME", help="the pin of one runtime")
@pass_context
def command(context: Context, *, name: str, on: str | None) -> Any:
    """Let go of a pin; what was held follows again."""
    return context.client.unpin(name, on=on)
