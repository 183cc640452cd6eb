"""Git repositories: revisions, what LFS keeps, and repositories that mean no good."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    FormatError,
    InputError,
    NbModelError,
)
from nbmodel.importing import Import, Limits, download
from nbmodel.importing.git import Git, _Repository
from tests.tools.model_places import commit, git, pointer, repository
from tests.tools.site import Asked, Page, Site

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSES_S", (0.0,))
    monkeypatch.setenv("HOME", "/nonexistent")  # nobody's credentials and settings


@pytest.fixture
def model(linear_onnx: Path) -> bytes:
    return linear_onnx.read_bytes()


def test_every_way_to_name_a_revision_means_that_commit(
    tmp_path: Path, job: Import, model: bytes
) -> None:
    repo = tmp_path / "repo"
    first = repository(repo, {"m.onnx": model})
    git(repo, "tag", "-a", "v1", "-m", "one")
    git(repo, "branch", "side/way")
    second = commit(repo, {"m.onnx": model + b"\n"})
    uri = f"git+file://{repo}"
    for revision, expected in {
        "": second,
        "@main": second,
        "@v1": first,
        "@side/way": first,
        f"@{first}": first,
        f"@{first[:10]}": first,
        "@refs/tags/v1": first,
    }.items():
        folder = tmp_path / f"job-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        got = Git().fetch(uri + revision, replace(job, folder=folder))
        assert got.origin.revision == expected, revision
        assert got.origin.uri == uri
        expected_bytes = model if expected == first else model + b"\n"
        assert (got.path / "m.onnx").read_bytes() == expected_bytes
    with pytest.raises(InputError, match="no revision 'v2'"):
        Git().fetch(f"{uri}@v2", job)


def test_a_folder_of_a_repository(tmp_path: Path, client: Client, model: bytes) -> None:
    repository(tmp_path / "repo", {"fruit/m.onnx": model, "other/n.onnx": b"x"})
    uri = f"git+file://{tmp_path / 'repo'}#subdirectory=fruit"
    card = client.import_(uri, type="regression")
    assert card.model == "fruit"
    assert [entry.path for entry in card.files] == ["m.onnx"]
    with pytest.raises(InputError, match="no folder 'nuts'"):
        client.import_(uri.replace("fruit", "nuts"), type="regression")


def test_hooks_filters_attributes_and_submodules_of_a_repository_do_nothing(
    tmp_path: Path, job: Import, model: bytes
) -> None:
    repo = tmp_path / "repo"
    ran = tmp_path / "ran"
    repository(
        repo,
        {
            "m.onnx": model,
            ".gitattributes": b"*.onnx filter=evil export-ignore\n",
            ".gitmodules": b'[submodule "x"]\n path = x\n url = -u./evil\n',
            ".lfsconfig": b"[lfs]\n url = http://evil.invalid\n",
        },
    )
    for hook in ("post-checkout", "reference-transaction", "post-merge", "pre-upload-pack"):
        (repo / ".git" / "hooks").mkdir(exist_ok=True)
        script = repo / ".git" / "hooks" / hook
        script.write_text(f"#!/bin/sh\ntouch {ran}\n")
        script.chmod(0o755)
    git(repo, "config", "filter.evil.smudge", f"touch {ran}")
    git(repo, "config", "uploadpack.packObjectsHook", f"touch {ran};")
    git(repo, "config", "core.fsmonitor", f"touch {ran};")
    got = Git().fetch(f"git+file://{repo}", job)
    assert (got.path / "m.onnx").read_bytes() == model
    assert not ran.exists()


def test_links_inside_are_followed_and_others_left_out(
    tmp_path: Path, job: Import, model: bytes
) -> None:
    repo = tmp_path / "repo"
    repository(repo, {"real/m.onnx": model})
    (repo / "best").mkdir()
    (repo / "best" / "m.onnx").symlink_to("../real/m.onnx")
    (repo / "best" / "passwd").symlink_to("/etc/passwd")
    (repo / "best" / "up").symlink_to("../../secret")
    commit(repo, {})
    got = Git().fetch(f"git+file://{repo}#subdirectory=best", job)
    assert {one.name for one in got.path.iterdir()} == {"m.onnx"}
    assert not (got.path / "m.onnx").is_symlink()
    assert got.notes == ("left out, as links that lead elsewhere: best/passwd, best/up",)


def _lfs_objects(repo: Path, content: bytes) -> Path:
    oid = hashlib.sha256(content).hexdigest()
    place = repo / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return place


def test_what_lfs_keeps_is_taken_from_a_clone_on_this_machine(
    tmp_path: Path, job: Import, client: Client, model: bytes
) -> None:
    repo = tmp_path / "repo"
    repository(repo, {"m.onnx": pointer(model)})
    with pytest.raises(InputError, match=r"only the LFS pointer of 'm\.onnx'"):
        Git().fetch(f"git+file://{repo}", job)
    place = _lfs_objects(repo, model)
    card = client.import_(f"git+file://{repo}", type="regression")
    assert card.files[0].digest == f"sha256:{hashlib.sha256(model).hexdigest()}"
    place.write_bytes(model[::-1])
    with pytest.raises(DigestMismatchError, match="LFS object"):
        Git().fetch(f"git+file://{repo}", replace(job, folder=tmp_path))


def _backend(root: Path, asked: Asked) -> Page:
    """What Git's own server program answers."""
    path, _, query = asked.path.partition("?")
    headers = {name.lower(): value for name, value in asked.headers.items()}
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "http-backend"],
        input=asked.body,
        capture_output=True,
        check=True,
        env={
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": asked.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
        },
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    said = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(said.pop("Status", "200").split()[0])
    return Page(body, status, said, etag="", ranges=False)


