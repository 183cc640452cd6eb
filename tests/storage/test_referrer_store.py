"""Notes of what refers to which manifest, in a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nbmodel.core.digest import digest_of
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.errors import ManifestError, StorageUnavailableError
from nbmodel.storage import MemoryStorage
from nbmodel.storage.referrer_store import ReferrerStore
from tests.tools.storage_server import add_version

A, B, C = (digest_of(letter) for letter in (b"a", b"b", b"c"))


def test_what_is_added_is_there_for_another_process_too(tmp_path: Path) -> None:
    store = ReferrerStore(tmp_path / "referrers")
    assert store.of(A) == store.subjects() == ()
    assert not store.root.exists()
    for _ in range(2):  # the same again changes nothing
        store.add(A, C)
        store.add(A, B)
    assert ReferrerStore(store.root).of(A) == tuple(sorted((B, C)))
    assert store.subjects() == (A,)
    assert store.of(B) == ()


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    store = ReferrerStore(tmp_path)
    store.add(A, B)
    store.add(A, C)
    assert store.remove(A, B)
    assert not store.remove(A, B)
    assert store.of(A) == (C,)
    store.remove_all(A)
    store.remove_all(A)
    assert store.of(A) == ()


def test_what_refers_to_nothing_that_is_here_is_forgotten_when_it_is_old(tmp_path: Path) -> None:
    store = ReferrerStore(tmp_path)
    for subject in (A, B):
        store.add(subject, C)
    store.forget(but={A}, before=time.time() - 3600)
    assert store.subjects() == tuple(sorted((A, B)))
    store.forget(but={A}, before=time.time() + 1)
    assert store.subjects() == (A,)


def test_a_collector_is_told_what_signatures_need(tmp_path: Path) -> None:
    storage, store = MemoryStorage(), ReferrerStore(tmp_path)
    version = add_version(storage, {"model.onnx": b"weights"})
    raw = signature_manifest(storage.read(version, limit=1 << 20), b"bundle", created="")
    signature = storage.add_bytes(raw)
    for blob in (EMPTY, b"bundle"):
        storage.add_bytes(blob)
    store.add(version, signature)
    store.add(version, A)  # which is damaged: it is not there
    needed = {signature, digest_of(EMPTY), digest_of(b"bundle"), A}
    assert store.needed(storage, {version}) == needed
    assert store.needed(storage, {B}) == set()


@pytest.mark.parametrize("bad", ["", "sha256:", "../x", "sha256:" + "A" * 64, "sha512:" + "a" * 64])
def test_what_is_no_digest_names_no_file(tmp_path: Path, bad: str) -> None:
    store = ReferrerStore(tmp_path / "referrers")
    with pytest.raises(ManifestError):
        store.add(bad, A)
    with pytest.raises(ManifestError):
        store.add(A, bad)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageUnavailableError, match="cannot note the referrer"):
        ReferrerStore(tmp_path / "referrers").add(A, B)
    tmp_path.chmod(0o700)


def test_files_that_are_no_notes_are_passed_over(tmp_path: Path) -> None:
    store = ReferrerStore(tmp_path)
    store.add(A, B)
    (tmp_path / A[7:] / ".new-x").touch()
    (tmp_path / "README").touch()
    assert (store.subjects(), store.of(A)) == ((A,), (B,))
