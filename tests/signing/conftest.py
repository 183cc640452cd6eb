"""Keys, certificates and what is signed with them."""

from __future__ import annotations

import pytest

from tests.tools.signers import AUTHORITY, CURVES, OPENSSL, Issued, KeyPair


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
    if OPENSSL is None:
        pytest.skip("openssl is not installed")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, KeyPair]:
    """A key on each curve that is taken, one more (``other``), and ``rsa``, ``k1``, ``ed25519``."""
    folder = tmp_path_factory.mktemp("keys")
    made = {curve: KeyPair.make(folder, curve, curve) for curve in CURVES}
    return made | {
        "other": KeyPair.make(folder, "other"),
        "rsa": KeyPair.make(folder, "rsa", "rsa"),
        "k1": KeyPair.make(folder, "k1", "secp256k1"),
        "ed25519": KeyPair.make(folder, "ed25519", "ed25519"),
    }


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    """An authority."""
    return Issued.root(tmp_path_factory.mktemp("pki"), "root", "secp384r1")


@pytest.fixture(scope="session")
def issuing(root: Issued) -> Issued:
    """An authority below it."""
    return root.issue(
        "issuing", extensions=("basicConstraints=critical,CA:TRUE,pathlen:0", AUTHORITY[1])
    )
