"""``tag``: free words on a version."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import pairs


@click.command("tag")
@click.argument("reference", metavar="REF")
@click.argument("words", nargs=-1, metavar="K=V...")
@click.option("--remove", multiple=True, metavar="K", help="take a word away")
@pass_context
def command(
    context: Context, *, reference: str, words: tuple[str, ...], remove: tuple[str, ...]
) -> Any:
    """Set free words on a version: nbmodel tag digits:3 site=lab camera=front."""
    return context.client.tag(reference, pairs(words, "tag"), remove=remove)
