"""``upload``: make a version of a model file or folder."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands import options
from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import about_version


@click.command("upload")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--name", required=True, metavar="NAME", help="the model it is a version of")
@about_version
@pass_context
def command(
    context: Context,
    *,
    paths: tuple[str, ...],
    name: str,
    type_: str | None,
    labels: str | None,
    metrics: tuple[str, ...],
    metadata: tuple[str, ...],
    tags: tuple[str, ...],
    description: str,
    parents: tuple[str, ...],
    sample: str | None,
    rtol: float | None,
    atol: float | None,
) -> Any:
    r"""Make a version of a model file with its companions, or of a folder.

    \b
    nbmodel upload mobilenet.tflite --name fruit --labels labels.txt
    nbmodel upload exported/ --name fruit --metric acc=0.93 --tag stage=trial
    """
    return context.client.upload(
        *paths,
        name=name,
        sample=None if sample is None else context.value(sample),
        type=type_,
        labels=None if labels is None else context.value(labels),
        metrics=options.metrics(metrics),
        metadata=options.metadata(metadata),
        tags=options.pairs(tags, "--tag"),
        description=description,
        parents=parents,
        rtol=rtol,
        atol=atol,
    )
