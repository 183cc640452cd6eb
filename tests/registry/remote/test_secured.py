"""A remote with a password and TLS, by the logins and authorities of the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote
from nbmodel.errors import AuthenticationError
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.people import Person

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed"),
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
]
# bcrypt of "open sesame", made by crypt(3) of libxcrypt.
HTPASSWD = "Aladdin:$2b$04$3OI9ljyXXSQgCuEtjE8psuhXRUUL8q5wutsG7Uufpf0EaMfL4GSu2\n"
AUTH = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617's example


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A remote whose authority is believed, and that nobody is logged in to."""
    certificate = Certificate.make(tmp_path)
    folder = tmp_path / "secured"
    folder.mkdir()
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
    monkeypatch.setenv("NBMODEL_CA_FILE", str(certificate.certificate))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("NBMODEL_REGISTRY_TOKEN", raising=False)
    with docker_registry(folder, auth=auth, certificate=certificate) as url:
        yield Remote(url, "team")


def log_in(folder: Path, remote: Remote, auth: str) -> None:
    (folder / "docker").mkdir(exist_ok=True)
    netloc = httpx.URL(remote.base_url).netloc.decode()
    config = {"auths": {netloc: {"auth": auth}}}
    (folder / "docker" / "config.json").write_text(json.dumps(config))


def test_a_version_goes_and_comes(secured: Remote, tmp_path: Path) -> None:
    ann, ben = Person(tmp_path / "ann", secured), Person(tmp_path / "ben", secured)
    made = ann.add()
    with pytest.raises(AuthenticationError) as caught:
        ann.push()
    assert "docker login" in (caught.value.hint or "")
    log_in(tmp_path, secured, AUTH)
    assert ann.push().sent > 0
    assert ben.sync().models[0].new == ("digits:1",)
    with ben.peer() as peer:
        assert [model.name for model in ben.registry.remote_models(peer)] == ["digits"]
        report = ben.registry.pull(peer, Reference.parse("digits:1"))
    assert report.version.digest == made.digest
    ann.registry.close()
    ben.registry.close()
