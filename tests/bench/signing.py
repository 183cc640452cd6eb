"""Signing and verifying 256 MB, against the OpenSSF's model_signing on the same file."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from nbmodel.client import Client
from nbmodel.display import SignatureCard
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.check import Trusted, TrustedKey, check_version
from nbmodel.signing.key import read_public_key
from nbmodel.signing.statement import files_of
from tests.bench.harness import MIB, Row, Spread, in_turn_ms
from tests.bench.models import write_onnx
from tests.tools.model_signing import HOME, model_signing

RUNS = 7
#: Runs inside the environment of model_signing; times without the start of the interpreter.
_THEIRS = """
import json, sys, time
import model_signing
model, signature, key, public, runs = sys.argv[1:]
def spent(action):
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000
sign = lambda: model_signing.signing.Config().use_elliptic_key_signer(
    private_key=key).sign(model, signature)
verify = lambda: model_signing.verifying.Config().use_elliptic_key_verifier(
    public_key=public).verify(model, signature)
sign(), verify()
print(json.dumps([[spent(action) for _ in range(int(runs))] for action in (sign, verify)]))
"""


def rows(folder: Path) -> Iterator[Row]:
    """Sign, verify, and what a device does for each new version."""
    path = write_onnx(folder / "model.onnx", tensors=64, tensor_bytes=4 * MIB)
    client = Client(folder / "home")
    client.upload(path, name="large", type="other")
    made = client.make_key(folder / "key.pem").made
    (folder / "laid-out").mkdir()
    client.pull("large", folder / "laid-out")
    theirs, missing = _theirs(folder, made.private, made.public)

    def verify() -> None:
        card = client.verify_signature("large", public_keys=[made.public])
        assert isinstance(card, SignatureCard)
        assert card.bytes >= 256 * MIB

    signed, floor = in_turn_ms(
        lambda: client.sign("large", key=made.private), lambda: _hash(path), runs=RUNS
    )
    verified, _ = in_turn_ms(verify, lambda: _hash(path), runs=RUNS)
    for what, measured, other in (
        ("sign 256 MB", signed, theirs[0]),
        ("verify 256 MB, every byte read", verified, theirs[1]),
    ):
        yield Row(what, measured, f"model_signing{missing}", other, bar=250)
        yield Row(f"{what}: the same", measured, "sha256 of the file", floor)
    yield _one_check(client, made.public)
    client.close()


def _one_check(client: Client, public: Path) -> Row:
    """What a trust policy costs a device for each new version."""
    version = client.registry.resolve("large")
    raw = client.registry.bundles(version.digest)[0]
    key = TrustedKey("key", read_public_key(public.read_bytes(), "key"))
    files, trusted = files_of(version.manifest), Trusted((key,))

    def once() -> None:
        at = datetime.now(timezone.utc)
        check_version(Bundle.from_bytes(raw), trusted, digest=version.digest, files=files, at=at)

    checked, _ = in_turn_ms(once, lambda: None, runs=200)
    return Row("one signature checked, as a device does", checked, bar=5)


def _theirs(folder: Path, key: Path, public: Path) -> tuple[list[Spread | None], str]:
    try:
        model_signing()
    except OSError as exc:
        return [None, None], f" (not measured: {exc})"
    words = [folder / "laid-out", folder / "their.sig", key, public, RUNS]
    done = subprocess.run(
        [str(HOME / "bin" / "python"), "-c", _THEIRS, *map(str, words)],
        check=True,
        capture_output=True,
        text=True,
    )
    return [Spread(tuple(times)) for times in json.loads(done.stdout)], ""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()
