"""``registry serve``: offer the local registry to OCI clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.commands.options import limit_options
from nbmodel.errors import InputError
from nbmodel.runtime.limits import Limits

_LIMITS = {
    "max_connections": "open connections",
    "head_timeout_s": "seconds to send a request line and its headers",
    "body_timeout_s": "seconds to send a body or take an answer, and one more for each 1000 bytes",
    "idle_timeout_s": "seconds that an unused connection is kept open",
    "drain_s": "seconds given to requests under way when it is ended",
}
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("registry")
def command() -> None:
    """The local registry as a server, for devices, colleagues and container tools."""


@command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="0 for any free one")
@click.option(
    "--read-only/--read-write", default=True, show_default=True, help="whether versions come in"
)
@click.option("--token-file", type=_FILE, metavar="FILE", help="want its token, on loopback too")
@click.option(
    "--no-token", is_flag=True, help="let anybody read; what is --read-write wants one off loopback"
)
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="speak TLS, with this PEM file")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="the certificate's key")
@click.option("--max-blob-bytes", type=click.IntRange(1), metavar="N", help="largest file taken in")
@limit_options(_LIMITS)
@pass_context
def serve(
    context: Context,
    /,
    *,
    no_token: bool,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    max_blob_bytes: int | None,
    host: str,
    port: int,
    read_only: bool,
    **limits: Any,
) -> Any:
    """Offer the registry over the OCI distribution API.

    Off loopback a token is wanted, which is shown when it is made: as a bearer token, or
    as the password of any user (`docker login`, `skopeo login`). In a notebook it is served
    from the kernel until `registry stop`; on the command line until it is interrupted.

    \b
    nbmodel registry serve --port 5000
    nbmodel registry serve --host 0.0.0.0 --read-write --tls-cert cert.pem --tls-key key.pem
    """
    from nbmodel.serving.server import MAX_BLOB, Offer

    offer = Offer(
        host=host,
        port=port,
        read_only=read_only,
        require_token=False if no_token else None,
        token_file=_absolute(token_file),
        tls_cert=_absolute(tls_cert),
        tls_key=_absolute(tls_key),
        max_blob=MAX_BLOB if max_blob_bytes is None else max_blob_bytes,
        limits=Limits(**limits),
    )
    if context.in_notebook:
        return context.client.offer_registry(offer)
    context.client.registry_server(offer).run(click.echo)
    return None


@command.command("stop")
@pass_context
def stop(context: Context) -> None:
    """End the servers of the registry in this kernel."""
    if not context.in_notebook:
        raise InputError(
            "a registry that the command line serves ends where it runs", hint="Ctrl-C there"
        )
    context.client.stop_serving()


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()
