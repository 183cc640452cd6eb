"""Blobs that are kept as what differs from others, and are read as if they were not."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbmodel.core.chunks import ChunkTable, offsets
from nbmodel.errors import DigestMismatchError, StorageError, StorageUnavailableError
from nbmodel.storage import OciLayout
from nbmodel.storage.chunking import chunk_table
from nbmodel.storage.packs import Packs, files_open, heights
from tests.tools import powercut
from tests.tools.powercut import Disk, cuts, read_calls, traced

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is packed on Windows")

MIB = 1024 * 1024


class Blob(NamedTuple):
    """A blob and its chunks."""

    data: bytes
    table: ChunkTable

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    @property
    def have(self) -> dict[bytes, tuple[str, int]]:
        places = zip(offsets(self.table), self.table.chunks, strict=True)
        return {chunk: (self.digest, offset) for offset, (_, chunk) in places}


def of(data: bytes) -> Blob:
    table = chunk_table(data)
    assert table is not None
    return Blob(data, table)


def successors(count: int) -> list[Blob]:
    """Blobs of 1.2 MiB, each the former one with 80 kB of it different, and a little longer."""
    chance = random.Random(0)
    found = [of(chance.randbytes(MIB + MIB // 5))]
    while len(found) < count:
        data = found[-1].data
        at = chance.randrange(MIB)
        found.append(of(data[:at] + chance.randbytes(80_100) + data[at + 80_000 :]))
    return found


ROW = successors(20)
OLD, NEW, NEWEST = ROW[:3]


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    made = OciLayout(tmp_path / "layout")
    for blob in (OLD, NEW):
        made.add_bytes(blob.data)
    return made


def whole(layout: OciLayout, blob: Blob) -> Path:
    return layout.root / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")


def packed(layout: OciLayout, blob: Blob) -> Path:
    return layout.root / "packed" / blob.digest.removeprefix("sha256:")


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def rest(layout: OciLayout, one: Blob, other: Blob) -> int:
    """Pack the one as what differs from the other."""
    return layout.pack(one.digest, one.table, other.have)


def test_a_packed_blob_takes_what_differs_and_is_read_as_before(layout: OciLayout) -> None:
    freed = rest(layout, OLD, NEW)
    assert not whole(layout, OLD).exists()
    taken = packed(layout, OLD).stat().st_size
    assert freed == len(OLD.data) - taken
    assert taken < 80_000 + 4 * 65_536
    assert layout.has(OLD.digest)
    assert layout.size(OLD.digest) == len(OLD.data)
    assert layout.read(OLD.digest, limit=len(OLD.data)) == OLD.data
    layout.check(OLD.digest)
    assert {digest: size for digest, size, _ in layout.digests()} == {
        OLD.digest: taken,
        NEW.digest: len(NEW.data),
    }
    assert list((layout.root / "uploads").iterdir()) == []


@pytest.mark.parametrize("begin", [0, 1, 500_000, len(OLD.data) - 1, len(OLD.data), 2 * MIB])
def test_it_is_read_from_anywhere(layout: OciLayout, begin: int) -> None:
    rest(layout, OLD, NEW)
    with layout.open(OLD.digest) as file:
        assert file.seek(0, os.SEEK_END) == len(OLD.data)
        file.seek(begin)
        assert file.read(300_000) == OLD.data[begin : begin + 300_000]
        assert file.read() == OLD.data[begin + 300_000 :]
        with pytest.raises(OSError, match="seek"):
            file.seek(-1)


def test_who_needs_a_file_of_it_gets_one(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    assert layout.path(OLD.digest).read_bytes() == OLD.data
    assert not packed(layout, OLD).exists()
    assert rest(layout, OLD, NEW) > 0


def test_a_blob_that_was_stored_again_is_whole_and_is_packed_again(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    with layout.receive() as writer:
        writer.write(OLD.data)
        writer.commit(OLD.digest)
    assert [size for _, size, _ in layout.digests()].count(len(OLD.data)) == 1
    assert layout.read(OLD.digest, limit=2 * MIB) == OLD.data
    assert rest(layout, OLD, NEW) > 0
    assert not whole(layout, OLD).exists()


def test_using_it_again_counts_as_writing_it(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    os.utime(packed(layout, OLD), (1, 1))
    assert layout.keep(OLD.digest)
    ((at,),) = [[at] for digest, _, at in layout.digests() if digest == OLD.digest]
    assert at > 1


def test_what_others_rest_on_is_deleted_after_they_were_made_whole(layout: OciLayout) -> None:
    freed = rest(layout, OLD, NEW)
    assert layout.delete(NEW.digest) == len(NEW.data) - freed
    assert not layout.has(NEW.digest)
    assert whole(layout, OLD).read_bytes() == OLD.data
    assert list((layout.root / "packed").iterdir()) == []


def test_what_rests_on_blobs_that_are_to_go_is_made_whole_before(layout: OciLayout) -> None:
    layout.add_bytes(NEWEST.data)
    rest(layout, OLD, NEW)
    rest(layout, NEW, NEWEST)
    taken = sum(size for _, size, _ in layout.digests())
    assert layout.release([NEWEST.digest, NEW.digest, OLD.digest]) == 0
    grown = layout.release([NEWEST.digest, NEW.digest])
    assert whole(layout, OLD).exists()
    assert packed(layout, NEW).exists()
    assert grown == sum(size for _, size, _ in layout.digests()) - taken > 0
    assert layout.release([NEWEST.digest, NEW.digest]) == 0
    layout.delete(NEW.digest)
    layout.delete(NEWEST.digest)
    layout.check(OLD.digest)


def test_what_is_damaged_is_left_to_the_deletion(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    damage(packed(layout, OLD), -1)
    assert layout.release([NEW.digest]) == 0
    assert not whole(layout, OLD).exists()
    with pytest.raises(StorageError, match="stays"):
        layout.delete(NEW.digest)


def test_a_packed_blob_is_deleted_like_any_other(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    taken = packed(layout, OLD).stat().st_size
    assert layout.delete(OLD.digest) == taken
    assert not layout.has(OLD.digest)
    assert layout.delete(NEW.digest) == len(NEW.data)
    assert list(layout.digests()) == []


def test_a_row_of_packed_blobs_is_listed_in_the_order_in_which_it_can_be_deleted(
    layout: OciLayout,
) -> None:
    layout.add_bytes(NEWEST.data)
    rest(layout, OLD, NEW)
    rest(layout, NEW, NEWEST)
    listed = [digest for digest, _, _ in layout.digests()]
    assert listed == [OLD.digest, NEW.digest, NEWEST.digest]
    assert layout.read(OLD.digest, limit=2 * MIB) == OLD.data
    for digest in listed:
        layout.delete(digest)
    assert list(layout.digests()) == []


def test_no_two_blobs_are_packed_from_each_other(layout: OciLayout) -> None:
    assert rest(layout, OLD, NEW) > 0
    assert rest(layout, NEW, OLD) == 0
    assert whole(layout, NEW).exists()


def test_a_long_row_has_a_whole_blob_in_it(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    for blob in ROW:
        layout.add_bytes(blob.data)
    for one, following in pairwise(ROW):
        rest(layout, one, following)
    assert [whole(layout, blob).exists() for blob in ROW] == (
        [False] * 16 + [True] + [False] * 2 + [True]
    )
    for blob in ROW:
        layout.check(blob.digest)


def test_what_many_rest_on_is_open_once(tmp_path: Path) -> None:
    """Two files a version, whose halves change places: each rests on both of the next."""
    layout = OciLayout(tmp_path)
    chance = random.Random(0)
    halves = [chance.randbytes(MIB) for _ in range(4)]
    rows = []
    for _ in range(9):
        halves = [halves[0], halves[3], halves[2], halves[1]]
        halves = [half[:-40_000] + chance.randbytes(40_000) for half in halves]
        rows.append([of(halves[0] + halves[1]), of(halves[2] + halves[3])])
    for blob in (*rows[0], *rows[1]):
        layout.add_bytes(blob.data)
    for older, newer in pairwise(rows):
        for blob in newer:
            layout.add_bytes(blob.data)
        for blob in older:
            layout.pack(blob.digest, blob.table, newer[0].have | newer[1].have)
    assert not whole(layout, rows[0][0]).exists()
    with layout.open(rows[0][0].digest) as file:
        assert file.read() == rows[0][0].data
        if sys.platform == "linux":
            names = [one.resolve() for one in Path("/proc/self/fd").iterdir()]
            assert sum(tmp_path in name.parents for name in names) == 17


def test_what_a_blob_needs_is_known_also_when_another_packs_it_anew(layout: OciLayout) -> None:
    packs = Packs(layout.root / "packed")
    assert packs.needs() == {}
    rest(layout, OLD, NEW)
    assert packs.needs() == packs.needs() == {OLD.digest: (NEW.digest,)}
    layout.path(OLD.digest)
    assert packs.needs() == {}
    layout.add_bytes(NEWEST.data)
    rest(layout, OLD, NEWEST)
    assert packs.needs() == {OLD.digest: (NEWEST.digest,)}
    damage(packed(layout, OLD), 0)
    assert packs.needs() == {OLD.digest: ()}


def test_a_blob_of_very_many_others_stays_whole(
    layout: OciLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmodel.storage.layout._MAX_OPEN", 2)
    layout.add_bytes(NEWEST.data)
    assert rest(layout, OLD, NEW) > 0
    assert rest(layout, NEW, NEWEST) == 0
    monkeypatch.setattr("nbmodel.storage.layout._MAX_OPEN", 3)
    assert rest(layout, NEW, NEWEST) > 0
    layout.check(OLD.digest)


STAYS = {
    "what differs too much": lambda layout: rest(layout, of(os.urandom(2 * MIB)), NEW),
    "what is not here": lambda layout: rest(layout, NEWEST, NEW),
    "what rests on a blob that is not here": lambda layout: rest(layout, OLD, NEWEST),
    "what is small": lambda layout: layout.pack(
        OLD.digest, OLD.table, dict.fromkeys(OLD.have, ("sha256:" + "0" * 64, 0))
    ),
    "what would rest on itself": lambda layout: rest(layout, OLD, OLD),
    "what has another table": lambda layout: layout.pack(OLD.digest, NEW.table, NEW.have),
}


@pytest.mark.parametrize("pack", STAYS.values(), ids=STAYS)
def test_a_blob_stays_whole(layout: OciLayout, pack: object) -> None:
    assert callable(pack)
    assert pack(layout) == 0
    assert whole(layout, OLD).read_bytes() == OLD.data
    assert list((layout.root / "uploads").iterdir()) == []


def test_a_blob_with_hard_links_stays_whole(layout: OciLayout, tmp_path: Path) -> None:
    (tmp_path / "link").hardlink_to(layout.path(OLD.digest))
    assert rest(layout, OLD, NEW) == 0


OWN = next(at for at, (old, new) in enumerate(zip(OLD.data, NEW.data, strict=False)) if old != new)


@pytest.mark.parametrize(
    ("which", "at"), [(OLD, OWN), (NEW, 0), (NEW, -1)], ids=["it", "its base", "end of its base"]
)
def test_damage_is_never_packed(layout: OciLayout, which: Blob, at: int) -> None:
    damage(whole(layout, which), at)
    assert rest(layout, OLD, NEW) == 0
    assert whole(layout, OLD).exists()


def test_damage_of_what_another_blob_has_too_is_mended_by_packing(layout: OciLayout) -> None:
    damage(whole(layout, OLD), 0)
    assert rest(layout, OLD, NEW) > 0
    layout.check(OLD.digest)


@pytest.mark.parametrize("at", [0, 20, 60, -1], ids=["magic", "base", "step", "own bytes"])
def test_damage_of_a_packed_blob_is_found_and_mended_by_storing_it_again(
    layout: OciLayout, at: int
) -> None:
    rest(layout, OLD, NEW)
    damage(packed(layout, OLD), at)
    with pytest.raises(StorageError):
        layout.check(OLD.digest)
    with pytest.raises(StorageError):
        layout.path(OLD.digest)
    layout.check(NEW.digest)
    with layout.receive() as writer:
        writer.write(OLD.data)
        writer.commit(OLD.digest)
    layout.check(OLD.digest)
    layout.delete(NEW.digest)
    layout.check(OLD.digest)


def test_damage_of_what_it_rests_on_is_found_and_keeps_that_there(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    damage(whole(layout, NEW), 0)
    with pytest.raises(DigestMismatchError):
        layout.check(OLD.digest)
    with pytest.raises(StorageError, match=r"stays: .* is damaged"):
        layout.delete(NEW.digest)
    whole(layout, NEW).unlink()
    layout.add_bytes(NEW.data)
    layout.check(OLD.digest)


def test_a_packed_blob_whose_steps_are_damaged_keeps_what_it_rests_on(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    damage(packed(layout, OLD), 16 + 32)  # the first step's source
    with pytest.raises(StorageError, match=r"stays: .* is damaged"):
        layout.delete(NEW.digest)
    layout.check(NEW.digest)
    layout.delete(OLD.digest)
    layout.delete(NEW.digest)


def test_a_blob_that_is_cut_off_ends_the_one_that_rests_on_it(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    whole(layout, NEW).chmod(0o644)
    os.truncate(whole(layout, NEW), 1000)
    with pytest.raises(DigestMismatchError):
        layout.check(OLD.digest)


def test_a_disk_that_takes_nothing_leaves_everything_as_it_was(
    layout: OciLayout, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        (layout.root / "packed").write_bytes(b"")  # root may write everywhere
    else:
        layout.root.chmod(0o555)
    try:
        with pytest.raises(StorageUnavailableError):
            rest(layout, OLD, NEW)
    finally:
        layout.root.chmod(0o755)
    assert whole(layout, OLD).read_bytes() == OLD.data
    assert list((layout.root / "uploads").iterdir()) == []


def test_who_began_to_read_reads_to_the_end(layout: OciLayout) -> None:
    rest(layout, OLD, NEW)
    with layout.open(OLD.digest) as file:
        begun = file.read(1000)
        layout.delete(OLD.digest)
        layout.delete(NEW.digest)
        assert begun + file.read() == OLD.data


def test_readers_see_nothing_of_packing_and_unpacking(layout: OciLayout) -> None:
    """However often it goes one way and the other, every look finds the blob."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def turn() -> None:
        try:
            for _ in range(30):
                assert rest(layout, OLD, NEW) > 0
                layout.path(OLD.digest)
        except BaseException as exc:
            failed.append(exc)
        finally:
            ended.set()

    thread = threading.Thread(target=turn)
    thread.start()
    looks = 0
    while not ended.is_set() or looks == 0:
        layout.check(OLD.digest)
        assert layout.keep(OLD.digest)
        assert layout.size(OLD.digest) == len(OLD.data)
        looks += 1
    thread.join()
    assert failed == []


