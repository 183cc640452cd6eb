"""The SQLite file beside the blobs: connection, transactions, schema.

Write-ahead log, one short ``BEGIN IMMEDIATE`` for every write: readers never wait, writers
queue. On a network file system, where the log's shared memory does not work, the
journal is ``TRUNCATE`` instead.

Source: SQLite documentation, "Write-Ahead Logging" and "Transaction".
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock

from nbmodel.errors import StorageError, StorageUnavailableError
from nbmodel.storage.room import is_full

_log = logging.getLogger(__name__)

TIMEOUT_S = 20.0  # how long a write waits for the others
SCHEMA_VERSION = 3
SCHEMA = """
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    last_number INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    deprecated TEXT
);
-- Numbers given out under a name that no model has any more: they are never given again.
CREATE TABLE retired (name TEXT PRIMARY KEY, last_number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (
    id INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    number INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    digest TEXT NOT NULL,
    manifest_size INTEGER NOT NULL,
    created TEXT NOT NULL,
    framework TEXT NOT NULL,
    model_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    metrics TEXT NOT NULL,
    metadata TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT '{}',
    published INTEGER NOT NULL DEFAULT 0,
    archived INTEGER NOT NULL DEFAULT 0,
    deprecated TEXT,
    UNIQUE (model, number),
    UNIQUE (model, stamp)
);
CREATE INDEX versions_by_digest ON versions (digest);
CREATE INDEX versions_in_use ON versions (model, archived, number);
CREATE TABLE blobs (
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (version, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE parents (
    child INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (child, position)
) WITHOUT ROWID;
CREATE INDEX parents_by_digest ON parents (digest);
CREATE TABLE aliases (
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    PRIMARY KEY (model, name)
) WITHOUT ROWID;
CREATE INDEX aliases_by_version ON aliases (version);
CREATE TABLE alias_moves (
    id INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    alias TEXT NOT NULL,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    old INTEGER,
    new INTEGER,
    why TEXT NOT NULL
);
CREATE INDEX alias_moves_by_model ON alias_moves (model);
CREATE TABLE pins (
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    runtime TEXT NOT NULL,  -- '' is the whole registry
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (model, runtime)
) WITHOUT ROWID;
CREATE INDEX pins_by_version ON pins (version);
CREATE TABLE deployments (
    runtime TEXT NOT NULL,
    service TEXT NOT NULL,
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    selector TEXT NOT NULL,
    package TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (runtime, service)
) WITHOUT ROWID;
CREATE INDEX deployments_by_model ON deployments (model);
-- Files seen before: unchanged ones are not read again.
CREATE TABLE seen (
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (device, inode)
) WITHOUT ROWID;
-- How often the set of versions changed, and up to which change index.json tells.
CREATE TABLE revision (changes INTEGER NOT NULL, indexed INTEGER NOT NULL);
INSERT INTO revision VALUES (0, 0);
"""
#: Schema → what makes the next one of it; it adds tables and leaves what is there.
UPGRADES = {
    1: """
-- Registries that versions were pushed to or pulled from, and which gives a model its numbers.
CREATE TABLE remotes (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    namespace TEXT NOT NULL,
    UNIQUE (url, namespace)
);
CREATE TABLE homes (
    model INTEGER PRIMARY KEY REFERENCES models ON DELETE CASCADE,
    remote INTEGER NOT NULL REFERENCES remotes ON DELETE CASCADE
);
-- What was seen there: a tag on a manifest; without a tag, that the manifest is there. The
-- model is the name it has there, which a rename here does not change.
CREATE TABLE remote_tags (
    remote INTEGER NOT NULL REFERENCES remotes ON DELETE CASCADE,
    model TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (remote, model, tag, digest)
) WITHOUT ROWID;
CREATE INDEX remote_tags_by_digest ON remote_tags (digest);
-- Versions whose files are on a remote alone: their manifests and configs are here.
CREATE TABLE unfetched (
    version INTEGER PRIMARY KEY REFERENCES versions ON DELETE CASCADE
);
-- Numbers of deleted versions: they are never given again.
CREATE TABLE deleted (
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (model, number)
) WITHOUT ROWID;
-- Versions that lost their number to another one.
CREATE TABLE renumbered (
    id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    at TEXT NOT NULL,
    remote TEXT NOT NULL
);
CREATE INDEX renumbered_by_version ON renumbered (version);
-- Where a runtime fetches what a deployment follows; those without a row get it directly.
CREATE TABLE fetched_from (
    runtime TEXT NOT NULL,
    service TEXT NOT NULL,
    registry TEXT NOT NULL,
    PRIMARY KEY (runtime, service),
    FOREIGN KEY (runtime, service) REFERENCES deployments ON DELETE CASCADE
) WITHOUT ROWID;
""",
    2: """
-- Which model here the repository of a remote is; none: one that was deleted here.
CREATE TABLE shared (
    url TEXT NOT NULL,
    repository TEXT NOT NULL,
    model INTEGER REFERENCES models ON DELETE SET NULL,
    PRIMARY KEY (url, repository)
) WITHOUT ROWID;
CREATE INDEX shared_by_model ON shared (model);
INSERT OR IGNORE INTO shared
    SELECT r.url, ltrim(r.namespace || '/' || t.model, '/'), m.id
    FROM (SELECT DISTINCT remote, model FROM remote_tags) t
    JOIN remotes r ON r.id = t.remote JOIN models m ON m.name = t.model ORDER BY r.id;
-- Versions that were deleted here: they come back when somebody asks for them.
CREATE TABLE dismissed (
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    digest TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (model, digest)
) WITHOUT ROWID;
-- When a remote was used last; and whether it is meant where none is named.
CREATE TABLE remote_uses (
    remote INTEGER PRIMARY KEY REFERENCES remotes ON DELETE CASCADE,
    at TEXT NOT NULL DEFAULT '',
    is_default INTEGER NOT NULL DEFAULT 0
);
""",
}
_NETWORK = frozenset({"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4"})
_NETWORK |= {"smb3", "smbfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone"}


# A connection must be neither used nor closed by a forked child, so the child keeps it.
_INHERITED: list[sqlite3.Connection | None] = []


class _Handles:
    """The open connections of a database, in the process that opened them."""

    def __init__(self) -> None:
        self.index: sqlite3.Connection | None = None
        self.empty: sqlite3.Connection | None = None
        self._process = os.getpid()

    def forget_parent(self) -> None:
        """After a fork: leave the parent's connections alone."""
        if self._process != os.getpid():
            _INHERITED.extend((self.index, self.empty))
            self.index = self.empty = None
            self._process = os.getpid()

    def close(self) -> None:
        """Close what this process opened."""
        self.forget_parent()
        for connection in (self.index, self.empty):
            if connection is not None:
                connection.close()
        self.index = self.empty = None


class Database:
    """The index of one registry; opened when first needed, made by the first write.

    Methods may be called from several threads (they take turns) and after a fork.

    Args:
        path: The file.
        network: Whether it is on a network file system; found out when None.
        on_missing: Called before a file that is not there is taken for an empty index; raises
            where it must not be.
    """

    def __init__(
        self,
        path: Path,
        *,
        network: bool | None = None,
        on_missing: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._on_missing = on_missing
        self._network = network
        self._turn = RLock()
        self._open = _Handles()
        self._inode = 0
        # Also at the end of the interpreter, where the order of ``__del__`` is anyone's guess.
        weakref.finalize(self, self._open.close)

    @property
    def journal(self) -> str:
        """``wal``, or ``truncate`` where the folder is on a network file system."""
        if self._network is None:
            self._network = on_network(self.path)
            if self._network:
                _log.warning(
                    "%s is on a network file system: the registry works, with slower writes",
                    self.path.parent,
                )
        return "truncate" if self._network else "wal"

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view; of an empty index while there is no file.

        Raises:
            StorageUnavailableError: The file cannot be read.
        """
        with self._turn, _translated(self.path), self._readable() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside; all of it happens, or nothing.

        Raises:
            StorageUnavailableError: The file cannot be written, or others kept it longer
                than ``TIMEOUT_S``.
        """
        with self._turn, _translated(self.path), self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._turn:
            self._open.close()

    @contextmanager
    def _readable(self) -> Iterator[sqlite3.Connection]:
        self._open.forget_parent()
        if not self._is_there():
            if self._open.empty is None:
                self._open.empty = _connect(":memory:")
                self._open.empty.executescript("".join((SCHEMA, *UPGRADES.values())))
            yield self._open.empty
        elif os.access(self.path.parent, os.W_OK):
            with self._opened() as connection:
                yield connection
        else:
            # Opened anew each time: such a connection does not see what its owner writes.
            with _read_only(self.path) as connection:
                _add_tables(connection, self.path)
                yield connection

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._writable()
        except sqlite3.OperationalError:
            if not _size(self.path) or not is_full(self.path.parent):
                raise
        else:
            yield connection
            return
        # On a full disk there is no room for the memory that processes share. Alone, which
        # this one is where nobody else made it before, it is not needed.
        with closing(_connect(str(self.path), alone=True)) as connection:
            _add_tables(connection, self.path)
            yield connection

    def _is_there(self) -> bool:
        """Whether there is an index; a file without a byte is none.

        Raises:
            StorageError: There was one, and it is lost.
        """
        if _size(self.path):
            return True
        try:
            self._on_missing()
        except StorageError:
            if not _size(self.path):  # else it was made between the two looks
                raise
        return self.path.exists()

    def _writable(self) -> sqlite3.Connection:
        self._open.forget_parent()
        if self._open.index is not None:
            if _inode(self.path) == self._inode:
                return self._open.index
            self._open.close()  # the folder was removed, and perhaps made again
        self._is_there()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(str(self.path))
        try:
            _use_journal(connection, self.journal)
            _make_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._inode = _inode(self.path)
        self._open.index = connection
        return connection


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether a path is on a network file system, as far as Linux tells.

    Args:
        path: Need not exist yet.
        mounts: Text in the form of ``/proc/self/mounts``; the system's own when None.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    place = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " ").replace("\\134", "\\"))
        # Of two mounts on one folder the later hides the earlier.
        if len(mount.parts) >= best and (mount == place or mount in place.parents):
            best, kind = len(mount.parts), fields[2]
    return kind in _NETWORK


def _connect(target: str, *, alone: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target,
        timeout=TIMEOUT_S,
        isolation_level=None,  # transactions are begun by hand
        check_same_thread=False,  # ``Database`` lets one thread in at a time
        uri=target.startswith("file:"),
    )
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # before anything is read
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:  # a damaged file is found out here
        connection.close()
        raise
    return connection


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that cannot be written."""
    # Reading beside a writer needs its log and the memory that it shares; without a log
    # nobody has the index open, and it can be read as it lies there.
    if not _beside(path, "-wal").exists():
        with closing(_connect(f"{path.absolute().as_uri()}?immutable=1")) as connection:
            yield connection
    elif _beside(path, "-shm").exists():
        with closing(_connect(f"{path.absolute().as_uri()}?mode=ro")) as connection:
            yield connection
    else:
        # Whoever wrote the log was killed. It holds versions, and to read it is to write.
        with tempfile.TemporaryDirectory(prefix="nbmodel-index-") as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
            with closing(_connect(str(copy))) as connection:
                yield connection


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _use_journal(connection: sqlite3.Connection, journal: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != journal:
                connection.execute(f"PRAGMA journal_mode = {journal}")
        except sqlite3.OperationalError as exc:
            # Changing the mode does not wait for others, whatever the timeout.
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _make_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the present schema, from nothing or from an earlier one."""
    if _schema_version(connection) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _schema_version(connection)
            for script in _scripts_after(found):
                _execute_all(connection, script)
            connection.execute(f"PRAGMA user_version = {max(found, SCHEMA_VERSION)}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    _check_schema(connection, path)


def _add_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Give a file that cannot be changed the tables of the present schema, empty and unsaved."""
    found = _schema_version(connection)
    if 0 < found < SCHEMA_VERSION:
        connection.execute("PRAGMA foreign_keys = OFF")  # which never lead out of a database
        for script in _scripts_after(found):
            kept = script.replace("CREATE TABLE", "CREATE TEMP TABLE")
            _execute_all(connection, kept.replace("CREATE INDEX ", "CREATE INDEX temp."))
    else:
        _check_schema(connection, path)


def _scripts_after(found: int) -> list[str]:
    """What makes the present schema of one that was found; 0 is none at all."""
    first = [SCHEMA] if found == 0 else []
    return first + [script for before, script in UPGRADES.items() if before >= found]


def _execute_all(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n"):
        connection.execute(statement)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    found = _schema_version(connection)
    if found != SCHEMA_VERSION:
        raise StorageError(
            f"registry index {path} has schema {found}, expected {SCHEMA_VERSION}",
            hint="it was made by another version of nbmodel: use that one",
        )


def _schema_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the folder into ours."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        busy = "locked" in str(exc)
        raise StorageUnavailableError(
            f"cannot use registry index {path}: {exc}",
            hint="another process is writing to it; try again"
            if busy
            else "check free space and permissions of the folder",
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise StorageError(
            f"registry index {path} is damaged: {exc}", hint="nbmodel verify --rebuild"
        ) from exc
    except OSError as exc:
        raise StorageUnavailableError(
            f"cannot use registry index {path}: {exc.strerror or exc}",
            hint="check free space and permissions of the folder",
        ) from exc
