"""``bench``: measure latency and throughput of a model."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.core.benchmark import CONCURRENCIES, SECONDS
from nbmodel.errors import InputError


@click.command("bench")
@click.argument("target", metavar="TARGET")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=SECONDS,
    show_default=True,
    help="how long each level takes",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    help="requests of a level, instead of seconds; at least one for each at once",
)
@click.option(
    "--concurrency",
    default=",".join(map(str, CONCURRENCIES)),
    show_default=True,
    metavar="N,N...",
    help="requests at once, one level each",
)
@click.option("--token", help="what a server at an address wants to be shown")
@pass_context
def command(
    context: Context,
    *,
    target: str,
    inputs: tuple[str, ...],
    seconds: float,
    count: int | None,
    concurrency: str,
    token: str | None,
) -> Any:
    """Measure latency and throughput of TARGET at several numbers of requests at once.

    TARGET is service@runtime, a reference to run it right here, or the address of a model
    of any server of the Open Inference Protocol. Without INPUT, one is made up from the
    model's signature. Ctrl-C ends it.

    \b
    nbmodel bench fruit@edge bowl.jpg
    nbmodel bench http://triton:8000/fruit --concurrency 1,32 --seconds 10
    %mlmodel bench digits@edge X_test[:1]
    """
    return context.client.bench(
        target,
        *(context.value(text) for text in inputs),
        seconds=seconds,
        count=count,
        concurrency=_numbers(concurrency),
        token=token,
    )


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) <= 6 for word in words):
        raise InputError(f"--concurrency {text!r}: expected numbers, such as 1,4,16")
    return [int(word) for word in words]