def test_many_who_pack_and_delete_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two that pack, each its own way, beside one that deletes what the others rest on."""
    layout = OciLayout(tmp_path)
    blobs = ROW[:4]
    for blob in blobs:
        layout.add_bytes(blob.data)
    start = threading.Barrier(3)
    failed: list[BaseException] = []

    def run(*steps: object) -> None:
        try:
            start.wait(30)
            for step in steps:
                assert callable(step)
                step()
        except BaseException as exc:
            failed.append(exc)

    pairs = list(pairwise(blobs))
    forth = [lambda one=one, other=other: rest(layout, one, other) for one, other in pairs]
    back = [lambda one=one, other=other: rest(layout, other, one) for one, other in pairs]
    delete = [lambda: layout.delete(blobs[-1].digest)]
    threads = [threading.Thread(target=run, args=steps) for steps in (forth, back, delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for blob in blobs[:-1]:
        layout.check(blob.digest)
    assert not layout.has(blobs[-1].digest)


FEW = ROW[:4]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "pack", "delete", "path", "damage"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_whatever_is_done_a_blob_that_is_there_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    layout = OciLayout(tmp_path_factory.mktemp("layout"))
    there: set[int] = set()
    for what, index, other in steps:
        blob = FEW[index]
        if what == "add":
            layout.add_bytes(blob.data)
            there.add(index)
        elif what == "pack":
            rest(layout, blob, FEW[other])
        elif index in there:
            if what == "delete":
                layout.delete(blob.digest)
                there.remove(index)
            elif what == "path":
                assert layout.path(blob.digest).read_bytes() == blob.data
        assert {digest for digest, _, _ in layout.digests()} == {FEW[at].digest for at in there}
        for at in there:
            layout.check(FEW[at].digest)
        assert len(list(layout.digests())) == len(there)
    assert not (layout.root / "uploads").exists() or not any((layout.root / "uploads").iterdir())


def test_heights_count_the_longest_way() -> None:
    needs = {"a": ("b",), "b": ("c",), "x": ("c",)}
    assert heights(needs) == {"a": 0, "x": 0, "b": 1, "c": 2}


def test_files_are_counted_once_from_any_blob() -> None:
    needs = {"a": ("b", "c"), "b": ("c", "d"), "x": ("d",)}
    assert [files_open(needs, one) for one in "abcdx"] == [4, 4, 4, 4, 2]


DRIVER = """
import sys
from pathlib import Path
from tests.storage.test_packs import OLD, NEW, rest
from nbmodel.storage import OciLayout

