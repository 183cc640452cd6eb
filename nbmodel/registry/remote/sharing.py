"""Which repository of a remote is which model here.

A repository is one model here, whatever remote leads to it: ``host`` with ``team/digits`` and
``host/team`` with ``digits`` are the same place. What is seen the first time gets the name that
its repository has past the remote's namespace, and keeps its place when it is renamed here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from nbmodel.core.remote import Remote
from nbmodel.errors import ModelExistsError


def model_here(db: sqlite3.Connection, remote: Remote, there: str) -> str | None:
    """What a repository is called here, or None for one that is no model here.

    Args:
        db: A transaction.
        remote: The remote.
        there: The name that the model has on it.
    """
    row = db.execute(
        "SELECT m.name FROM shared s JOIN models m ON m.id = s.model"
        " WHERE s.url = ? AND s.repository = ?",
        (remote.base_url, remote.repository(there)),
    ).fetchone()
    return None if row is None else str(row[0])


def was_deleted(db: sqlite3.Connection, remote: Remote, there: str) -> bool:
    """Whether a repository was a model here that somebody deleted."""
    row = db.execute(
        "SELECT 1 FROM shared WHERE url = ? AND repository = ? AND model IS NULL",
        (remote.base_url, remote.repository(there)),
    ).fetchone()
    return row is not None


def name_there(db: sqlite3.Connection, remote: Remote, model: str) -> str:
    """What a model here is called on a remote: as it is there already, else as here.

    Args:
        db: A transaction.
        remote: The remote.
        model: The name here, whether or not there is such a model.
    """
    found = db.execute(
        "SELECT s.repository FROM shared s JOIN models m ON m.id = s.model"
        " WHERE s.url = ? AND m.name = ?",
        (remote.base_url, model),
    )
    names = [name for (repository,) in found if (name := remote.model(repository)) is not None]
    return names[0] if len(names) == 1 else model


def check_own(db: sqlite3.Connection, remote: Remote, there: str, model: str) -> None:
    """Go on, unless a repository is another model here.

    Args:
        db: A transaction.
        remote: The remote.
        there: The name on it.
        model: The model here.

    Raises:
        ModelExistsError: It is.
    """
    known = model_here(db, remote, there)
    if known not in (None, model):
        raise ModelExistsError(
            f"{place(remote, there)} is {known!r} here, expected {model!r}",
            hint=f"use {known}, or another namespace for {model}",
        )


def check_related(
    db: sqlite3.Connection, remote: Remote, there: str, model: str, digests: Collection[str]
) -> None:
    """Go on, unless a repository has versions, and none that a model here has.

    Args:
        db: A transaction.
        remote: The remote.
        there: The name on it.
        model: The model here.
        digests: Of the versions there.

    Raises:
        ModelExistsError: It has only versions of somebody else, and was never this model.
    """
    if not digests or model_here(db, remote, there) == model or _have_common(db, model, digests):
        return
    versions = "a version" if len(digests) == 1 else f"{len(digests)} versions"
    merge = "--force pushes it there all the same"
    if not _places(db, model):
        merge = f"`sync {model} {remote}` makes them one model, if they are"
    raise ModelExistsError(
        f"{place(remote, there)} has {versions} of a {model!r} that is not the one here: "
        "they have none in common",
        hint=f"`rename {model} NAME`, or another namespace, keeps them apart; {merge}",
    )


def name_for(
    db: sqlite3.Connection,
    remote: Remote,
    there: str,
    name: str | None,
    digests: Collection[str],
    *,
    merge: bool = False,
) -> str:
    """What a repository is called here, or is to be called when it is new here.

    A model that has a version in common with it is the same model, if it is nowhere else on the
    remote or has that name.

    Args:
        db: A transaction.
        remote: The remote.
        there: The name on it.
        name: The name that somebody wants; None: as there.
        digests: Of the versions there.
        merge: Whether a model of that name that was never on any remote is the same model, too.

    Raises:
        ModelExistsError: It has another name here; or the name is a model's of another place.
    """
    known = model_here(db, remote, there)
    if known is not None:
        if name not in (None, known):
            raise ModelExistsError(
                f"{place(remote, there)} is {known!r} here already",
                hint=f"`rename {known} {name}` gives it another name",
            )
        return known
    wanted = there if name is None else name
    if name is None:
        wanted = _same(db, remote, digests, wanted) or there
    others = _places(db, wanted)
    if _have_common(db, wanted, digests):
        return wanted
    hint = f"another name brings it: pull {place(remote, there)} --name NAME"
    if others:
        raise ModelExistsError(
            f"{place(remote, there)} is not the {wanted!r} that is here: that one is "
            f"{place(Remote(others[0][0]), others[0][1])}, and they have no version in common",
            hint=hint,
        )
    if digests and not merge and _has_versions(db, wanted):
        one = f"; or `sync {wanted} {remote}` makes them one model" if wanted == there else ""
        raise ModelExistsError(
            f"{place(remote, there)} is not the {wanted!r} that is here: that one was never "
            "pushed, and they have no version in common",
            hint=hint + one,
        )
    return wanted


def share(db: sqlite3.Connection, remote: Remote, there: str, model_id: int) -> None:
    """Note that a repository is a model here.

    Args:
        db: A transaction that writes.
        remote: The remote.
        there: The name on it.
        model_id: The model here.
    """
    db.execute(
        "INSERT OR REPLACE INTO shared VALUES (?, ?, ?)",
        (remote.base_url, remote.repository(there), model_id),
    )


def shared_places(db: sqlite3.Connection, model: str) -> list[str]:
    """The repositories that a model here is, as a person writes them."""
    found = db.execute(
        "SELECT s.url, s.repository FROM shared s JOIN models m ON m.id = s.model"
        " WHERE m.name = ? ORDER BY s.url, s.repository",
        (model,),
    )
    return [place(Remote(url), repository) for url, repository in found]


def alias_places(db: sqlite3.Connection, model: str, alias: str) -> list[tuple[Remote, str]]:
    """The remotes where an alias of a model here was seen, with the name of the model there."""
    found = db.execute(
        "SELECT r.url, r.namespace, t.model FROM remote_tags t JOIN remotes r ON r.id = t.remote"
        " WHERE t.tag = ? ORDER BY r.id, t.model",
        (alias,),
    )
    places = [(Remote(url, namespace), there) for url, namespace, there in found]
    return [(remote, there) for remote, there in places if model_here(db, remote, there) == model]


def models_here(db: sqlite3.Connection, remote: Remote) -> dict[str, str]:
    """The name that a model has on a remote → its name here."""
    found = db.execute(
        "SELECT s.repository, m.name FROM shared s JOIN models m ON m.id = s.model WHERE s.url = ?",
        (remote.base_url,),
    )
    named = ((remote.model(repository), model) for repository, model in found)
    return {there: model for there, model in named if there is not None}


def place(remote: Remote, there: str) -> str:
    """A repository as a person writes it: ``registry.example/team/digits``."""
    return f"{remote}/{there}"


def _places(db: sqlite3.Connection, model: str) -> list[tuple[str, str]]:
    """Address and repository of the places where a model here is."""
    return db.execute(
        "SELECT s.url, s.repository FROM shared s JOIN models m ON m.id = s.model"
        " WHERE m.name = ? ORDER BY s.url, s.repository",
        (model,),
    ).fetchall()


def _same(
    db: sqlite3.Connection, remote: Remote, digests: Collection[str], wanted: str
) -> str | None:
    """The model here that has a version in common with a repository, or None.

    Of several it is the one of the wanted name; one that is elsewhere on the remote is another.
    """
    found = db.execute(
        "SELECT DISTINCT m.name, v.digest FROM versions v JOIN models m ON m.id = v.model"
        " WHERE NOT EXISTS (SELECT 1 FROM shared s WHERE s.model = m.id AND s.url = ?)"
        " ORDER BY m.name",
        (remote.base_url,),
    )
    names = list(dict.fromkeys(name for name, digest in found if digest in digests))
    return wanted if wanted in names else next(iter(names), None)


def _has_versions(db: sqlite3.Connection, model: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM versions v JOIN models m ON m.id = v.model WHERE m.name = ? LIMIT 1",
        (model,),
    )
    return found.fetchone() is not None


def _have_common(db: sqlite3.Connection, model: str, digests: Collection[str]) -> bool:
    found = db.execute(
        "SELECT v.digest FROM versions v JOIN models m ON m.id = v.model WHERE m.name = ?", (model,)
    )
    return any(digest in digests for (digest,) in found)
