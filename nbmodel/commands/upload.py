"""``upload``: make a version of a model file or folder."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import about_version, in_background, read_about


@click.command("upload")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--name", required=True, metavar="NAME", help="the model it is a version of")
@about_version
@in_background
@pass_context
def command(
    context: Context, /, *, paths: tuple[str, ...], name: str, background: bool, **about: Any
) -> Any:
    """Make a version of a model file with its companions, or of a folder.

    \b
    nbmodel upload mobilenet.tflite --name fruit --labels labels.txt
    nbmodel upload exported/ --name fruit --metric acc=0.93 --tag stage=trial
    """
    given = read_about(context, about)
    if context.stays(background):
        return context.client.upload(*paths, name=name, background=True, **given)
    return context.client.upload(*paths, name=name, **given)
