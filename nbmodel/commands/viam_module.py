"""``viam-module``: our backends as a module of a viam-server."""

from __future__ import annotations

import logging

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING}
_LEVELS |= {"warning": logging.WARNING, "error": logging.ERROR}


@click.command("viam-module", context_settings={"ignore_unknown_options": True})
@click.argument("socket", metavar="SOCKET")
@click.argument("others", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.option(
    "--log-level",
    type=click.Choice(list(_LEVELS), case_sensitive=False),
    default="info",
    show_default=True,
)
@click.option("--tcp-mode", is_flag=True, help="SOCKET is host:port")
@pass_context
def command(
    context: Context, *, socket: str, others: tuple[str, ...], log_level: str, tcp_mode: bool
) -> None:
    """Serve model files to a viam-server, as a module of it.

    viam-server starts this itself, with SOCKET as the argument: give it the full path of
    the program nbmodel-viam-module as the module's executable_path. Then a service of the
    machine's config may have the model nbmodel:mlmodel:onnx_cpu or
    nbmodel:mlmodel:tflite_cpu, with model_path, label_path and num_threads.
    """
    del others  # what a later viam-server may add, which a module must not fall over
    if context.in_notebook:
        raise InputError(
            "a module would hold up the kernel", hint="viam-server starts it: nbmodel viam-module"
        )
    from nbmodel.runtime.viam_module import serve_module

    serve_module(socket, log_level=_LEVELS[log_level.lower()], tcp=tcp_mode)
