"""A model in a Git repository, at a revision, with what Git LFS keeps elsewhere.

Nothing is checked out: files are read from Git's own objects, so that no hook, filter,
attribute, link or submodule of the repository does anything. The ``git`` program is needed,
``git-lfs`` is not.

Source: git-fetch(1), git-ls-tree(1), git-cat-file(1); Git LFS ``docs/spec.md``,
``docs/api/batch.md``.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from nbmodel.core.origin import Origin, without_credentials
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    FormatError,
    InputError,
    PluginError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.importing.base import (
    Fetched,
    Import,
    Importer,
    file_digest,
    name_from,
    safe_path,
    shown,
)
from nbmodel.importing.choice import chosen
from nbmodel.importing.download import Web
from nbmodel.storage.base import translated

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?"
)
_MAX_POINTER = 1024  # bytes, of the specification
_BATCH = 100  # objects of one request
_CHUNK = 1 << 20
_LOOK_S = 0.2
_MAX_LINE = 4200  # bytes that git tells of one file: its path, or a pointer or link
_HELPER = (
    '!f() { test "$1" = get || return 0; echo "username=$NBMODEL_GIT_USER"; '
    'test -z "${NBMODEL_GIT_PASSWORD+x}" || echo "password=$NBMODEL_GIT_PASSWORD"; }; f'
)  # what git asks for the login of an address
# What a repository's own configuration could make git do is said here, where it counts more.
_SAFE = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",  # always one pack, whose growth is watched
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
)
# What tells git, run inside of a hook or a rebase, of another repository.
_OF_A_REPOSITORY = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_PREFIX",
     "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH",
     "GIT_SHALLOW_FILE", "GIT_TRACE")
)  # fmt: skip
_REFUSALS = ("Authentication failed", "could not read Username", "Permission denied", "terminal prompts",
             "HTTP 401", "HTTP 403", "error: 401", "error: 403")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Blob:
    """A file of a commit: its object, its bytes, and whether it is a link."""

    oid: str
    size: int
    is_link: bool


class Git(Importer):
    """``git+https://…``, ``git+ssh://…``, ``git+file://…``, or an address that ends in ``.git``."""

    name = "git"
    form = "git+https://HOST/REPO.git@REVISION"

    def takes(self, uri: str) -> bool:
        """Whether it is of a repository."""
        if uri.startswith(("git+", "git://", "ssh://")) or _is_scp(uri):
            return True
        path = uri.partition("#")[0].partition("?")[0]
        return re.match(r"(https?|file)://[^/]*/.*\.git(@[^@]*)?/?$", path) is not None

    def fetch(self, uri: str, job: Import) -> Fetched:
        """The files of a revision, which is the default branch's when nobody says."""
        if shutil.which("git") is None:
            raise PluginError("importing from Git needs the program git", hint="apt install git")
        remote, revision, folder = _parsed(uri)
        revision = revision or job.revision
        if revision.startswith("-") or any(char in revision for char in " \0\n"):
            raise InputError(f"not a revision: {revision[:80]!r}")
        repository = _Repository(job.room("git"), job)
        commit = repository.fetch(remote, revision)
        blobs, notes = repository.files(commit, folder)
        what = shown(remote)
        sizes = {name: blob.size for name, blob in blobs.items()}
        pointers = repository.pointers({n: b for n, b in blobs.items() if b.size < _MAX_POINTER})
        sizes |= {name: size for name, (_, size) in pointers.items()}
        wanted = chosen(sizes, job, what)
        room = job.room("tree")
        repository.write({name: blobs[name] for name in wanted if name not in pointers}, room)
        large = {name: pointers[name] for name in wanted if name in pointers}
        if large:
            _Lfs(remote, job, repository.env).bring(large, room)
        last = folder.rpartition("/")[2] or remote.rstrip("/").rpartition("/")[2].rpartition(":")[2]
        return Fetched(
            room,
            Origin(self.name, _address(remote, folder), commit),
            name=name_from(last.removesuffix(".git")),
            metadata={"git": {"commit": commit, "revision": revision or "HEAD"}},
            tags={"git.commit": commit} | ({"git.revision": revision} if revision else {}),
            notes=notes,
        )


