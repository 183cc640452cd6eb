"""What a disk holds after the power was cut, computed from what a process did to it.

strace records every call with which a process changes files. Replayed on a model of a disk,
these calls give what is on it after each of them, and what is left of that when the power
is cut there: of a file the bytes that were synchronised, of a folder the names that were. So
one run of an unchanged process gives every power cut that could have happened to it.

The model promises no more than POSIX does: a file's bytes are safe once it was synchronised,
a name once its folder was, each alone, and in any order otherwise. Only a rename is one step,
as on every file system with a journal.

Source: Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), for the method.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

Loss = Literal["killed", "unsynced lost", "data lost", "names lost", "torn"]

#: What is left where the power is cut: everything, as after a kill; only what was
#: synchronised; all names, but of files only what was synchronised and zeros for the rest;
#: all bytes, but only names that were synchronised; and of each of them some, by chance.
LOSSES: tuple[Loss, ...] = ("killed", "unsynced lost", "data lost", "names lost", "torn")

_CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,sendfile,"
    "copy_file_range,fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat"
)
_LINE = re.compile(r"([0-9]+)\.([0-9]{9}) ([a-z0-9]+)\((.*)\) = ([0-9]+)(?:<.*>)?(?: .*)?")
_HANDLE = re.compile(r"(?:[0-9]+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_GONE = " (deleted)"


@cache
def why_not() -> str | None:
    """Why no process can be traced here; None when one can."""
    if shutil.which("strace") is None:
        return "strace is not installed; tests/tools/system_packages.sh does that"
    tried = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "true"],
        capture_output=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"processes cannot be traced here: {tried.stderr!r}"


def traced(command: Sequence[str], log: Path) -> list[str]:
    """A command that runs another and writes down what it does to files.

    Args:
        command: What to run; its threads and children are followed.
        log: A folder that exists; a file a thread is written into it.
    """
    return [
        "strace",
        "-ff",
        "--seccomp-bpf",  # calls that are not looked at cost nothing
        "--decode-fds=path",
        "--strings-in-hex=all",
        f"--string-limit={64 * 1024 * 1024}",
        "--absolute-timestamps=format:unix,precision:ns",
        "--signal=none",
        "--quiet=all",
        f"--trace={_CALLS}",
        f"--output={log / 'calls'}",
        *command,
    ]


def failing(command: Sequence[str], *faults: str) -> list[str]:
    """A command that runs another whose calls fail or kill it.

    Args:
        command: What to run; its threads and children are followed.
        faults: As strace's ``--inject`` takes them: ``fsync:error=EIO:when=3``.
    """
    names = ",".join(dict.fromkeys(fault.partition(":")[0] for fault in faults))
    injected = [f"--inject={fault}" for fault in faults]
    options = ["-f", "--seccomp-bpf", "--signal=none", "--quiet=all", "--output=/dev/null"]
    return ["strace", *options, f"--trace={names}", *injected, *command]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that succeeded.

    Attributes:
        at_ns: When it began, in nanoseconds since the epoch, as ``time.time_ns``.
        name: Of the call.
        paths: What its handles and strings name, in order; relative paths are resolved.
        data: What it wrote, or where a symbolic link leads.
        flags: Its arguments without strings.
        result: What it returned.
    """

    at_ns: int
    name: str
    paths: tuple[str, ...]
    data: bytes
    flags: str
    result: int

    def __str__(self) -> str:
        size = f" {len(self.data)} bytes" if self.data else ""
        return f"{self.name} {' -> '.join(self.paths)}{size}"


def read_calls(log: Path, folder: str = "") -> list[Call]:
    """The calls that ``traced`` wrote down, in the order in which they began.

    Args:
        log: Where it wrote them.
        folder: Where the process ran; its relative paths are meant from there.
    """
    calls = []
    for file in log.iterdir():
        for line in file.read_text(encoding="ascii").splitlines():
            match = _LINE.fullmatch(line)
            if match is not None:
                seconds, fraction, name, arguments, result = match.groups()
                at_ns = int(seconds) * 10**9 + int(fraction)
                calls.append(_call(at_ns, name, arguments, int(result), folder))
    return sorted(calls, key=lambda call: call.at_ns)


