"""What is signed, against the bytes that the specification writes down."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest

from nbmodel.errors import TrustError
from nbmodel.signing.statement import Statement

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
VERSION = "sha256:" + "7" * 64
FILES = {"sub/b.txt": B, "model.onnx": A}
#: As OpenSSF Model Signing 1.0, sections 5 to 6.5, has it; the digest of the subject by hand.
WRITTEN: dict[str, Any] = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [
        {
            "name": "digits",
            "digest": {
                "sha256": hashlib.sha256(bytes.fromhex(A) + bytes.fromhex(B)).hexdigest(),
            },
        }
    ],
    "predicateType": "https://model_signing/signature/v1.0",
    "predicate": {
        "resources": [
            {"name": "model.onnx", "algorithm": "sha256", "digest": A},
            {"name": "sub/b.txt", "algorithm": "sha256", "digest": B},
        ],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
    },
}


def test_a_statement_is_written_as_the_specification_says() -> None:
    assert json.loads(Statement("digits", FILES).to_bytes()) == WRITTEN


def test_the_version_is_in_annotations_of_the_subject_where_schemas_allow_more() -> None:
    made = json.loads(Statement("digits", FILES, ("model.sig",), "team/digits", VERSION).to_bytes())
    assert made["subject"][0].pop("annotations") == {
        "io.nbmodel.model": "team/digits",
        "io.nbmodel.manifest": VERSION,
    }
    assert made["predicate"]["serialization"].pop("ignore_paths") == ["model.sig"]
    assert made == WRITTEN


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(Statement("digits", FILES), id="files alone"),
        pytest.param(Statement("d", FILES, ("x",), "a/d", VERSION), id="of a version"),
    ],
)
def test_what_is_written_is_read_again(statement: Statement) -> None:
    assert Statement.from_json(json.loads(statement.to_bytes())) == statement


def test_resources_may_be_in_any_order_as_long_as_the_subject_is_of_that_order() -> None:
    data = copy.deepcopy(WRITTEN)
    data["predicate"]["resources"].reverse()
    data["subject"][0]["digest"]["sha256"] = hashlib.sha256(
        bytes.fromhex(B) + bytes.fromhex(A)
    ).hexdigest()
    assert Statement.from_json(data).files == FILES


def _changed(path: str, value: object) -> dict[str, Any]:
    data: Any = copy.deepcopy(WRITTEN)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = data
    for part in way:
        place = place[part]
    place[last] = value
    return dict(data)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1", "Malformed"),
        ("predicateType", "https://model_signing/Digests/v0.1", "NotSupported"),
        ("predicateType", None, "NotSupported"),
        ("subject", [], "Malformed"),
        ("subject.0.digest.sha256", A, "Malformed"),
        ("subject.0.digest", {"sha512": A}, "Malformed"),
        ("subject.0.name", "", "Malformed"),
        ("subject.0.annotations", {"io.nbmodel.model": "digits"}, "Malformed"),
        (
            "subject.0.annotations",
            {"io.nbmodel.model": "digits", "io.nbmodel.manifest": "sha256:xyz"},
            "Malformed",
        ),
        ("predicate", [], "Malformed"),
        ("predicate.resources", [], "Malformed"),
        ("predicate.resources", None, "Malformed"),
        ("predicate.resources.0.name", "../model.onnx", "Malformed"),
        ("predicate.resources.0.name", "/etc/passwd", "Malformed"),
        ("predicate.resources.0.name", 3, "Malformed"),
        ("predicate.resources.0.name", "sub/b.txt", "Malformed"),
        ("predicate.resources.0.digest", A.upper(), "Malformed"),
        ("predicate.resources.0.digest", "aa", "Malformed"),
        ("predicate.resources.0.algorithm", "md5", "Malformed"),
        ("predicate.serialization.method", "shards", "NotSupported"),
        ("predicate.serialization.hash_type", "blake3", "NotSupported"),
        ("predicate.serialization.ignore_paths", [3], "Malformed"),
    ],
)
def test_what_cannot_be_compared_with_files_is_refused(
    path: str, value: object, reason: str
) -> None:
    with pytest.raises(TrustError) as refused:
        Statement.from_json(_changed(path, value))
    assert refused.value.reason == reason
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param(FILES, None, id="the same"),
        pytest.param({**FILES, "sub/b.txt": A}, "other bytes in sub/b.txt", id="changed"),
        pytest.param({"model.onnx": A}, "without sub/b.txt", id="missing"),
        pytest.param({**FILES, "evil.so": A}, "with, unsigned, evil.so", id="added"),
        pytest.param({**FILES, ".gitignore": A}, None, id="added where all signers leave it out"),
        pytest.param({**FILES, ".github/a/b.yml": A}, None, id="added below such a folder"),
        pytest.param({**FILES, "sub/.git": A}, "with, unsigned, sub/.git", id="such a name deeper"),
        pytest.param({**FILES, "model.sig": A}, None, id="added where this signer left it out"),
        pytest.param({**FILES, "model.sig2": A}, "with, unsigned, model.sig2", id="a longer name"),
        pytest.param(
            {f"{n}": A for n in range(9)},
            "without model.onnx, sub/b.txt; with, unsigned, 0, 1, 2 and 6 more",
            id="many",
        ),
    ],
)
def test_a_difference_is_told_in_words(files: dict[str, str], told: str | None) -> None:
    assert Statement("digits", FILES, ("model.sig",)).difference(files) == told
