"""The magic: ``%mlmodel VERB …`` and ``%%mlmodel VERB …``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
    output_can_be_silenced,
)
from traitlets import Enum, Unicode

from nbmodel import config as settings
from nbmodel.client import Client, default_client
from nbmodel.commands import Context, verbs
from nbmodel.core.provenance import RECORDS
from nbmodel.magics.errors import short_errors
from nbmodel.magics.words import split_line


@magics_class
class MLModel(Magics):
    """``%mlmodel``: from a notebook cell to an edge device and back.

    Settings are traits: ``%config MLModel.home = "…"``.
    """

    home = Unicode(
        "", help="folder that holds the registry and the list of runtimes; '' is the default"
    ).tag(config=True)
    record = Enum(
        ("", *RECORDS),
        "",
        help="what versions tell of the code they come from: all, facts (no source) or nothing; "
        "'' is as set elsewhere, else all",
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Carries out the verbs; another one when ``%config MLModel.home`` changed."""
        if not self.home:
            client = default_client()
        elif self._client is None or self._client.home != settings.home(self.home):
            client = self._client = Client(self.home)
        else:
            client = self._client
        client.record = self.record or None
        return client

    @no_var_expand  # the words expand themselves, so that JSON comes through
    @needs_local_scope
    @output_can_be_silenced
    @line_cell_magic
    def mlmodel(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a verb and give its result, which shows itself.

        ::

            %mlmodel log digits model --sample X_test[:8] --metric acc=0.97
            version = %mlmodel upload fruit.tflite --name fruit
            %mlmodel deploy digits --on edge
            %mlmodel infer digits@edge X_test[:4]

        ``%mlmodel --help`` lists the verbs, ``%mlmodel VERB --help`` tells all about one.
        ``%%mlmodel VERB …`` runs the cell, then the verb on what the cell made.
        """
        shell: InteractiveShell = self.shell  # type: ignore[assignment] # magics have one
        if cell is not None and not shell.run_cell(cell).success:  # type: ignore[no-untyped-call]
            return None  # the cell's own error is on display
        return self._run(line, {**shell.user_ns, **(local_ns or {})})

    def _run(self, line: str, namespace: Mapping[str, Any]) -> Any:
        with short_errors():
            words = split_line(line, namespace)
            context = Context(
                self.client,
                # The user's own expression in the user's own kernel, as typed in a cell.
                evaluate=lambda text: eval(text, dict(namespace)),  # noqa: S307
                in_notebook=True,
                is_watched=_is_watched(self.shell),
            )
            result = verbs("%mlmodel").main(
                words or ["--help"], prog_name="%mlmodel", obj=context, standalone_mode=False
            )
        # --help prints, and click then gives its exit code.
        return None if isinstance(result, int) else result


def _is_watched(shell: object) -> bool:
    """Whether somebody runs cells in a page.

    Programs that run notebooks say that nobody answers questions there; they end the kernel
    after the last cell, and what is in the background with it.
    """
    kernel = getattr(shell, "kernel", None)
    parent: Mapping[str, Any] = getattr(kernel, "get_parent", dict)()
    return kernel is not None and bool(parent.get("content", {}).get("allow_stdin", True))


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magic; called by ``%load_ext nbmodel``."""
    shell.register_magics(MLModel(shell))


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magic away; called by ``%unload_ext nbmodel``."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("mlmodel", None)


__all__ = ["MLModel", "load_ipython_extension", "unload_ipython_extension"]
