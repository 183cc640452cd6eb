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
@click.option(
    "--remote",
    is_flag=False,
    flag_value="",
    metavar="[REMOTE]",
    help="what a registry has; without a word, the configured one",
)
@pass_context
def command(
    context: Context, *, name: str | None, query: str, archived: bool, remote: str | None
) -> Any:
    """All models; the versions of NAME; or the versions that a query finds.

    \b
    nbmodel list
    nbmodel list digits
    nbmodel list --remote registry.example/team
    nbmodel list digits --remote
    nbmodel list -q "framework=onnx and metrics.acc > 0.9 and tag:fruit"
    """
    return context.client.list(name, query, archived=archived, remote=remote)
