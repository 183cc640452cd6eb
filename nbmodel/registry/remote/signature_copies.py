"""Signatures of versions on their way to and from a remote, where it keeps such."""

from __future__ import annotations

from nbmodel.registry.catalog import Catalog
from nbmodel.registry.signatures import add_referrer, signatures_of
from nbmodel.storage.remote_registry import CarriesSignatures, RemoteRegistry


def push_signatures(
    catalog: Catalog, registry: RemoteRegistry, repository: str, digest: str
) -> int:
    """Send the signatures of a version that a remote lacks; how many that were."""
    mine = signatures_of(catalog, digest)
    if not mine or not isinstance(registry, CarriesSignatures):
        return 0
    return registry.push_signatures(repository, catalog.storage, digest, mine)


def pull_signatures(
    catalog: Catalog, registry: RemoteRegistry, repository: str, digest: str
) -> int:
    """Bring the signatures of a version that are not here; how many that were.

    They say what they say: nothing of it is checked here.
    """
    if not isinstance(registry, CarriesSignatures):
        return 0
    known = signatures_of(catalog, digest)
    came = registry.pull_signatures(repository, digest, catalog.storage, known=known)
    for one in came:
        add_referrer(catalog, one)
    return len(came)
