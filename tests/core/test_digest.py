"""Digests."""

from __future__ import annotations

import pytest

from nbmodel.core.digest import check_digest, digest_of, is_digest, short_digest
from nbmodel.errors import ManifestError

# FIPS 180-2, appendix B.1 and B.2
VECTORS = {
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
}


@pytest.mark.parametrize("data", VECTORS)
def test_the_published_vectors(data: bytes) -> None:
    for given in (data, bytearray(data), memoryview(data)):
        assert digest_of(given) == f"sha256:{VECTORS[data]}"
    assert short_digest(digest_of(data)) == VECTORS[data][:12]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "a" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:../../../../etc/passwd",
        "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(ManifestError, match="malformed digest for layer 3"):
        check_digest(text, "layer 3")


@pytest.mark.parametrize("value", [None, 3, b"sha256:" + b"a" * 64, ["sha256"]])
def test_a_value_of_another_type_is_no_digest(value: object) -> None:
    with pytest.raises(ManifestError):
        check_digest(value, "a blob")
