"""The registry as repositories: which tags there are, and what writing one does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from nbmodel.core.claim import Claim, claimant, settle
from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import normal_stamp
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import (
    BlobNotFoundError,
    InUseError,
    ManifestError,
    RefError,
    RegistryError,
    UnsupportedError,
)
from nbmodel.registry import Registry
from nbmodel.registry.repositories import RegistryRepositories
from tests.tools.storage_server import add_version

AT = datetime(2026, 2, 28, tzinfo=timezone.utc)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def offered(registry: Registry) -> RegistryRepositories:
    return registry.repositories()


def add(registry: Registry, content: bytes, name: str = "digits") -> Version:
    return registry.add(
        name, {"m.bin": content}, framework="other", model_type="other", signature=Signature()
    )


def pushed(registry: Registry, content: bytes, created: str = "2026-01-01T00:00:00Z") -> str:
    """A manifest in the storage, with its blobs; its digest."""
    return add_version(registry.storage, {"m.bin": content}, created)


def claims(offered: RegistryRepositories, name: str) -> list[Claim]:
    return [claim for tag in offered.tags(name) if (claim := Claim.parse(tag)) is not None]


def test_a_version_has_its_number_its_stamp_its_aliases_and_a_claim(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one, two = add(registry, b"1"), add(registry, b"2")
    registry.set_alias("digits:1", "champion")
    registry.pin("digits:1")
    tags = offered.tags("digits")
    claimed = {tag: digest for tag, digest in tags.items() if Claim.parse(tag) is not None}
    assert {tag: digest for tag, digest in tags.items() if tag not in claimed} == {
        "1": one.digest,
        "2": two.digest,
        one.stamp: one.digest,
        two.stamp: two.digest,
        "champion": one.digest,
        "pinned": one.digest,
        "latest": two.digest,
    }
    assert len(claimed) == 2
    assert all(offered.get("digits", tag) == digest for tag, digest in tags.items())
    assert offered.names() == ["digits"]


def test_settling_the_claims_gives_the_numbers_here(
    registry: Registry, offered: RegistryRepositories
) -> None:
    for content in range(6):
        add(registry, bytes([content]))
    registry.delete("digits:2")
    expected = {claimant(one.digest): one.number for one in registry.versions("digits")}
    assert settle(claims(offered, "digits")) == expected


def test_what_is_archived_is_there_by_its_number_alone(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one, two = add(registry, b"1"), add(registry, b"2")
    registry.archive("digits:2")
    tags = offered.tags("digits")
    assert (tags["latest"], tags["2"]) == (one.digest, two.digest)
    registry.archive("digits")
    assert offered.names() == []
    assert offered.get("digits", "1") == one.digest


def test_nothing_is_known_of_other_names(offered: RegistryRepositories) -> None:
    assert offered.names() == []
    assert offered.tags("nobody") == {}
    assert offered.get("nobody", "latest") is None
    with pytest.raises(RefError):
        offered.tags("Not A Name")
    with pytest.raises(RefError):
        offered.get("digits", ".not-a-tag")


def test_the_dates_that_a_manifest_tells_break_no_claim(
    registry: Registry, offered: RegistryRepositories
) -> None:
    for created in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59+00:00", "", "yesterday"):
        offered.put("digits", "latest", pushed(registry, created.encode(), created))
    assert sorted(claim.number for claim in claims(offered, "digits")) == [1, 2, 3, 4]


# Writing


def test_writing_an_alias_makes_a_version_and_moves_the_alias(
    registry: Registry, offered: RegistryRepositories
) -> None:
    first, second = pushed(registry, b"1"), pushed(registry, b"2")
    offered.put("digits", "champion", first)
    offered.put("digits", "champion", second)
    offered.put("digits", "champion", first)
    assert [one.number for one in registry.versions("digits")] == [2, 1]
    assert registry.resolve("digits:champion").digest == first
    assert len(registry.alias_history("digits", "champion")) == 3


@pytest.mark.parametrize("tag", ["latest", "2020-01-01T00-00-00"])
def test_what_moves_by_itself_makes_a_version_and_moves_nothing(
    registry: Registry, offered: RegistryRepositories, tag: str
) -> None:
    newest = add(registry, b"2")
    older = pushed(registry, b"1")
    offered.put("digits", tag, newest.digest)
    offered.put("digits", tag, older)
    assert registry.resolve(f"digits@{older}").number == 2
    assert normal_stamp(tag) is None or tag not in offered.tags("digits")


def test_the_pin_of_the_registry_is_a_tag(
    registry: Registry, offered: RegistryRepositories
) -> None:
    first = pushed(registry, b"1")
    offered.put("digits", "pinned", first)
    assert [pin.number for pin in registry.pins("digits")] == [1]
    assert offered.untag("digits", "pinned")
    assert registry.pins("digits") == []
    assert not offered.untag("digits", "pinned")


def test_a_number_is_given_once(registry: Registry, offered: RegistryRepositories) -> None:
    first, second = pushed(registry, b"1"), pushed(registry, b"2")
    offered.put("digits", "7", first)
    offered.put("digits", "7", first)
    assert registry.resolve("digits:7").digest == first
    with pytest.raises(RegistryError, match=r"digits:7 cannot be given: it is another version"):
        offered.put("digits", "7", second)
    offered.put("digits", "3", second)
    assert sorted(one.number for one in registry.versions("digits")) == [3, 7]
    with pytest.raises(RegistryError, match=r"digits:8 cannot be given: this one is digits:7"):
        offered.put("digits", "8", first)
    registry.delete("digits:3")
    with pytest.raises(RegistryError, match=r"digits:3 cannot be given: it was a version"):
        offered.put("digits", "3", second)
    registry.delete("digits", force=True)
    with pytest.raises(RegistryError, match="digits:7 cannot be given"):
        offered.put("digits", "7", second)
    offered.put("digits", "8", second)
    for tag in ("0", "007", "1234567890"):
        with pytest.raises(RefError, match="version numbers are"):
            offered.put("digits", tag, second)


def test_a_claim_gets_its_number_where_that_is_free_and_tells_which_else(
    registry: Registry, offered: RegistryRepositories
) -> None:
    first, second, third = (pushed(registry, content) for content in (b"1", b"2", b"3"))
    offered.put("digits", Claim.of(5, first, AT).tag, first)
    offered.put("digits", Claim.of(5, second, AT).tag, second)
    offered.put("digits", Claim.of(999_999_999, third, AT).tag, third)
    assert settle(claims(offered, "digits")) == {
        claimant(first): 5,
        claimant(second): 6,
        claimant(third): 7,
    }
    assert offered.get("digits", Claim.of(5, second, AT).tag) == second
    late = pushed(registry, b"4")
    offered.put("digits", Claim.of(2, late, AT).tag, late)
    assert registry.resolve("digits:2").digest == late


def test_a_claim_for_another_version_is_refused(
    registry: Registry, offered: RegistryRepositories
) -> None:
    first, second = pushed(registry, b"1"), pushed(registry, b"2")
    with pytest.raises(ManifestError, match="for another version"):
        offered.put("digits", Claim.of(1, second, AT).tag, first)
    assert registry.models() == []


def test_what_is_not_there_becomes_no_version(
    registry: Registry, offered: RegistryRepositories
) -> None:
    add(registry, b"x")
    with pytest.raises(BlobNotFoundError):
        offered.put("digits", "champion", digest_of(b"nowhere"))
    assert len(registry.versions("digits")) == 1


# Taking away


def test_only_aliases_and_the_pin_are_taken_away(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one = add(registry, b"1")
    registry.set_alias("digits:1", "champion")
    assert offered.untag("digits", "champion")
    assert not offered.untag("digits", "champion")
    assert not offered.untag("nobody", "champion")
    for tag in ("1", one.stamp, "latest", claims(offered, "digits")[0].tag):
        with pytest.raises(UnsupportedError, match="stays as long as its version"):
            offered.untag("digits", tag)


def test_a_version_in_use_is_not_forgotten(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one = add(registry, b"1")
    registry.set_alias("digits:1", "champion")
    with pytest.raises(InUseError, match="champion"):
        offered.forget("digits", one.digest)
    offered.untag("digits", "champion")
    offered.forget("digits", one.digest)
    assert registry.versions("digits") == []
    assert not offered.has("digits", one.digest)
    assert not registry.storage.has(one.digest)


def test_a_manifest_that_another_model_has_stays(
    registry: Registry, offered: RegistryRepositories
) -> None:
    digest = pushed(registry, b"1")
    offered.put("one", "latest", digest)
    offered.put("two", "latest", digest)
    offered.forget("one", digest)
    assert not offered.has("one", digest)
    assert offered.has("two", digest)
    assert registry.verify().problems == ()


def test_what_refers_to_a_version_is_listed_and_forgotten(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one = add(registry, b"1")
    raw = registry.storage.read(one.digest, limit=MAX_MANIFEST)
    for blob in (EMPTY, b"bundle"):
        registry.storage.add_bytes(blob)
    note = registry.storage.add_bytes(signature_manifest(raw, b"bundle", created=""))
    offered.refer("digits", one.digest, note)
    assert offered.referrers("digits", one.digest) == (note,)
    assert offered.referrers("digits", note) == ()
    assert offered.has("digits", note)
    offered.forget("digits", note)
    assert not offered.has("digits", note)


def test_what_a_collector_has_taken_of_a_referrer_is_told_and_nothing_noted(
    registry: Registry, offered: RegistryRepositories
) -> None:
    one = add(registry, b"1")
    raw = registry.storage.read(one.digest, limit=MAX_MANIFEST)
    registry.storage.add_bytes(EMPTY)
    note = registry.storage.add_bytes(signature_manifest(raw, b"bundle", created=""))
    with pytest.raises(BlobNotFoundError, match=digest_of(b"bundle")):
        offered.refer("digits", one.digest, note)
    assert offered.referrers("digits", one.digest) == ()
