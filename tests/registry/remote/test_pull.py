"""Pulling versions from remotes of every kind."""

from __future__ import annotations

import random
import re
import sys

import pytest

from nbmodel.core.reference import Reference
from nbmodel.display import VerifyCard
from nbmodel.errors import (
    DigestMismatchError,
    ModelExistsError,
    ModelNotFoundError,
    RefError,
    VersionNotFoundError,
)
from nbmodel.registry import Registry
from nbmodel.registry.remote.pull import PullReport
from tests.registry.remote.conftest import People
from tests.tools.people import Person


def pull(person: Person, ref: str) -> PullReport:
    with person.peer() as peer:
        return person.registry.pull(peer, Reference.parse(ref))


@pytest.fixture
def shared(person: People) -> tuple[Person, Person]:
    """Ann pushed three versions; Ben has nothing."""
    ann = person("ann")
    for turn in range(3):
        ann.add(content=b"weights" * 1000 + bytes([turn]))
    ann.registry.set_alias("digits:2", "champion")
    ann.push()
    return ann, person("ben")


@pytest.mark.parametrize(
    ("ref", "number"),
    [("digits", 3), ("digits:latest", 3), ("digits:1", 1), ("digits:champion", 2)],
)
def test_a_version_comes_with_its_files_and_its_number(
    shared: tuple[Person, Person], ref: str, number: int
) -> None:
    ann, ben = shared
    report = pull(ben, ref)
    theirs = ann.registry.resolve(f"digits:{number}")
    assert (report.number, report.version.digest) == (number, theirs.digest)
    assert report.version.files_on is None
    assert report.received > 7000
    assert [version.number for version in ben.registry.versions("digits")] == [number]
    assert ben.registry.verify().is_clean
    again = pull(ben, ref)
    assert (again.received, again.present) == (0, report.received + report.present)


def test_what_is_damaged_here_is_told_with_what_mends_it_and_is_mended(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    version = pull(ben, "digits:1").version
    file = version.files[0]
    path = ben.registry.storage.path(file.digest)
    path.chmod(0o644)
    path.write_bytes(b"weights" * 1000 + b"x")
    (problem,) = ben.registry.verify().problems
    mends = re.fullmatch(r"`pull (.*)` fetches it anew", problem.hint)
    assert mends is not None
    reference = mends[1].rpartition("/")[2]
    assert reference == f"digits@{version.digest}"
    shown = VerifyCard.of(ben.registry.verify()).text()
    assert "is damaged" in shown
    assert version.digest in shown
    report = pull(ben, reference)
    assert report.received == file.size
    assert report.doubts == ("a file that was damaged here came anew",)
    assert ben.registry.verify().is_clean


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is packed on Windows")
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)], ids=["upwards", "downwards"])
def test_versions_that_differ_little_take_little_once_pulled(
    person: People, order: tuple[int, ...]
) -> None:
    ann, ben = person("ann"), person("ben")
    content = random.Random(0).randbytes(4_000_000)
    for turn in range(3):
        ann.add(content=content + bytes([turn]))
    ann.push()
    for number in order:
        pull(ben, f"digits:{number}")
    whole = [
        ben.registry.storage.is_whole(ben.registry.resolve(f"digits:{number}").files[0].digest)
        for number in (1, 2, 3)
    ]
    assert whole == [False, False, True]
    assert ben.registry.verify().is_clean


def test_what_was_never_fetched_is_no_problem_of_an_index_that_was_lost(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    ben.sync()
    pull(ben, "digits:1")
    root = ben.registry.root
    ben.registry.close()
    for file in root.glob("registry.sqlite*"):
        file.unlink()
    with Registry(root) as registry:
        report = registry.verify(rebuild=True)
        assert (report.problems, report.rebuilt, report.elsewhere) == ((), 3, 2)


def test_what_is_damaged_here_is_not_blamed_on_the_registry(person: People) -> None:
    ann = person("ann")
    version = ann.add(content=b"weights")
    path = ann.registry.storage.path(version.files[0].digest)
    path.chmod(0o644)
    path.write_bytes(b"WEIGHTS")
    with pytest.raises(DigestMismatchError, match="damaged"):
        ann.push()
    (problem,) = ann.registry.verify().problems
    assert problem.hint.startswith("no registry is known to have it")


def test_a_version_is_pulled_by_stamp_digest_and_claim(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    version = ann.registry.resolve("digits:2")
    for ref in (f"digits:{version.stamp}", f"digits@{version.digest}"):
        assert pull(ben, ref).version.digest == version.digest


def test_an_alias_comes_with_its_version(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    (taken,) = pull(ben, "digits:champion").aliases
    assert (taken.alias, taken.old, taken.new) == ("champion", None, 2)
    assert ben.registry.resolve("digits:champion").number == 2
    ann.registry.set_alias("digits:3", "champion")
    ann.push()
    (taken,) = pull(ben, "digits:champion").aliases
    assert (taken.old, taken.new) == (2, 3)
    assert pull(ben, "digits:1").aliases == ()


@pytest.mark.parametrize(
    ("ref", "error", "match"),
    [
        ("nothing:1", ModelNotFoundError, "no model 'nothing' on"),
        ("digits:9", VersionNotFoundError, "no version 9 of 'digits' on"),
        ("digits:challenger", VersionNotFoundError, "no version challenger"),
        ("digits:2001-01-01T00-00-00", VersionNotFoundError, "no version 2001"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    shared: tuple[Person, Person], ref: str, error: type[Exception], match: str
) -> None:
    _, ben = shared
    with pytest.raises(error, match=match):
        pull(ben, ref)
    assert ben.registry.models() == []


def test_a_version_made_here_gives_way(shared: tuple[Person, Person]) -> None:
    ann, ben = shared
    pull(ben, "digits:1")
    mine = ben.add()
    assert mine.number == 4
    theirs = ann.add()
    ann.push()
    report = pull(ben, "digits:4")
    assert [(one.old, one.new) for one in report.renumbered] == [(4, 5)]
    assert report.version.digest == theirs.digest
    assert ben.registry.resolve("digits:5").digest == mine.digest


def test_a_model_of_the_same_name_that_is_another_one_is_not_mixed_with_it(
    shared: tuple[Person, Person],
) -> None:
    _, ben = shared
    mine = ben.add()
    with pytest.raises(ModelExistsError, match=r"never pushed.*no version in common") as caught:
        pull(ben, "digits:1")
    assert "--name NAME" in (caught.value.hint or "")
    assert "`sync digits " in (caught.value.hint or "")
    assert ben.numbers() == {mine.digest: 1}
    (part,) = ben.sync().models
    assert part.doubts[0].startswith("digits was left out: ")
    assert ben.numbers() == {mine.digest: 1}
    with ben.peer() as peer:
        ben.registry.pull(peer, Reference.parse("digits:1"), name="theirs")
    assert ben.numbers() == {mine.digest: 1}
    assert ben.registry.resolve("theirs:1").number == 1


def test_a_name_that_no_registry_takes_is_refused(docker_person: People) -> None:
    with pytest.raises(RefError):
        pull(docker_person("ben"), "digits:..")
