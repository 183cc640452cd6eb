"""Trust policies: what they say, and what they let run."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from nbmodel.errors import ConfigError, InputError, TrustError
from nbmodel.signing.certificate import read_certificates
from nbmodel.signing.check import sign
from nbmodel.signing.key import read_private_key, read_public_key
from nbmodel.signing.policy import TrustPolicy, is_named, read_policy
from nbmodel.signing.statement import Statement
from tests.tools.signers import Issued, KeyPair

Keys = dict[str, KeyPair]
NOW = datetime.now(timezone.utc)
VERSION = "sha256:" + "7" * 64
FILES = {"model.onnx": hashlib.sha256(b"weights").hexdigest()}
OF_VERSION = Statement("digits", FILES, (), "digits", VERSION)
OF_FILES = Statement("folder", FILES)


def policy(*models: dict[str, Any], **options: Any) -> TrustPolicy:
    return read_policy({"models": list(models), **options}, lambda name: Path(name).read_bytes())


def trusting(pair: KeyPair, name: str = "*", **options: Any) -> TrustPolicy:
    return policy({"name": name, "keys": [str(pair.public)], **options})


def bundle(pair: KeyPair, statement: Statement = OF_VERSION) -> bytes:
    return sign(statement, read_private_key(pair.private.read_bytes(), None, "k")).to_bytes()


def decide(given: TrustPolicy, *bundles: bytes, model: str = "digits", **changed: Any) -> Any:
    call = {"digest": VERSION, "files": FILES, "bundles": bundles, "at": NOW, **changed}
    return given.check(model, f"{model}:3", **call)


def test_what_a_trusted_key_signed_runs(keys: Keys) -> None:
    mine = keys["prime256v1"]
    signed = decide(trusting(mine), b"rubbish", bundle(keys["other"]), bundle(mine))
    assert signed.by.key == read_public_key(mine.public.read_bytes(), "k").hint


def test_the_sentence_says_who_is_expected_who_was_found_and_how_to_sign(keys: Keys) -> None:
    mine, other = keys["prime256v1"], keys["other"]
    expected, found = (read_public_key(one.public.read_bytes(), "k").short for one in (mine, other))
    with pytest.raises(TrustError) as unsigned:
        decide(trusting(mine))
    assert str(unsigned.value) == (
        f"digits:3 is not signed, expected a signature by key {expected} ({mine.public})"
    )
    assert unsigned.value.reason == "Unsigned"
    assert (unsigned.value.hint or "").startswith("nbmodel sign digits:3 --key KEY.pem")
    with pytest.raises(TrustError) as foreign:
        decide(trusting(mine), bundle(other))
    assert str(foreign.value) == (
        f"digits:3 may not run: signed by key {found}, expected key {expected} ({mine.public})"
    )
    assert (foreign.value.hint or "").startswith("nbmodel sign digits:3 --key KEY.pem")


def test_of_several_signatures_the_one_that_came_furthest_is_told(keys: Keys) -> None:
    mine = keys["prime256v1"]
    elsewhere = bundle(mine, dataclasses.replace(OF_VERSION, manifest="sha256:" + "8" * 64))
    with pytest.raises(TrustError, match="the signature of another version") as refused:
        decide(trusting(mine), b"rubbish", elsewhere, bundle(keys["other"]))
    assert refused.value.reason == "OtherVersion"


def test_the_first_rule_that_names_a_model_decides(keys: Keys) -> None:
    given = policy(
        {"name": "vision/*", "keys": [str(keys["other"].public)]},
        {"name": "digits", "keys": [str(keys["prime256v1"].public)]},
        {"name": "d*", "keys": [str(keys["other"].public)]},
    )
    assert decide(given, bundle(keys["prime256v1"]))
    with pytest.raises(TrustError, match="may not run: signed by"):
        decide(given, bundle(keys["other"]))
    fruit = dataclasses.replace(OF_VERSION, model="vision/fruit")
    assert decide(given, bundle(keys["other"], fruit), model="vision/fruit")
    with pytest.raises(TrustError, match="says nothing of audio: it is about vision") as refused:
        decide(given, bundle(keys["other"]), model="audio")
    assert refused.value.reason == "NoRule"


@pytest.mark.parametrize(
    ("model", "signed", "same"),
    [
        ("digits", "digits", True),
        ("team/digits", "digits", True),
        ("a/team/digits", "team/digits", True),
        ("digits", "team/digits", False),
        ("mydigits", "digits", False),
        ("team/other", "digits", False),
    ],
)
def test_a_model_may_be_below_a_namespace_of_its_registry(
    model: str, signed: str, same: bool
) -> None:
    assert is_named(model, signed) is same


def test_a_version_that_was_signed_as_another_model_does_not_run(keys: Keys) -> None:
    mine = keys["prime256v1"]
    with pytest.raises(TrustError, match="as model digits, found as doorlock") as refused:
        decide(trusting(mine), bundle(mine), model="doorlock")
    assert refused.value.reason == "OtherVersion"


def test_a_signature_over_files_alone_counts_where_the_policy_says_so(keys: Keys) -> None:
    mine = keys["prime256v1"]
    with pytest.raises(TrustError, match="over its files alone") as refused:
        decide(trusting(mine), bundle(mine, OF_FILES))
    assert '"files_only": true' in (refused.value.hint or "")
    assert decide(trusting(mine, files_only=True), bundle(mine, OF_FILES))
    assert decide(trusting(mine, files_only=True), bundle(mine))
    # What other signers leave out by default is not signed, and would run.
    more = {**FILES, ".gitattributes": "0" * 64}
    with pytest.raises(TrustError, match=r"but not \.gitattributes"):
        decide(trusting(mine, files_only=True), bundle(mine, OF_FILES), files=more)


def test_certificates_count_by_root_and_name(root: Issued) -> None:
    signer = root.issue("release-policy")
    chain = read_certificates(signer.certificate.read_bytes(), "c")
    key = read_private_key(signer.key.private.read_bytes(), None, "k")
    made = sign(OF_VERSION, key, chain).to_bytes()
    rule = {"name": "*", "roots": [str(root.certificate)]}
    assert decide(policy(rule), made).by.subject == "CN=release-policy"
    assert decide(policy({**rule, "signers": ["release-*"]}), made)
    with pytest.raises(TrustError, match="expected one for other"):
        decide(policy({**rule, "signers": ["other"]}), made)
    late = datetime(2199, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(TrustError, match="has expired"):
        decide(policy(rule), made, at=late)
    assert decide(policy({**rule, "ignore_expiry": True}), made, at=late)


def test_keys_may_be_in_the_policy_itself(keys: Keys) -> None:
    mine = keys["prime256v1"]
    given = policy({"name": "*", "keys": [mine.public.read_text()]})
    with pytest.raises(TrustError, match=r"expected a signature by key \w{12} \(keys\[0\]\)"):
        decide(given)


def test_equal_policies_have_equal_digests(keys: Keys) -> None:
    mine, other = keys["prime256v1"], keys["other"]
    assert trusting(mine).digest == policy({"name": "*", "keys": [mine.public.read_text()]}).digest
    different = [
        trusting(mine),
        trusting(other),
        trusting(mine, "digits"),
        trusting(mine, files_only=True),
        trusting(mine, ignore_expiry=True),
        policy({"name": "*", "keys": [str(mine.public)]}, allow_paths=True),
    ]
    assert len({one.digest for one in different}) == len(different)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        pytest.param([], "expected an object", id="a list"),
        pytest.param({}, 'expected a list of at least one under "models"', id="nothing"),
        pytest.param({"models": []}, "at least one", id="no rules"),
        pytest.param({"models": {}}, "at least one", id="no list"),
        pytest.param({"models": ["digits"]}, "models[0]: expected an object", id="a name alone"),
        pytest.param({"models": [{"keys": ["K"]}]}, "under 'name'", id="no name"),
        pytest.param({"models": [{"name": "*"}]}, "expected keys or roots", id="nobody"),
        pytest.param({"models": [{"name": "*", "keys": "K"}]}, "list of text", id="a word"),
        pytest.param({"models": [{"name": "*", "key": ["K"]}]}, "unknown key 'key'", id="typo"),
        pytest.param(
            {"models": [{"name": "*", "keys": ["missing.pem"]}]}, "No such file", id="no file"
        ),
        pytest.param({"models": [{"name": "*", "keys": ["RSA"]}]}, "kind RSA", id="RSA"),
        pytest.param(
            {"models": [{"name": "*", "keys": ["K"], "files_only": 1}]}, "true or false", id="1"
        ),
        pytest.param({"models": [{"name": "*", "keys": ["K"]}], "alow_paths": True}, "unknown key", id="typo above"),
        pytest.param(
            {"models": [{"name": "*", "keys": ["K"]}], "allow_paths": "no"}, "true or false", id="a no"
        ),
        pytest.param({"models": [{"name": "*", "roots": ["K"]}]}, "no certificate in PEM", id="a key as root"),
        pytest.param(
            {"models": [{"name": "*", "roots": ["LEAF"]}]}, "signed itself", id="a leaf as root"
        ),
    ],
)  # fmt: skip
def test_a_policy_that_is_not_understood_is_refused(
    keys: Keys, root: Issued, document: Any, told: str
) -> None:
    leaf = root.issue("policy-leaf")
    files = {"K": keys["other"].public, "RSA": keys["rsa"].public, "LEAF": leaf.certificate}
    with pytest.raises((ConfigError, InputError)) as refused:
        read_policy(document, lambda name: files.get(name, Path("/nowhere") / name).read_bytes())
    assert told in str(refused.value)
