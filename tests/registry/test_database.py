"""The index file: journals, schema, damage, forks, threads, folders nobody may write to."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbmodel.core.version import Version
from nbmodel.errors import StorageError
from nbmodel.registry import Registry
from nbmodel.registry.database import UPGRADES, Database, on_network

Add = Callable[..., Version]
MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
tmpfs /home/ann/scratch tmpfs rw 0 0
//share /mnt/with\\040space cifs rw 0 0
short line
host: /mnt/ssh fuse.sshfs rw 0 0
/dev/sdb1 /mnt/ssh ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/var/lib", False),
        ("/home/ann/registry", True),
        ("/home", True),
        ("/homework", False),
        ("/home/ann/scratch/registry", False),
        ("/mnt/with space/x", True),
        ("/mnt/ssh/x", False),  # the later mount hides the earlier
    ],
)
def test_network_file_systems_are_told_by_the_mount_that_holds_the_path(
    path: str, network: bool
) -> None:
    assert on_network(Path(path), MOUNTS) is network


@pytest.mark.parametrize(("network", "journal"), [(False, "wal"), (True, "truncate")])
def test_the_journal_fits_the_file_system(tmp_path: Path, network: bool, journal: str) -> None:
    database = Database(tmp_path / "index.sqlite", network=network)
    with database.write() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == (journal,)
        db.execute("INSERT INTO retired VALUES ('digits', 3)")
    with database.read() as db:
        assert db.execute("SELECT * FROM retired").fetchall() == [("digits", 3)]
    assert database.journal == journal
    database.close()


def test_an_error_inside_a_write_undoes_all_of_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "index.sqlite")

    def write_and_fail() -> None:
        with database.write() as db:
            db.execute("INSERT INTO retired VALUES ('digits', 3)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    with database.read() as db:
        assert db.execute("SELECT * FROM retired").fetchall() == []
    database.close()


def test_an_index_of_another_version_is_refused(registry: Registry, add: Add) -> None:
    add()
    registry.close()
    with sqlite3.connect(registry.root / "registry.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="schema 99, expected 3"):
        registry.models()


def _made_by(registry: Registry, schema: int) -> None:
    """Take what later schemas added away again."""
    registry.close()
    with sqlite3.connect(registry.root / "registry.sqlite") as db:
        for before, script in UPGRADES.items():
            for line in script.splitlines() if before >= schema else ():
                if line.startswith("CREATE TABLE"):
                    db.execute(f"DROP TABLE {line.split()[2]}")
        db.execute(f"PRAGMA user_version = {schema}")
    db.close()


def test_an_index_of_an_earlier_version_is_brought_up_to_date(registry: Registry, add: Add) -> None:
    made = add()
    _made_by(registry, 1)
    assert registry.resolve("digits:1") == made
    assert add().number == 2
    assert registry.verify().is_clean


def test_an_index_of_an_earlier_version_is_read_where_nothing_can_be_written(
    registry: Registry, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = add()
    _made_by(registry, 1)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert registry.resolve("digits:1") == made
    with registry._catalog.db.read() as db:
        assert db.execute("SELECT * FROM remotes").fetchall() == []
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def _see_digits(registry: Registry) -> None:
    """Note what an earlier release noted of a model on two remotes."""
    with registry._catalog.db.write() as db:
        db.execute("INSERT INTO remotes VALUES (1, 'https://a.example', 'team')")
        db.execute("INSERT INTO remotes VALUES (2, 'https://b.example', '')")
        for remote in (1, 2):
            db.execute("INSERT INTO remote_tags VALUES (?, 'digits', '1', 'sha256:0')", (remote,))
        db.execute("INSERT INTO remote_tags VALUES (2, 'unknown', '1', 'sha256:0')")


@pytest.mark.parametrize("is_writable", [True, False], ids=["writable", "read-only"])
def test_what_was_seen_on_remotes_by_an_earlier_version_is_the_same_model(
    registry: Registry, add: Add, monkeypatch: pytest.MonkeyPatch, is_writable: bool
) -> None:
    add()
    _see_digits(registry)
    _made_by(registry, 2)
    if not is_writable:
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with registry._catalog.db.read() as db:
        found = db.execute(
            "SELECT s.url, s.repository, m.name FROM shared s JOIN models m ON m.id = s.model"
        ).fetchall()
    assert found == [
        ("https://a.example", "team/digits", "digits"),
        ("https://b.example", "digits", "digits"),
    ]


def test_a_damaged_index_is_said_to_be_damaged(registry: Registry, add: Add) -> None:
    add()
    registry.close()
    (registry.root / "registry.sqlite").write_bytes(b"not a database, though long enough" * 100)
    with pytest.raises(StorageError, match="is damaged"):
        registry.models()


def test_a_registry_that_was_removed_starts_anew(registry: Registry, add: Add) -> None:
    add()
    shutil.rmtree(registry.root)
    assert registry.models() == []
    assert add().number == 1
    assert registry.verify().is_clean


def test_threads_may_share_a_registry(registry: Registry, add: Add) -> None:
    numbers: list[int] = []

    def upload() -> None:
        for _ in range(5):
            numbers.append(add().number)
            registry.resolve("digits")

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 21))
    assert registry.verify().is_clean


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_uses_the_registry_and_leaves_the_parents_alone(tmp_path: Path) -> None:
    # In a process of its own: one that has threads must not fork.
    program = """
