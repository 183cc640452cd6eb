"""Keys in PEM files, as openssl makes them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from nbmodel.errors import InputError
from nbmodel.signing.key import make_key, read_private_key, read_public_key
from tests.tools.signers import CURVES, KeyPair, openssl

Keys = dict[str, KeyPair]


@pytest.mark.parametrize(
    ("curve", "name", "digest"),
    list(zip(CURVES, ("P-256", "P-384", "P-521"), ("sha256", "sha384", "sha512"), strict=True)),
)
def test_a_signature_is_what_openssl_takes_for_one(
    keys: Keys, tmp_path: Path, curve: str, name: str, digest: str
) -> None:
    pair = keys[curve]
    key = read_private_key(pair.private.read_bytes(), None, "key.pem")
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"to be signed")
    signature.write_bytes(key.sign(b"to be signed"))
    openssl(
        *("dgst", f"-{digest}", "-verify", pair.public, "-signature", signature, data),
    )
    assert key.public.curve == name
    assert key.public.signed(signature.read_bytes(), b"to be signed")


def test_a_signature_of_openssl_is_taken_for_one(keys: Keys, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"to be signed")
    pair = keys["secp384r1"]
    made = subprocess.run(
        ["openssl", "dgst", "-sha384", "-sign", str(pair.private), str(data)],
        check=True,
        capture_output=True,
    ).stdout
    public = read_public_key(pair.public.read_bytes(), "key.pub.pem")
    assert public.signed(made, b"to be signed")
    assert not public.signed(made, b"something else")
    assert not public.signed(made[:-1], b"to be signed")
    assert not public.signed(b"", b"to be signed")


def test_the_hash_follows_from_the_curve_of_the_trusted_key(keys: Keys, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"to be signed")
    pair = keys["secp384r1"]
    weaker = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(pair.private), str(data)],
        check=True,
        capture_output=True,
    ).stdout
    assert not read_public_key(pair.public.read_bytes(), "k").signed(weaker, b"to be signed")


def test_a_key_is_called_by_the_digest_of_its_pem(keys: Keys) -> None:
    pem = keys["prime256v1"].public.read_bytes()
    key = read_public_key(pem, "key.pub.pem")
    assert key.hint == hashlib.sha256(pem).hexdigest()
    assert key.short == key.hint[:12]
    assert key.pem == pem


def test_an_encrypted_key_wants_its_password(keys: Keys) -> None:
    pem = keys["prime256v1"].encrypted("geheim").read_bytes()
    plain = read_private_key(keys["prime256v1"].private.read_bytes(), None, "key.pem")
    assert read_private_key(pem, b"geheim", "key.pem").public.hint == plain.public.hint
    with pytest.raises(InputError, match=r"^the key in key\.pem is encrypted") as refused:
        read_private_key(pem, None, "key.pem")
    assert "--password-env" in (refused.value.hint or "")
    with pytest.raises(InputError, match="the password does not open the key"):
        read_private_key(pem, b"falsch", "key.pem")
    with pytest.raises(InputError, match="is not encrypted"):
        read_private_key(keys["prime256v1"].private.read_bytes(), b"geheim", "key.pem")


@pytest.mark.parametrize(
    ("kind", "found"),
    [("rsa", "kind RSA"), ("ed25519", "kind Ed25519"), ("k1", "on curve secp256k1")],
)
def test_other_keys_are_refused_by_name(keys: Keys, kind: str, found: str) -> None:
    expected = f"{found}, expected one on the elliptic curve P-256, P-384 or P-521"
    with pytest.raises(InputError, match=expected):
        read_public_key(keys[kind].public.read_bytes(), "key.pub.pem")
    with pytest.raises(InputError, match=expected):
        read_private_key(keys[kind].private.read_bytes(), None, "key.pem")


def test_a_private_key_is_not_taken_for_a_public_one(keys: Keys) -> None:
    with pytest.raises(InputError, match="has a private key, expected the public one") as refused:
        read_public_key(keys["other"].private.read_bytes(), "key.pem")
    assert refused.value.hint == (
        "`sign --make-key` put it beside, as key.pub.pem; of another key: "
        "openssl pkey -in key.pem -pubout -out key.pub.pem"
    )


@pytest.mark.parametrize("pem", [b"", b"\xff", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"], ids=repr)
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(InputError, match="has no public key in PEM"):
        read_public_key(pem, "key.pub.pem")
    with pytest.raises(InputError, match="has no private key in PEM"):
        read_private_key(pem, None, "key.pem")


def test_a_key_that_was_made_is_read_again_and_not_shown() -> None:
    made = make_key()
    again = read_private_key(made.pem(b"geheim"), b"geheim", "key.pem")
    assert again.public.hint == made.public.hint != make_key().public.hint
    assert b"ENCRYPTED" in made.pem(b"geheim")
    assert b"PRIVATE KEY" not in repr(made).encode()
