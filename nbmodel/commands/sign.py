"""``sign``: sign a version, or make a key to sign with."""

from __future__ import annotations

import os
from typing import Any

import click

from nbmodel.commands.context import Context, pass_context
from nbmodel.errors import InputError


@click.command("sign")
@click.argument("reference", required=False, metavar="[REF]")
@click.option("--key", metavar="KEY.pem", help="private key on P-256, P-384 or P-521")
@click.option(
    "--password-env", metavar="VAR", help="environment variable with the password of the key"
)
@click.option("--certificate", metavar="CERT.pem", help="of that key: sign with it")
@click.option(
    "--chain",
    multiple=True,
    metavar="CERT.pem",
    help="of an authority that whoever checks it may lack; again for more",
)
@click.option(
    "--bundle",
    metavar="FILE",
    help="in place of a key: keep this signature, which another tool made of the same files",
)
@click.option("--output", "-o", metavar="FILE", help="write the signature there, too")
@click.option("--make-key", metavar="KEY.pem", help="make a key first, its public half beside it")
@pass_context
def command(
    context: Context,
    *,
    reference: str | None,
    key: str | None,
    password_env: str | None,
    certificate: str | None,
    chain: tuple[str, ...],
    bundle: str | None,
    output: str | None,
    make_key: str | None,
) -> Any:
    """Sign a version in the OpenSSF Model Signing format.

    The signature is kept with the version, and pushed and deployed with it.

    \b
    nbmodel sign --make-key team.pem           then give team.pub.pem to those who check
    nbmodel sign digits:3 --key team.pem
    nbmodel sign digits:3 --key leaf.pem --certificate leaf.crt --chain issuing-ca.crt
    nbmodel verify digits:3 --public-key team.pub.pem

    Devices that shall run nothing else: `runtime start NAME --trusted-key team.pub.pem`.
    """
    password = _password(password_env)
    if make_key is not None:
        if key is not None or bundle is not None:
            raise InputError("--make-key goes with neither --key nor --bundle")
        made = context.client.make_key(make_key, password=password)
        if reference is None:
            return made
        key = make_key
    if reference is None:
        raise InputError("expected a version to sign", hint="nbmodel sign digits:3 --key team.pem")
    return context.client.sign(
        reference,
        key=key,
        password=password,
        certificate=certificate,
        chain=chain,
        bundle=bundle,
        output=output,
    )


def _password(variable: str | None) -> str | None:
    """The password in an environment variable: on the command line, others could read it."""
    if variable is None:
        return None
    password = os.environ.get(variable)
    if not password:
        raise InputError(f"the environment variable {variable} is not set, expected a password")
    return password
