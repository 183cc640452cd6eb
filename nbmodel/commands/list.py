"""``list``: models, versions, or what a query finds."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("list")
@click.argument("name", required=False)
@click.option(
    "--query", "-q", default="", metavar="QUERY", help="framework=onnx and metrics.acc > 0.9"
)
@click.option("--archived", is_flag=True, help="what is archived too")
@pass_context
def command(context: Context, *, name: str | None, query: str, archived: bool) -> Any:
    """All models; the versions of NAME; or the versions that a query finds.

    \b
    nbmodel list
    nbmodel list digits
    nbmodel list -q "framework=onnx and metrics.acc > 0.9 and tag:fruit"
    """
    return context.client.list(name, query, archived=archived)
