"""``infer``: run inputs through a model and see the answer."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("infer")
@click.argument("target", metavar="TARGET")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--threshold", type=click.FloatRange(0, 1), help="smallest score of a box")
@click.option("--image", metavar="HxW", help="draw rows of numbers as pictures")
@pass_context
def command(
    context: Context,
    *,
    target: str,
    inputs: tuple[str, ...],
    threshold: float | None,
    image: str | None,
) -> Any:
    """Run inputs through TARGET: service@runtime, or a reference to run it right here.

    An input is a picture, a .npy, .npz, .csv or .json file, or in a notebook a variable
    or expression.

    \b
    nbmodel infer fruit@edge bowl.jpg
    %mlmodel infer digits@edge X_test[:4]
    """
    values = [context.value(text) for text in inputs]
    size = None if image is None else _size(image)
    return context.client.infer(target, *values, threshold=threshold, image=size)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InputError(f"--image {text!r}: expected HEIGHTxWIDTH, such as 8x8")
    return int(height), int(width)