class _Repository:
    """A bare repository of our own, into which one commit is fetched."""

    def __init__(self, folder: Path, job: Import) -> None:
        self._folder = folder
        self._job = job
        self.env = {
            **{key: value for key, value in os.environ.items() if key not in _OF_A_REPOSITORY},
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GCM_INTERACTIVE": "never",
            "LC_ALL": "C",
        }
        self.env.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        self._run(["init", "--quiet", "--bare", "--template=", str(folder)], inside=False)

    def fetch(self, remote: str, revision: str) -> str:
        """Bring a revision; the commit that it is.

        Raises:
            InputError: There is none.
            TargetUnreachableError, AuthenticationError: The server is away, or refuses.
        """
        self._job.note(f"fetching {revision or 'HEAD'}")
        remote = self._without_login(remote)
        fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"]
        wanted = f"+{revision or 'HEAD'}:refs/nbmodel/wanted"
        # A server of plain files has no history of one commit. Not every server gives a
        # commit that no branch is at, and none an abbreviated one.
        for depth in (["--depth=1"], []):
            try:
                self._run([*fetch, *depth, "--", remote, wanted])
                return self._commit("refs/nbmodel/wanted")
            except StorageError as exc:
                if depth and "shallow" in str(exc):
                    continue
                if not revision:
                    raise
                break
        everything = ["+refs/heads/*:refs/nbmodel/heads/*", "+refs/tags/*:refs/nbmodel/tags/*"]
        self._run([*fetch, "--", remote, *everything])
        for name in (f"refs/nbmodel/tags/{revision}", f"refs/nbmodel/heads/{revision}", revision):
            with suppress(StorageError):
                return self._commit(name)
        raise InputError(f"{shown(remote)} has no revision {revision[:80]!r}")

    def _without_login(self, remote: str) -> str:
        """An address without its login, which git is given where no list of processes has it."""
        parts = urlsplit(remote)
        login, at, host = parts.netloc.rpartition("@")
        if parts.scheme not in ("http", "https") or not at:
            return remote
        user, has_password, password = login.partition(":")
        said = {"NBMODEL_GIT_USER": unquote(user)}
        if has_password:
            said["NBMODEL_GIT_PASSWORD"] = unquote(password)
        if any(not char.isprintable() for word in said.values() for char in word):
            raise InputError(f"not an address of a repository: {shown(remote)!r}")
        # As a helper for this server, so that none that it redirects to is shown the login.
        before = self.env.get("GIT_CONFIG_COUNT", "")
        count = int(before) if before.isdecimal() else 0
        for value in ("", _HELPER):  # empty: none of the user's own
            said[f"GIT_CONFIG_KEY_{count}"] = f"credential.{parts.scheme}://{host}.helper"
            said[f"GIT_CONFIG_VALUE_{count}"] = value
            count += 1
        self.env |= {**said, "GIT_CONFIG_COUNT": str(count)}
        return urlunsplit(parts._replace(netloc=host))

    def files(self, commit: str, folder: str) -> tuple[dict[str, _Blob], tuple[str, ...]]:
        """Path → blob of a commit's files below a folder, links inside of it followed.

        Raises:
            InputError: There is no such folder, a path is unsafe, or there are too many files.
        """
        listed = self._run(["ls-tree", "-r", "-z", "--long", "--full-tree", commit])
        found: dict[str, _Blob] = {}
        modules = 0
        for line in listed.split(b"\0"):
            head, tab, raw = line.partition(b"\t")
            if not tab:
                continue
            mode, kind, oid, size = head.decode("ascii").split()
            modules += kind == "commit"
            if kind == "blob":
                path = safe_path(raw.decode("utf-8", "surrogateescape"))
                found[path] = _Blob(oid, int(size), mode == "120000")
                self._job.check_count(len(found), "the repository")
        inside, lost = self._followed(found)
        if folder:
            inside = {
                path.removeprefix(f"{folder}/"): blob
                for path, blob in inside.items()
                if path.startswith(f"{folder}/")
            }
            if not inside:
                raise InputError(f"the repository has no folder {folder[:80]!r} at {commit[:12]}")
        notes = [f"{modules} submodules are left out"] if modules else []
        notes += (
            [f"left out, as links that lead elsewhere: {', '.join(lost)[:200]}"] if lost else []
        )
        return inside, tuple(notes)

    def pointers(self, blobs: Mapping[str, _Blob]) -> dict[str, tuple[str, int]]:
        """Path → digest and bytes, of those files that stand for what LFS keeps."""
        found = {}
        for name, content in self._contents(blobs).items():
            match = _POINTER.fullmatch(content)
            if match is not None:
                found[name] = (match[1].decode("ascii"), int(match[2]))
        return found

    def write(self, blobs: Mapping[str, _Blob], room: Path) -> None:
        """Write the contents of blobs into a folder."""
        for name, blob in blobs.items():
            self._job.check()
            target = room / name
            with translated("keep what is imported"):
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    self._run(["cat-file", "blob", blob.oid], into=file)
            self._job.progress(blob.size)

    def _followed(self, found: Mapping[str, _Blob]) -> tuple[dict[str, _Blob], list[str]]:
        links = {name: blob for name, blob in found.items() if blob.is_link and blob.size < 4096}
        targets = self._contents(links)
        inside = {name: blob for name, blob in found.items() if not blob.is_link}
        lost = []
        for name, blob in found.items():
            if not blob.is_link:
                continue
            said = targets.get(name, b"").decode("utf-8", "replace")
            target = os.path.normpath(os.path.join(os.path.dirname(name), said))  # noqa: PTH118, PTH120 # text
            if said and not said.startswith("/") and target in found and not found[target].is_link:
                inside[name] = found[target]
            else:
                lost.append(name)
        return inside, lost

    def _contents(self, blobs: Mapping[str, _Blob]) -> dict[str, bytes]:
        """Name → content of small blobs, in one process."""
        if not blobs:
            return {}
        asked = "".join(f"{blob.oid}\n" for blob in blobs.values()).encode("ascii")
        answer = self._run(["cat-file", "--batch"], given=asked)
        found, at = {}, 0
        for name in blobs:
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split()[2])
            found[name] = answer[end + 1 : end + 1 + size]
            at = end + 1 + size + 1
        return found

    def _commit(self, name: str) -> str:
        said = self._run(
            ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        )
        commit = said.decode("ascii").strip()
        if not _COMMIT.fullmatch(commit):
            raise StorageError(f"git told no commit for {name}")
        return commit

    def _run(
        self,
        words: Sequence[str],
        *,
        inside: bool = True,
        given: bytes = b"",
        into: Any = None,
    ) -> bytes:
        """What git writes. Its growth is watched, and it ends when nobody wants to go on.

        Raises:
            StorageError: It failed; TargetUnreachableError and AuthenticationError by what
                it says.
        """
        options = [word for setting in _SAFE for word in ("-c", setting)]
        place = [f"--git-dir={self._folder}"] if inside else []
        with (
            tempfile.TemporaryFile() as errors,
            tempfile.TemporaryFile() as answer,
            tempfile.TemporaryFile() as asked,
        ):
            asked.write(given)
            asked.seek(0)
            with subprocess.Popen(
                ["git", *options, *place, *words],
                stdin=asked,
                stdout=answer if into is None else into,
                stderr=errors,
                env=self.env,
                cwd=self._folder,
            ) as process:
                try:
                    self._watch(process, answer.fileno())
                except BaseException:
                    process.kill()
                    raise
            errors.seek(0)
            said = errors.read(8192).decode("utf-8", "replace")
            if process.returncode:
                raise _refused(words, said)
            answer.seek(0)
            return answer.read()

    def _watch(self, process: subprocess.Popen[bytes], answer: int) -> None:
        seen = 0
        looked = time.monotonic()
        has_ended = False
        while not has_ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                has_ended = True
            self._job.check()
            if os.fstat(answer).st_size > self._job.limits.files * _MAX_LINE + _CHUNK:
                self._job.check_count(self._job.limits.files + 1, "the repository")
            if not has_ended and time.monotonic() - looked < _LOOK_S:
                continue
            looked = time.monotonic()
            size = _size(self._folder / "objects")
            self._job.check_size(size, "the repository")
            if size > seen:
                self._job.progress(size - seen)
                seen = size


