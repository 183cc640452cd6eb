"""The ``nbmodel`` command: the verbs, printed. Exit codes are in one table here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nbmodel import errors
from nbmodel.commands import Context, verbs

#: Error class → exit code; a class that is not listed has its base's.
EXIT_CODES: Mapping[type[errors.NbModelError], int] = {
    errors.NbModelError: 1,
    errors.InputError: 2,
    errors.RefError: 2,
    errors.ModelNotFoundError: 3,
    errors.VersionNotFoundError: 3,
    errors.RuntimeNotFoundError: 3,
    errors.TargetError: 3,
    errors.ModelExistsError: 4,
    errors.AliasConflictError: 4,
    errors.PinConflictError: 4,
    errors.PublishedError: 4,
    errors.InUseError: 4,
    errors.ConfigConflictError: 4,
    errors.DigestMismatchError: 5,
    errors.TargetUnreachableError: 6,
    errors.AuthenticationError: 7,
}
DAMAGED = 5  # `verify` found something, and printed it
INTERRUPTED = 130  # as a shell reports a command that Ctrl-C ended
BROKEN_PIPE = 141  # and one that SIGPIPE ended


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb and print its result; errors go to stderr, one line and a hint.

    Args:
        args: The words after ``nbmodel``; those of the process when None.

    Returns:
        The exit code: 0, or one of ``EXIT_CODES``.
    """
    words = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in words
    if as_json:
        words.remove("--json")
    try:
        return _carry_out(words, as_json=as_json)
    except errors.NbModelError as exc:
        _report(exc, as_json=as_json)
        return exit_code(exc)
    except click.ClickException as exc:
        if as_json:
            _report(errors.InputError(exc.format_message()), as_json=True)
        else:
            exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, a `head`, has seen enough; nor may the interpreter write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as exc:
        refused = errors.refused_path(exc)
        if refused is None:
            raise
        _report(refused, as_json=as_json)
        return exit_code(refused)


def viam_module() -> int:
    """``nbmodel viam-module`` as a program of its own: viam-server starts one without words."""
    return main(["viam-module", *sys.argv[1:]])


def _carry_out(words: list[str], *, as_json: bool) -> int:
    """Run one verb and print its result."""
    if words[:1] in (["--version"], ["-V"]):
        from importlib.metadata import version

        click.echo(f"nbmodel {version('nbmodel')}")
        return 0
    from nbmodel.client import default_client

    result = verbs("nbmodel").main(
        words or ["--help"],
        prog_name="nbmodel",
        obj=Context(default_client(), as_json=as_json),
        standalone_mode=False,
    )
    if isinstance(result, int):  # click's exit code of --help
        return result
    if result is not None:
        _show(result, as_json=as_json)
    sys.stdout.flush()  # here, where a reader that has gone is no error
    if not getattr(result, "is_clean", True):
        return DAMAGED
    return int(getattr(result, "exit_code", 0))


def exit_code(exc: errors.NbModelError) -> int:
    """The exit code of an error: its class's, or that of the nearest base."""
    return next(EXIT_CODES[kind] for kind in type(exc).__mro__ if kind in EXIT_CODES)


def _show(result: Any, *, as_json: bool) -> None:
    if as_json:
        data = result.to_json() if hasattr(result, "to_json") else result
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    elif hasattr(result, "text"):
        click.echo(result.text())
    else:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False, default=str))


def _report(exc: errors.NbModelError, *, as_json: bool) -> None:
    problems: Sequence[str] = ()
    headline = str(exc)
    if isinstance(exc, errors.ConfigError) and len(exc.problems) > 1:  # one alone is the message
        problems, headline = exc.problems, exc.headline
    if as_json:
        data = {"error": str(exc), "type": type(exc).__name__, "hint": exc.hint}
        click.echo(json.dumps(data | ({"problems": problems} if problems else {})), err=True)
        return
    click.echo(f"error: {headline}", err=True)
    for problem in problems:
        click.echo(f"  - {problem}", err=True)
    if exc.hint:
        click.echo(f"hint: {exc.hint}", err=True)
