"""``pull``: a version from a registry, or its files into a folder."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("pull")
@click.argument("reference", metavar="REF")
@click.argument("folder", required=False, metavar="[FOLDER]")
@click.option("--name", metavar="NAME", help="what a model that is new here is to be called")
@pass_context
def command(context: Context, *, reference: str, folder: str | None, name: str | None) -> Any:
    """Bring a version from a registry, or copy a version's files into FOLDER.

    With a registry in REF the version comes into the local one, and into FOLDER when it is
    given. A local version is copied into FOLDER (here when not given), digests checked; one
    that is not known here is looked for in the registry that `remote` shows as the default.
    A model keeps its name here: the same repository is the same model the next time.

    \b
    nbmodel pull registry.example/team/digits:3
    nbmodel pull registry.example/team/digits:champion model/
    nbmodel pull registry.example/other/digits --name other/digits
    nbmodel pull digits:3 model/
    """
    return context.client.pull(reference, folder, name=name)