class _Lfs:
    """Where LFS keeps the files of a repository."""

    def __init__(self, remote: str, job: Import, env: Mapping[str, str]) -> None:
        self._remote = remote
        self._job = job
        self._env = env

    def bring(self, files: Mapping[str, tuple[str, int]], room: Path) -> None:
        """Bring files: path → digest and bytes.

        Raises:
            InputError: The server does not have one.
            FormatError: The repository is of a kind that has no place for them.
        """
        missing = dict(files)
        local = _local_repository(self._remote)
        if local is not None:
            for name, (oid, size) in files.items():
                if self._copy(local, oid, size, room / name):
                    del missing[name]
            if missing:
                name = next(iter(missing))
                raise InputError(
                    f"{shown(self._remote)} has only the LFS pointer of {name!r}, not the file",
                    hint="git lfs fetch --all there, or import from the server it came from",
                )
            return
        endpoint, header = self._endpoint()
        names = list(missing)
        with Web(self._job, endpoint, header) as web:
            for at in range(0, len(names), _BATCH):
                self._batch(
                    web, endpoint, {one: missing[one] for one in names[at : at + _BATCH]}, room
                )

    def _copy(self, repository: Path, oid: str, size: int, target: Path) -> bool:
        for top in (repository / ".git" / "lfs", repository / "lfs"):
            source = top / "objects" / oid[:2] / oid[2:4] / oid
            if source.is_file():
                with translated("keep what is imported"):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                digest = file_digest(target, self._job)
                if digest != f"sha256:{oid}" or target.stat().st_size != size:
                    raise DigestMismatchError(
                        f"LFS object {oid[:12]}", expected=f"sha256:{oid}", actual=digest
                    )
                self._job.progress(size)
                return True
        return False

    def _batch(
        self, web: Web, endpoint: str, files: Mapping[str, tuple[str, int]], room: Path
    ) -> None:
        objects = {oid: {"oid": oid, "size": size} for oid, size in files.values()}
        body = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": list(objects.values()),
            "hash_algo": "sha256",
        }
        answer = web.json("POST", f"{endpoint}/objects/batch", body)
        actions: dict[str, tuple[str, dict[str, str]]] = {}
        for one in _entries(answer):
            oid = str(one.get("oid"))
            if "error" in one:
                said = one["error"]
                why = said.get("message") if isinstance(said, Mapping) else said
                raise InputError(f"LFS object {oid[:12]}: {str(why)[:200]}")
            action = one.get("actions", {}).get("download", {})
            head = action.get("header") or {}
            if action.get("href") and isinstance(head, Mapping):
                actions[oid] = (str(action["href"]), {str(k): str(v) for k, v in head.items()})
        for name, (oid, size) in files.items():
            if oid not in actions:
                raise InputError(f"{shown(endpoint)} has no LFS object {oid[:12]} for {name!r}")
            href, header = actions[oid]
            self._job.note(name)
            web.download(href, room / name, sha256=oid, size=size, headers=header, used=0)

    def _endpoint(self) -> tuple[str, dict[str, str]]:
        """Where LFS is asked, and what it is shown."""
        remote = self._remote
        if _is_scp(remote) or remote.startswith("ssh://"):
            return self._over_ssh(remote)
        parts = urlsplit(remote)
        if parts.scheme not in ("http", "https"):
            raise FormatError(f"LFS files of {shown(remote)} can only be had over https or ssh")
        path = parts.path.rstrip("/")
        path = path if path.endswith(".git") else f"{path}.git"
        endpoint = urlunsplit((parts.scheme, parts.netloc, f"{path}/info/lfs", "", ""))
        return endpoint, {} if "@" in parts.netloc else self._known(parts.scheme, parts.netloc)

    def _known(self, scheme: str, host: str) -> dict[str, str]:
        """What the user's own credential helpers know for a host."""
        asked = f"protocol={scheme}\nhost={host}\n\n"
        try:
            done = subprocess.run(
                ["git", "credential", "fill"],
                input=asked,
                env={**self._env, "GIT_ASKPASS": "true", "SSH_ASKPASS": "true"},
                capture_output=True,
                text=True,
                timeout=15,
                check=True,
                cwd="/",
            )
        except (OSError, subprocess.SubprocessError, ValueError):
            return {}
        said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        if not said.get("password"):
            return {}
        word = f"{said.get('username', '')}:{said['password']}".encode()
        return {"Authorization": f"Basic {base64.b64encode(word).decode('ascii')}"}

    def _over_ssh(self, remote: str) -> tuple[str, dict[str, str]]:
        import json
        import shlex

        if _is_scp(remote):
            host, _, path = remote.partition(":")
            port = ""
        else:
            parts = urlsplit(remote)
            host, path = parts.netloc.partition(":")[0], parts.path
            port = str(parts.port or "")
        if host.startswith("-"):
            raise InputError(f"not a host: {host[:80]!r}")
        command = ["ssh", "-oBatchMode=yes", *(["-p", port] if port else []), "--", host]
        command.append(f"git-lfs-authenticate {shlex.quote(path)} download")
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=True)
            data = json.loads(done.stdout)
            header = {str(key): str(value) for key, value in data.get("header", {}).items()}
            return str(data["href"]).rstrip("/"), header
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, AttributeError) as exc:
            raise AuthenticationError(
                f"{host} does not say where its LFS files are", hint="try the https address"
            ) from exc


