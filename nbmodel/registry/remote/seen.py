"""What was seen on remotes, in the index: tags, where versions are, who gives numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

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
    """Tag → digest of the manifest, as a remote had them when it was last looked at."""
    return dict(
        db.execute(
            "SELECT t.tag, t.digest FROM remote_tags t JOIN remotes r ON r.id = t.remote"
            " WHERE r.url = ? AND r.namespace = ? AND t.model = ? AND t.tag != ?",
            (remote.base_url, remote.namespace, model, _THERE),
        )
    )


def note_tags(
    db: sqlite3.Connection,
    remote: int,
    model: str,
    tags: Mapping[str, str],
    there: Iterable[str] = (),
) -> None:
    """Keep what a remote has.

    Args:
        db: A transaction that writes.
        remote: Its id.
        model: The name that the model has there.
        tags: Tag → digest of the manifest it is on now.
        there: Digests of manifests that are there, whether or not under a tag.
    """
    db.executemany(
        "DELETE FROM remote_tags WHERE remote = ? AND model = ? AND tag = ?",
        [(remote, model, tag) for tag in tags],
    )
    rows = [(remote, model, tag, digest) for tag, digest in tags.items()]
    rows += [(remote, model, _THERE, digest) for digest in there]
    db.executemany("INSERT OR IGNORE INTO remote_tags VALUES (?, ?, ?, ?)", rows)


def forget_tag(db: sqlite3.Connection, remote: int, model: str, tag: str) -> None:
    """Forget a tag that a remote does not have any more."""
    db.execute(
        "DELETE FROM remote_tags WHERE remote = ? AND model = ? AND tag = ?", (remote, model, tag)
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
        "SELECT DISTINCT t.model FROM remote_tags t JOIN remotes r ON r.id = t.remote"
        " WHERE r.url = ? AND r.namespace = ? ORDER BY t.model",
        (remote.base_url, remote.namespace),
    )
    return [model for (model,) in found]


def digests_seen(db: sqlite3.Connection, remote: Remote, model: str) -> set[str]:
    """The manifests of a model that were seen on a remote."""
    found = db.execute(
        "SELECT DISTINCT t.digest FROM remote_tags t JOIN remotes r ON r.id = t.remote"
        " WHERE r.url = ? AND r.namespace = ? AND t.model = ?",
        (remote.base_url, remote.namespace, model),
    )
    return {digest for (digest,) in found}


def take_lead(db: sqlite3.Connection, model_id: int, remote: int, *, anyway: bool) -> bool:
    """Whether the numbers of a remote count for a model.

    The first one's that it is shared with do, so that two remotes with different numbers do
    not take turns in changing them.

    Args:
        db: A transaction that writes.
        model_id: The model.
        remote: The remote's id.
        anyway: It is to be this one from now on.
    """
    if anyway:
        db.execute("DELETE FROM homes WHERE model = ?", (model_id,))
    db.execute("INSERT OR IGNORE INTO homes VALUES (?, ?)", (model_id, remote))
    (home,) = db.execute("SELECT remote FROM homes WHERE model = ?", (model_id,)).fetchone()
    return bool(home == remote)
