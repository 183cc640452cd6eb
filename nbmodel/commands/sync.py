"""``sync``: know what a registry has."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.core.remote import is_registry


@click.command("sync")
@click.argument("model", required=False, metavar="[MODEL]")
@click.argument("remote", required=False, metavar="[REMOTE]")
@pass_context
def command(context: Context, *, model: str | None, remote: str | None) -> Any:
    """Know what the registry REMOTE has of MODEL, or of all models, without the files.

    Files are fetched when they are needed. A version that was deleted here stays deleted until
    it is pulled; a model that was deleted whole comes back when it is named. A model here of the
    same name that was never on a registry becomes one with it only when it is named. A single
    word that reads as a registry, and is no model here, is REMOTE.

    \b
    nbmodel sync
    nbmodel sync digits
    nbmodel sync registry.example/team
    """
    if model is not None and remote is None and is_registry(model):
        names = {known.name for known in context.client.registry.models(archived=True)}
        model, remote = (model, None) if model in names else (None, model)
    return context.client.sync(model, remote)