def _entries(answer: Any) -> list[Mapping[str, Any]]:
    objects = answer.get("objects") if isinstance(answer, Mapping) else None
    if not isinstance(objects, list) or not all(isinstance(one, Mapping) for one in objects):
        raise StorageError("the LFS server answered something else than objects")
    return objects


def _parsed(uri: str) -> tuple[str, str, str]:
    """The repository's address, the revision, and the folder in it; the last two may be empty."""
    address, _, fragment = uri.partition("#")
    address = address.removeprefix("git+")
    folder = ""
    for pair in fragment.split("&"):
        key, _, value = pair.partition("=")
        if key == "subdirectory":
            folder = safe_path(unquote(value).strip("/"))
        elif pair:
            raise InputError(f"nothing is known of #{pair[:80]}", hint="#subdirectory=FOLDER")
    if _is_scp(address):
        host, _, path = address.partition(":")
        path, _, revision = path.partition("@")
        return f"{host}:{path}", revision, folder
    scheme, found, rest = address.partition("://")
    if not found or scheme not in ("https", "http", "ssh", "git", "file"):
        raise InputError(
            f"not an address of a repository: {shown(uri)!r}", hint=f"form: {Git.form}"
        )
    place, slash, path = rest.partition("/")
    path, _, revision = path.partition("@")
    if not path.strip("/") or place.rpartition("@")[2].startswith("-"):
        raise InputError(
            f"not an address of a repository: {shown(uri)!r}", hint=f"form: {Git.form}"
        )
    return f"{scheme}://{place}{slash}{path}", revision, folder


