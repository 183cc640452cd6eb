"""``gc``: free what no version needs, here or in an object store."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context


@click.command("gc")
@click.argument("remote", required=False)
@click.option(
    "--grace", type=click.FloatRange(0), default=3600.0, show_default=True, metavar="SECONDS"
)
@click.option("--dry-run", is_flag=True, help="say what would be freed")
@pass_context
def command(context: Context, *, remote: str | None, grace: float, dry_run: bool) -> Any:
    """Free bytes that no version needs and nobody wrote for the last SECONDS.

    Here, where former versions that differ little are packed as well; or in REMOTE, an object
    store, where that is what no tag leads to. On a full disk, parts of downloads go however
    young they are: the next one begins anew.

    \b
    nbmodel gc
    nbmodel gc s3://models/team --dry-run
    """
    return context.client.gc(remote, grace_s=grace, dry_run=dry_run)
