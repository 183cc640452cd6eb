"""The OpenSSF's model_signing and nbmodel take each other's signatures.

Real keys and certificates of openssl, the real program, versions laid out in a folder.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.core.signature import Signature
from nbmodel.display import SignatureCard
from nbmodel.errors import TrustError
from tests.tools.model_signing import model_signing
from tests.tools.signers import AUTHORITY, CURVES, OPENSSL, Issued, KeyPair

pytestmark = pytest.mark.slow

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run model_signing with some words; what it answers."""
    pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    try:
        program = model_signing()
    except OSError as exc:
        pytest.skip(str(exc))

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return call


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A registry with ``team/digits``, a version of several files in folders."""
    made = Client(tmp_path / "home")
    files: dict[str, Path | bytes] = {
        "model.onnx": b"weights" * 1000,
        "model-data/part.bin": b"more",
        "model/labels.txt": b"ant\nbee\n",
        "a b/ü.json": b"{}",
    }
    made.registry.add(
        "team/digits", files, framework="onnx", model_type="other", signature=Signature()
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Issued, Issued, Issued]:
    """A root, an authority below it and a certificate to sign with."""
    root = Issued.root(tmp_path_factory.mktemp("pki"), "root", "secp384r1")
    issuing = root.issue("issuing", extensions=AUTHORITY)
    return root, issuing, issuing.issue("release")


@pytest.mark.parametrize("curve", CURVES)
def test_keys_both_ways(client: Client, tmp_path: Path, run: Run, curve: str) -> None:
    pair, folder = KeyPair.make(tmp_path, "key", curve), tmp_path / "folder"
    client.sign("team/digits:1", key=pair.private)
    paths = client.pull("team/digits:1", folder)
    assert paths[-1] == folder / "model.sig"
    theirs = ("--signature", folder / "model.sig", "--public_key", pair.public)
    verified = run("verify", "key", folder, *theirs)
    assert verified.stdout == "Verification succeeded\n", verified

    # Their signature, of the folder with our own signature left out.
    signature = tmp_path / "theirs.sig"
    given = ("--signature", signature, "--private_key", pair.private)
    signed = run("sign", "key", folder, *given, "--ignore-paths", folder / "model.sig")
    assert signed.returncode == 0, signed
    options = {"public_keys": [pair.public]}
    card = client.verify_signature("team/digits:1", signature=signature, **options)
    assert isinstance(card, SignatureCard)
    assert not card.covers_version
    assert card.unsigned == ()
    kept = client.sign("team/digits:1", bundle=signature)
    assert kept.by == card.by
    assert len(client.show("team/digits:1").to_json()["signatures"]) == 2

    (folder / "model.onnx").chmod(0o644)
    (folder / "model.onnx").write_bytes(b"other weights")
    assert "Hash mismatch for 'model.onnx'" in run("verify", "key", folder, *theirs).stderr


def test_an_encrypted_key_signs_for_both(client: Client, tmp_path: Path, run: Run) -> None:
    pair, folder = KeyPair.make(tmp_path, "key"), tmp_path / "folder"
    client.sign("team/digits:1", key=pair.encrypted("geheim"), password="geheim")
    client.pull("team/digits:1", folder)
    options = ("--signature", folder / "model.sig", "--public_key", pair.public)
    assert run("verify", "key", folder, *options).returncode == 0


def test_a_key_that_nbmodel_made_signs_for_both(client: Client, tmp_path: Path, run: Run) -> None:
    made = client.make_key(tmp_path / "mine.pem").made
    folder, signature = tmp_path / "folder", tmp_path / "theirs.sig"
    client.pull("team/digits:1", folder)
    given = ("--signature", signature, "--private_key", made.private)
    assert run("sign", "key", folder, *given).returncode == 0
    assert client.verify_signature("team/digits:1", public_keys=[made.public], signature=signature)


def test_certificates_both_ways(
    client: Client, tmp_path: Path, run: Run, pki: tuple[Issued, Issued, Issued]
) -> None:
    root, issuing, release = pki
    folder, signature = tmp_path / "folder", tmp_path / "theirs.sig"
    client.sign(
        "team/digits:1",
        key=release.key.private,
        certificate=release.certificate,
        chain=[issuing.certificate],
    )
    client.pull("team/digits:1", folder)
    ours = ("--signature", folder / "model.sig", "--certificate_chain", root.certificate)
    verified = run("verify", "certificate", folder, *ours)
    assert verified.returncode == 0, verified

    (folder / "model.sig").unlink()
    signed = run(
        *("sign", "certificate", folder, "--signature", signature),
        *("--private_key", release.key.private, "--signing_certificate", release.certificate),
        *("--certificate_chain", issuing.certificate),
    )
    assert signed.returncode == 0, signed
    card = client.verify_signature(
        "team/digits:1", roots=[root.certificate], signers=["release"], signature=signature
    )
    assert isinstance(card, SignatureCard)
    assert str(card.by[0]) == "the certificate of CN=release"


def test_what_one_refuses_the_other_does_too(
    client: Client, tmp_path: Path, run: Run, pki: tuple[Issued, Issued, Issued]
) -> None:
    pair, other = KeyPair.make(tmp_path, "key"), KeyPair.make(tmp_path, "other")
    folder, forged = tmp_path / "folder", tmp_path / "forged.sig"
    client.sign("team/digits:1", key=pair.private)
    client.pull("team/digits:1", folder)
    bundle = json.loads((folder / "model.sig").read_text())
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "MAYCAQECAQE="
    forged.write_text(json.dumps(bundle))
    root = pki[0].certificate
    cases = [
        ("key", folder / "model.sig", other.public),
        ("key", forged, pair.public),
        ("certificate", folder / "model.sig", root),
    ]
    for kind, signature, trusted in cases:
        option = "--public_key" if kind == "key" else "--certificate_chain"
        theirs = run("verify", kind, folder, "--signature", signature, option, trusted)
        assert theirs.returncode != 0
        with pytest.raises(TrustError):
            client.verify_signature(
                "team/digits:1",
                signature=signature,
                **{"public_keys" if kind == "key" else "roots": [trusted]},
            )
