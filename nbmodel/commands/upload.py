"""``upload``: make a version of a model file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import (
    about_version,
    in_background,
    made_with,
    read_about,
    read_made,
)

LARGE = 1_000_000_000  # bytes; they are copied and read in seconds


@click.command("upload")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--name", required=True, metavar="NAME", help="the model it is a version of")
@about_version
@made_with
@in_background(LARGE)
@pass_context
def command(
    context: Context,
    /,
    *,
    paths: tuple[str, ...],
    name: str,
    background: bool | None,
    **about: Any,
) -> Any:
    """Make a version of a model file with its companions, or of a folder.

    In a notebook, the source of the cells that were run so far is kept with the version, as for
    `log`.

    \b
    nbmodel upload mobilenet.tflite --name fruit --labels labels.txt
    nbmodel upload exported/ --name fruit --metric acc=0.93 --tag stage=trial
    nbmodel upload scripted.pt --name fruit --signature serving.yaml
    """
    given = {**read_about(context, about), **read_made(context, about)}
    if background is None and not all(
        given[key] is None or isinstance(given[key], str) for key in ("sample", "labels")
    ):
        background = False  # objects of the kernel cannot be written down
    if context.stays(background, LARGE, lambda: _size(paths)):
        return context.client.upload(*paths, name=name, background=True, **given)
    return context.client.upload(*paths, name=name, **given)


def _size(paths: Sequence[str]) -> int:
    """Bytes of the files."""
    from nbmodel.source import gather_files

    return sum(path.stat().st_size for path in gather_files(paths).values())
