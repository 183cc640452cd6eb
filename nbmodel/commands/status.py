"""``status``: what runs where."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, json_view, pass_context
from nbmodel.errors import InputError


@click.command("status")
@click.argument("runtime", required=False)
@click.option("--follow", "-f", is_flag=True, help="show it while it changes, until interrupted")
@click.option("--wait", "-w", is_flag=True, help="show it until nothing goes on any more")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="with --wait: seconds after which it fails, with what it waits for",
)
@pass_context
def command(
    context: Context, *, runtime: str | None, follow: bool, wait: bool, timeout_s: float | None
) -> Any:
    """What runs on RUNTIME, or all runtimes known with what they say.

    With --wait, it fails when a service does not run what it should, or its registry does not
    answer. A version that waits for its maintenance window is not waited for.
    """
    if timeout_s is not None and not wait:
        raise InputError("--timeout goes with --wait")
    if not (follow or wait):
        return context.client.status(runtime)
    if not context.as_json:
        return context.client.status(runtime, follow=follow, wait=wait, timeout_s=timeout_s)
    view = json_view("states" if follow else "nothing")
    card = context.client.status(runtime, follow=follow, wait=wait, timeout_s=timeout_s, view=view)
    if follow:  # the last state is a line already
        click.get_current_context().exit(getattr(card, "exit_code", 0))
    return card