def _call(at_ns: int, name: str, arguments: str, result: int, folder: str) -> Call:
    handles = [_plain(match[1]).decode() for match in _HANDLE.finditer(arguments)]
    if any(match[2] for match in _TEXT.finditer(arguments)):
        raise ValueError(f"strace cut a string of {name} short")
    texts = [_plain(match[1]) for match in _TEXT.finditer(arguments)]
    flags = _TEXT.sub('""', arguments)
    if name in ("write", "pwrite64", "writev", "pwritev", "pwritev2") or not texts:
        return Call(at_ns, name, tuple(handles), b"".join(texts), flags, result)
    data = texts.pop(0) if name in ("symlink", "symlinkat") else b""
    # A handle before a path is the folder that the path is relative to.
    folders = handles if len(handles) == len(texts) else [folder] * len(texts)
    paths = [str(Path(at, text.decode())) for at, text in zip(folders, texts, strict=True)]
    return Call(at_ns, name, tuple(paths), data, flags, result)


def _plain(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


# A disk


@dataclass(slots=True)
class _File:
    content: bytearray
    synced: bytes = b""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class _Folder:
    pass


@dataclass(frozen=True, slots=True)
class _Link:
    target: str


_Node = _File | _Folder | _Link
_ROOT = 0


@dataclass(slots=True)
class _Change:
    """Names that one call set, in a folder each; node None where it took one away."""

    names: tuple[tuple[int, str, int | None], ...]
    is_safe: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """What a disk holds.

    Attributes:
        files: Relative path → identity of the file and its bytes; hard links share both.
        folders: Relative paths.
        links: Relative path → where the symbolic link leads.
    """

    files: Mapping[str, tuple[int, bytes]]
    folders: frozenset[str]
    links: Mapping[str, str]

    def key(self, scratch: re.Pattern[str] | None = None) -> str:
        """Equal for trees that nobody can tell apart.

        Args:
            scratch: The part of a path that makes it a scratch file's, whose rest of a name
                and whose bytes nobody looks at.
        """
        numbers: dict[int, int] = {}
        files: set[tuple[object, ...]] = set()
        links = set(self.links.items())
        for path, (node, content) in sorted(self.files.items()):
            if scratch is not None and scratch.search(path):
                files.add((scratch.sub("*", path),))
            else:
                number = numbers.setdefault(node, len(numbers))
                files.add((path, number, hashlib.sha256(content).hexdigest()))
        if scratch is not None:
            links = {(scratch.sub("*", path), target) for path, target in links}
        told = (sorted(files, key=repr), sorted(self.folders), sorted(links))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def write(self, root: Path) -> None:
        """Make a folder that holds it; ``root`` must not be there."""
        root.mkdir(parents=True)
        for folder in sorted(self.folders):
            (root / folder).mkdir()
        first: dict[int, Path] = {}
        for path, (node, content) in self.files.items():
            if node in first:
                (root / path).hardlink_to(first[node])
            else:
                (root / path).write_bytes(content)
                first[node] = root / path
        for path, target in self.links.items():
            (root / path).symlink_to(target)


@dataclass(slots=True)
class Disk:
    """A folder of a disk, and which of it survives a power cut.

    Args:
        root: The folder that calls are about; what they do elsewhere is left out.
        ignored: Relative paths of files in it that are of no interest.
    """

    root: str
    ignored: frozenset[str] = frozenset()
    _nodes: dict[int, _Node] = field(default_factory=dict)
    _names: dict[int, dict[str, int]] = field(default_factory=dict)
    _changes: list[_Change] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path, *, ignored: Collection[str] = ()) -> Disk:
        """What is in a folder now, all of it safe."""
        disk = cls(str(root), frozenset(ignored))
        disk._add(_ROOT, _Folder())
        known: dict[tuple[int, int], int] = {}
        for folder, folders, files in os.walk(root):
            for name in sorted((*folders, *files)):
                path = Path(folder, name)
                if not disk._has(str(path)):
                    continue
                status = path.lstat()
                node = known.get((status.st_dev, status.st_ino))
                if node is None:
                    node = len(disk._nodes)
                    known[(status.st_dev, status.st_ino)] = node
                    disk._add(node, _node_at(path))
                disk._change((disk._at(folder), name, node))
        for change in disk._changes:
            change.is_safe = True
        return disk

    def concerns(self, call: Call) -> bool:
        """Whether a call is about this folder."""
        return any(self._has(path) for path in call.paths)

    def apply(self, call: Call) -> bool:
        """Do what a call did; whether it changed anything here or made it safe."""
        if not self.concerns(call):
            return False
        action = getattr(self, f"_{_ACTIONS[call.name]}")
        return bool(action(call))

    def tree(self, loss: Loss = "killed", chance: random.Random | None = None) -> Tree:
        """What is left when the power is cut now.

        Args:
            loss: What is lost.
            chance: Decides for ``torn``.
        """
        names = self._kept_names(loss, chance)
        files: dict[str, tuple[int, bytes]] = {}
        folders, links = [], {}
        contents: dict[int, bytes] = {}
        waiting = [("", _ROOT)]
        while waiting:
            path, folder = waiting.pop()
            for name, number in sorted(names.get(folder, {}).items()):
                node, inner = self._nodes[number], f"{path}{name}"
                if isinstance(node, _Folder):
                    folders.append(inner)
                    waiting.append((f"{inner}/", number))
                elif isinstance(node, _Link):
                    links[inner] = node.target
                else:
                    if number not in contents:
                        contents[number] = _kept_bytes(node, loss, chance)
                    files[inner] = (number, contents[number])
        return Tree(files, frozenset(folders), links)

    # Names

    def _kept_names(self, loss: Loss, chance: random.Random | None) -> dict[int, dict[str, int]]:
        if loss in ("killed", "data lost"):
            return self._names
        kept: dict[int, dict[str, int]] = {}
        for change in self._changes:
            lucky = chance is not None and chance.random() < 0.5
            if change.is_safe or (loss == "torn" and lucky):
                _set_names(kept, change)
        return kept

    def _has(self, path: str) -> bool:
        if path == self.root:
            return True
        inside = path.startswith(self.root + os.sep)
        return inside and path[len(self.root) + 1 :] not in self.ignored

    def _at(self, path: str) -> int:
        """The node of a path; ``KeyError`` where nothing is."""
        node = _ROOT
        for name in Path(path).relative_to(self.root).parts:
            node = self._names[node][name]
        return node

    def _find(self, path: str) -> int | None:
        if not self._has(path):
            return None
        try:
            return self._at(path)
        except KeyError:
            return None

    def _split(self, path: str) -> tuple[int, str]:
        return self._at(str(Path(path).parent)), Path(path).name

    def _add(self, number: int, node: _Node) -> int:
        self._nodes[number] = node
        if isinstance(node, _Folder):
            self._names[number] = {}
        return number

    def _new(self, node: _Node) -> int:
        return self._add(len(self._nodes), node)

    def _change(self, *names: tuple[int, str, int | None]) -> bool:
        change = _Change(names)
        self._changes.append(change)
        _set_names(self._names, change)
        return True

    def _file(self, path: str) -> _File | None:
        number = None if path.endswith(_GONE) else self._find(path)
        node = None if number is None else self._nodes[number]
        return node if isinstance(node, _File) else None

    # What calls do

    def _open(self, call: Call) -> bool:
        (path,) = call.paths
        if self._find(path) is None:
            return "O_CREAT" in call.flags and self._change(
                (*self._split(path), self._new(_File(bytearray())))
            )
        file = self._file(path)
        if "O_TRUNC" in call.flags and file is not None and file.content:
            file.content.clear()
            return True
        return False

    def _write(self, call: Call) -> bool:
        file = self._file(call.paths[0])
        if file is None:
            return False
        # The runtime writes files from their beginning to their end; ``differences`` says
        # so where it does not.
        start = len(file.content)
        if call.name.startswith("pwrite"):
            start = int(call.flags.rpartition(",")[2])
        file.content[len(file.content) :] = bytes(max(0, start - len(file.content)))
        file.content[start : start + call.result] = call.data[: call.result]
        return True

    def _copy(self, call: Call) -> bool:
        paths = call.paths if call.name == "sendfile" else call.paths[::-1]
        target, source = (self._file(path) for path in paths)
        if target is None or source is None:
            return False
        start = len(target.content)
        target.content += source.content[start : start + call.result]
        return True

    def _truncate(self, call: Call) -> bool:
        file = self._file(call.paths[0])
        if file is None:
            return False
        length = int(call.flags.rpartition(",")[2])
        del file.content[length:]
        file.content += bytes(length - len(file.content))
        return True

    def _sync(self, call: Call) -> bool:
        number = self._find(call.paths[0])
        if number is None:
            return False
        node = self._nodes[number]
        if isinstance(node, _File):
            node.synced = bytes(node.content)
            return True
        for change in self._changes:
            if any(folder == number for folder, _, _ in change.names):
                change.is_safe = True
        return True

    def _rename(self, call: Call) -> bool:
        before, after = call.paths
        node = self._find(before)
        if node is None or not self._has(after):
            raise ValueError(f"only renames inside {self.root} are understood: {call}")
        if node == self._find(after):
            return False
        return self._change((*self._split(after), node), (*self._split(before), None))

    def _link(self, call: Call) -> bool:
        before, after = call.paths
        node = self._find(before)
        if node is None:
            raise ValueError(f"only links inside {self.root} are understood: {call}")
        return self._change((*self._split(after), node))

    def _symlink(self, call: Call) -> bool:
        return self._change((*self._split(call.paths[0]), self._new(_Link(call.data.decode()))))

    def _unlink(self, call: Call) -> bool:
        return self._change((*self._split(call.paths[0]), None))

    def _mkdir(self, call: Call) -> bool:
        return self._change((*self._split(call.paths[0]), self._new(_Folder())))