def _is_scp(uri: str) -> bool:
    """Whether it is ``user@host:path``."""
    return re.match(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//)[^\s]", uri) is not None


def _address(remote: str, folder: str) -> str:
    clean = without_credentials(remote)
    clean = clean if _is_scp(clean) else f"git+{clean}"
    return f"{clean}#subdirectory={folder}" if folder else clean


def _local_repository(remote: str) -> Path | None:
    if not remote.startswith("file://"):
        return None
    return Path(unquote(urlsplit(remote).path))


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).stat().st_size
    return total


def _refused(
    words: Sequence[str], said: str
) -> StorageError | InputError | AuthenticationError | TargetUnreachableError:
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "remote:"))]
    what = " ".join((lines or said.splitlines() or ["it failed"])[0].split())[:300]
    what = re.sub(r"(\w+://)[^/\s@]*@", r"\1", what)
    if any(one in said for one in _REFUSALS):
        return AuthenticationError(
            f"git: {what}", hint="it wants a login, or has no such repository"
        )
    if "Could not resolve" in said or "onnection" in said or "unable to access" in said:
        return TargetUnreachableError(f"git: {what}")
    if "does not appear to be a git repository" in said or "not found" in said:
        return InputError(f"git: {what}", hint="is the address right?")
    return StorageError(f"git {words[0]}: {what}")
