"""Keys, certificates and signatures in files of this machine, as people name them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbmodel.core.referrer import MAX_BUNDLE
from nbmodel.errors import InputError, StorageUnavailableError
from nbmodel.signing.certificate import Certificate, read_certificates
from nbmodel.signing.check import Trusted, TrustedKey
from nbmodel.signing.files import read_small_file
from nbmodel.signing.key import MAX_PEM, PrivateKey, make_key, read_private_key, read_public_key


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A pair of keys that was made.

    Attributes:
        private: Its secret half; nobody but its owner may read the file.
        public: The half for those who check signatures.
        hint: What signatures call the key, 64 hex digits.
        curve: ``P-256``.
        is_encrypted: Whether the secret half wants a password.
    """

    private: Path
    public: Path
    hint: str
    curve: str
    is_encrypted: bool


def open_key(file: Path, password: str | None) -> PrivateKey:
    """The private key in a PEM file.

    Raises:
        InputError: It cannot be read, or has no such key.
    """
    secret = None if password is None else password.encode()
    return read_private_key(read_small_file(file, MAX_PEM), secret, str(file))


def open_certificates(files: Iterable[Path]) -> tuple[Certificate, ...]:
    """The certificates in PEM files, in order.

    Raises:
        InputError: One cannot be read, or has none.
    """
    return tuple(
        one
        for file in files
        for one in read_certificates(read_small_file(file, MAX_PEM), str(file))
    )


def open_trusted(
    keys: Iterable[Path],
    roots: Iterable[Path],
    *,
    signers: Iterable[str] = (),
    ignores_expiry: bool = False,
) -> Trusted:
    """Whose signatures count, by files.

    Raises:
        InputError: A file cannot be read, or nobody would be trusted.
    """
    trusted = Trusted(
        tuple(
            TrustedKey(file.name, read_public_key(read_small_file(file, MAX_PEM), str(file)))
            for file in keys
        ),
        open_certificates(roots),
        tuple(signers),
        ignores_expiry,
    )
    if not trusted.keys and not any(one.is_root for one in trusted.roots):
        raise InputError(
            "none of the certificates given signed itself, so none is a root to trust",
            hint="give the root of the chain with --root",
        )
    return trusted


def open_bundle(file: Path) -> bytes:
    """A signature in a file.

    Raises:
        InputError: It cannot be read, or is larger than one can be.
    """
    return read_small_file(file, MAX_BUNDLE)


def make_key_files(file: Path, password: str | None) -> KeyFiles:
    """Make a pair of keys, in a file that its owner alone may read and one beside it.

    Args:
        file: Where the private key goes; the public one is ``<stem>.pub.pem`` beside it.
        password: What the private key is encrypted with; None: it is not.

    Raises:
        InputError: One of the files is there already.
        StorageUnavailableError: The folder takes nothing.
    """
    public = file.with_name(f"{file.stem}.pub.pem")
    taken = next((one for one in (file, public) if os.path.lexists(one)), None)
    if taken is not None:
        raise InputError(
            f"{taken} is there already: a key is never replaced", hint="choose another name"
        )
    key = make_key()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Exclusive, and private from its first moment.
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as opened:
            opened.write(key.pem(None if password is None else password.encode()))
        with public.open("xb") as opened:
            opened.write(key.public.pem)
    except OSError as exc:
        raise StorageUnavailableError(f"cannot write {file}: {exc.strerror}") from exc
    return KeyFiles(file, public, key.public.hint, key.public.curve, password is not None)
