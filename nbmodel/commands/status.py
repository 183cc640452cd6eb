"""``status``: what runs where."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("status")
@click.argument("runtime", required=False)
@pass_context
def command(context: Context, *, runtime: str | None) -> Any:
    """What runs on RUNTIME, or all runtimes known with what they say."""
    return context.client.status(runtime)
