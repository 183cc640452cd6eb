"""Keys and certificates to sign with, made by openssl: not by the code under test."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")
CURVES = ("prime256v1", "secp384r1", "secp521r1")
SIGNING = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=codeSigning")
AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two PEM files.

    Attributes:
        private: The secret half.
        public: The other.
    """

    private: Path
    public: Path

    @classmethod
    def make(cls, folder: Path, name: str, curve: str = "prime256v1") -> KeyPair:
        """A key on a curve, by openssl's name; ``rsa`` and ``ed25519`` are kinds of their own."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder / f"{name}.pem", folder / f"{name}.pub.pem")
        if curve in ("rsa", "ed25519"):
            openssl("genpkey", "-algorithm", curve, "-out", made.private)
        else:
            openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", made.private)
        openssl("pkey", "-in", made.private, "-pubout", "-out", made.public)
        return made

    def encrypted(self, password: str) -> Path:
        """A copy of the private key that wants a password."""
        file = self.private.with_suffix(".encrypted.pem")
        openssl(
            "pkey", "-in", self.private, "-aes256", "-passout", f"pass:{password}", "-out", file
        )
        return file


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, and the key that it is of.

    Attributes:
        key: The key.
        certificate: A PEM file.
    """

    key: KeyPair
    certificate: Path

    @classmethod
    def root(
        cls,
        folder: Path,
        name: str,
        curve: str = "prime256v1",
        *,
        extensions: Sequence[str] = AUTHORITY,
        days: tuple[int, int] = (-1, 30),
        digest: str = "sha256",
    ) -> Issued:
        """One that signed itself.

        Args:
            folder: Where its files go.
            name: Its common name, and that of its files.
            curve: Of its key.
            extensions: As openssl's config has them.
            days: From when to when it is valid, in days from now.
            digest: What it is signed with.
        """
        key = KeyPair.make(folder, name, curve)
        return cls._sign(folder, name, key, None, extensions, days, digest)

    def issue(
        self,
        name: str,
        curve: str = "prime256v1",
        *,
        extensions: Sequence[str] = SIGNING,
        days: tuple[int, int] = (-1, 30),
        digest: str = "sha256",
    ) -> Issued:
        """One that this one signed; as ``root``."""
        folder = self.certificate.parent
        key = KeyPair.make(folder, name, curve)
        return self._sign(folder, name, key, self, extensions, days, digest)

    @classmethod
    def _sign(
        cls,
        folder: Path,
        name: str,
        key: KeyPair,
        by: Issued | None,
        extensions: Sequence[str],
        days: tuple[int, int],
        digest: str,
    ) -> Issued:
        file, request = folder / f"{name}.crt", folder / f"{name}.csr"
        config, database = folder / f"{name}.cnf", folder / f"{name}.index"
        database.write_text("")
        config.write_text(
            "[ca]\ndefault_ca=own\n[own]\n"
            f"database={database}\nnew_certs_dir={folder}\nrand_serial=yes\npolicy=any\n"
            f"x509_extensions=ext\nunique_subject=no\ndefault_md={digest}\n"
            "[any]\ncommonName=supplied\n[ext]\n" + "\n".join(extensions) + "\n"
        )
        openssl("req", "-new", "-key", key.private, "-subj", f"/CN={name}", "-out", request)
        signer = ["-selfsign", "-keyfile", key.private]
        if by is not None:
            signer = ["-cert", by.certificate, "-keyfile", by.key.private]
        openssl(
            *("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", file),
            *("-startdate", _time(days[0]), "-enddate", _time(days[1]), *signer),
        )
        return cls(key, file)


def openssl(*words: str | os.PathLike[str]) -> None:
    """Run it.

    Raises:
        subprocess.CalledProcessError: It does not do that.
    """
    subprocess.run([OPENSSL or "openssl", *words], check=True, capture_output=True)


def _time(days: int) -> str:
    at = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
    return at.strftime("%Y%m%d%H%M%SZ")
