"""Pushing versions to remotes of every kind."""

from __future__ import annotations

import json
from concurrent.futures import CancelledError
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.core.claim import Claim, claimant
from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import Reference
from nbmodel.errors import (
    AliasConflictError,
    ModelExistsError,
    ModelNotFoundError,
    TargetUnreachableError,
    VersionNotFoundError,
)
from nbmodel.registry import Registry
from nbmodel.registry.remote import push
from nbmodel.registry.remote.peer import Peer
from tests.registry.remote.conftest import People
from tests.tools.people import Person


def tags(person: Person, model: str = "digits") -> tuple[str, ...]:
    with person.peer() as peer:
        return peer.registry.tags(person.remote.repository(model))


def place_of(person: Person, tag: str, model: str = "digits") -> str | None:
    with person.peer() as peer:
        return peer.registry.digest(person.remote.repository(model), tag)


def start_together(first: Person, second: Person, *names: str) -> None:
    """Have two people share models from their first version on."""
    for name in names or ("digits",):
        first.add(name)
    first.push(None)
    second.sync()


def test_a_version_is_there_under_a_claim_its_number_its_stamp_and_its_aliases(
    person: People,
) -> None:
    ann = person("ann")
    version = ann.add()
    ann.registry.set_alias("digits", "champion")
    report = ann.push("digits:1")
    (pushed,) = report.versions
    assert (pushed.reference, pushed.number, pushed.was_there) == ("digits:1", 1, False)
    assert pushed.sent > 0
    assert report.aliases == ("digits:champion → 1",)
    there = tags(ann)
    claims = [tag for tag in there if Claim.parse(tag)]
    assert [Claim.parse(tag).version for tag in claims] == [claimant(version.digest)]  # type: ignore[union-attr] # they are claims
    for tag in (*claims, "1", version.stamp, "champion", "latest"):
        assert place_of(ann, tag) == version.digest


def test_pushing_again_sends_nothing(person: People) -> None:
    ann = person("ann")
    for _ in range(3):
        ann.add()
    ann.registry.set_alias("digits:2", "champion")
    ann.push()
    before = tags(ann)
    again = ann.push()
    assert again.sent == again.present == 0
    assert all(version.was_there for version in again.versions)
    assert (again.aliases, again.renumbered, again.doubts) == ((), (), ())
    assert tags(ann) == before


