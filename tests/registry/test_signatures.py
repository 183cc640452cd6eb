"""Signatures beside the versions of a registry: made, kept, collected, written into folders."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.core.digest import digest_of
from nbmodel.core.referrer import BUNDLE_FILE
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.display import SignatureCard
from nbmodel.errors import (
    BlobNotFoundError,
    InputError,
    ManifestError,
    StorageUnavailableError,
    TrustError,
)
from nbmodel.registry import Registry
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.key_files import make_key_files, open_key, open_trusted
from nbmodel.registry.signatures import add_referrer, add_signature, referrers_of
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.check import Trusted, TrustedKey, sign
from nbmodel.signing.key import PrivateKey, make_key
from nbmodel.signing.statement import Statement

pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")

Add = Callable[..., Version]


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return make_key()


def trusting(key: PrivateKey) -> Trusted:
    return Trusted((TrustedKey("team.pub.pem", key.public),))


def test_a_version_is_signed_without_reading_its_files(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add("team/digits")
    for entry in version.files:
        registry.storage.path(entry.digest).unlink()
    signed, bundle = registry.sign("team/digits", key)
    assert signed == version
    (found,) = registry.check_signatures(version, trusting(key))
    assert found.by.key == key.public.hint
    assert found.statement == Statement(
        "digits",
        {"model.onnx": digest_of(b"weights").removeprefix("sha256:")},
        (BUNDLE_FILE,),
        "team/digits",
        version.digest,
    )
    assert registry.bundles(version.digest) == (bundle.to_bytes(),)


def test_several_may_sign_and_one_that_counts_is_enough(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version, other = add(), make_key()
    registry.sign("digits:1", other)
    with pytest.raises(TrustError, match="has 1 signature, which does not count: signed by key"):
        registry.check_signatures(version, trusting(key))
    registry.sign("digits:1", key)
    assert len(registry.signatures(version.digest)) == 2
    assert len(registry.check_signatures(version, trusting(key))) == 1
    claims = registry.claims(version.digest)
    assert {str(claim.by) for claim in claims} == {
        f"key {key.public.short}",
        f"key {other.public.short}",
    }
    assert [claim.created for claim in claims] == sorted(
        (claim.created for claim in claims), reverse=True
    )


def test_the_same_bundle_is_kept_once(registry: Registry, add: Add, key: PrivateKey) -> None:
    version = add()
    _, bundle = registry.sign("digits:1", key)
    for _ in range(2):
        registry.attach("digits:1", bundle.to_bytes())
    assert len(registry.signatures(version.digest)) == 1


def test_a_signature_of_other_files_is_not_attached(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    foreign = sign(Statement("folder", {"model.onnx": "0" * 64}), key).to_bytes()
    with pytest.raises(TrustError, match="of other files than digits:1: it is other bytes in"):
        registry.attach("digits:1", foreign)
    with pytest.raises(TrustError, match="is not JSON"):
        registry.attach("digits:1", b"{")
    assert registry.signatures(version.digest) == ()


def test_a_version_that_is_not_signed_is_told_with_what_to_do(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    with pytest.raises(TrustError, match=r"^digits:1 is not signed, expected .* key") as refused:
        registry.check_signatures(version, trusting(key))
    assert refused.value.hint == (
        "one that was made elsewhere since comes with `sync` and `pull`; else `sign digits:1 --key "
        "KEY.pem`"
    )


def test_a_version_whose_files_are_elsewhere_was_not_read(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    registry.sign("digits:1", key)
    signed = registry.check_signatures(version, trusting(key))
    read = registry.verify("digits:1").bytes
    assert SignatureCard.of(version, signed, read).is_read
    # Its manifest and config are here, and larger than its files.
    away = replace(version, files_on="registry.example")
    assert read >= away.size
    assert not SignatureCard.of(away, signed, read).is_read


def test_a_signature_that_cannot_be_written_besides_is_told_and_kept(tmp_path: Path) -> None:
    client = Client(tmp_path / "home", registry=tmp_path / "registry")
    client.registry.add(
        "digits", {"m.bin": b"1"}, framework="other", model_type="other", signature=Signature()
    )
    made = client.make_key(tmp_path / "key.pem").made
    (tmp_path / "taken").mkdir()
    told = r"^cannot write .*taken; digits:1 is signed nevertheless: "
    with pytest.raises(StorageUnavailableError, match=told):
        client.sign("digits:1", key=made.private, output=tmp_path / "taken")
    (kept,) = client.registry.bundles(client.registry.resolve("digits:1").digest)
    card = client.sign("digits:1", bundle=_saved(tmp_path / "x", kept), output=tmp_path / "out.sig")
    assert card.output is not None
    assert card.output.read_bytes() == kept


def _saved(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_gc_keeps_signatures_as_long_as_their_version(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    kept, gone = add(content=b"one"), add(content=b"two")
    for reference in ("digits:1", "digits:2"):
        registry.sign(reference, key)
    assert registry.gc(grace_s=0).blobs == 0
    registry.delete("digits:2")
    assert registry.gc(grace_s=3600).blobs == 0
    assert registry.signatures(gone.digest) != ()
    # Two of the version, its config being shared or not, and manifest and bundle of its signature.
    assert registry.gc(grace_s=0).blobs >= 4
    assert registry.signatures(gone.digest) == ()
    assert registry.check_signatures(kept, trusting(key))
    assert registry.verify().is_clean


def test_a_damaged_signature_is_told_and_the_others_count(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    _, bundle = registry.sign("digits:1", key)
    registry.sign("digits:1", make_key())
    path = registry.storage.path(digest_of(bundle.to_bytes()))
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    damaged = [claim for claim in registry.claims(version.digest) if claim.by is None]
    assert len(damaged) == 1
    with pytest.raises(TrustError, match="has 1 signature"):
        registry.check_signatures(version, trusting(key))


def test_what_refers_to_nothing_or_lacks_a_blob_is_not_noted(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    catalog = Catalog(registry.root)
    with pytest.raises(ManifestError, match="refers to nothing"):
        add_referrer(catalog, version.digest)
    digest = add_signature(catalog, version.digest, b"bundle")
    catalog.referrers.remove_all(version.digest)
    registry.storage.delete(digest_of(b"bundle"))
    with pytest.raises(BlobNotFoundError):
        add_referrer(catalog, digest)
    assert referrers_of(catalog, version.digest) == ()
    catalog.db.close()


def test_the_newest_signature_is_written_beside_the_files(
    registry: Registry, add: Add, key: PrivateKey, tmp_path: Path
) -> None:
    version = add()
    assert registry.lay_out_signature(version, tmp_path) is None
    registry.sign("digits:1", make_key())
    _, newest = registry.sign("digits:1", key)
    for _ in range(2):  # the second time in place of the first
        assert registry.lay_out_signature(version, tmp_path) == tmp_path / BUNDLE_FILE
    assert (tmp_path / BUNDLE_FILE).read_bytes() == newest.to_bytes()
    (tmp_path / BUNDLE_FILE).write_bytes(b"something of mine")
    assert registry.lay_out_signature(version, tmp_path) is None
    assert (tmp_path / BUNDLE_FILE).read_bytes() == b"something of mine"


def test_a_file_of_the_version_of_that_name_is_not_written_over(
    registry: Registry, key: PrivateKey, tmp_path: Path, add: Add
) -> None:
    files: dict[str, Path | bytes] = {"model.onnx": b"weights", BUNDLE_FILE: b"own"}
    version = registry.add(
        "own", files, framework="onnx", model_type="other", signature=add().signature
    )
    _, bundle = registry.sign("own", key)
    assert Statement.from_json(bundle.statement).ignored == ()
    registry.extract("own", tmp_path)
    assert registry.lay_out_signature(version, tmp_path) is None
    assert (tmp_path / BUNDLE_FILE).read_bytes() == b"own"


# Keys in files


def test_a_key_is_made_in_a_file_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    made = make_key_files(tmp_path / "keys" / "team.pem", None)
    assert made.public == tmp_path / "keys" / "team.pub.pem"
    assert stat.S_IMODE(made.private.stat().st_mode) == 0o600
    assert open_key(made.private, None).public.hint == made.hint
    trusted = open_trusted([made.public], [])
    assert str(trusted) == f"key {made.hint[:12]} (team.pub.pem)"


def test_a_key_with_a_password_is_encrypted(tmp_path: Path) -> None:
    made = make_key_files(tmp_path / "team.pem", "geheim")
    assert made.is_encrypted
    assert b"ENCRYPTED PRIVATE KEY" in made.private.read_bytes()
    assert open_key(made.private, "geheim").public.hint == made.hint
    with pytest.raises(InputError, match="is encrypted"):
        open_key(made.private, None)


@pytest.mark.parametrize("taken", ["team.pem", "team.pub.pem"])
def test_a_key_is_never_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"precious")
    with pytest.raises(InputError, match="a key is never replaced"):
        make_key_files(tmp_path / "team.pem", None)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_bytes() == b"precious"


def test_files_that_cannot_be_keys_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        open_key(tmp_path / "missing.pem", None)
    large = tmp_path / "large.pem"
    large.write_bytes(b"x" * (1024 * 1024 + 1))
    with pytest.raises(InputError, match="has more than 1048576 bytes"):
        open_trusted([large], [])
    with pytest.raises(InputError, match="so none is a root to trust"):
        open_trusted([], [])


def test_what_a_bundle_is_called_by_other_tools(
    registry: Registry, add: Add, key: PrivateKey
) -> None:
    version = add()
    registry.sign("digits:1", key)
    (digest,) = registry.signatures(version.digest)
    manifest = json.loads(registry.storage.read(digest, limit=1 << 20))
    assert manifest["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert manifest["subject"]["digest"] == version.digest
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == manifest["artifactType"]
    assert layer["annotations"] == {"org.opencontainers.image.title": "model.sig"}
    assert manifest["config"]["digest"] == digest_of(b"{}")
    assert Bundle.from_bytes(registry.bundles(version.digest)[0])
