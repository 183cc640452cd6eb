"""Bundles as bytes: what is written, and what is refused of what somebody sends."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from nbmodel.core.referrer import MAX_BUNDLE
from nbmodel.errors import TrustError
from nbmodel.signing.bundle import Bundle

PAYLOAD, SIGNATURE = b'{"a": 1}', b"\x30\x01"
#: As appendix A of OpenSSF Model Signing 1.0 has it.
WRITTEN: dict[str, Any] = {
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {"publicKey": {"hint": "e845"}, "tlogEntries": []},
    "dsseEnvelope": {
        "payload": base64.b64encode(PAYLOAD).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": base64.b64encode(SIGNATURE).decode(), "keyid": ""}],
    },
}


def test_a_bundle_is_written_as_the_specification_says_and_read_again() -> None:
    bundle = Bundle(PAYLOAD, SIGNATURE, hint="e845")
    assert json.loads(bundle.to_bytes()) == WRITTEN
    assert Bundle.from_bytes(bundle.to_bytes()) == bundle


def test_certificates_are_in_the_bundle_in_order() -> None:
    bundle = Bundle(PAYLOAD, SIGNATURE, chain=(b"leaf", b"issuing"))
    material = json.loads(bundle.to_bytes())["verificationMaterial"]
    assert [one["rawBytes"] for one in material["x509CertificateChain"]["certificates"]] == [
        "bGVhZg==",
        "aXNzdWluZw==",
    ]
    assert Bundle.from_bytes(bundle.to_bytes()) == bundle


def test_the_bytes_that_are_signed_are_those_of_dsse() -> None:
    # The example of the DSSE protocol, with in-toto's payload type.
    assert Bundle(b"hello world", b"").signed == (
        b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"verificationMaterial": {"publicKey": {"hint": "e845"}}}, id="no tlog"),
        pytest.param(
            {"verificationMaterial": {"publicKey": {"rawBytes": "AA==", "keyDetails": "X"}}},
            id="a key of older makers, without a hint",
        ),
    ],
)
@pytest.mark.parametrize("keyid", [{}, {"keyid": None}, {"keyid": ""}], ids=str)
def test_forms_of_other_makers_are_read(change: dict[str, Any], keyid: dict[str, Any]) -> None:
    data = {**copy.deepcopy(WRITTEN), **change}
    data["dsseEnvelope"]["signatures"] = [{"sig": "MAE=", **keyid}]
    assert Bundle.from_bytes(json.dumps(data, indent=2).encode()).payload == PAYLOAD


def _with(path: str, value: object) -> bytes:
    data: Any = copy.deepcopy(WRITTEN)
    *way, last = path.split(".")
    place = data
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(data).encode()


_TWO_KINDS = {"publicKey": {"hint": "a"}, "x509CertificateChain": {"certificates": []}}
_KEYLESS = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "Malformed", id="empty"),
        pytest.param(b"\xff\xfe", "Malformed", id="no text"),
        pytest.param(b"[]", "Malformed", id="no object"),
        pytest.param(b"[" * 100_000, "Malformed", id="nested without end"),
        pytest.param(b'{"a":' * 500 + b"1" + b"}" * 500, "Malformed", id="nested deep"),
        pytest.param(b'{"mediaType":"a","mediaType":"b"}', "Malformed", id="a key twice"),
        pytest.param(b" " * (MAX_BUNDLE + 1), "Malformed", id="too large"),
        pytest.param(_with("mediaType", "x"), "NotSupported", id="another type"),
        pytest.param(_with("messageSignature", {}), "NotSupported", id="over a file"),
        pytest.param(_with("dsseEnvelope", None), "Malformed", id="no envelope"),
        pytest.param(_with("dsseEnvelope.payloadType", "a/b"), "NotSupported", id="other payload"),
        pytest.param(_with("dsseEnvelope.signatures", []), "Malformed", id="no signature"),
        pytest.param(
            _with("dsseEnvelope.signatures", [{"sig": "AA=="}] * 2), "Malformed", id="two"
        ),
        pytest.param(
            _with("dsseEnvelope.signatures", [{"sig": ""}]), "Malformed", id="an empty one"
        ),
        pytest.param(
            _with("dsseEnvelope.signatures", [{"sig": "A" * 9000}]), "Malformed", id="a long one"
        ),
        pytest.param(_with("dsseEnvelope.payload", "%%%"), "Malformed", id="no base64"),
        pytest.param(_with("dsseEnvelope.payload", 3), "Malformed", id="a number"),
        pytest.param(_with("verificationMaterial", {}), "Malformed", id="by nobody"),
        pytest.param(_with("verificationMaterial", _TWO_KINDS), "Malformed", id="by two"),
        pytest.param(_with("verificationMaterial", _KEYLESS), "NotSupported", id="keyless"),
        pytest.param(
            _with("verificationMaterial.publicKey", {"hint": ["x"]}), "Malformed", id="odd hint"
        ),
        pytest.param(
            _with("verificationMaterial.publicKey", {"hint": "x" * 1000}),
            "Malformed",
            id="long hint",
        ),
        pytest.param(
            _with("verificationMaterial", {"x509CertificateChain": {"certificates": []}}),
            "Malformed",
            id="no certificates",
        ),
        pytest.param(
            _with(
                "verificationMaterial",
                {"x509CertificateChain": {"certificates": [{"rawBytes": "AA=="}] * 17}},
            ),
            "Malformed",
            id="many certificates",
        ),
        pytest.param(
            _with(
                "verificationMaterial",
                {"x509CertificateChain": {"certificates": [{"rawBytes": "A" * 200_000}]}},
            ),
            "Malformed",
            id="a large certificate",
        ),
    ],
)
def test_what_is_no_signature_is_refused_in_a_sentence(raw: bytes, reason: str) -> None:
    with pytest.raises(TrustError) as refused:
        Bundle.from_bytes(raw)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)
