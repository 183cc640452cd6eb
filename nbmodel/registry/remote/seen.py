"""What was seen on remotes, in the index: tags, where versions are, who gives numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from nbmodel.core.claim import Claim, settle
from nbmodel.core.remote import Remote

_THERE = ""  # in a tag's place: the manifest is there, whatever its tags


def known_remotes(db: sqlite3.Connection) -> list[Remote]:
    """The remotes that something was pushed to or came from, the oldest first."""
    return [Remote(*row) for row in db.execute("SELECT url, namespace FROM remotes ORDER BY id")]


def find_remote(db: sqlite3.Connection, remote: Remote) -> int | None:
    """The id of a remote that was used before, or None."""
    row = db.execute(
        "SELECT id FROM remotes WHERE url = ? AND namespace = ?",
        (remote.base_url, remote.namespace),
    ).fetchone()
    return None if row is None else int(row[0])


def remote_id(db: sqlite3.Connection, remote: Remote) -> int:
    """The id of a remote, in a transaction that writes."""
    known = find_remote(db, remote)
    if known is not None:
        return known
    made = db.execute(
        "INSERT INTO remotes (url, namespace) VALUES (?, ?)", (remote.base_url, remote.namespace)
    )
    assert made.lastrowid is not None
    return made.lastrowid


def seen_tags(db: sqlite3.Connection, remote: Remote, model: str) -> dict[str, str]:
    """Tag → digest of the manifest, as a remote had them when it was last looked at.

    Args:
        db: A transaction.
        remote: The remote.
        model: The name that the model has there, here and in what follows.
    """
    found: dict[str, str] = {}
    for place, name in _names(db, remote, model):
        found.update(
            db.execute(
                "SELECT tag, digest FROM remote_tags WHERE remote = ? AND model = ? AND tag != ?",
                (place, name, _THERE),
            )
        )
    return found


def numbers_seen(db: sqlite3.Connection, remote: Remote, model: str) -> dict[str, int]:
    """Digest → number of the versions of a model, as a remote had them when it was looked at."""
    claims = {
        claim: digest
        for tag, digest in seen_tags(db, remote, model).items()
        if (claim := Claim.parse(tag)) is not None
    }
    versions = {claim.version: digest for claim, digest in claims.items()}
    return {versions[version]: number for version, number in settle(claims).items()}


def note_tags(
    db: sqlite3.Connection,
    remote: Remote,
    model: str,
    tags: Mapping[str, str],
    there: Iterable[str] = (),
) -> None:
    """Keep what a remote has.

    Args:
        db: A transaction that writes.
        remote: The remote.
        model: The name that the model has there.
        tags: Tag → digest of the manifest it is on now.
        there: Digests of manifests that are there, whether or not under a tag.
    """
    own = remote_id(db, remote)
    forget_tags(db, remote, model, tags)
    rows = [(own, model, tag, digest) for tag, digest in tags.items()]
    rows += [(own, model, _THERE, digest) for digest in there]
    db.executemany("INSERT OR IGNORE INTO remote_tags VALUES (?, ?, ?, ?)", rows)


def forget_tags(db: sqlite3.Connection, remote: Remote, model: str, tags: Iterable[str]) -> None:
    """Forget tags that a remote does not have any more, or has on something else."""
    names = _names(db, remote, model)
    db.executemany(
        "DELETE FROM remote_tags WHERE remote = ? AND model = ? AND tag = ?",
        [(place, name, tag) for tag in tags for place, name in names],
    )


def places_of(db: sqlite3.Connection, digest: str) -> list[tuple[Remote, str]]:
    """Where a version was seen: remotes with the name that its model has there."""
    found = db.execute(
        "SELECT DISTINCT r.url, r.namespace, t.model FROM remote_tags t"
        " JOIN remotes r ON r.id = t.remote WHERE t.digest = ? ORDER BY r.id, t.model",
        (digest,),
    )
    return [(Remote(url, namespace), model) for url, namespace, model in found]


def models_seen(db: sqlite3.Connection, remote: Remote) -> list[str]:
    """The models of which something was seen on a remote, by the names they have there."""
    found = db.execute(
        "SELECT DISTINCT r.namespace, t.model FROM remote_tags t JOIN remotes r ON r.id = t.remote"
        " WHERE r.url = ?",
        (remote.base_url,),
    )
    repositories = {Remote(remote.base_url, one).repository(model) for one, model in found}
    return sorted(name for one in repositories if (name := remote.model(one)) is not None)


def digests_seen(db: sqlite3.Connection, remote: Remote, model: str) -> set[str]:
    """The manifests of a model that were seen on a remote."""
    return {
        digest
        for place, name in _names(db, remote, model)
        for (digest,) in db.execute(
            "SELECT DISTINCT digest FROM remote_tags WHERE remote = ? AND model = ?", (place, name)
        )
    }


def take_lead(
    db: sqlite3.Connection, model_id: int, remote: Remote, model: str, *, anyway: bool
) -> bool:
    """Whether the numbers of a remote count for a model.

    The first one's that it is shared with do, so that two remotes with different numbers do
    not take turns in changing them. Of several repositories there it is the one that has the
    model's name, or none.

    Args:
        db: A transaction that writes.
        model_id: The model.
        remote: The remote.
        model: The name that the model has there.
        anyway: It is to be this one from now on.
    """
    if anyway:
        db.execute("DELETE FROM homes WHERE model = ?", (model_id,))
    own = remote_id(db, remote)
    db.execute("INSERT OR IGNORE INTO homes VALUES (?, ?)", (model_id, own))
    (home,) = db.execute("SELECT remote FROM homes WHERE model = ?", (model_id,)).fetchone()
    names = dict(_names(db, remote, model))
    if home not in names:
        return False
    space = Remote(
        *db.execute("SELECT url, namespace FROM remotes WHERE id = ?", (home,)).fetchone()
    )
    repositories = db.execute(
        "SELECT repository FROM shared WHERE model = ? AND url = ?", (model_id, space.base_url)
    )
    others = {name for (one,) in repositories if (name := space.model(one)) is not None}
    if others <= {names[home]}:
        return True
    (name,) = db.execute("SELECT name FROM models WHERE id = ?", (model_id,)).fetchone()
    return bool(name == names[home])


def _names(db: sqlite3.Connection, remote: Remote, model: str) -> list[tuple[int, str]]:
    """The ids of all remotes that a repository is on, as it were, with the name it has there."""
    repository = remote.repository(model)
    found = db.execute(
        "SELECT id, namespace FROM remotes WHERE url = ? ORDER BY id", (remote.base_url,)
    )
    named = [(place, Remote(remote.base_url, space).model(repository)) for place, space in found]
    return [(place, name) for place, name in named if name is not None]
