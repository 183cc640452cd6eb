from __future__ import annotations

import hashlib
import json

import pytest

from nbmodel.core.unpinned import EMPTY, UNPINNED_TYPE, is_unpinned, unpinned_manifest


def test_the_artifact_is_one_by_the_image_specification() -> None:
    manifest = json.loads(unpinned_manifest())
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
        "size": 2,
    }
    assert EMPTY == b"{}"
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert (manifest["schemaVersion"], manifest["config"]) == (2, empty)
    assert manifest["layers"] == [empty]
    assert is_unpinned(unpinned_manifest())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"{}", id="an object"),
        pytest.param(b"", id="nothing"),
        pytest.param(f'["{UNPINNED_TYPE}"]'.encode(), id="a list"),
        pytest.param(f'{{"title": "{UNPINNED_TYPE}"}}'.encode(), id="the word elsewhere"),
        pytest.param(f'{{"artifactType": "{UNPINNED_TYPE}'.encode(), id="torn"),
        pytest.param(b"[" * 100_000 + UNPINNED_TYPE.encode(), id="deep"),
    ],
)
def test_anything_else_is_none(raw: bytes) -> None:
    assert not is_unpinned(raw)
