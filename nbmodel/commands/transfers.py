"""``transfers``: what is pushed and uploaded in the background."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError

_NOTHING = "nothing was left to go on with: what ended or was cancelled is begun anew by its verb"


@click.command("transfers")
@click.option("--resume", is_flag=True, help="go on with what was interrupted, or with ID alone")
@click.option("--cancel", is_flag=True, help="have ID end")
@click.argument("transfer", required=False, metavar="[ID]")
@pass_context
def command(context: Context, *, resume: bool, cancel: bool, transfer: str | None) -> Any:
    """List what is pushed and uploaded in the background, by any process; go on with it, end it.

    A transfer ends with the process that began it. What was interrupted is gone on with in
    the background of a notebook; the command line waits for it.
    """
    if resume and cancel:
        raise InputError("--resume and --cancel: expected one of them")
    if transfer is not None and not (resume or cancel):
        raise InputError("a transfer's ID goes with --resume or --cancel")
    if cancel:
        if transfer is None:
            raise InputError("--cancel needs the ID of a transfer", hint="`transfers` lists them")
        context.client.background.cancel(transfer)
    nothing = resume and not any(job.is_open for job in context.client.background.queue.jobs())
    if resume and context.in_notebook:
        context.client.background.resume(transfer)
    elif resume:
        context.client.background.finish(transfer)
    table = context.client.transfers()
    return table.with_notes([_NOTHING]) if nothing else table
