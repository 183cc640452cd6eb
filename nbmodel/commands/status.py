"""``status``: what runs where."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, json_view, pass_context


@click.command("status")
@click.argument("runtime", required=False)
@click.option("--follow", "-f", is_flag=True, help="show it while it changes, until interrupted")
@click.option("--wait", "-w", is_flag=True, help="show it until nothing goes on any more")
@pass_context
def command(context: Context, *, runtime: str | None, follow: bool, wait: bool) -> Any:
    """What runs on RUNTIME, or all runtimes known with what they say.

    With --wait, it fails when a service does not get what it should run.
    """
    if not (follow or wait):
        return context.client.status(runtime)
    if not context.as_json:
        return context.client.status(runtime, follow=follow, wait=wait)
    view = json_view("states" if follow else "nothing")
    card = context.client.status(runtime, follow=follow, wait=wait, view=view)
    if follow:  # the last state is a line already
        click.get_current_context().exit(getattr(card, "exit_code", 0))
    return card
