"""Who signed it: chains of certificates that openssl made, and what is no signature of whom."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from nbmodel.errors import InputError, TrustError
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.certificate import read_certificates
from nbmodel.signing.check import Trusted, TrustedKey, check, check_version, claimed, sign
from nbmodel.signing.key import read_private_key, read_public_key
from nbmodel.signing.statement import Statement
from tests.tools.signers import AUTHORITY, SIGNING, Issued, KeyPair

Keys = dict[str, KeyPair]
NOW = datetime.now(timezone.utc)
VERSION = "sha256:" + "7" * 64
FILES = {"model.onnx": hashlib.sha256(b"weights").hexdigest()}
STATEMENT = Statement("digits", FILES, (), "digits", VERSION)


def by_key(pair: KeyPair, statement: Statement = STATEMENT) -> Bundle:
    return sign(statement, read_private_key(pair.private.read_bytes(), None, "key"))


def by_certificate(signer: Issued, *others: Issued) -> Bundle:
    chain = [
        one
        for issued in (signer, *others)
        for one in read_certificates(issued.certificate.read_bytes(), "certificate")
    ]
    key = read_private_key(signer.key.private.read_bytes(), None, "key")
    return sign(STATEMENT, key, chain)


def trusting(*pairs: KeyPair) -> Trusted:
    return Trusted(
        tuple(
            TrustedKey(pair.public.name, read_public_key(pair.public.read_bytes(), "k"))
            for pair in pairs
        )
    )


def relying(*roots: Issued, **options: object) -> Trusted:
    found = [read_certificates(one.certificate.read_bytes(), "root")[0] for one in roots]
    return Trusted((), tuple(found), **options)  # type: ignore[arg-type]


def refused(bundle: Bundle, trusted: Trusted, at: datetime = NOW) -> TrustError:
    with pytest.raises(TrustError) as found:
        check_version(bundle, trusted, digest=VERSION, files=FILES, at=at)
    assert "\n" not in str(found.value)
    return found.value


@pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
def test_a_key_that_is_trusted_counts(keys: Keys, curve: str) -> None:
    bundle = Bundle.from_bytes(by_key(keys[curve]).to_bytes())
    trusted = trusting(keys["other"], keys[curve])
    signed = check_version(bundle, trusted, digest=VERSION, files=FILES, at=NOW)
    assert signed.statement == STATEMENT
    assert signed.by.key == trusted.keys[1].key.hint
    assert str(claimed(bundle)) == f"key {trusted.keys[1].key.short}"


def test_a_key_counts_whatever_the_bundle_calls_it(keys: Keys) -> None:
    for hint in (None, "0" * 64, "another way to name keys"):
        bundle = dataclasses.replace(by_key(keys["other"]), hint=hint)
        assert check(bundle, trusting(keys["other"]), at=NOW).statement == STATEMENT


def test_another_key_is_told_beside_the_one_expected(keys: Keys) -> None:
    error = refused(by_key(keys["other"]), trusting(keys["prime256v1"], keys["secp384r1"]))
    other, mine, third = (
        read_public_key(keys[name].public.read_bytes(), "k").short
        for name in ("other", "prime256v1", "secp384r1")
    )
    assert error.reason == "OtherSigner"
    assert str(error) == (
        f"signed by key {other}, expected key {mine} (prime256v1.pub.pem) or "
        f"key {third} (secp384r1.pub.pem)"
    )


def test_a_payload_that_was_changed_has_the_wrong_signature(keys: Keys) -> None:
    made = by_key(keys["other"])
    forged = dataclasses.replace(
        made, payload=dataclasses.replace(STATEMENT, files={"model.onnx": "0" * 64}).to_bytes()
    )
    error = refused(forged, trusting(keys["other"]))
    assert error.reason == "WrongSignature"
    assert "is not a signature of that key over what it says" in str(error)


def test_a_signature_of_another_version_or_other_files_does_not_count(keys: Keys) -> None:
    replayed = by_key(keys["other"], dataclasses.replace(STATEMENT, manifest="sha256:" + "8" * 64))
    error = refused(replayed, trusting(keys["other"]))
    assert error.reason == "OtherVersion"
    assert "the signature of another version: digits 888888888888, expected 777777777777" in str(
        error
    )
    moved = by_key(keys["other"], Statement("digits", {"model.onnx": "0" * 64}))
    error = refused(moved, trusting(keys["other"]))
    assert error.reason == "OtherFiles"
    assert "over other files: the version is other bytes in model.onnx" in str(error)


def test_a_certificate_counts_that_leads_to_a_trusted_root(root: Issued, issuing: Issued) -> None:
    signer = issuing.issue("release", "secp521r1")
    bundle = Bundle.from_bytes(by_certificate(signer, issuing).to_bytes())
    signed = check_version(bundle, relying(root), digest=VERSION, files=FILES, at=NOW)
    assert signed.by.subject == "CN=release"
    assert str(claimed(bundle)) == "the certificate of CN=release"
    # What is on the way may be given beside the root, in place of being in the bundle.
    alone = by_certificate(signer)
    assert check(alone, relying(root, issuing), at=NOW).by.subject == "CN=release"
    # And the root may be in the bundle, which proves nothing.
    assert check(by_certificate(signer, issuing, root), relying(root), at=NOW)


Make = Callable[[Issued, Issued], tuple[Bundle, Trusted]]
_EMAIL = (*SIGNING, "subjectAltName=email:ada@vision.example")


def _cases() -> dict[str, tuple[Make, str, str]]:
    def alone(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_certificate(issuing.issue("alone")), relying(root)

    def foreign(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        other = Issued.root(root.certificate.parent / "foreign", "root")  # of the same name
        return by_certificate(other.issue("mallory"), other), relying(root)

    def unrooted(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_certificate(issuing.issue("unrooted"), issuing), relying(issuing)

    def server(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        usage = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth")
        return by_certificate(root.issue("web", extensions=usage)), relying(root)

    def encipherer(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        usage = ("keyUsage=critical,keyAgreement", "extendedKeyUsage=codeSigning")
        return by_certificate(root.issue("agree", extensions=usage)), relying(root)

    def anything(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        plain = ("basicConstraints=CA:FALSE",)
        return by_certificate(root.issue("plain", extensions=plain)), relying(root)

    def impostor(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        leaf = issuing.issue("leaf")  # no authority, and signs all the same
        return by_certificate(leaf.issue("below"), leaf, issuing), relying(root)

    def deep(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        below = issuing.issue("below-issuing", extensions=AUTHORITY)  # which pathlen:0 forbids
        return by_certificate(below.issue("deep"), below, issuing), relying(root)

    def critical(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        extensions = (*AUTHORITY, "nameConstraints=critical,permitted;DNS:example.org")
        bound = root.issue("bound", extensions=extensions)
        return by_certificate(bound.issue("free"), bound), relying(root)

    def sha1(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_certificate(root.issue("old", digest="sha1")), relying(root)

    def expired(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_certificate(root.issue("past", days=(-9, -2))), relying(root)

    def future(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_certificate(root.issue("soon", days=(2, 9))), relying(root)

    def stale(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        old = root.issue("stale", extensions=AUTHORITY, days=(-9, -2))
        return by_certificate(old.issue("fresh"), old), relying(root)

    def stranger(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        signer = root.issue("ada", extensions=_EMAIL)
        return by_certificate(signer), relying(root, signers=("*@audio.example",))

    def edward(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        made = by_certificate(root.issue("ecdsa"))
        signer = root.issue("eddsa", "ed25519")
        (leaf,) = read_certificates(signer.certificate.read_bytes(), "leaf")
        return dataclasses.replace(made, chain=(leaf.der,)), relying(root)

    def koblitz(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        made = by_certificate(root.issue("ecdsa2"))
        (leaf,) = read_certificates(root.issue("k1", "secp256k1").certificate.read_bytes(), "leaf")
        return dataclasses.replace(made, chain=(leaf.der,)), relying(root)

    def borrowed(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        # Somebody's own signature under another's certificate.
        made = by_certificate(root.issue("mine"))
        (leaf,) = read_certificates(root.issue("theirs").certificate.read_bytes(), "leaf")
        return dataclasses.replace(made, chain=(leaf.der,)), relying(root)

    def garbage(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        made = by_certificate(root.issue("whole"))
        return dataclasses.replace(made, chain=(made.chain[0][:-40],)), relying(root)

    def noise(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        made = by_certificate(root.issue("quiet"))
        return dataclasses.replace(made, chain=(made.chain[0], b"\x30\x82\xff\xff")), relying(root)

    def keyed(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        return by_key(root.key), relying(root)

    def certified(root: Issued, issuing: Issued) -> tuple[Bundle, Trusted]:
        signer = root.issue("certified")
        return by_certificate(signer), trusting(root.key)

    return {
        "an authority on the way is missing": (alone, "OtherSigner", "no trusted authority"),
        "another authority of the same name": (foreign, "OtherSigner", "no trusted authority"),
        "no root among those trusted": (unrooted, "OtherSigner", "(trusted: none)"),
        "a certificate of a web server": (server, "OtherSigner", "is not for signing"),
        "one for agreeing on keys": (encipherer, "OtherSigner", "is not for signing"),
        "one that does not say what for": (anything, "OtherSigner", "is not for signing"),
        "issued by what is no authority": (impostor, "OtherSigner", "is no authority"),
        "a longer path than is allowed": (deep, "OtherSigner", "may have 0 authorities below it"),
        "bounds that are not understood": (critical, "NotSupported", "critical extension"),
        "signed with SHA-1": (sha1, "NotSupported", "signed with sha1"),
        "it has expired": (expired, "NotValidNow", "has expired"),
        "it is not valid yet": (future, "NotValidNow", "is not valid yet"),
        "its authority has expired": (stale, "NotValidNow", "CN=stale has expired"),
        "for another name": (stranger, "OtherSigner", "(ada, ada@vision.example), expected one"),
        "a key of Ed25519": (edward, "NotSupported", "kind Ed25519"),
        "a key on another curve": (koblitz, "NotSupported", "on curve secp256k1"),
        "under another's certificate": (borrowed, "WrongSignature", "not a signature of its key"),
        "DER that breaks off": (garbage, "Malformed", "certificate 1 of the signature"),
        "DER that is none": (noise, "Malformed", "certificate 2 of the signature"),
        "a key where a certificate counts": (keyed, "OtherSigner", "a certificate from CN=root"),
        "a certificate where a key counts": (
            certified,
            "OtherSigner",
            "CN=certified, expected key",
        ),
    }


@pytest.mark.parametrize(
    ("make", "reason", "told"), [pytest.param(*case, id=name) for name, case in _cases().items()]
)
def test_a_certificate_does_not_count(
    root: Issued, issuing: Issued, make: Make, reason: str, told: str
) -> None:
    error = refused(*make(root, issuing))
    assert error.reason == reason
    assert told in str(error)


def test_a_certificate_counts_that_was_valid_once_where_that_is_meant(root: Issued) -> None:
    old = Issued.root(root.certificate.parent / "old", "old-root", days=(-20, 30))
    bundle = by_certificate(old.issue("once", days=(-9, -2)))
    assert check(bundle, relying(old, ignores_expiry=True), at=NOW).by.subject == "CN=once"
    clock = NOW - timedelta(days=5)
    assert check(bundle, relying(old), at=clock).by.subject == "CN=once"


def test_a_clock_that_was_never_set_is_told(root: Issued) -> None:
    bundle = by_certificate(root.issue("today"))
    error = refused(bundle, relying(root), at=datetime(1970, 1, 1, 0, 5, tzinfo=timezone.utc))
    assert error.reason == "NotValidNow"
    assert "the clock here says 1970-01-01 00:05 UTC" in str(error)
    assert (error.hint or "").startswith("is the clock right?")


@pytest.mark.parametrize("pattern", ["ada", "*@vision.example", "ada@*", "*"])
def test_names_of_a_certificate_are_matched_by_patterns(root: Issued, pattern: str) -> None:
    signer = root.issue(f"ada-{len(pattern)}", extensions=_EMAIL)
    trusted = relying(root, signers=("nobody", pattern.replace("ada", "ada*")))
    assert check(by_certificate(signer), trusted, at=NOW)


def test_a_certificate_of_another_key_is_not_signed_with(root: Issued, keys: Keys) -> None:
    chain = read_certificates(root.issue("own").certificate.read_bytes(), "certificate")
    key = read_private_key(keys["other"].private.read_bytes(), None, "key")
    with pytest.raises(InputError, match="the certificate of CN=own is not of the key given"):
        sign(STATEMENT, key, chain)


def test_authorities_that_vouch_for_each_other_lead_nowhere(root: Issued) -> None:
    first = root.issue("first", extensions=AUTHORITY)
    second = first.issue("second", extensions=AUTHORITY)
    # The same name and key, signed by the other: each leads to the other for ever.
    again = dataclasses.replace(first, certificate=second.issue("first2").certificate)
    bundle = by_certificate(second.issue("leaf2"), *[second, again] * 7)
    other = Issued.root(root.certificate.parent / "elsewhere", "elsewhere")
    assert refused(bundle, relying(other)).reason == "OtherSigner"
