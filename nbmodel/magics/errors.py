"""Errors at the notebook boundary: one line and a hint, the whole traceback on ``%tb``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from nbmodel.errors import ConfigError, InputError, NbModelError, refused_path


@contextmanager
def short_errors() -> Iterator[None]:
    """Inside, errors of nbmodel and of its command words are shown short.

    What click raises about words becomes an ``InputError``; no front end but the command
    line shows click's own form.
    """
    try:
        yield
    except NbModelError as exc:
        shorten_once(exc)
        raise
    except click.UsageError as exc:
        error = InputError(exc.format_message(), hint=_usage_hint(exc))
        shorten_once(error)
        raise error from exc
    except OSError as exc:
        refused = refused_path(exc)
        if refused is None:
            raise
        shorten_once(refused)
        raise refused from exc


def shorten_once(exc: NbModelError) -> None:
    """Make the next display of ``exc`` one line and its hint; ``%tb`` then shows all.

    A hook that stayed would make ``%tb`` useless.
    """

    def short() -> list[str]:
        del exc._render_traceback_  # type: ignore[attr-defined]
        return message_lines(exc)

    exc._render_traceback_ = short  # type: ignore[attr-defined]


def message_lines(exc: NbModelError) -> list[str]:
    """What a person is shown of an error: the message, several problems in a list, the hint."""
    lines = [f"{type(exc).__name__}: {exc}"]
    if isinstance(exc, ConfigError) and len(exc.problems) > 1:  # one alone is the message
        lines = [f"{type(exc).__name__}: {exc.headline}"]
        lines += [f"  - {problem}" for problem in exc.problems]
    if exc.hint:
        lines.append(f"Hint: {exc.hint}")
    return lines


def _usage_hint(exc: click.UsageError) -> str | None:
    if exc.ctx is None or exc.ctx.command is None:
        return None
    usage = exc.ctx.command.get_usage(exc.ctx).replace("Usage: ", "").replace("\n", " ")
    return " ".join(usage.split())