layout = OciLayout(Path(sys.argv[1]))
assert rest(layout, OLD, NEW) > 0
if sys.argv[2] == "delete":
    layout.delete(NEW.digest)
else:
    layout.path(OLD.digest)
"""


@pytest.mark.unhurried
@pytest.mark.skipif(
    sys.platform != "linux" or powercut.why_not() is not None, reason=f"{powercut.why_not()}"
)
@pytest.mark.parametrize("then", ["delete", "path"])
def test_no_power_cut_loses_a_blob(tmp_path: Path, then: str) -> None:
    """While it is packed, and then made whole because of either reason."""
    root, log = tmp_path / "root", tmp_path / "log"
    log.mkdir()
    layout = OciLayout(root)
    for blob in (OLD, NEW):
        layout.add_bytes(blob.data)
    disk = Disk.read(root)
    command = [sys.executable, "-c", DRIVER, str(root), then]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        traced(command, log), check=True, capture_output=True, timeout=120, env=environment
    )
    seen: set[str] = set()
    states: set[tuple[bool, bool]] = set()
    for cut in cuts(disk, read_calls(log)):
        key = cut.tree.key()
        if key in seen:
            continue
        seen.add(key)
        left = OciLayout(tmp_path / "left" / str(len(seen)))
        cut.tree.write(left.root)
        states.add((whole(left, OLD).exists(), packed(left, OLD).exists()))
        left.check(OLD.digest)
        assert left.size(OLD.digest) == len(OLD.data), str(cut)
        if left.has(NEW.digest):
            left.check(NEW.digest)
            assert rest(left, OLD, NEW) > 0 or not whole(left, OLD).exists(), str(cut)
            left.delete(NEW.digest)
            left.check(OLD.digest)
        else:
            assert then == "delete"
        for file in (whole(left, OLD), whole(left, NEW), packed(left, OLD)):
            file.unlink(missing_ok=True)  # 500 of them are a full disk
    assert states == {(True, False), (True, True), (False, True)}
