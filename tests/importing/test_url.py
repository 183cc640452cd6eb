"""Downloads over HTTP: whole, resumed, limited, and from servers that mean no good."""

from __future__ import annotations

import hashlib
from concurrent.futures import CancelledError
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    FormatError,
    InputError,
    NbModelError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.importing import Import, Limits, download
from nbmodel.importing.download import Web
from nbmodel.importing.url import Url, is_open
from tests.tools.certificate import OPENSSL, Certificate
from tests.tools.site import Asked, Page, Site, site

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSES_S", (0.0,))


def test_a_model_behind_an_address_becomes_a_version(
    client: Client, web: Site, linear_onnx: Path
) -> None:
    web.pages["/models/Linear%20Toy.onnx"] = Page(linear_onnx.read_bytes(), etag='"v1"')
    card = client.import_(f"{web.url}/models/Linear%20Toy.onnx", type="regression")
    assert card.reference == "linear-toy:1"
    origin = card.manifest.lineage.origin
    assert origin is not None
    assert origin.kind == "url"
    assert origin.uri == f"{web.url}/models/Linear%20Toy.onnx"
    assert origin.revision == "v1"
    assert origin.digest == f"sha256:{hashlib.sha256(linear_onnx.read_bytes()).hexdigest()}"
    assert "imported from" in card.text()


def test_importing_the_same_again_makes_nothing_and_says_so(
    client: Client, web: Site, linear_onnx: Path
) -> None:
    web.pages["/m.onnx"] = Page(linear_onnx.read_bytes())
    client.import_(f"{web.url}/m.onnx", name="toy", type="regression")
    again = client.import_(f"{web.url}/m.onnx", name="toy")
    assert again.reference == "toy:1"
    assert "toy:1 is this very import already: nothing was made" in again.notes
    worded = client.import_(f"{web.url}/m.onnx", name="toy", tags={"stage": "trial"})
    assert worded.reference == "toy:2"
    assert "the same bytes as toy:1" in worded.notes


def test_credentials_are_sent_and_kept_nowhere(
    client: Client, web: Site, linear_onnx: Path
) -> None:
    web.pages["/m.onnx"] = Page(linear_onnx.read_bytes())
    place = web.url.removeprefix("http://")
    uri = f"http://me:hush@{place}/m.onnx?v=1&X-Amz-Signature=0f0f&token=abc"
    card = client.import_(uri, type="regression")
    assert web.asked[0].headers["Authorization"].startswith("Basic ")
    assert card.manifest.lineage.origin is not None
    assert card.manifest.lineage.origin.uri == f"{web.url}/m.onnx?v=1"
    assert all(word not in str(card.to_json()) for word in ("hush", "0f0f", "abc"))


def test_a_download_that_is_cut_goes_on_where_it_ended(web: Site, job: Import) -> None:
    web.pages["/m.bin"] = Page(CONTENT, cut_after=300_000)
    got = Url().fetch(f"{web.url}/m.bin", job)
    assert got.path.read_bytes() == CONTENT
    assert [one.headers.get("Range") for one in web.asked] == [None, "bytes=300000-"]


@pytest.mark.parametrize(
    ("changed", "etag", "goes_on"),
    [
        ("Sat, 28 Feb 2026 13:36:51 GMT", "", True),
        ("Sat, 28 Feb 2026 13:36:51 GMT", 'W/"weak"', True),
        ("now", "", False),
        ("yesterday", "", False),
    ],
    ids=["old", "weak", "fresh", "nonsense"],
)
def test_a_time_long_past_is_a_promise_too(
    web: Site, job: Import, changed: str, etag: str, goes_on: bool
) -> None:
    said = {"Last-Modified": formatdate(usegmt=True) if changed == "now" else changed}
    web.pages["/m.bin"] = Page(CONTENT, headers=said, etag=etag, cut_after=300_000)
    assert Url().fetch(f"{web.url}/m.bin", job).path.read_bytes() == CONTENT
    assert ("Range" in web.asked[1].headers) == goes_on


def test_the_next_import_goes_on_where_one_was_cancelled(
    web: Site, job: Import, tmp_path: Path
) -> None:
    web.pages["/m.bin"] = Page(CONTENT, cut_after=500_000)
    came = 0

    def count(amount: int) -> None:
        nonlocal came
        came += amount

    ended = replace(job, progress=count, cancelled=lambda: came >= 500_000)
    with pytest.raises(CancelledError):
        Url().fetch(f"{web.url}/m.bin", ended)
    got = Url().fetch(f"{web.url}/m.bin", job)
    assert got.path.read_bytes() == CONTENT
    assert web.asked[-1].headers["Range"] == "bytes=500000-"


@pytest.mark.parametrize("ranges", [True, False], ids=["changed", "no-ranges"])
def test_what_changed_or_comes_only_whole_is_brought_anew(
    web: Site, job: Import, ranges: bool
) -> None:
    other = CONTENT[::-1]
    pages = [Page(other, cut_after=1000, etag='"old"'), Page(CONTENT, ranges=ranges, etag='"new"')]
    web.pages["/m.bin"] = lambda _: pages.pop(0) if len(pages) > 1 else pages[0]
    assert Url().fetch(f"{web.url}/m.bin", job).path.read_bytes() == CONTENT


def test_a_digest_that_is_promised_is_kept_to(web: Site, job: Import) -> None:
    web.pages["/m.bin"] = Page(CONTENT)
    assert Url().fetch(f"{web.url}/m.bin", replace(job, sha256=SHA256)).path.is_file()
    with pytest.raises(DigestMismatchError, match=f"sha256:{'0' * 64}, found sha256:{SHA256}"):
        Url().fetch(f"{web.url}/m.bin", replace(job, sha256="0" * 64))


