"""``deploy``: run a model on a runtime."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("deploy")
@click.argument("reference", metavar="REF")
@click.option("--on", metavar="RUNTIME", help="not needed when only one is known")
@click.option("--service", metavar="NAME", help="the model's name when not given")
@click.option("--backend", metavar="NAME", help="the first that can when not given")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads")
@click.option("--dry-run", is_flag=True, help="say what would change")
@pass_context
def command(
    context: Context,
    *,
    reference: str,
    on: str | None,
    service: str | None,
    backend: str | None,
    threads: int | None,
    dry_run: bool,
) -> Any:
    """Run a model on a runtime and keep it at what REF names.

    \b
    nbmodel deploy digits --on edge            follows the newest version
    nbmodel deploy digits:champion --on edge   follows the alias
    nbmodel deploy digits:3 --on edge          stays at version 3
    """
    return context.client.deploy(
        reference, on=on, service=service, backend=backend, threads=threads, dry_run=dry_run
    )
