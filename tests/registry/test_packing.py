"""Versions that differ little take little, and nothing else of them changes."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.core.version import Version
from nbmodel.registry import Registry
from nbmodel.storage import OciLayout

Add = Callable[..., Version]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is packed on Windows")

TENTH = 400_000


def differing(count: int, seed: int = 0) -> list[bytes]:
    """Files of 4 MB, each the former one with a tenth of it different."""
    chance = random.Random(seed)
    found = [chance.randbytes(10 * TENTH)]
    while len(found) < count:
        at = chance.randrange(9 * TENTH)
        found.append(found[-1][:at] + chance.randbytes(TENTH) + found[-1][at + TENTH :])
    return found


CONTENTS = differing(3)


def on_disk(registry: Registry) -> int:
    return sum(path.stat().st_blocks * 512 for path in registry.root.rglob("*") if path.is_file())


def is_whole(registry: Registry, version: Version) -> bool:
    return registry.storage.is_whole(version.files[0].digest)


def unpack(registry: Registry, version: Version) -> None:
    registry.storage.path(version.files[0].digest)


@pytest.mark.parametrize("from_disk", [True, False], ids=["files", "bytes"])
def test_three_versions_with_a_tenth_different_take_less_than_two_files(
    registry: Registry, add: Add, tmp_path: Path, from_disk: bool
) -> None:
    for content in CONTENTS:
        (tmp_path / "model").write_bytes(content)
        add(content=tmp_path / "model" if from_disk else content)
    assert on_disk(registry) < 1.5 * len(CONTENTS[0])
    for number, content in enumerate(CONTENTS, 1):
        (file,) = registry.extract(f"digits:{number}", tmp_path / str(number))
        assert file.read_bytes() == content
    assert registry.verify().is_clean


def test_the_newest_version_is_a_file(registry: Registry, add: Add) -> None:
    made = [add(content=content) for content in CONTENTS]
    assert [is_whole(registry, version) for version in made] == [False, False, True]


def test_versions_of_different_bytes_and_small_ones_stay_whole(
    registry: Registry, add: Add
) -> None:
    small = [add("small", content=b"a" * size) for size in (1000, 1001)]
    other = [add("other", content=differing(1, seed)[0]) for seed in (1, 2)]
    assert all(is_whole(registry, version) for version in (*small, *other))
    assert not (registry.root / "packed").exists()


def test_equal_bytes_again_are_not_packed_from_themselves(registry: Registry, add: Add) -> None:
    first, second = add(content=CONTENTS[0]), add(content=CONTENTS[0])
    assert first.files == second.files
    assert is_whole(registry, first)


def test_bytes_of_an_older_version_again_are_right(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    for content in (*CONTENTS, CONTENTS[0], CONTENTS[1], CONTENTS[0]):
        add(content=content)
    for number, content in enumerate((*CONTENTS, CONTENTS[0], CONTENTS[1], CONTENTS[0]), 1):
        (file,) = registry.extract(f"digits:{number}", tmp_path / str(number))
        assert file.read_bytes() == content


def test_a_version_outlives_the_one_it_rests_on(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    made = [add(content=content) for content in CONTENTS]
    registry.delete("digits:3", force=True)
    before = on_disk(registry)
    report = registry.gc(grace_s=0)
    assert report.freed == pytest.approx(before - on_disk(registry), abs=64 * 1024)
    assert is_whole(registry, made[1])
    assert not is_whole(registry, made[0])
    assert registry.verify().is_clean
    (file,) = registry.extract("digits:1", tmp_path / "out")
    assert file.read_bytes() == CONTENTS[0]


def test_nobody_waits_for_a_collection_that_makes_files_whole(
    registry: Registry, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in CONTENTS:
        add(content=content)
    registry.delete("digits:2")
    before = on_disk(registry)
    unpack = OciLayout._unpack
    others: list[object] = []

    def beside(layout: OciLayout, digest: str) -> None:
        others.append(Registry(registry.root).describe("digits:1", "seen meanwhile"))
        unpack(layout, digest)

    monkeypatch.setattr(OciLayout, "_unpack", beside)
    report = registry.gc(grace_s=0)
    assert len(others) == 1
    assert before - on_disk(registry) == pytest.approx(report.freed + report.packed, abs=100_000)
    assert registry.verify().is_clean


def test_a_model_is_freed_with_all_its_packed_files(registry: Registry, add: Add) -> None:
    for content in CONTENTS:
        add(content=content)
    registry.delete("digits", force=True)
    registry.gc(grace_s=0)
    assert list(registry.storage.digests()) == []
    assert list((registry.root / "packed").iterdir()) == []


def test_a_collection_packs_what_lies_whole(registry: Registry, add: Add) -> None:
    made = [add(content=content) for content in CONTENTS]
    for version in made:
        unpack(registry, version)
    assert on_disk(registry) > 3 * len(CONTENTS[0])
    assert registry.gc(dry_run=True).packed == 0
    report = registry.gc()
    assert (report.blobs, report.packed > len(CONTENTS[0])) == (0, True)
    assert on_disk(registry) < 1.5 * len(CONTENTS[0])
    assert registry.gc().packed == 0
    assert registry.verify().is_clean


def test_a_registry_that_is_not_there_has_nothing_to_pack(registry: Registry) -> None:
    assert registry.gc().packed == 0
    assert not registry.root.exists()


def test_verify_names_every_version_that_damage_is_in(registry: Registry, add: Add) -> None:
    made = [add(content=content) for content in CONTENTS]
    newest = registry.storage.path(made[-1].files[0].digest)
    newest.chmod(0o644)
    newest.write_bytes(bytes(len(CONTENTS[-1])))
    problems = registry.verify().problems
    assert {name for problem in problems for name in problem.versions} == {
        "digits:1",
        "digits:2",
        "digits:3",
    }


def test_a_damaged_version_stays_as_it_is(registry: Registry, add: Add) -> None:
    first = add(content=CONTENTS[0])
    path = registry.storage.path(first.files[0].digest)
    path.chmod(0o644)
    path.write_bytes(bytes(len(CONTENTS[0])))
    add(content=CONTENTS[1])
    assert path.read_bytes() == bytes(len(CONTENTS[0]))


def test_a_version_is_made_also_where_nothing_can_be_packed(registry: Registry, add: Add) -> None:
    first = add(content=CONTENTS[0])
    name = first.files[0].digest.removeprefix("sha256:")
    (registry.root / "packed" / name / "in the way").mkdir(parents=True)
    second = add(content=CONTENTS[1])
    assert second.number == 2
    assert is_whole(registry, first)
