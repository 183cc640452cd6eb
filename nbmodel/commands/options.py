"""Options that several verbs share, and the words they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from nbmodel.commands.context import Context
from nbmodel.core.golden import ATOL, RTOL
from nbmodel.core.model_type import MODEL_TYPES
from nbmodel.display.quantity import file_size
from nbmodel.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])


def about_version(function: F) -> F:
    """The options that say something about the version being made."""
    for option in reversed(
        (
            click.option(
                "--type", "type_", metavar="TYPE", help=f"one of {', '.join(MODEL_TYPES)}"
            ),
            click.option("--labels", metavar="FILE|OBJECT", help="class names, in index order"),
            click.option(
                "--signature",
                metavar="FILE|OBJECT",
                help="what inputs and outputs are, where the file does not tell, or better: a "
                'YAML or JSON file, serving.yaml, or {"inputs": {"x": "float32[-1,4]"}, …}',
            ),
            click.option("--metric", "-m", "metrics", multiple=True, metavar="K=NUMBER"),
            click.option("--meta", "metadata", multiple=True, metavar="K=JSON"),
            click.option("--tag", "-t", "tags", multiple=True, metavar="K=V"),
            click.option("--description", "-d", default="", metavar="TEXT"),
            click.option("--parent", "parents", multiple=True, metavar="REF"),
            click.option("--sample", metavar="FILE|OBJECT", help="inputs of the golden sample"),
            click.option("--rtol", type=click.FloatRange(0), default=RTOL, show_default=True),
            click.option("--atol", type=click.FloatRange(0), default=ATOL, show_default=True),
        )
    ):
        function = option(function)
    return function


def made_with(function: F) -> F:
    """The options that say from what the version being made was made."""
    data = "its digest is recorded; may be given several times"
    for option in (
        click.option("--data", "data", multiple=True, metavar="NAME=FILE|OBJECT", help=data),
        click.option("--seed", type=int, metavar="N", help="of the random numbers, recorded"),
    ):
        function = option(function)
    return function


def read_made(context: Context, about: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Client.log`` and ``Client.upload`` for those options.

    Raises:
        InputError: A word is not of its option's form, or means nothing.
    """
    given = pairs(about["data"], "--data")
    for name, word in given.items():
        if not word:
            raise InputError(f"--data {name!r}: expected NAME=FILE, or an object in its place")
    return {
        "seed": about["seed"],
        "data": {name: context.value(word) for name, word in given.items()},
    }


def in_background(large: int) -> Callable[[F], F]:
    """The option that lets a notebook go on at once.

    Args:
        large: Bytes from which a notebook does so by itself.
    """
    return click.option(
        "--background/--foreground",
        default=None,
        help="in a notebook: go on at once, with a handle to wait for or to cancel, or wait "
        f"here; by itself it goes on from {file_size(large)} on, where somebody has the page open",
    )


def read_about(context: Context, about: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``Client.log`` and ``Client.upload`` for those options.

    Raises:
        InputError: A word is not of its option's form.
    """

    def value(name: str) -> Any:
        return None if about[name] is None else context.value(about[name])

    return {
        "type": about["type_"],
        "labels": value("labels"),
        "signature": value("signature"),
        "metrics": _metrics(about["metrics"]),
        "metadata": typed_pairs(about["metadata"], "--meta"),
        "tags": pairs(about["tags"], "--tag"),
        "description": about["description"],
        "parents": about["parents"],
        "sample": value("sample"),
        "rtol": about["rtol"],
        "atol": about["atol"],
    }


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """``K=V`` words as a mapping; a word without ``=`` stands for itself with no value.

    Raises:
        InputError: A key is empty or given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not key or key in found:
            raise InputError(f"{option} {word!r}: expected K=V, each key once")
        found[key] = value
    return found


def _metrics(words: Sequence[str]) -> dict[str, float]:
    """``K=NUMBER`` words as numbers.

    Raises:
        InputError: A value is not a number.
    """
    found = {}
    for key, value in pairs(words, "--metric").items():
        try:
            found[key] = float(value)
        except ValueError:
            raise InputError(f"--metric {key}={value}: expected a number") from None
    return found


def typed_pairs(words: Sequence[str], option: str) -> dict[str, Any]:
    """``K=JSON`` words as typed values; what is not JSON is text.

    Raises:
        InputError: A key is empty or given twice.
    """
    return {key: _typed(value) for key, value in pairs(words, option).items()}


def _typed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def command_object(text: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        InputError: It is not one.
    """
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise InputError(f"not a JSON object: {text!r} ({exc})") from exc
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, found {type(value).__name__}")
    return value


def limit_options(
    helps: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a command an option for each limit.

    Args:
        helps: Those of ``runtime.limits.Limits`` that it has, with what help says of each;
            None: all, with what they say of themselves.
    """
    from nbmodel.runtime.limits import Limits, option_of  # for verbs that start servers alone

    limits = [one for one in fields(Limits) if helps is None or one.name in helps]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for limit in reversed(limits):
            function = click.option(
                option_of(limit.name),
                limit.name,
                type=type(limit.default),
                default=limit.default,
                show_default=True,
                metavar="N" if isinstance(limit.default, int) else "SECONDS",
                help=limit.metadata["help"] if helps is None else helps[limit.name],
            )(function)
        return function

    return decorate
