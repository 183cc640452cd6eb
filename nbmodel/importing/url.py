"""A file or an archive behind an address of the web."""

from __future__ import annotations

from urllib.parse import urlsplit

from nbmodel.core.address import is_loopback
from nbmodel.core.origin import Origin, without_credentials
from nbmodel.importing.base import Fetched, Import, Importer, name_from
from nbmodel.importing.download import Web

_PLAIN = (
    "came over http: anybody on the way could have changed it; https, or --sha256 with the "
    "digest that you know, makes sure"
)


class Url(Importer):
    """``https://…``; ``http://`` with a warning unless the digest is given."""

    name = "url"
    form = "https://HOST/FILE"

    def takes(self, uri: str) -> bool:
        """Whether it is an address of the web."""
        return uri.startswith(("https://", "http://"))

    def fetch(self, uri: str, job: Import) -> Fetched:
        """Download it; its ETag is its revision."""
        with Web(job) as web:
            got = web.download(uri, job.room("url") / "download", sha256=job.sha256)
        path = got.path.rename(got.path.with_name(got.name or "model"))
        return Fetched(
            path,
            Origin(self.name, without_credentials(uri), got.etag, got.digest),
            name=name_from(path.name),
            notes=(_PLAIN,) if is_open(uri, job.sha256) else (),
        )


def is_open(uri: str, sha256: str | None) -> bool:
    """Whether anybody on the way could change what comes, and nobody would see it."""
    host = urlsplit(uri).hostname or ""
    return uri.startswith("http://") and sha256 is None and not is_loopback(host)
