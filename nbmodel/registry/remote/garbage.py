"""Freeing what nobody needs in a remote that leaves that to its clients."""

from __future__ import annotations

from nbmodel.errors import UnsupportedError
from nbmodel.registry.gc import GcReport
from nbmodel.registry.remote.peer import Peer
from nbmodel.storage.remote_registry import CollectsGarbage


def collect_remote(peer: Peer, *, grace_s: float, dry_run: bool) -> GcReport:
    """Free what no tag of a remote leads to.

    Args:
        peer: The remote.
        grace_s: What was written there in the last ``grace_s`` seconds stays; ≥ 0.
        dry_run: Only count.

    Raises:
        UnsupportedError: The remote is a registry or a runtime.
        InputError: ``grace_s`` is negative.
        InUseError: Somebody pushes there.
        ManifestError, DigestMismatchError: What a tag leads to cannot be read; nothing is freed.
    """
    if not isinstance(peer.registry, CollectsGarbage):
        raise UnsupportedError(
            f"{peer.remote} is a registry, expected an object store",
            hint="a registry is tidied where it runs: `gc` there, or `registry garbage-collect`",
        )
    found = peer.registry.collect(grace_s=grace_s, dry_run=dry_run)
    return GcReport(found.blobs, 0, found.freed, dry_run)
