"""Keys and certificates, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key, and the certificate that it signed for itself.

    Attributes:
        certificate: A PEM file.
        key: A PEM file.
    """

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one for ``127.0.0.1``, with a key of RSA.

        Raises:
            FileNotFoundError: openssl is not installed.
        """
        if OPENSSL is None:
            raise FileNotFoundError("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder / "certificate.pem", folder / "key.pem")
        command = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
        # Python 3.13 wants an authority to say that it may sign.
        usage = "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign"
        command += ["-addext", usage]
        command += ["-keyout", str(made.key), "-out", str(made.certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return made

    def issue(self, folder: Path, host: str) -> Certificate:
        """Make one for a host, signed with this one, which is an authority then.

        Raises:
            subprocess.CalledProcessError: openssl does not do that.
        """
        folder.mkdir(parents=True, exist_ok=True)
        made = Certificate(folder / "certificate.pem", folder / "key.pem")
        request, extensions = folder / "request.pem", folder / "extensions"
        extensions.write_text(
            f"subjectAltName=DNS:{host},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        command = [OPENSSL or "openssl", "req", "-newkey", "rsa:2048", "-nodes"]
        command += ["-subj", f"/CN={host}", "-keyout", str(made.key), "-out", str(request)]
        subprocess.run(command, check=True, capture_output=True)
        command = [OPENSSL or "openssl", "x509", "-req", "-in", str(request), "-days", "2"]
        command += ["-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial"]
        command += ["-extfile", str(extensions), "-out", str(made.certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return made

    @property
    def settings(self) -> dict[str, str]:
        """As a registry's config has it."""
        return {"certificate": str(self.certificate), "key": str(self.key)}

    @property
    def encoded(self) -> str:
        """The certificate in base64 of DER, as in a token's ``x5c``."""
        lines = self.certificate.read_text().splitlines()
        return "".join(line for line in lines if not line.startswith("-----"))

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256."""
        command = [OPENSSL or "openssl", "dgst", "-sha256", "-sign", str(self.key)]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout


def unpadded(data: bytes) -> str:
    """In base64 for addresses, without padding, as in tokens."""
    return b64encode(data, b"-_").decode("ascii").rstrip("=")
