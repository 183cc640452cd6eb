"""``verify``: check every byte against its digest."""

from __future__ import annotations

from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("verify")
@click.argument("reference", required=False, metavar="REF")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Before that, make a lost or damaged index anew of the list of versions beside the "
    "blobs; aliases, pins, tags and descriptions are in the index alone.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="PUB.pem",
    help="and check that this key signed the version; again for one of several",
)
@click.option(
    "--root",
    "--certificate-chain",
    "roots",
    multiple=True,
    metavar="CERT.pem",
    help="and check that a certificate of this authority signed it; again for others on the way",
)
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="NAME",
    help="with --root: only a certificate for this name (common name, e-mail, URI; * for any)",
)
@click.option("--ignore-expiry", is_flag=True, help="with --root: one that was valid once will do")
@click.option("--signature", metavar="FILE", help="the signature, when it is not kept with REF")
@pass_context
def command(
    context: Context,
    *,
    reference: str | None,
    rebuild: bool,
    public_keys: tuple[str, ...],
    roots: tuple[str, ...],
    signers: tuple[str, ...],
    ignore_expiry: bool,
    signature: str | None,
) -> Any:
    """Read every byte of a version, a model or the whole registry and check it.

    With a key or an authority: check who signed the version, too.

    \b
    nbmodel verify digits:3 --public-key team.pub.pem
    nbmodel verify digits:3 --root ca.crt --signer "*@team.example"
    """
    if public_keys or roots:
        if reference is None or rebuild:
            raise InputError("who signed it is checked of one version: verify REF --public-key …")
        return context.client.verify_signature(
            reference,
            public_keys=public_keys,
            roots=roots,
            signers=signers,
            ignore_expiry=ignore_expiry,
            signature=signature,
        )
    if signers or ignore_expiry or signature is not None:
        raise InputError("these options go with --public-key or --root")
    return context.client.verify(reference, rebuild=rebuild)
