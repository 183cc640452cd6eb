"""Lists and indexes that are lost or damaged, and what brings them back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.core.lineage import Lineage
from nbmodel.core.version import Version
from nbmodel.errors import StorageError
from nbmodel.registry import Registry
from nbmodel.storage import OciLayout

Add = Callable[..., Version]


def lose(registry: Registry, *names: str) -> None:
    """Take files of a registry's folder away."""
    registry.close()
    for name in names:
        (registry.root / name).unlink(missing_ok=True)


@pytest.fixture
def filled(registry: Registry, add: Add) -> Registry:
    """Three versions of one model, one deleted, and one of a renamed one."""
    first = add(content=b"one", metrics={"acc": 0.5})
    add(content=b"two")
    add(content=b"three", lineage=Lineage(parents=(first.digest,)))
    registry.delete("digits:2")
    add("team/old", b"four")
    registry.rename("team/old", "team/new")
    return registry


def known(registry: Registry) -> list[tuple[str, str, dict[str, float]]]:
    return [(one.reference, one.digest, dict(one.metrics)) for one in registry.versions()]


def test_a_lost_index_is_told_by_everything_and_nothing_is_written_over_it(
    filled: Registry, add: Add
) -> None:
    listed = (filled.root / "index.json").read_bytes()
    lose(filled, "registry.sqlite")
    for look in (filled.models, filled.versions, filled.verify, add, lambda: filled.gc(grace_s=0)):
        with pytest.raises(
            StorageError, match=r"is gone, but index\.json lists 3 versions"
        ) as caught:
            look()
        assert caught.value.hint == "nbmodel verify --rebuild"
    assert (filled.root / "index.json").read_bytes() == listed
    assert not (filled.root / "registry.sqlite").exists()


@pytest.mark.parametrize("damage", ["lost", "empty", "damaged", "half"])
def test_an_index_is_made_anew_of_the_list(filled: Registry, add: Add, damage: str) -> None:
    before = known(filled)
    lose(filled)
    index = filled.root / "registry.sqlite"
    if damage == "lost":
        index.unlink()
    elif damage == "empty":
        index.write_bytes(b"")
    elif damage == "damaged":
        index.write_bytes(b"not a database, though long enough" * 100)
    else:
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    if damage != "half":  # which an index of few pages may survive until it is written to
        with pytest.raises(StorageError):
            filled.models()
    report = filled.verify(rebuild=True)
    assert report.is_clean
    assert report.rebuilt == 3
    assert known(filled) == before
    assert filled.resolve("digits:3").manifest.lineage.parents == (
        filled.resolve("digits:1").digest,
    )
    assert add().number == 4, "numbers go on"
    assert filled.gc(grace_s=0).blobs >= 1, "of the version that was deleted"
    assert filled.verify().is_clean
    aside = [path.name for path in filled.root.iterdir() if ".damaged-" in path.name]
    assert len(aside) == (0 if damage == "lost" else 1)


def test_without_a_list_versions_are_found_among_the_blobs(filled: Registry) -> None:
    filled.gc(grace_s=0)
    before = {digest for _, digest, _ in known(filled)}
    lose(filled, "registry.sqlite", "index.json")
    report = filled.verify(rebuild=True)
    assert (report.rebuilt, report.problems) == (3, ())
    assert {digest for _, digest, _ in known(filled)} == before
    # As they were named, numbered in the order they were made.
    assert {ref for ref, _, _ in known(filled)} == {"digits:1", "digits:2", "team/old:1"}
    assert filled.resolve("digits:1").metrics == {"acc": 0.5}


def test_a_list_that_is_lost_is_written_anew(filled: Registry) -> None:
    listed = (filled.root / "index.json").read_bytes()
    for broken in (None, b"", b"{}", b"[", b'{"manifests": 3}'):
        if broken is None:
            lose(filled, "index.json")
        else:
            (filled.root / "index.json").write_bytes(broken)
        (problem,) = filled.verify().problems
        assert "index.json cannot be read" in problem.what
        report = filled.verify(rebuild=True)
        assert report.is_clean
        assert report.rebuilt is None, "the index is as it was"
        assert (filled.root / "index.json").read_bytes() == listed


def test_what_is_damaged_is_left_out_and_told(filled: Registry) -> None:
    victim = filled.resolve("digits:1")
    path = filled.storage.path(victim.digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    index = json.loads((filled.root / "index.json").read_text())
    index["manifests"] += [
        7,
        {"annotations": {"org.opencontainers.image.ref.name": "x:latest"}, "digest": "d"},
        {"annotations": {"org.opencontainers.image.ref.name": "../../x:1"}, "digest": "d"},
        index["manifests"][1],
    ]
    (filled.root / "index.json").write_text(json.dumps(index))
    lose(filled, "registry.sqlite")
    report = filled.verify(rebuild=True)
    assert report.rebuilt == 2
    assert len(report.problems) == 4
    assert all("\n" not in one.what and "left out" in one.what for one in report.problems)
    assert sorted(ref for ref, _, _ in known(filled)) == ["digits:3", "team/new:1"]


def test_an_index_of_another_version_is_not_taken_for_damaged(filled: Registry) -> None:

    lose(filled)
    with sqlite3.connect(filled.root / "registry.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="schema 99"):
        filled.verify(rebuild=True)
    assert not [path for path in filled.root.iterdir() if ".damaged-" in path.name]


def test_a_registry_of_nothing_is_not_made_by_rebuilding(registry: Registry) -> None:
    report = registry.verify(rebuild=True)
    assert report.is_clean
    assert registry.models() == []


def test_a_layout_that_another_tool_copied_becomes_a_registry(
    filled: Registry, tmp_path: Path
) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    filled.close()
    copy = tmp_path / "copy"
    for name in ("digits:1", "digits:3"):
        subprocess.run(
            [skopeo, "copy", "--quiet", f"oci:{filled.root}:{name}", f"oci:{copy}:{name}"],
            check=True,
        )
    with Registry(copy) as other:
        assert other.verify(rebuild=True).rebuilt == 2
        assert known(other) == [one for one in known(filled) if one[0].startswith("digits")]
        assert OciLayout(copy).listed()
