"""``log``: make a version of a live object."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import about_version, made_with, read_about, read_made
from nbmodel.errors import InputError


@click.command("log")
@click.argument("name")
@click.argument("object_", metavar="OBJECT")
@about_version
@made_with
@pass_context
def command(context: Context, /, *, name: str, object_: str, **about: Any) -> Any:
    """Make a version NAME of OBJECT, a variable or expression of the kernel.

    The object is converted to an edge format, and the conversion checked against the
    object's own answers. The source of the cells that were run so far is kept with the
    version: a line `# nbmodel: private` keeps a cell out, `%config MLModel.record = "facts"`
    all of them.

    \b
    %mlmodel log digits model --sample X_test[:8] --metric acc=0.97
    """
    if context.evaluate is None:
        raise InputError(
            "log takes an object of a running kernel, and the command line has none",
            hint=f"save it to a file and `upload FILE --name {name}`",
        )
    given = {**read_about(context, about), **read_made(context, about)}
    return context.client.log(name, context.value(object_), **given)
