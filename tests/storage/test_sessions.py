"""Uploads that are not over, as they are kept from one process to the next."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from nbmodel.storage.sessions import UploadSessions

WHAT = ("http://localhost:5000/", "team/digits", "sha256:" + "0" * 64)
AT = "http://localhost:5000/v2/team/digits/blobs/uploads/1?_state=secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


def kept(folder: Path) -> str | None:
    with UploadSessions(folder).hold(*WHAT) as session:
        assert session is not None
        return session.location()


def keep(folder: Path) -> Path:
    with UploadSessions(folder).hold(*WHAT) as session:
        assert session is not None
        session.keep(AT)
        return session.path


def test_an_upload_is_kept_for_its_owner_alone(folder: Path) -> None:
    assert kept(folder) is None
    path = keep(folder)
    assert kept(folder) == AT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_upload_of_something_else_is_another(folder: Path) -> None:
    keep(folder)
    with UploadSessions(folder).hold(WHAT[0], "team/other", WHAT[2]) as session:
        assert session is not None
        assert session.location() is None


def test_an_upload_that_is_over_is_forgotten(folder: Path) -> None:
    path = keep(folder)
    with UploadSessions(folder).hold(*WHAT) as session:
        assert session is not None
        session.forget()
        session.forget()
    assert not path.exists()


def test_an_upload_that_another_one_goes_on_with_is_left(folder: Path) -> None:
    sessions = UploadSessions(folder)
    with sessions.hold(*WHAT), sessions.hold(*WHAT) as second:
        assert second is None


def test_an_old_upload_is_thrown_away(folder: Path) -> None:
    path = keep(folder)
    past = time.time() - 60
    os.utime(path, (past, past))
    with UploadSessions(folder, max_age_s=30).hold(*WHAT) as session:
        assert session is not None
        assert session.location() is None
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half of it"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(json.dumps({"what": list(WHAT)}).encode(), id="without its address"),
        pytest.param(
            json.dumps({"what": ["x"], "location": AT, "at": time.time()}).encode(),
            id="of something else",
        ),
        pytest.param(
            json.dumps({"what": list(WHAT), "location": AT, "at": time.time() + 9e9}).encode(),
            id="of a time to come",
        ),
    ],
)
def test_a_file_that_is_none_counts_as_none(folder: Path, content: bytes) -> None:
    keep(folder).write_bytes(content)
    assert kept(folder) is None


def test_where_nothing_can_be_kept_an_upload_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_bytes(b"")
    with UploadSessions(tmp_path / "uploads").hold(*WHAT) as session:
        assert session is None
