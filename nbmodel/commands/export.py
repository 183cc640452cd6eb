"""``export``: write a version as another system keeps its models."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import pairs


@click.command("export")
@click.argument("reference", metavar="REF")
@click.argument("target", metavar="TARGET")
@click.option(
    "--to",
    "format_",
    required=True,
    metavar="FORMAT",
    help="viam, viam-upload, triton, kserve, mlflow",
)
@click.option("--option", "-o", "options", multiple=True, metavar="K=V", help="of the format")
@pass_context
def command(
    context: Context, *, reference: str, target: str, format_: str, options: tuple[str, ...]
) -> Any:
    """Write a version to TARGET, a folder, file or address, as FORMAT has it.

    \b
    nbmodel export fruit:3 out/ --to viam          out/<version>/fruit.tar.gz and its JSON
    nbmodel export fruit:3 models/ --to triton     a model repository, with config.pbtxt
    nbmodel export fruit fruit.yaml --to kserve -o storage=oci://registry/team/fruit:3
    nbmodel export fruit out/ --to mlflow          a model folder that mlflow loads
    """
    return context.client.export(reference, target, to=format_, options=pairs(options, "--option"))
