"""``import``: make a version of a model that is kept elsewhere."""

from __future__ import annotations

import re
from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import about_version, read_about
from nbmodel.errors import InputError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?")
_UNITS = ("", "k", "m", "g", "t")


@click.command("import")
@click.argument("uri", metavar="URI")
@click.option("--name", metavar="NAME", help="the model it is a version of; else as it is there")
@click.option("--revision", metavar="REV", default="", help="which one, where URI does not say")
@click.option(
    "--path", "paths", multiple=True, metavar="PATH", help="what of it: a file, folder or pattern"
)
@click.option("--sha256", metavar="HEX", help="the digest that the file must have")
@click.option("--max-size", metavar="SIZE", help="the most it may be, such as 50GB")
@click.option(
    "--from", "importer", metavar="IMPORTER", help="how it lies there, when URI does not tell"
)
@about_version
@pass_context
def command(
    context: Context,
    /,
    *,
    uri: str,
    name: str | None,
    revision: str,
    paths: tuple[str, ...],
    sha256: str | None,
    max_size: str | None,
    importer: str | None,
    **about: Any,
) -> Any:
    """Make a version of a model that is kept elsewhere; where it came from is kept with it.

    URI is an address of the web, a Git repository, an object store, a Hugging Face or MLflow
    registry; or a Viam package, an hs, MLflow, ClearML or Hugging Face folder, an archive.

    \b
    nbmodel import https://example.com/mobilenet.tflite --name fruit
    nbmodel import git+https://example.com/team/models.git@v2 --path fruit/model.onnx
    nbmodel import hf://org/name@main --path onnx/model.onnx
    nbmodel import models:/fruit@champion
    nbmodel import s3://bucket/fruit/
    nbmodel import fruit-1.tar.gz --from viam
    """
    return context.client.import_(
        uri,
        name=name,
        revision=revision,
        paths=paths,
        sha256=sha256,
        max_size=None if max_size is None else size_of(max_size),
        importer=importer,
        **read_about(context, about),
    )


def size_of(word: str) -> int:
    """The bytes of ``50GB``, ``1.5 GiB`` or ``1000``.

    Raises:
        InputError: It is no size.
    """
    found = _SIZE.fullmatch(word.strip().lower())
    if found is None:
        raise InputError(f"not a size: {word!r}", hint="for example 50GB or 512MiB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** _UNITS.index(found[2]))