_ACTIONS = {
    **dict.fromkeys(("open", "openat", "creat"), "open"),
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2"), "write"),
    **dict.fromkeys(("sendfile", "copy_file_range"), "copy"),
    **dict.fromkeys(("ftruncate", "truncate", "fallocate"), "truncate"),
    **dict.fromkeys(("fsync", "fdatasync"), "sync"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
    **dict.fromkeys(("link", "linkat"), "link"),
    **dict.fromkeys(("symlink", "symlinkat"), "symlink"),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), "unlink"),
    **dict.fromkeys(("mkdir", "mkdirat"), "mkdir"),
}


def _node_at(path: Path) -> _Node:
    if path.is_symlink():
        return _Link(str(path.readlink()))
    if path.is_dir():
        return _Folder()
    content = path.read_bytes()
    return _File(bytearray(content), content)


def _set_names(names: dict[int, dict[str, int]], change: _Change) -> None:
    for folder, name, node in change.names:
        entries = names.setdefault(folder, {})
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


def _kept_bytes(file: _File, loss: Loss, chance: random.Random | None) -> bytes:
    if loss in ("killed", "names lost") or file.synced == file.content:
        return bytes(file.content)
    if loss == "unsynced lost":
        return file.synced
    # The length of a file is written with its name, its bytes later.
    kept = len(file.synced)
    if loss == "torn" and chance is not None:
        kept = chance.randint(0, len(file.content))
    return bytes(file.content[:kept]).ljust(len(file.content), b"\0")


