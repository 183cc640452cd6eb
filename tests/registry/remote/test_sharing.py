"""Which repository is which model here, and what was deleted or removed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote
from nbmodel.errors import AliasConflictError, ModelExistsError, VersionNotFoundError
from nbmodel.registry import Registry
from nbmodel.registry.remote import sync
from nbmodel.registry.remote.peer import Peer
from tests.registry.remote.conftest import People
from tests.tools.people import Person


@pytest.fixture
def base(docker_url: str, docker_remote: Remote) -> tuple[Remote, str]:
    """A registry as a whole, and a namespace of it that nobody used before."""
    return Remote(docker_url), docker_remote.namespace


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Callable[[str, Remote], Person]]:
    """Somebody and a remote: ``at("ann", remote)``; the same registry each time."""
    known: dict[str, Registry] = {}

    def at_(who: str, remote: Remote) -> Person:
        person = Person(tmp_path / who, remote)
        person.registry = known.setdefault(who, person.registry)
        return person

    yield at_
    for registry in known.values():
        registry.close()


def pull(person: Person, ref: str, **options: Any) -> Any:
    with person.peer() as peer:
        return person.registry.pull(peer, Reference.parse(ref), **options)


def models(person: Person) -> dict[str, int]:
    return {model.name: model.versions for model in person.registry.models()}


@pytest.mark.parametrize("whole_first", [True, False], ids=["registry first", "namespace first"])
def test_a_repository_is_one_model_whatever_remote_leads_to_it(
    base: tuple[Remote, str], at: Callable[[str, Remote], Person], whole_first: bool
) -> None:
    whole, space = base
    team = Remote(whole.base_url, space)
    ann = at("ann", team)
    ann.add()
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    ways = [(whole, f"{space}/digits"), (team, "digits")]
    first, second = ways if whole_first else ways[::-1]
    pull(at("ben", first[0]), f"{first[1]}:champion")
    name = first[1]
    ann.add()
    ann.registry.set_alias("digits:2", "champion")
    ann.push()
    report = pull(at("ben", second[0]), f"{second[1]}:2")
    assert report.version.reference == f"{name}:2"
    assert report.doubts == (f"{team}/digits is {name} here",)
    ann.add()
    ann.push()
    ben = at("ben", second[0])
    (part,) = ben.sync(name).models
    assert (part.model, part.new, part.unpushed) == (name, (f"{name}:3",), 0)
    # What was seen by one way is known by the other: the alias moved there alone.
    assert [str(one) for one in part.aliases] == ["champion → 2 (was 1)"]
    ben.add(name)
    (pushed,) = ben.push(name).versions[3:]
    assert (pushed.reference, pushed.number) == (f"{name}:4", 4)
    assert models(ben) == {name: 4}
    assert at("ann", team).sync().models[0].there == 4
    assert ben.registry.shared_places(name) == [f"{team}/digits"]


def test_a_model_that_is_renamed_here_keeps_its_repository(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    ann.add()
    ann.push()
    ben.sync()
    ben.registry.rename("digits", "numerals")
    ann.add()
    ann.push()
    (part,) = ben.sync().models
    assert part.new == ("numerals:2",)
    assert part.doubts == (f"{ben.remote}/digits is numerals here",)
    ben.add("numerals")
    report = ben.push("numerals")
    assert report.versions[2].number == 3
    assert report.doubts == (f"numerals is {ben.remote}/digits there",)
    ann.sync()
    assert models(ann) == {"digits": 3}
    assert models(ben) == {"numerals": 3}


def test_a_name_that_is_another_repository_here_is_not_pushed_to(person: People) -> None:
    ann = person("ann")
    ann.add()
    ann.push()
    ann.registry.rename("digits", "numerals")
    ann.add("digits")
    with pytest.raises(ModelExistsError, match="/digits is 'numerals' here, expected 'digits'"):
        ann.push("digits")


@pytest.fixture
def two(folder_remote: Remote, tmp_path: Path) -> Iterator[tuple[Person, Person]]:
    """Ben with two remotes, each with another ``digits`` of somebody else."""
    (tmp_path / "other").mkdir()
    other = Remote.parse((tmp_path / "other").as_uri())
    for who, remote in (("ann", folder_remote), ("cat", other)):
        owner = Person(tmp_path / who, remote)
        owner.add(content=who.encode())
        owner.push()
        owner.registry.close()
    ben, again = Person(tmp_path / "ben", folder_remote), Person(tmp_path / "ben", other)
    again.registry.close()
    again.registry = ben.registry
    yield ben, again
    ben.registry.close()


def test_two_models_of_one_name_stay_two(two: tuple[Person, Person]) -> None:
    first, second = two
    pull(first, "digits")
    with pytest.raises(ModelExistsError, match="is not the 'digits' that is here") as caught:
        pull(second, "digits")
    assert str(first.remote) in str(caught.value)
    assert caught.value.hint == f"another name brings it: pull {second.remote}/digits --name NAME"
    with pytest.raises(ModelExistsError):
        second.sync("digits")
    (part,) = second.sync().models
    (doubt,) = part.doubts
    assert doubt.startswith("digits was left out: ")
    assert models(first) == {"digits": 1}
    report = pull(second, "digits", name="numerals")
    assert (report.version.reference, report.doubts) == ("numerals:1", ())
    # From now on it is known by that name.
    assert pull(second, "digits").version.reference == "numerals:1"
    assert [one.model for one in second.sync().models] == ["numerals"]
    with pytest.raises(ModelExistsError, match="is 'numerals' here already"):
        pull(second, "digits", name="third")
    assert models(first) == {"digits": 1, "numerals": 1}


def test_a_copy_on_another_registry_is_the_same_model(
    two: tuple[Person, Person], tmp_path: Path
) -> None:
    first, _ = two
    pull(first, "digits")
    (tmp_path / "mirror").mkdir()
    mirror = Remote.parse((tmp_path / "mirror").as_uri())
    with Peer(mirror) as peer:
        first.registry.push(peer, "digits").check()
    cat = Person(tmp_path / "dora", first.remote)
    pull(cat, "digits")
    with Peer(mirror) as peer:
        assert cat.registry.sync(peer, None).models[0].model == "digits"
    assert cat.registry.shared_places("digits") == [f"{mirror}/digits", f"{first.remote}/digits"]
    cat.registry.close()


@pytest.fixture
def shared(person: People) -> tuple[Person, Person]:
    """Ann pushed three versions, of which the second is the champion; Ben knows them."""
    ann, ben = person("ann"), person("ben")
    for _ in range(3):
        ann.add()
    ann.registry.set_alias("digits:2", "champion")
    ann.push()
    ben.sync()
    return ann, ben


def test_a_version_that_was_deleted_here_comes_back_when_it_is_pulled(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    deleted = ben.registry.delete("digits:3")
    assert deleted.left_on == (f"{ben.remote}/digits",)
    for model in (None, "digits"):
        (part,) = ben.sync(model).models
        assert (part.new, part.there) == ((), 3)
        back = f"`pull {ben.remote}/digits:3` brings it back"
        assert part.doubts == (f"digits:3 was deleted here and is left there: {back}",)
    assert pull(ben, "digits:3").version.reference == "digits:3"
    (part,) = ben.sync().models
    assert part.doubts == ()
    assert ben.registry.delete("digits:3").left_on == deleted.left_on
    assert ben.sync().models[0].new == ()


def test_a_model_that_was_deleted_here_comes_back_when_it_is_named(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    ben.registry.delete("digits", force=True)
    (part,) = ben.sync().models
    assert (part.new, part.there) == ((), 3)
    assert part.doubts == (
        f"digits was deleted here and is left there: `sync digits {ben.remote}` brings it back",
    )
    assert models(ben) == {}
    (part,) = ben.sync("digits").models
    assert len(part.new) == 3
    assert ben.registry.resolve("digits:champion").number == 2
    assert ben.sync().models[0].doubts == ()


def test_an_alias_that_was_removed_here_comes_back_when_it_is_pulled(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    ben.registry.remove_alias("digits", "champion")
    assert ben.registry.alias_places("digits", "champion") == [ben.remote]
    (part,) = ben.sync().models
    (doubt,) = part.doubts
    assert doubt == (
        f"alias 'champion' was removed here, and stays on {ben.remote.host}: "
        f"`push digits {ben.remote} --alias champion` takes it away there, "
        f"`pull {ben.remote}/digits:champion` brings it back"
    )
    assert ben.push().removed == ()  # it was not named
    assert ben.push("digits:1").removed == ()
    report = pull(ben, "digits:champion")
    assert [str(one) for one in report.aliases] == ["champion → 2"]
    assert ben.sync().models[0].doubts == ()


@pytest.fixture
def takes_tags_away(request: pytest.FixtureRequest) -> None:
    """Nothing where the remote does that."""
    if request.node.callspec.params["remote"] == "docker-registry":
        pytest.skip("this registry takes no tag away")


@pytest.mark.usefixtures("takes_tags_away")
def test_an_alias_that_was_removed_here_is_taken_away_there_when_it_is_named(
    shared: tuple[Person, Person],
) -> None:
    ann, ben = shared
    ben.registry.remove_alias("digits", "champion")
    assert ben.push(aliases=["champion"]).removed == ("digits:champion",)
    (part,) = ann.sync().models
    host = ann.remote.host
    assert part.doubts == (f"alias 'champion' is gone from {host}, and stays here",)
    assert ben.registry.alias_places("digits", "champion") == []
    assert ben.push(aliases=["champion"]).removed == ()  # it is gone
    with pytest.raises(VersionNotFoundError, match="nothing"):
        ben.push(aliases=["nothing"])


@pytest.mark.usefixtures("takes_tags_away")
def test_an_alias_that_moved_there_meanwhile_is_not_taken_away(
    shared: tuple[Person, Person],
) -> None:
    ann, ben = shared
    ben.registry.remove_alias("digits", "champion")
    ann.registry.set_alias("digits:3", "champion")
    ann.push()
    expected = "was removed here, and moved to digits:3"
    with pytest.raises(AliasConflictError, match=expected):
        ben.push(aliases=["champion"])
    assert ben.push(aliases=["champion"], force=True).removed == ("digits:champion",)


def test_a_registry_that_takes_no_tag_away_is_told(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    ann.registry.remove_alias("digits", "champion")
    ann.add()
    with pytest.raises(AliasConflictError, match=r"which takes no tag away: .*; 1 version pushed"):
        ann.push(aliases=["champion"])
    assert ann.sync().models[0].unpushed == 0


@pytest.mark.parametrize("named", [True, False], ids=["by its name", "all"])
def test_a_model_that_is_renamed_while_it_is_synchronised_stays_one(
    person: People, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    ann, ben = person("ann"), person("ben")
    ann.add()
    ann.push()
    ben.sync()
    ann.add()
    ann.push()

    read = sync._read

    def rename(*given: Any) -> Any:
        if "digits" in models(ben):
            ben.registry.rename("digits", "numerals")
        return read(*given)

    with monkeypatch.context() as patch:
        patch.setattr(sync, "_read", rename)
        if named:
            with pytest.raises(ModelExistsError, match="is 'numerals' here"):
                ben.sync("digits")
        else:
            (part,) = ben.sync().models
            assert "is 'numerals' here" in part.doubts[0]
    assert models(ben) == {"numerals": 1}
    assert ben.sync().models[0].new == ("numerals:2",)


def test_a_version_that_is_deleted_while_it_is_synchronised_stays_deleted(
    person: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = person("ann"), person("ben")
    ann.add()
    ann.add()
    ann.push()
    ben.sync()
    ben.registry.delete("digits:1", force=True)
    monkeypatch.setattr(sync, "_dismissed", lambda *_: {})  # as it was a moment ago
    assert ben.sync().models[0].new == ()
    assert models(ben) == {"digits": 1}


def test_a_model_of_a_rebuilt_index_is_found_again_by_what_it_has(
    base: tuple[Remote, str], at: Callable[[str, Remote], Person]
) -> None:
    whole, space = base
    team = Remote(whole.base_url, space)
    ann = at("ann", team)
    ann.add()
    ann.add()
    ann.push()
    with ann.registry._catalog.db.write() as db:  # all that is lost with an index
        for table in ("shared", "homes", "remote_tags", "remotes"):
            db.execute(f"DELETE FROM {table}")
    again = at("ann", whole)
    (part,) = _of(again, f"{space}/digits")
    assert (part.model, part.there, part.new, part.unpushed) == ("digits", 2, (), 0)
    assert f"{space}/digits" not in models(again)
    assert again.registry.shared_places("digits") == [f"{team}/digits"]


def _of(person: Person, there: str) -> list[Any]:
    """What came of one repository when all are synchronised with."""
    return [one for one in person.sync().models if any(there in said for said in one.doubts)]


@pytest.mark.parametrize("name", ["", "team"], ids=["registry", "namespace"])
def test_two_places_that_number_differently_are_told_apart(
    docker_person: People, base: tuple[Remote, str], name: str
) -> None:
    ann = docker_person("ann")
    ann.remote = base[0] if not name else ann.remote
    model = f"{base[1]}d"
    elsewhere = Remote(base[0].base_url, f"{base[1]}-else")
    ann.add(model)
    ann.push(model)
    eve = Person(ann.registry.root.parent / "eve", elsewhere)
    for _ in range(2):
        eve.add(model)
    eve.push(model)
    eve.registry.close()
    with Peer(elsewhere) as peer:
        for _ in range(2):
            report = ann.registry.push(peer, f"{model}:1", force=True)
            assert report.doubts == (f"{model}:1 is number 3 at {elsewhere}/{model}",)
            assert report.renumbered == ()
        (part,) = ann.registry.sync(peer, model).models
        assert f"{model}:1 is number 3 at {elsewhere}/{model}" in part.doubts[-1]
        assert part.renumbered == ()
    assert ann.push(f"{model}:1").renumbered == ()
    with Peer(elsewhere) as peer:
        report = ann.registry.pull(peer, Reference.parse(f"{model}:3"))
    assert report.version.reference == f"{model}:1"
    assert report.doubts == (f"{model}:1 is number 3 at {elsewhere}/{model}",)


def test_what_brings_a_deleted_version_back_is_its_number_there(docker_person: People) -> None:
    ann = docker_person("ann")
    ann.add()
    ann.push()
    elsewhere = Remote(ann.remote.base_url, f"{ann.remote.namespace}-else")
    eve = Person(ann.registry.root.parent / "eve", elsewhere)
    for _ in range(2):
        eve.add()
    eve.push()
    eve.registry.close()
    with Peer(elsewhere) as peer:
        ann.registry.push(peer, "digits:1", force=True)
    deleted = ann.registry.delete("digits:1")
    assert set(deleted.returns) == {f"{ann.remote}/digits:1", f"{elsewhere}/digits:3"}
