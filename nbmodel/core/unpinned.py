"""What stands under the tag of a pin when nothing is pinned.

Many registries take no tags away (docker-registry does not unless it is told to). Where one
refuses, the tag is put on a small artifact that says so; who follows ``latest`` passes over it.
"""

from __future__ import annotations

import json
from typing import Any

from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MANIFEST_TYPE

UNPINNED_TYPE = "application/vnd.nbmodel.unpinned.v1+json"
#: The one blob that the artifact needs: OCI's empty descriptor.
EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def unpinned_manifest() -> bytes:
    """The bytes of the artifact's manifest, always the same.

    Source: OCI image specification 1.1, "Guidelines for Artifact Usage".
    """
    empty = {"mediaType": _EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": UNPINNED_TYPE,
        "config": empty,
        "layers": [empty],
    }
    return json.dumps(manifest, separators=(",", ":")).encode()


def is_unpinned(raw: bytes) -> bool:
    """Whether a manifest says that nothing is pinned."""
    if UNPINNED_TYPE.encode() not in raw:
        return False
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("artifactType") == UNPINNED_TYPE