# Power cuts


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut and what it left.

    Attributes:
        after: How many calls that matter were made before it.
        last: The last of them, in words.
        begin_ns: When that was made, in nanoseconds since the epoch; 0 before the first.
        end_ns: When the next one was: the power was cut somewhere between. The latest time
            there is after the last.
        loss: What was lost.
        tree: What is left.
    """

    after: int
    last: str
    begin_ns: int
    end_ns: int
    loss: Loss
    tree: Tree

    def __str__(self) -> str:
        return f"{self.loss} after call {self.after} ({self.last})"


def cuts(
    disk: Disk, calls: Iterable[Call], losses: Sequence[Loss] = LOSSES, seed: int = 0
) -> Iterator[Cut]:
    """Every power cut, before the first call and after each that matters.

    Args:
        disk: What was there before the first call; it is changed.
        calls: What was done to it.
        losses: What may be lost.
        seed: Of what is torn.
    """
    chance = random.Random(seed)
    count, last, begin_ns = 0, "nothing", 0

    def here(end_ns: int) -> Iterator[Cut]:
        for loss in losses:
            yield Cut(count, last, begin_ns, end_ns, loss, disk.tree(loss, chance))

    for call in calls:
        if not disk.concerns(call):
            continue
        before = list(here(call.at_ns))
        if disk.apply(call):
            yield from before
            count, last = count + 1, str(call).replace(disk.root + os.sep, "")
            begin_ns = call.at_ns
    yield from here(sys.maxsize)


def differences(disk: Disk, root: Path) -> list[str]:
    """Where a folder is not as the model says, in words; the model is wrong then."""
    expected, found = disk.tree(), Disk.read(root, ignored=disk.ignored).tree()
    wrong = [f"{path}: missing" for path in sorted(_paths(expected) - _paths(found))]
    wrong += [f"{path}: not in the model" for path in sorted(_paths(found) - _paths(expected))]
    wrong += [
        f"{path}: {len(content)} bytes in the model, other than the {len(found.files[path][1])}"
        for path, (_, content) in expected.files.items()
        if path in found.files and found.files[path][1] != content
    ]
    return wrong


def _paths(tree: Tree) -> set[str]:
    return {*tree.files, *tree.folders, *(f"{path} -> {to}" for path, to in tree.links.items())}
