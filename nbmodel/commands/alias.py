"""``alias``: movable names."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("alias")
@click.argument("reference", metavar="REF")
@click.argument("alias", required=False)
@click.option("--expect", metavar="N|none", help="move only from this version")
@click.option("--remove", is_flag=True, help="take the alias away")
@click.option("--why", default="", metavar="TEXT", help="kept in the history")
@pass_context
def command(
    context: Context,
    *,
    reference: str,
    alias: str | None,
    expect: str | None,
    remove: bool,
    why: str,
) -> Any:
    """Put ALIAS on a version. Without ALIAS: every move of the model's aliases.

    \b
    nbmodel alias digits:3 champion --why "best on the night set"
    nbmodel alias digits champion --remove
    nbmodel alias digits
    """
    if alias is None:
        return context.client.alias_history(reference)
    if remove:
        return context.client.remove_alias(reference, alias, why=why)
    if expect is None:
        return context.client.alias(reference, alias, why=why)
    expected = None if expect == "none" else _number(expect)
    return context.client.alias(reference, alias, expect=expected, why=why)


def _number(text: str) -> int:
    if not text.isdigit():
        raise InputError(f"--expect {text!r}: expected a version number, or none")
    return int(text)
