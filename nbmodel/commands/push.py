"""``push``: versions to a registry."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import in_background
from nbmodel.errors import InputError

LARGE = 100_000_000  # bytes; seconds on a fast line, minutes on a slow one


@click.command("push")
@click.argument("words", nargs=-1, metavar="[REF|MODEL] [REMOTE]")
@click.option("--all", "everything", is_flag=True, help="every version of every model")
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME",
    help="only this alias, or take one away there that was removed here; several times",
)
@click.option("--force", is_flag=True, help="move what somebody moved, push what was deleted there")
@in_background(LARGE)
@pass_context
def command(
    context: Context,
    *,
    words: tuple[str, ...],
    everything: bool,
    aliases: tuple[str, ...],
    force: bool,
    background: bool | None,
) -> Any:
    """Push a version, or all versions of a model, to the registry REMOTE.

    What is there already is not sent again. Without REMOTE: the registry that `remote` shows as
    the default. Where an address never answers, a push in the background is
    given up after a minute, and one that breaks off after ten; `transfers --resume` goes on.

    \b
    nbmodel push digits:3 registry.example/team
    nbmodel push digits localhost:5000
    nbmodel push digits --alias champion
    nbmodel push --all
    """
    limit = 1 if everything else 2
    if len(words) > limit:
        expected = "--all and a registry" if everything else "a version or model and a registry"
        raise InputError(f"push {' '.join(words)}: expected {expected}, found {len(words)} words")
    reference, remote = (None, *words, None)[:2] if everything else (*words, None, None)[:2]
    size = partial(context.client.registry.push_size, reference, aliases=aliases or None)
    push = partial(
        context.client.push,
        reference,
        remote,
        everything=everything,
        aliases=aliases,
        force=force,
    )
    return push(background=True) if context.stays(background, LARGE, size) else push()
