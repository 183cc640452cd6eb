"""The remotes that are known, which is meant where none is named, and forgetting one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.core.remote import Remote
from nbmodel.errors import InputError, InUseError
from nbmodel.registry import Registry
from nbmodel.registry.remote.peer import Peer
from tests.tools.people import Person


@pytest.fixture
def ann(folder_remote: Remote, tmp_path: Path) -> Iterator[Person]:
    """Somebody with a version, and a folder to push to."""
    person = Person(tmp_path / "ann", folder_remote)
    person.add()
    yield person
    person.registry.close()


@pytest.fixture
def other(tmp_path: Path) -> Remote:
    """Another folder."""
    (tmp_path / "other").mkdir()
    return Remote.parse((tmp_path / "other").as_uri())


def told(registry: Registry) -> list[tuple[Remote, int, bool, bool]]:
    """Remote, models, whether it is known when it was used, whether it is the default."""
    uses = registry.remote_uses()
    return [(one.remote, one.models, bool(one.used), one.is_default) for one in uses]


def push(person: Person, remote: Remote) -> None:
    with Peer(remote) as peer:
        person.registry.push(peer, "digits").check()
    person.registry.note_use(remote)


def test_the_first_one_that_was_used_is_the_default_until_another_is_chosen(
    ann: Person, other: Remote
) -> None:
    assert (ann.registry.default_remote(), told(ann.registry)) == (None, [])
    push(ann, ann.remote)
    push(ann, other)
    assert told(ann.registry) == [(ann.remote, 1, True, True), (other, 1, True, False)]
    assert (ann.registry.default_remote(), ann.registry.chosen_remote()) == (ann.remote, None)
    ann.registry.choose_remote(other)
    push(ann, ann.remote)  # to use one does not choose it
    assert told(ann.registry) == [(ann.remote, 1, True, False), (other, 1, True, True)]
    assert ann.registry.chosen_remote() == other
    ann.registry.choose_remote(ann.remote)
    assert ann.registry.default_remote() == ann.remote


def test_one_can_be_chosen_that_was_never_used(ann: Person, other: Remote) -> None:
    ann.registry.choose_remote(other)
    assert told(ann.registry) == [(other, 0, False, True)]
    ann.registry.note_use(ann.remote)  # nothing was seen there
    assert [remote for remote, *_ in told(ann.registry)] == [other]


def test_to_forget_one_leaves_the_next_and_nothing_of_it(ann: Person, other: Remote) -> None:
    push(ann, ann.remote)
    push(ann, other)
    ann.registry.choose_remote(ann.remote)
    ann.registry.forget_remote(ann.remote)
    assert told(ann.registry) == [(other, 1, True, True)]
    assert ann.registry.shared_places("digits") == [f"{other}/digits"]
    with pytest.raises(InputError, match="was never used") as caught:
        ann.registry.forget_remote(ann.remote)
    assert caught.value.hint == f"known: {other}"
    push(ann, ann.remote)  # known again, nothing sent twice
    assert ann.registry.versions("digits")[0].number == 1


def test_what_leads_to_the_same_registry_keeps_what_it_knows(ann: Person) -> None:
    whole, team, peers = (Remote("https://a.example", one) for one in ("", "team", "team/peers"))
    with ann.registry._catalog.db.write() as db:
        for remote in (whole, team, peers):
            db.execute(
                "INSERT INTO remotes (url, namespace) VALUES (?, ?)",
                (remote.base_url, remote.namespace),
            )
        db.execute("INSERT INTO shared VALUES ('https://a.example', 'team/digits', 1)")
    assert [models for _, models, *_ in told(ann.registry)] == [1, 1, 0]
    ann.registry.forget_remote(whole)
    assert ann.registry.shared_places("digits") == ["a.example/team/digits"]
    ann.registry.forget_remote(team)
    assert ann.registry.shared_places("digits") == []


def test_one_that_alone_has_files_is_not_forgotten(
    ann: Person, other: Remote, tmp_path: Path
) -> None:
    push(ann, ann.remote)
    push(ann, other)
    ben = Person(tmp_path / "ben", ann.remote)
    ben.sync()
    with pytest.raises(InUseError, match=r"alone has the files of digits:1\n"):
        ben.registry.forget_remote(ann.remote)
    with Peer(other) as peer:
        ben.registry.sync(peer, None)
    ben.registry.forget_remote(ann.remote)  # the other has them, too
    assert ben.registry.versions("digits")[0].files_on == other.host
    ben.registry.forget_remote(other, force=True)
    assert ben.registry.remotes() == []
    ben.registry.close()
