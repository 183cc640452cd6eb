from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.errors import ManifestError, NbModelError, RefError, StorageError
from nbmodel.storage.tags import TagStore

ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64


@pytest.fixture
def tags(tmp_path: Path) -> TagStore:
    return TagStore(tmp_path / "tags")


def test_an_empty_store_has_nothing(tags: TagStore) -> None:
    assert tags.names() == ()
    assert tags.tags("digits") == {}
    assert tags.get("digits", "latest") is None
    assert tags.delete("digits", "latest") is False
    assert list(tags.all()) == []


def test_a_tag_moves(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    tags.set("digits", "latest", TWO)
    assert tags.get("digits", "latest") == TWO


def test_a_tag_is_still_there_in_another_process(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    assert TagStore(tags.root).tags("digits") == {"latest": ONE}


def test_a_namespace_and_a_name_do_not_meet(tags: TagStore) -> None:
    tags.set("team", "fruit", ONE)
    tags.set("team/fruit", "latest", TWO)
    assert tags.names() == ("team", "team/fruit")
    assert tags.tags("team") == {"fruit": ONE}
    assert list(tags.all()) == [("team", "fruit", ONE), ("team/fruit", "latest", TWO)]


def test_a_deleted_tag_is_gone(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    assert tags.delete("digits", "latest") is True
    assert tags.names() == ()


def test_the_age_of_a_tag_starts_when_it_is_set(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    written = (tags.root / "digits" / "latest").stat().st_mtime
    assert tags.age("digits", "latest", now=written + 5) == 5
    assert tags.age("digits", "nope", now=0) == float("inf")


@pytest.mark.parametrize(
    ("name", "tag", "digest", "error"),
    [
        pytest.param("../x", "latest", ONE, RefError, id="a name with a way out"),
        pytest.param("digits", "../x", ONE, RefError, id="a tag with a way out"),
        pytest.param("digits", ".new-x", ONE, RefError, id="a tag like a temporary file"),
        pytest.param("digits", "t" * 129, ONE, RefError, id="a tag that is too long"),
        pytest.param("digits", "", ONE, RefError, id="no tag"),
        pytest.param("digits", "latest", "sha256:1", ManifestError, id="half a digest"),
    ],
)
def test_refuses_what_is_malformed(
    tags: TagStore, name: str, tag: str, digest: str, error: type[NbModelError]
) -> None:
    with pytest.raises(error):
        tags.set(name, tag, digest)
    assert tags.names() == ()


def test_what_a_killed_write_leaves_is_no_tag(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    (tags.root / "digits" / ".new-abc").write_text("sha256:12")
    assert tags.tags("digits") == {"latest": ONE}


def test_a_damaged_tag_file_is_named(tags: TagStore) -> None:
    tags.set("digits", "latest", ONE)
    (tags.root / "digits" / "latest").write_text("rubbish")
    with pytest.raises(StorageError, match=r"tags/digits/latest: expected a digest"):
        tags.get("digits", "latest")
