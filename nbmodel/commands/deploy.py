"""``deploy``: run a model on a runtime."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import typed_pairs
from nbmodel.errors import InputError


@click.command("deploy")
@click.argument("reference", metavar="[REF]", required=False)
@click.option("--on", metavar="RUNTIME", help="not needed when only one is known")
@click.option("--service", metavar="NAME", help="the model's name when not given")
@click.option("--backend", metavar="NAME", help="the first that can when not given")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="K=JSON",
    help="a further attribute of the backend, such as instances=2, or device=gpu of triton",
)
@click.option(
    "--confirm-s",
    type=click.FloatRange(0),
    metavar="S",
    help="seconds of health after which a new version is committed (10 by default)",
)
@click.option(
    "--max-failure-rate",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="roll back when a larger share of requests, 0..1, fails before that; counts from "
    "--min-requests on",
)
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="roll back when an answer takes longer on average before that; counts from "
    "--min-requests on",
)
@click.option(
    "--min-requests",
    type=click.IntRange(1),
    metavar="N",
    help="requests that there must be before those two count (20 by default)",
)
@click.option(
    "--probe-timeout-s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="seconds that trying it out may take (120 by default)",
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="TIMES",
    help="take versions up then only, in the runtime's time: 'Mon-Fri 02:00-04:00'; again for "
    "more; `always`: no more. The first version of a service waits for none",
)
@click.option(
    "--registry",
    metavar="URL",
    help="push there, and have the runtime fetch it from there; `off`: no more",
)
@click.option(
    "--reset",
    multiple=True,
    metavar="OPTION",
    help="take one of these back, such as max-latency-ms; `all`: all of them",
)
@click.option("--dry-run", is_flag=True, help="say what would change")
@pass_context
def command(
    context: Context,
    /,
    *,
    reference: str | None,
    on: str | None,
    service: str | None,
    backend: str | None,
    threads: int | None,
    attributes: tuple[str, ...],
    windows: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> Any:
    """Run a model on a runtime and keep it at what REF names.

    \b
    nbmodel deploy digits --on edge            follows the newest version
    nbmodel deploy digits:champion --on edge   follows the alias
    nbmodel deploy digits:3 --on edge          stays at version 3
    nbmodel deploy --on edge                   all that was deployed there, as it was

    A new version is tried out on the runtime, then serves provisionally: until it is
    committed, the one before comes back when it fails. How that goes can be set with the
    options below, which stay as they are until they are given again, or reset.
    """
    if reference is None:
        _check_nothing_else()
        return context.client.redeploy(on)
    return context.client.deploy(
        reference,
        on=on,
        service=service,
        backend=backend,
        threads=threads,
        attributes=typed_pairs(attributes, "--attribute"),
        windows=[] if windows == ("always",) else list(windows) or None,
        dry_run=dry_run,
        **options,
    )


def _check_nothing_else() -> None:
    """Refuse options that say how to deploy, where nothing is said of what."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in ("reference", "on") and source is ParameterSource.COMMANDLINE:
            raise InputError(
                f"{parameter.opts[0]} is for one model",
                hint="say which: `deploy REF`; without, all that was deployed is brought back "
                "as it was",
            )