@pytest.fixture(params=["smart", "files"])
def served(tmp_path: Path, web: Site, model: bytes, request: pytest.FixtureRequest) -> str:
    """A repository behind HTTP with one file in LFS, from Git's server or as plain files."""
    repository(tmp_path / "repo", {"m.onnx": pointer(model), "README.md": b"# Toy"})
    bare = tmp_path / "served" / "team" / "toy.git"
    bare.parent.mkdir(parents=True)
    git(tmp_path, "clone", "--quiet", "--bare", str(tmp_path / "repo"), str(bare))
    git(bare, "update-server-info")
    if request.param == "smart":
        web.other = partial(_backend, tmp_path / "served")
        return f"{web.url}/team/toy.git"
    for file in bare.rglob("*"):
        if file.is_file():
            path = f"/team/toy.git/{file.relative_to(bare).as_posix()}"
            web.pages[path] = Page(file.read_bytes(), etag="", ranges=False)
    return f"{web.url}/team/toy.git"


def _batch(web: Site, model: bytes, **change: object) -> None:
    oid = hashlib.sha256(model).hexdigest()

    def answer(asked: Asked) -> Page:
        body = json.loads(asked.body)
        assert body["operation"] == "download"
        assert body["objects"] == [{"oid": oid, "size": len(model)}]
        assert asked.headers["Accept"] == "application/vnd.git-lfs+json"
        action = {"href": f"{web.url}/lfs/{oid}", "header": {"X-Pass": "through"}}
        one = {"oid": oid, "size": len(model), "actions": {"download": action}} | change
        return Page(json.dumps({"transfer": "basic", "objects": [one]}).encode(), etag="")

    web.pages["/team/toy.git/info/lfs/objects/batch"] = answer
    web.pages[f"/lfs/{oid}"] = Page(model)


def test_what_lfs_keeps_on_a_server_is_asked_for_in_a_batch(
    web: Site, served: str, client: Client, model: bytes
) -> None:
    _batch(web, model)
    card = client.import_(f"git+{served}", type="regression")
    assert card.model == "toy"
    assert [entry.path for entry in card.files] == ["README.md", "m.onnx"]
    last = [one for one in web.asked if one.path.startswith("/lfs/")]
    assert [one.headers.get("X-Pass") for one in last] == ["through"]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"error": {"code": 404, "message": "gone"}}, InputError, "LFS object .*: gone"),
        ({"actions": {}}, InputError, "has no LFS object"),
    ],
    ids=["error", "no-action"],
)
def test_a_server_without_the_file_is_one_line(
    web: Site, served: str, job: Import, model: bytes, change: dict[str, object],
    error: type[NbModelError], match: str,
) -> None:  # fmt: skip
    _batch(web, model, **change)
    with pytest.raises(error, match=match):
        Git().fetch(served, job)


def test_other_bytes_than_the_pointer_says_are_refused(
    web: Site, served: str, job: Import, model: bytes
) -> None:
    _batch(web, model)
    web.pages[f"/lfs/{hashlib.sha256(model).hexdigest()}"] = Page(model[::-1])
    with pytest.raises(DigestMismatchError):
        Git().fetch(served, job)


def test_credentials_of_the_address_go_to_its_host_and_into_no_message(
    web: Site, served: str, job: Import, model: bytes
) -> None:
    place = web.url.removeprefix("http://")
    with pytest.raises(NbModelError) as caught:
        Git().fetch(f"http://me:hush@{place}/team/gone.git", job)
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    _batch(web, model)
    got = Git().fetch(f"http://me:hush@{place}/team/toy.git", replace(job, folder=job.parts.parent))
    assert got.origin.uri == f"git+http://{place}/team/toy.git"
    asked = [one for one in web.asked if one.path.endswith("/objects/batch")]
    assert asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.skipif(sys.platform == "win32", reason="helpers are shell there too, of Git's own")
