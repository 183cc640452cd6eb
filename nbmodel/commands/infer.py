"""``infer``: run inputs through a model and see the answer."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("infer")
@click.argument("target", metavar="TARGET")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option("--dummy", is_flag=True, help="make the inputs up from what the model takes")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME:N,N...",
    help="of a made-up input, where dimensions of it are variable",
)
@click.option("--seed", type=click.IntRange(0), help="of made-up inputs: another one, other inputs")
@click.option("--threshold", type=click.FloatRange(0, 1), help="smallest score of a box")
@click.option("--image", metavar="HxW", help="draw rows of numbers as pictures")
@pass_context
def command(
    context: Context,
    *,
    target: str,
    inputs: tuple[str, ...],
    dummy: bool,
    shapes: tuple[str, ...],
    seed: int | None,
    threshold: float | None,
    image: str | None,
) -> Any:
    """Run inputs through TARGET: service@runtime, or a reference to run it right here.

    An input is a picture, a .npy, .npz, .csv or .json file, or in a notebook a variable
    or expression. With --dummy it is made up: pixels, known categories, words.

    \b
    nbmodel infer fruit@edge bowl.jpg
    nbmodel infer fruit@edge --dummy --shape image:1,640,480,3
    %mlmodel infer digits@edge X_test[:4]
    """
    if dummy == bool(inputs):
        raise InputError(
            "both --dummy and inputs are given" if dummy else "no input is given",
            hint="give inputs, or --dummy to make them up",
        )
    if not dummy and (shapes or seed is not None):
        raise InputError("--shape and --seed are for made-up inputs", hint="add --dummy")
    values = [context.value(text) for text in inputs]
    notes = []
    if dummy:
        given = dict(_shape(text) for text in shapes)
        values = [context.client.dummy_inputs(target, seed=seed or 0, shapes=given)]
        notes = [f"the inputs are made up from what the model takes (seed {seed or 0})"]
    size = None if image is None else _size(image)
    result = context.client.infer(target, *values, threshold=threshold, image=size)
    return result.with_notes(notes)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Of ``NAME:N,N``, in perf_analyzer's words; a name may have colons in it."""
    name, _, dims = text.rpartition(":")
    words = [word.strip() for word in dims.split(",")]
    if not name or not all(word.isascii() and word.isdecimal() for word in words):
        raise InputError(f"--shape {text!r}: expected NAME:N,N…, such as image:1,224,224,3")
    return name, tuple(int(word) for word in words)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InputError(f"--image {text!r}: expected HEIGHTxWIDTH, such as 8x8")
    return int(height), int(width)
