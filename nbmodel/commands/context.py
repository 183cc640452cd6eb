"""What a command is given besides its words: the client, and the kernel's objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nbmodel.client import Client
from nbmodel.errors import InputError

if TYPE_CHECKING:
    from nbmodel.display.live import View


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of one command.

    Attributes:
        client: Carries out the verb.
        evaluate: Gives the value of a Python expression in the kernel; None on the
            command line, where there is no kernel.
        in_notebook: Whether the result is shown rather than printed.
        is_watched: Whether that is a page that somebody has open, whose displays change later.
        as_json: Whether it is printed for machines.
    """

    client: Client
    evaluate: Callable[[str], Any] | None = None
    in_notebook: bool = False
    is_watched: bool = False
    as_json: bool = False

    def value(self, text: str) -> Any:
        """What ``text`` means: a file that exists, else an expression in the kernel.

        Raises:
            InputError: It is neither.
        """
        if self.evaluate is None or (("." in text or "/" in text) and Path(text).exists()):
            return text
        try:
            return self.evaluate(text)
        except Exception as exc:
            raise InputError(
                f"{text!r} is neither a file nor a value in this kernel: {type(exc).__name__}: {exc}",
                hint="the name of a variable, an expression such as X[:1], or a path",
            ) from exc

    def stays(self, background: bool | None, large: int, size: Callable[[], int]) -> bool:
        """Whether to go on in the background: as asked for, else where it is worth it.

        Args:
            background: What was asked for; None: nothing.
            large: Bytes from which it is worth it, where somebody sees the handle.
            size: Gives how many bytes there are; called where that matters.

        Raises:
            InputError: Nothing stays there: the process ends with the command.
        """
        if background is None:
            return self.is_watched and size() >= large
        if background and not self.in_notebook:
            raise InputError(
                "--background is for notebooks: the command line ends with its process",
                hint="leave it out, or add & behind the line",
            )
        return background


def json_view(what: Literal["states", "events", "nothing"]) -> View:
    """Where a machine reads what changes, a JSON object a line of stdout.

    Args:
        what: It wants to read.
    """
    from nbmodel.display.live import JsonView

    return JsonView(sys.stdout, what, sys.stderr if what == "nothing" else None)


pass_context = click.make_pass_decorator(Context)