def test_a_password_of_the_address_is_in_no_list_of_processes(
    tmp_path: Path, web: Site, job: Import, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path / "served" / "toy.git", {"m.onnx": model})
    login = "Basic " + base64.b64encode(b"me:hu$h 'q").decode()

    def locked(asked: Asked) -> Page:
        if asked.headers.get("Authorization") != login:
            return Page(b"", 401, {"WWW-Authenticate": 'Basic realm="git"'})
        return _backend(tmp_path / "served", asked)

    web.other = locked
    words: list[str] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, args: list[str], **more: Any) -> None:
            words.extend(args)
            super().__init__(args, **more)

    monkeypatch.setattr("nbmodel.importing.git.subprocess.Popen", Popen)
    place = web.url.removeprefix("http://")
    got = Git().fetch(f"http://me:hu$h%20%27q@{place}/toy.git", job)
    assert (got.path / "m.onnx").read_bytes() == model
    assert f"{web.url}/toy.git" in words
    assert not [word for word in words if "hu$h" in word or login in word]


def test_a_server_that_wants_a_login_is_told_as_such(web: Site, job: Import) -> None:
    refusal = Page(b"", 401, {"WWW-Authenticate": 'Basic realm="git"'})
    web.pages["/team/toy.git/info/refs?service=git-upload-pack"] = refusal
    with pytest.raises(AuthenticationError, match="git:"):
        Git().fetch(f"{web.url}/team/toy.git", job)


@pytest.mark.parametrize(
    "uri",
    [
        "git+ext::sh -c touch%20/tmp/x",
        "git+ext://sh",
        "git+https://-oProxyCommand=x/y.git",
        "git+ssh://-oProxyCommand=x/y.git",
        "git+https://host",
        "git+file:///tmp/x.git#egg=1",
        "git+file:///tmp/x.git#subdirectory=../..",
    ],
)
def test_addresses_that_could_be_commands_are_refused(uri: str, job: Import) -> None:
    with pytest.raises(InputError):
        Git().fetch(uri, job)


@pytest.mark.parametrize("revision", ["--upload-pack=touch x", "a b", "-"])
def test_revisions_that_could_be_options_are_refused(
    tmp_path: Path, job: Import, revision: str
) -> None:
    repository(tmp_path / "repo", {"m": b"x"})
    with pytest.raises(InputError, match="not a revision"):
        Git().fetch(f"git+file://{tmp_path / 'repo'}", replace(job, revision=revision))


def test_what_is_too_large_or_cancelled_leaves_nothing(
    tmp_path: Path, client: Client, job: Import, model: bytes
) -> None:
    repository(tmp_path / "repo", {"m.onnx": model, "big.bin": os.urandom(300_000)})
    uri = f"git+file://{tmp_path / 'repo'}"
    with pytest.raises(InputError, match="expected at most 1,000"):
        Git().fetch(uri, replace(job, limits=Limits(size=1000), paths=("*",)))
    with pytest.raises(CancelledError):
        client.import_(uri, type="regression", cancelled=lambda: True)
    assert not list((client.home / "imports").glob("job-*"))


def test_the_size_is_looked_at_however_few_objects_come(tmp_path: Path, job: Import) -> None:
    repository(tmp_path / "repo", {"big.bin": os.urandom(300_000)})
    limited = replace(job, limits=Limits(size=100_000))
    fetched = _Repository(job.room("git"), limited)
    with pytest.raises(InputError, match=r"the repository has .* expected at most 100,000"):
        fetched.fetch(f"file://{tmp_path / 'repo'}", "")


def test_few_objects_that_are_many_files_are_not_listed_to_the_end(
    tmp_path: Path, job: Import
) -> None:
    repo = tmp_path / "repo"
    repository(repo, {"m": b"x"})
    kind, oid = "100644 blob", git(repo, "rev-parse", "HEAD:m")
    for _ in range(5):
        lines = "".join(f"{kind} {oid}\t{name}\n" for name in "abcdefghij")
        oid = subprocess.run(
            ["git", "mktree"], cwd=repo, input=lines, capture_output=True, text=True, check=True
        ).stdout.strip()
        kind = "040000 tree"
    git(repo, "update-ref", "refs/heads/bomb", git(repo, "commit-tree", oid, "-m", "bomb"))
    fetched = _Repository(job.room("git"), replace(job, limits=Limits(files=10)))
    commit_ = fetched.fetch(f"file://{repo}", "bomb")
    with pytest.raises(InputError, match="more than 10 files"):
        fetched._run(["ls-tree", "-r", "--long", commit_])


def test_a_repository_with_names_that_lead_out_is_refused(tmp_path: Path, job: Import) -> None:
    repo = tmp_path / "repo"
    repository(repo, {"m": b"x"})
    blob = git(repo, "rev-parse", "HEAD:m")
    tree = f"100644 blob {blob}\tback\\slash\n"
    made = subprocess.run(
        ["git", "mktree"], cwd=repo, input=tree, capture_output=True, text=True, check=True
    ).stdout.strip()
    evil = git(repo, "commit-tree", made, "-m", "evil")
    git(repo, "update-ref", "refs/heads/evil", evil)
    with pytest.raises((InputError, FormatError), match="unsafe path"):
        Git().fetch(f"git+file://{repo}@evil", job)


@pytest.mark.skipif(sys.platform == "win32", reason="no such program there")
def test_without_git_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Import
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NbModelError, match="needs the program git"):
        Git().fetch("git+https://example.com/x.git", job)