@pytest.mark.parametrize("length", [None, -1], ids=["told", "untold"])
def test_more_than_the_limit_is_refused(web: Site, job: Import, length: int | None) -> None:
    web.pages["/m.bin"] = Page(CONTENT, length=length)
    limited = replace(job, limits=Limits(size=100_000))
    with pytest.raises(InputError, match=r"expected at most 100,000") as caught:
        Url().fetch(f"{web.url}/m.bin", limited)
    assert caught.value.hint == "--max-size allows more"


def test_a_token_for_https_is_not_sent_in_clear(web: Site, job: Import) -> None:
    web.pages["/m.bin"] = Page(CONTENT)
    base = web.url.replace("http://", "https://")
    with Web(job, base, {"Authorization": "Bearer hush"}) as servers:
        servers.download(f"{web.url}/m.bin", job.folder / "m")
    assert "Authorization" not in web.asked[0].headers


def test_bytes_are_told_once_however_often_a_download_breaks(web: Site, job: Import) -> None:
    def breaks_twice(asked: Asked) -> Page:
        if len(web.asked) < 3:
            web.cut.clear()
        return Page(CONTENT, cut_after=300_000)

    web.pages["/m.bin"] = breaks_twice
    told: list[int] = []
    Url().fetch(f"{web.url}/m.bin", replace(job, progress=told.append))
    assert [one.headers.get("Range") for one in web.asked][1:] == ["bytes=300000-", "bytes=600000-"]
    assert sum(told) == len(CONTENT)


def test_a_compressed_answer_that_nobody_asked_for_is_one_line(web: Site, job: Import) -> None:
    web.pages["/told"] = Page(b"no gzip", headers={"Content-Encoding": "gzip"})
    with Web(job) as servers, pytest.raises(StorageError, match="answered no JSON"):
        servers.json("GET", f"{web.url}/told")


def test_a_token_does_not_follow_to_another_host(web: Site, job: Import) -> None:
    with site() as other:
        other.pages["/m.bin"] = Page(CONTENT)
        web.pages["/m.bin"] = Page(status=302, headers={"Location": f"{other.url}/m.bin"})
        host = web.url.removeprefix("http://")
        with Web(job, web.url, {"Authorization": "Bearer hush"}) as servers:
            got = servers.download(f"http://me:pw@{host}/m.bin", job.folder / "m")
        assert got.path.read_bytes() == CONTENT
        assert "Authorization" in web.asked[0].headers
        assert "Authorization" not in other.asked[0].headers


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")
def test_https_is_checked_and_never_left_for_http(
    tmp_path: Path, web: Site, job: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate.make(tmp_path / "tls")
    web.pages["/m.bin"] = Page(CONTENT)
    with site(certificate) as secure:
        secure.pages["/m.bin"] = Page(CONTENT)
        secure.pages["/down"] = Page(status=302, headers={"Location": f"{web.url}/m.bin"})
        with pytest.raises(TargetUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            Url().fetch(f"{secure.url}/m.bin", job)
        monkeypatch.setenv("NBMODEL_CA_FILE", str(certificate.certificate))
        assert Url().fetch(f"{secure.url}/m.bin", job).path.read_bytes() == CONTENT
        with pytest.raises(StorageError, match="from https to http, which is not followed"):
            Url().fetch(f"{secure.url}/down", job)
    assert web.asked == []


def _redirects_for_ever(asked: Asked) -> Page:
    return Page(status=302, headers={"Location": "/m.bin"})


@pytest.mark.parametrize(
    ("page", "error", "match"),
    [
        (Page(b"", 404), InputError, "nothing is at"),
        (Page(b"", 401), AuthenticationError, "refused"),
        (Page(b"", 503), TargetUnreachableError, "answered 503"),
        (Page(b"", 418), StorageError, "answered 418"),
        (_redirects_for_ever, StorageError, "redirects more than"),
        (
            Page(status=302, headers={"Location": "file:///etc/passwd"}),
            StorageError,
            "no address of the web",
        ),
        (Page(CONTENT, length=len(CONTENT) + 5), TargetUnreachableError, "does not answer"),
    ],
    ids=["gone", "refused", "away", "teapot", "for-ever", "elsewhere", "short"],
)
def test_a_server_that_does_not_do_its_part_is_one_line(
    web: Site, job: Import, page: Page, error: type[NbModelError], match: str
) -> None:
    web.pages["/m.bin"] = page
    with pytest.raises(error, match=match) as caught:
        Url().fetch(f"{web.url}/m.bin", job)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "sha256", "warned"),
    [
        ("http://example.com/m.onnx", None, True),
        ("http://example.com/m.onnx", "0" * 64, False),
        ("https://example.com/m.onnx", None, False),
        ("http://127.0.0.1:8000/m.onnx", None, False),
    ],
)
def test_what_anybody_could_have_changed_is_told(
    uri: str, sha256: str | None, warned: bool
) -> None:
    assert is_open(uri, sha256) == warned


def test_the_name_of_a_server_is_a_plain_one(web: Site, job: Import) -> None:
    said = {"Content-Disposition": 'attachment; filename="../../evil\x01.onnx"'}
    web.pages["/download"] = Page(b"x", headers={k: v.replace("\x01", "") for k, v in said.items()})
    assert Url().fetch(f"{web.url}/download", job).path.name == "evil.onnx"


def test_a_page_about_the_model_is_no_model(client: Client, web: Site) -> None:
    web.pages["/m.onnx"] = Page(b"<!DOCTYPE html><title>a model</title>")
    with pytest.raises(FormatError, match="a web page"):
        client.import_(f"{web.url}/m.onnx", type="other")
    assert not list((client.home / "imports").glob("job-*"))
