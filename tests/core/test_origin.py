"""Where something was imported from, without what lets somebody in."""

from __future__ import annotations

import pytest

from nbmodel.core.lineage import Lineage
from nbmodel.core.origin import Origin, without_credentials
from nbmodel.errors import ManifestError


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://host/m.onnx", "https://host/m.onnx"),
        ("https://me:pw@host:8443/m.onnx", "https://host:8443/m.onnx"),
        ("https://token@host/m.onnx", "https://host/m.onnx"),
        ("https://host/m?file=a.onnx&v=2", "https://host/m?file=a.onnx&v=2"),
        (
            "https://b.s3.amazonaws.com/m?X-Amz-Algorithm=A&X-Amz-Credential=B&X-Amz-Signature=C&f=1",
            "https://b.s3.amazonaws.com/m?f=1",
        ),
        ("https://a.blob.core.windows.net/c/m?sv=1&sr=b&sp=r&se=2&sig=x", "https://a.blob.core.windows.net/c/m"),
        ("https://host/m?X-Goog-Signature=x&GoogleAccessId=y", "https://host/m"),
        ("https://host/m?access_token=a&api_key=b&key=c&Token=d", "https://host/m"),
        ("ssh://git@host/team/x.git", "ssh://git@host/team/x.git"),
        ("ssh://git:pw@host/team/x.git", "ssh://host/team/x.git"),
        ("git@host:team/x.git", "git@host:team/x.git"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("models:/toy@champion", "models:/toy@champion"),
        ("/srv/models/toy", "/srv/models/toy"),
        ("https://[::1", "https://…"),
    ],
)  # fmt: skip
def test_what_lets_in_is_taken_out_of_an_address(uri: str, kept: str) -> None:
    assert without_credentials(uri) == kept


def test_an_endless_address_is_cut() -> None:
    assert len(without_credentials("https://host/" + "a" * 10_000)) == 2048


def test_an_origin_comes_back_from_json() -> None:
    whole = Origin("git", "git+https://host/x.git", "c" * 40, "sha256:" + "a" * 64)
    assert Origin.from_json(whole.to_json()) == whole
    lineage = Lineage(user="me", origin=whole)
    assert Lineage.from_json(lineage.to_json()) == lineage
    assert "origin" not in Lineage(user="me").to_json()


@pytest.mark.parametrize("data", [[], "x", {"kind": 3}, {"kind": "url", "uri": None}])
def test_a_malformed_origin_is_refused(data: object) -> None:
    with pytest.raises(ManifestError, match="malformed origin"):
        Lineage.from_json({"origin": data})
