"""Registries to hold against each other: Debian's docker-registry and our own, three ways each."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from nbmodel.core.artifact import EMPTY_TYPE
from nbmodel.core.manifest import MANIFEST_TYPE
from nbmodel.serving.server import Offer, RegistryServer
from nbmodel.storage.access import CA_VARIABLE, Access
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.docker_registry import PROGRAM, docker_registry

# bcrypt of "open sesame", made by crypt(3) of libxcrypt.
HTPASSWD = "Aladdin:$2b$04$3OI9ljyXXSQgCuEtjE8psuhXRUUL8q5wutsG7Uufpf0EaMfL4GSu2\n"
KINDS = (
    "docker-registry",
    "docker-registry-password",
    "docker-registry-tls",
    "ours",
    "ours-token",
    "ours-tls",
)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def missing(kind: str) -> str | None:
    """Why a registry cannot be run here, or None."""
    if kind.startswith("docker") and PROGRAM is None:
        return "docker-registry is not installed"
    if kind.endswith("tls") and OPENSSL is None:
        return "openssl is not installed"
    return None


@dataclass(frozen=True)
class Target:
    """A registry that runs, and how it is entered.

    Attributes:
        kind: One of ``KINDS``.
        url: Its address.
        login: Name and password; None: anybody.
        ca: PEM file of its certificate; None: no TLS.
        folder: For what a client needs to know.
    """

    kind: str
    url: str
    login: tuple[str, str] | None
    ca: Path | None
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def is_ours(self) -> bool:
        return self.kind.startswith("ours")

    @property
    def access(self) -> Access:
        """As ``docker login`` leaves it."""
        folder = self.folder / "docker"
        folder.mkdir(exist_ok=True)
        auths: dict[str, Mapping[str, str]] = {}
        if self.login is not None:
            auths[self.host] = {"username": self.login[0], "password": self.login[1]}
        (folder / "config.json").write_text(json.dumps({"auths": auths}))
        return Access.of({"DOCKER_CONFIG": str(folder)})

    def client(self, *, logged_in: bool = True) -> httpx.Client:
        verify = True if self.ca is None else ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(
            base_url=self.url,
            auth=self.login if logged_in else None,
            verify=verify,
            trust_env=False,
            timeout=60,
        )

    def skopeo(self, side: str) -> list[str]:
        """skopeo's options for it as ``src`` or ``dest``; without a side, where there is one."""
        prefix = f"--{side}-" if side else "--"
        words = [f"{prefix}tls-verify={'false' if self.ca is None else 'true'}"]
        if self.ca is not None:
            folder = self.folder / "certificates"
            folder.mkdir(exist_ok=True)
            (folder / "ca.crt").write_bytes(self.ca.read_bytes())
            words += [f"{prefix}cert-dir", str(folder)]
        if self.login is not None:
            words += [f"{prefix}creds", ":".join(self.login)]
        return words

    def curl(self) -> list[str]:
        words = [] if self.ca is None else ["--cacert", str(self.ca)]
        return words + ([] if self.login is None else ["--user", ":".join(self.login)])

    # What a test needs there

    def push_blob(self, http: httpx.Client, name: str, data: bytes) -> str:
        """Push a blob in one piece; its digest."""
        digest = sha256(data)
        opened = http.post(f"/v2/{name}/blobs/uploads/")
        assert opened.status_code == 202, opened.text
        closed = http.put(
            opened.headers["Location"],
            params={**httpx.URL(opened.headers["Location"]).params, "digest": digest},
            content=data,
        )
        assert closed.status_code == 201, closed.text
        return digest

    def push_note(
        self, http: httpx.Client, name: str, subject: bytes, text: bytes
    ) -> httpx.Response:
        """Push something that refers to a manifest."""
        for data in (b"{}", text):
            self.push_blob(http, name, data)
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": "application/vnd.example.note",
                "config": {"mediaType": EMPTY_TYPE, "digest": sha256(b"{}"), "size": 2},
                "layers": [
                    {"mediaType": "text/plain", "digest": sha256(text), "size": len(text)},
                ],
                "subject": {
                    "mediaType": MANIFEST_TYPE,
                    "digest": sha256(subject),
                    "size": len(subject),
                },
                "annotations": {"org.example.author": "a"},
            }
        ).encode()
        return http.put(
            f"/v2/{name}/manifests/{sha256(raw)}",
            content=raw,
            headers={"Content-Type": MANIFEST_TYPE},
        )


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Target]:
    """Run a registry; whoever talks to it through httpx alone believes its certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = Certificate.make(folder / "tls") if kind.endswith("tls") else None
    ca = None if certificate is None else certificate.certificate
    environment = {} if ca is None else {CA_VARIABLE: str(ca)}
    if kind.startswith("docker"):
        auth = None
        if kind.endswith("password"):
            (folder / "htpasswd").write_text(HTPASSWD)
            auth = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
        login = None if auth is None else ("Aladdin", "open sesame")
        with docker_registry(folder / "files", auth=auth, certificate=certificate) as url:
            yield Target(kind, url, login, ca, folder, environment)
        return
    offer = Offer(
        read_only=False,
        require_token=True if kind.endswith("token") else None,
        tls_cert=ca,
        tls_key=None if certificate is None else certificate.key,
    )
    with RegistryServer(folder / "registry", folder / "home", offer) as server:
        login = None if server.token is None else ("anybody", server.token)
        yield Target(kind, server.url, login, ca, folder, environment)