import os, sys
from pathlib import Path
from nbmodel.core.signature import Signature
from nbmodel.registry import Registry
registry = Registry(Path(sys.argv[1]))
def add():
    return registry.add("m", {"f": b"x"}, framework="x", model_type="other", signature=Signature())
add()
child = os.fork()
if child == 0:
    add()
    registry.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert add().number == 3
assert registry.verify().is_clean
registry.close()
"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "registry"], check=True, timeout=60)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach, which ``tmp_path`` is not."""
    folder = Path(tempfile.mkdtemp(prefix="nbmodel-test-"))
    folder.chmod(0o755)
    yield folder
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
@pytest.mark.parametrize("state", ["empty", "filled", "open elsewhere"])
def test_a_folder_that_must_not_be_written_can_be_read_and_nothing_changes(
    public_folder: Path, state: str
) -> None:
    program = """
import os, sys
import urllib.parse  # pathlib imports it late, when the interpreter's files cannot be read
from pathlib import Path
from nbmodel.core.signature import Signature
from nbmodel.errors import StorageUnavailableError
from nbmodel.registry import Registry
root, other, state = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def add(registry):
    return registry.add("m", {"f": b"x"}, framework="x", model_type="other", signature=Signature())
with Registry(other) as registry:  # imports all that is needed
    add(registry)
    registry.verify()
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
registry = Registry(root)
count = 0 if state == "empty" else 1
assert len(registry.models()) == count
assert len(registry.versions()) == count
assert registry.verify().is_clean
if count:
    assert registry.resolve("m").number == 1
changes = [
    lambda: add(registry),
    lambda: registry.set_alias("m", "champion"),
    lambda: registry.describe("m", "text"),
    lambda: registry.delete("m"),
    lambda: registry.gc(grace_s=0),
]
for change in changes:
    try:
        change()
    except StorageUnavailableError:
        print("refused")
    else:
        raise SystemExit("a change was made")
registry.close()
"""
    root = public_folder / "registry"
    root.mkdir()
    owner = Registry(root)
    if state != "empty":
        from nbmodel.core.signature import Signature

        owner.add("m", {"f": b"x"}, framework="x", model_type="other", signature=Signature())
    if state != "open elsewhere":
        owner.close()
    before = sorted(str(path) for path in root.rglob("*"))
    for place, _, _ in os.walk(root):
        Path(place).chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", program, root, public_folder / "other", state],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * 5
    assert sorted(str(path) for path in root.rglob("*")) == before
    owner.close()