def test_a_name_alone_is_the_model_and_everything_is_every_model(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    ann.add()
    ann.add("team/fruit")
    ann.add("old")
    ann.registry.archive("old")
    assert [one.reference for one in ann.push("digits").versions] == ["digits:1", "digits:2"]
    report = ann.push(None)
    assert {one.reference: one.was_there for one in report.versions} == {
        "digits:1": True,
        "digits:2": True,
        "team/fruit:1": False,
    }


@pytest.mark.parametrize(
    ("ref", "error"), [("nothing", ModelNotFoundError), ("digits:7", VersionNotFoundError)]
)
def test_what_is_not_there_is_not_pushed(
    docker_person: People, ref: str, error: type[Exception]
) -> None:
    ann = docker_person("ann")
    ann.add()
    with pytest.raises(error):
        ann.push(ref)
    with pytest.raises(VersionNotFoundError, match="no alias 'champion'"):
        ann.push("digits", aliases=["champion"])


def test_who_comes_second_gets_another_number_visibly(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    ann.add()
    ann.push()
    ben.sync()
    ann.add()
    ann.push()
    theirs = ben.add()
    ben.registry.set_alias("digits:2", "mine")
    ben.registry.pin("digits:2", runtime="pi")
    report = ben.push("digits:2")
    (pushed,) = report.versions
    assert (pushed.reference, pushed.number) == ("digits:3", 3)
    assert [str(one) for one in report.renumbered] == [
        f"digits:2 is digits:3 now: another digits:2 was pushed to {ben.remote.host} first"
    ]
    version = ben.registry.resolve("digits:3")
    assert (version.digest, version.aliases) == (theirs.digest, ("latest", "mine"))
    assert [pin.number for pin in ben.registry.pins("digits")] == [3]
    assert [move.new for move in ben.registry.alias_history("digits")] == [3]
    (kept,) = ben.registry.renumbered("digits")
    assert (kept.old, kept.new) == (2, 3)
    assert ben.registry.verify().is_clean
    assert ben.add().number == 4


def test_a_model_that_is_not_the_one_there_is_not_pushed_into_it(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    ann.add()
    ann.push()
    mine = ben.add()
    for ref in ("digits", "digits:1"):
        with pytest.raises(ModelExistsError, match="none in common") as caught:
            ben.push(ref)
        assert f"`sync digits {ben.remote}` makes them one" in (caught.value.hint or "")
    assert ben.push(None).doubts[0].startswith("digits was left out: ")
    assert place_of(ben, "2") is None
    (part,) = ben.sync("digits").models
    assert part.doubts == (
        f"{ben.remote}/digits and the digits here had no version in common: they are one model now",
    )
    assert ben.push().versions[1].digest == mine.digest


@pytest.mark.parametrize("whole", [False, True], ids=["a version", "all versions"])
def test_what_was_deleted_there_is_left_out_until_it_is_named(
    person: People, request: pytest.FixtureRequest, tmp_path: Path, whole: bool
) -> None:
    kind = request.node.callspec.params["remote"]
    if kind == "docker-registry":
        pytest.skip("this registry takes no tag away")
    ann, ben = person("ann"), person("ben")
    first, second = ann.add(), ann.add()
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    ben.sync()
    gone = [first, second] if whole else [first]
    for version in gone:
        if kind == "registry serve":
            with Registry(tmp_path / "served") as served:
                served.delete(f"digits@{version.digest}", force=True)
        else:
            take_away(ann, version.digest)
    ann.registry.set_alias("digits:2", "newest")
    report = ann.push()
    (doubt,) = report.doubts
    assert "deleted there: left out" in doubt
    assert f"`push digits:1 {ann.remote}`" in doubt
    assert [one.digest for one in report.versions] == ([] if whole else [second.digest])
    assert (report.renumbered, place_of(ann, "3")) == ((), None)
    assert place_of(ann, "champion") is None
    assert [one.number for one in ann.registry.versions("digits")] == [2, 1]
    (part,) = ben.sync().models
    assert any("deleted there, and left here" in one for one in part.doubts)
    assert (part.there, part.unpushed) == (0 if whole else 1, 0)
    # What is new meanwhile takes no number of those that are gone.
    assert ann.push("digits@" + ann.add().digest).versions[0].number == 3
    (back,) = ann.push("digits:1").versions
    assert (back.digest, back.number) == (first.digest, 1)
    assert place_of(ann, "latest") == ann.registry.resolve("digits:3").digest


def take_away(person: Person, digest: str) -> None:
    """Delete a version at the remote, as somebody there would."""
    with person.peer() as peer:
        name = person.remote.repository("digits")
        for tag in peer.registry.tags(name):
            if peer.registry.digest(name, tag) == digest:
                peer.registry.delete_tag(name, tag)


def test_an_alias_that_is_not_on_the_version_is_not_pushed_with_it(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    ann.add()
    with pytest.raises(VersionNotFoundError, match="no alias 'champion'"):
        ann.push("digits:1", aliases=["champion"])
    ann.registry.set_alias("digits:2", "champion")
    with pytest.raises(VersionNotFoundError, match="is on digits:2, expected it on digits:1"):
        ann.push("digits:1", aliases=["champion"])


def test_only_the_aliases_asked_for_travel(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    for alias in ("champion", "mine"):
        ann.registry.set_alias("digits:1", alias)
    assert ann.push(aliases=["champion"]).aliases == ("digits:champion → 1",)
    assert place_of(ann, "mine") is None


def test_the_second_to_move_an_alias_is_told_and_nothing_is_lost(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    start_together(ann, ben)
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    ben.add()
    ben.registry.set_alias("digits:2", "champion")
    with pytest.raises(AliasConflictError, match=r"'champion' of 'digits' .* is on digits:1") as c:
        ben.push()
    assert "sync digits" in (c.value.hint or "")
    mine = ben.registry.resolve("digits:2")
    assert place_of(ben, "2") == mine.digest  # the version is there all the same
    assert place_of(ben, "champion") == ann.registry.resolve("digits:1").digest
    with pytest.raises(AliasConflictError):
        ben.push()  # again: it was not taken for seen
    assert ben.push(force=True).aliases == ("digits:champion → 2",)
    # Ann saw it on 1, where it is not any more.
    ann.add()
    ann.registry.set_alias("digits:2", "champion")
    with pytest.raises(AliasConflictError):
        ann.push()


def test_whoever_is_told_of_conflicts_is_told_what_was_done(
    docker_person: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    start_together(ann, ben, "digits", "fruit")
    for who in (ann, ben):
        for name in ("digits", "fruit"):
            who.add(name)
            who.registry.set_alias(f"{name}:2", "champion")
    ann.push(None)
    brought: list[str | None] = []

    def bring(_: Client, *, model: str | None = None, runtime: str | None = None) -> Any:
        brought.append(model)
        return (f"{model}: brought to 2",)

    monkeypatch.setattr(Client, "_bring", bring)
    client = Client(tmp_path / "home", tmp_path / "ben")
    with pytest.raises(AliasConflictError) as caught:
        client.push(None, str(ben.remote), everything=True)
    client.close()
    assert brought == ["digits", "fruit"], "they run another version under that number now"
    told = str(caught.value)
    for words in (
        "alias 'champion' of 'digits' ",
        "alias 'champion' of 'fruit' ",
        "2 versions pushed",
        "digits:2 is digits:3 now",
        "fruit:2 is fruit:3 now",
        "fruit: brought to 2",
    ):
        assert words in told


def test_what_fails_after_other_models_leaves_what_was_done_told(
    docker_person: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    start_together(ann, ben)
    ann.add()
    ann.push()
    ben.add()
    ben.add("fruit")
    push_version = push._push_version

    def broken(catalog: Any, peer: Any, there: str, row: Any, *more: Any) -> Any:
        if row.model == "fruit":
            raise TargetUnreachableError("the line is cut", hint="later")
        return push_version(catalog, peer, there, row, *more)

    monkeypatch.setattr(push, "_push_version", broken)
    with ben.peer() as peer:
        report = ben.registry.push(peer, None)
    assert [one.reference for one in report.versions] == ["digits:1", "digits:3"]
    assert [(one.old, one.new) for one in report.renumbered] == [(2, 3)]
    expected = "the line is cut; 1 version pushed; digits:2 is digits:3 now"
    with pytest.raises(TargetUnreachableError, match=expected) as caught:
        report.check()
    assert caught.value.hint == "later"


def test_an_alias_moves_again_from_where_it_was_last_seen(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    ann.push()  # seen, and not moved
    ann.add()
    ann.registry.set_alias("digits:2", "champion")
    assert ann.push().aliases == ("digits:champion → 2",)


def test_a_push_that_was_cut_is_completed_by_the_next(docker_person: People) -> None:
    ann = docker_person("ann")
    version = ann.add()
    ann.push()
    # All that a cut after the claim leaves: the claim itself.
    cut = Person(ann.registry.root.parent / "cut", type(ann.remote)(ann.remote.base_url, "cut"))
    other = cut.add()
    with cut.peer() as peer:
        repository = cut.remote.repository("digits")
        claim = Claim.of(1, other.digest, datetime.now(timezone.utc)).tag
        peer.registry.push(repository, cut.registry.storage, other.digest, tags=(claim,))
    (pushed,) = cut.push().versions
    assert (pushed.was_there, pushed.number) == (True, 1)
    assert {"1", other.stamp, "latest"} <= set(tags(cut))
    assert place_of(ann, "1") == version.digest
    cut.registry.close()


def test_a_cancelled_push_goes_on_the_next_time(docker_person: People) -> None:
    ann = docker_person("ann")
    for _ in range(3):
        ann.add()
    looks = iter(range(1000))
    with (
        ann.peer(cancelled=lambda: next(looks) > 4) as peer,
        pytest.raises(CancelledError),
    ):
        ann.registry.push(peer, "digits")
    assert [one.number for one in ann.push().versions] == [1, 2, 3]
    assert ann.registry.verify().is_clean


def test_progress_tells_of_every_byte(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add(content=b"x" * 100_000)
    for _ in range(2):  # sent, then found to be there
        told: list[int] = []
        expected: list[int] = []
        with Peer(ann.remote, progress=told.append, expect=expected.append) as peer:
            ann.registry.push(peer, "digits")
        assert [sum(told)] == expected
        assert expected[0] > 100_000


def test_another_remote_changes_no_number_here(docker_person: People) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    ann.add()
    ann.add()
    ann.push()
    elsewhere = type(ann.remote)(ann.remote.base_url, f"{ann.remote.namespace}-else")
    ben.remote = elsewhere
    ben.add()
    ben.push()
    with Peer(elsewhere) as peer:
        with pytest.raises(ModelExistsError):
            ann.registry.push(peer, "digits:1")
        report = ann.registry.push(peer, "digits:1", force=True)
    (pushed,) = report.versions
    assert (pushed.reference, pushed.number) == ("digits:1", 2)
    assert report.renumbered == ()
    assert report.doubts == (f"digits:1 is number 2 at {elsewhere}/digits",)
    with Peer(elsewhere, leads=True) as peer:
        renumbered = ann.registry.push(peer, "digits:1").renumbered
    assert [(one.old, one.new) for one in renumbered] == [(1, 2), (2, 3)]
    assert sorted(ann.numbers().values()) == [2, 3]


def test_fields_that_nobody_knows_travel_byte_for_byte(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    made = ann.add()
    storage = ann.registry.storage
    raw = json.loads(storage.read(made.digest, limit=MAX_MANIFEST))
    config = json.loads(storage.read(raw["config"]["digest"], limit=MAX_MANIFEST))
    config["future"] = {"ä": [1, 2.50, None]}
    changed = json.dumps(config, indent=3).encode()
    raw["config"] |= {"digest": storage.add_bytes(changed), "size": len(changed)}
    raw["annotations"] = {"org.example.unknown": "kept"}
    foreign = json.dumps(raw, indent=1).encode() + b"\n"
    storage.add_bytes(foreign)
    adopted = ann.registry.adopt(foreign, "digits")
    assert adopted.digest == digest_of(foreign)
    ann.push(f"digits@{adopted.digest}")
    with ben.peer() as peer:
        pulled = ben.registry.pull(peer, Reference.parse(f"digits@{adopted.digest}")).version
    assert ben.registry.storage.read(pulled.digest, limit=MAX_MANIFEST) == foreign
    assert ben.registry.storage.read(raw["config"]["digest"], limit=MAX_MANIFEST) == changed


def test_a_registry_that_cannot_be_written_is_pushed_from_all_the_same(
    docker_person: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    ann = docker_person("ann")
    ann.add()
    ann.registry.close()
    index = ann.registry.root / "registry.sqlite"
    index.chmod(0o444)
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: mode != os.W_OK and real(path, mode, **more)
    )
    monkeypatch.setattr("nbmodel.registry.database.Database.write", _refuse_writing, raising=True)
    report = ann.push()
    assert [one.number for one in report.versions] == [1]
    assert "could not be noted here" in report.doubts[0]


def _refuse_writing(self: object) -> None:
    from nbmodel.errors import StorageUnavailableError

    raise StorageUnavailableError("cannot use registry index: read-only file system")
