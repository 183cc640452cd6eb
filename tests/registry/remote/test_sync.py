"""Knowing what a remote has, without its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.digest import short_digest
from nbmodel.core.reference import Reference
from nbmodel.display import SyncCard
from nbmodel.errors import (
    BlobNotFoundError,
    InputError,
    ManifestError,
    ModelNotFoundError,
    NbModelError,
    RegistryError,
    RemoteFaultError,
    StorageUnavailableError,
    TargetUnreachableError,
)
from nbmodel.registry import Registry
from nbmodel.registry.remote import peer as peer_module
from nbmodel.registry.remote import sync
from nbmodel.storage.distribution_client import Distribution
from tests.registry.remote.conftest import People
from tests.tools.people import Person

WEIGHTS = b"w" * 50_000


def blobs(registry: Registry) -> int:
    return sum(size for _, size, _ in registry.storage.digests())


@pytest.fixture
def shared(person: People) -> tuple[Person, Person]:
    """Ann pushed three versions, and Ben knows them."""
    ann, ben = person("ann"), person("ben")
    for turn in range(3):
        ann.add(content=WEIGHTS + bytes([turn]), metrics={"acc": turn / 10})
    ann.registry.set_alias("digits:2", "champion")
    ann.push()
    ben.sync()
    return ann, ben


def test_versions_are_known_without_their_files(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    assert ben.numbers() == ann.numbers()
    versions = ben.registry.versions("digits")
    assert [version.number for version in versions] == [3, 2, 1]
    assert {version.files_on for version in versions} == {ben.remote.host}
    assert versions[0].to_json()["files_on"] == ben.remote.host
    assert versions[1].aliases == ("champion",)
    assert versions[0].signature == ann.registry.resolve("digits:3").signature
    assert blobs(ben.registry) < 10_000
    assert [version.number for version in ben.registry.versions(query="metrics.acc > 0.15")] == [3]
    assert ben.registry.resolve("digits:champion").metrics == {"acc": 0.1}
    assert ben.registry.lineage("digits:2").root == versions[1].digest


def test_nothing_that_is_known_is_damaged_or_collected(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    assert ben.registry.verify().is_clean
    assert ben.registry.gc(grace_s=0).count == 0
    assert ben.registry.verify("digits:1").is_clean
    assert len(ben.registry.versions("digits")) == 3


def test_files_are_fetched_when_they_are_needed(
    shared: tuple[Person, Person], tmp_path: Path
) -> None:
    _, ben = shared
    (path,) = ben.registry.extract("digits:2", tmp_path / "out")
    assert path.read_bytes() == WEIGHTS + b"\x01"
    on = {version.number: version.files_on for version in ben.registry.versions("digits")}
    assert on == {3: ben.remote.host, 2: None, 1: ben.remote.host}
    assert ben.registry.fetch(ben.registry.resolve("digits:2")) is None
    told: list[int] = []
    version = ben.registry.resolve("digits:1")
    assert ben.registry.fetch(version, progress=told.append) == ben.remote.host
    assert sum(told) > len(WEIGHTS)
    assert ben.registry.verify().is_clean


def test_a_second_time_brings_nothing(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    (part,) = ben.sync().models
    assert (part.there, part.new, part.aliases, part.renumbered, part.doubts) == (3, (), (), (), ())
    assert not part.is_changed


def test_what_is_known_is_pulled_whole(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    with ben.peer() as peer:
        report = ben.registry.pull(peer, Reference.parse("digits:3"))
    assert report.version.files_on is None
    assert report.received == len(WEIGHTS) + 1
    assert report.present > 0  # the config was here
    assert len(ben.registry.versions("digits")) == 3


def test_uploads_here_count_on_above_what_is_there(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    assert ben.add().number == 4
    assert ben.registry.resolve("digits").number == 4
    (part,) = ben.sync().models
    assert part.unpushed == 1


def test_a_version_made_here_gives_way_to_one_that_is_there(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    mine = [ben.add().digest for _ in range(2)]
    theirs = [ann.add().digest for _ in range(3)]
    ann.push()
    ben.registry.set_alias("digits:1", "mine")
    (part,) = ben.sync("digits").models
    assert sorted(part.new) == ["digits:1", "digits:2", "digits:3"]
    assert [(one.old, one.new) for one in part.renumbered] == [(1, 4), (2, 5)]
    assert ben.numbers() == dict(zip([*theirs, *mine], range(1, 6), strict=True))
    assert ben.registry.resolve("digits:mine").number == 4
    assert [pushed.number for pushed in ben.push().versions] == [1, 2, 3, 4, 5]
    ann.sync()
    assert ann.numbers() == ben.numbers()


def test_a_single_number_settles_the_same_for_all(docker_person: People) -> None:
    # Both claim 1 before either looks: as two that push at the same moment.
    from datetime import datetime, timedelta, timezone

    from nbmodel.core.claim import Claim

    ann, ben, cat = docker_person("ann"), docker_person("ben"), docker_person("cat")
    at = datetime(2026, 2, 28, 13, 36, 51, tzinfo=timezone.utc)
    made = {}
    for turn, who in enumerate((ann, ben)):
        made[who] = who.add()
        with who.peer() as peer:
            claim = Claim.of(1, made[who].digest, at - timedelta(seconds=turn)).tag
            peer.registry.push(
                who.remote.repository("digits"),
                who.registry.storage,
                made[who].digest,
                tags=(claim,),
            )
    for who in (ann, ben, cat):
        who.sync("digits")
        assert who.numbers() == {made[ben].digest: 1, made[ann].digest: 2}
    assert [(one.old, one.new) for one in ann.registry.renumbered("digits")] == [(1, 2)]
    assert ben.registry.renumbered("digits") == []


def test_aliases_follow_where_they_moved_there_alone(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    ann.registry.set_alias("digits:3", "champion")
    ann.push()
    (part,) = ben.sync().models
    assert [str(alias) for alias in part.aliases] == ["champion → 3 (was 2)"]
    assert ben.registry.resolve("digits:champion").number == 3
    assert ben.registry.alias_history("digits", "champion")[0].why == f"as on {ben.remote.host}"


def test_an_alias_that_moved_here_stays(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    ben.registry.set_alias("digits:1", "champion")
    (part,) = ben.sync().models
    assert part.aliases == ()
    assert "was moved here: push moves it" in part.doubts[0]
    ann.registry.set_alias("digits:3", "champion")
    ann.push()
    (part,) = ben.sync().models
    assert "was moved here and on" in part.doubts[0]
    assert ben.registry.resolve("digits:champion").number == 1
    ben.registry.remove_alias("digits", "champion")


def test_a_single_model_or_all_that_were_pushed_from_here(docker_person: People) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    for name in ("digits", "team/fruit"):
        ann.add(name)
    ann.push(None)
    assert [part.model for part in ben.sync("digits").models] == ["digits"]
    assert [part.model for part in ben.sync().models] == ["digits", "team/fruit"]
    with pytest.raises(ModelNotFoundError, match="no model 'nothing' on"):
        ben.sync("nothing")


def test_what_others_keep_there_is_left_alone(docker_person: People) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    version = ann.add("image")
    with ann.peer() as peer:
        repository = ann.remote.repository("image")
        peer.registry.push(repository, ann.registry.storage, version.digest, tags=("v1.0",))
    report = ben.sync()
    assert (report.models, report.others) == ((), ("image",))
    assert f"`pull {ben.remote}/image` brings one" in str(SyncCard.of(report))
    # Asked for by name, it comes: its tag is an alias, and it gets a number here.
    (part,) = ben.sync("image").models
    assert part.new == ("image:1",)
    assert ben.registry.resolve("image:v1.0").digest == version.digest


def test_a_registry_of_many_repositories_is_not_searched_to_its_end(
    docker_person: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    for name in ("one", "two", "three"):
        ann.add(name, b"the same")
    ann.push(None)
    monkeypatch.setattr(sync, "_MAX_STRANGE", 2)
    report = ben.sync()
    assert ([part.model for part in report.models], report.left_out) == (["one", "three"], 1)
    assert ben.sync("two").models[0].new == ("two:1",)


@pytest.mark.parametrize("error", [RemoteFaultError("500"), ManifestError("none")])
def test_what_cannot_be_read_leaves_the_rest(
    docker_person: People, monkeypatch: pytest.MonkeyPatch, error: NbModelError
) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    bad, good = ann.add(), ann.add()
    ann.add("fruit")
    ann.push(None)
    manifest, tags = Distribution.manifest, Distribution.tags

    def broken(self: Distribution, name: str, reference: str) -> bytes:
        if reference == bad.digest:
            raise error
        return manifest(self, name, reference)

    def closed(self: Distribution, name: str) -> tuple[str, ...]:
        if name.endswith("fruit"):
            raise error
        return tags(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Distribution, "manifest", broken)
        patch.setattr(Distribution, "tags", closed)
        patch.setattr(peer_module, "_PAUSES_S", ())
        digits, fruit = ben.sync().models
        assert (digits.new, ben.numbers()) == (("digits:2",), {good.digest: 2})
        assert digits.doubts == (f"{short_digest(bad.digest)} was left out: {error}",)
        assert fruit.doubts == (f"fruit was left out: {error}",)
        with pytest.raises(type(error)):
            ben.sync("fruit")
        patch.setattr(Distribution, "tags", failing(StorageUnavailableError("full")))
        with pytest.raises(StorageUnavailableError):
            ben.sync()
    digits, fruit = ben.sync().models
    assert (digits.new, fruit.new) == (("digits:1",), ("fruit:1",))


def failing(error: NbModelError) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


def test_numbers_that_other_tools_gave_count(docker_person: People) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    first, second = ann.add(), ann.add()
    with ann.peer() as peer:
        repository = ann.remote.repository("digits")
        for tag, version in (("7", first), ("3", second)):
            peer.registry.push(repository, ann.registry.storage, version.digest, tags=(tag,))
    ben.sync("digits")
    assert ben.numbers() == {first.digest: 7, second.digest: 3}
    assert ben.add().number == 8


def test_an_archived_model_is_left_alone(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    ben.registry.remove_alias("digits", "champion")
    ben.registry.archive("digits")
    ann.add()
    ann.push()
    (part,) = ben.sync().models
    assert part.doubts == ("digits is archived here: it was left alone",)
    with ben.peer() as peer, pytest.raises(RegistryError, match="archived"):
        ben.registry.pull(peer, Reference.parse("digits:4"))


def test_files_whose_remote_is_gone_are_said_to_be_there(
    docker_person: People, tmp_path: Path
) -> None:
    ann, ben = docker_person("ann"), docker_person("ben")
    ann.add()
    ann.push()
    ben.sync()
    with ben.registry._catalog.db.write() as db:
        db.execute("UPDATE remotes SET url = 'http://127.0.0.1:1'")
    with pytest.raises(TargetUnreachableError, match=r"127\.0\.0\.1:1"):
        ben.registry.extract("digits:1", tmp_path / "out")
    with ben.registry._catalog.db.write() as db:
        db.execute("DELETE FROM remote_tags")
    assert ben.registry.versions("digits")[0].files_on == "nobody"
    with pytest.raises(BlobNotFoundError, match="no remote is known to have them"):
        ben.registry.extract("digits:1", tmp_path / "out")


def test_signatures_that_were_made_later_come_along(shared: tuple[Person, Person]) -> None:
    pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
    from nbmodel.signing.key import make_key

    ann, ben = shared
    version, _ = ann.registry.sign("digits:1", make_key())
    report = ann.push()
    assert [one.signatures for one in report.versions] == [1, 0, 0]
    (part,) = ben.sync().models
    assert (part.signatures, part.is_changed) == (1, True)
    assert len(ben.registry.bundles(version.digest)) == 1
    assert ben.sync().models[0].signatures == 0
    # Nobody signs what was never read.
    with pytest.raises(InputError, match="were never read here") as caught:
        ben.registry.sign("digits:1", make_key())
    assert caught.value.hint == "`pull digits:1` reads them"


def test_signatures_that_cannot_be_read_keep_nothing_else_from_coming(
    shared: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = shared

    def broken(*_: object) -> int:
        raise RemoteFaultError("it stumbled")

    monkeypatch.setattr(sync, "_ASKED", 1)
    monkeypatch.setattr(sync, "pull_signatures", broken)
    (part,) = ben.sync().models
    digests = [ann.registry.resolve(f"digits:{number}").digest for number in (2, 3)]
    assert part.doubts == tuple(
        f"signatures of {short_digest(one)} were left out: it stumbled" for one in digests
    )


def test_what_was_read_is_told_apart_from_what_is_elsewhere(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    report = ben.registry.verify()
    assert (report.versions, report.elsewhere, report.is_clean) == (3, 3, True)
    ben.registry.fetch(ben.registry.resolve("digits:2"))
    assert ben.registry.verify().elsewhere == 2
    assert ben.registry.verify("digits:2").elsewhere == 0


def test_deleting_what_is_known_frees_no_more_than_is_here(shared: tuple[Person, Person]) -> None:
    _, ben = shared
    deleted = ben.registry.delete("digits:1")
    assert deleted.freeable < 10_000
    assert deleted.left_on == (f"{ben.remote}/digits",)


def test_a_renamed_model_finds_its_files_under_the_old_name(
    shared: tuple[Person, Person], tmp_path: Path
) -> None:
    _, ben = shared
    ben.registry.rename("digits", "numerals")
    assert ben.registry.extract("numerals:1", tmp_path / "out")[0].stat().st_size == 50_001
