"""Where the files of a version were brought from: an address without credentials, and proof.

Rules only: an address is text here, and nobody is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from nbmodel.errors import ManifestError

MAX_URI = 2048  # characters that are kept of an address
# What the parameters of signed addresses are called: S3, Google, Azure, and the rest.
_SECRET = re.compile(
    r"(?i)^(x-(amz|goog|ms)-.*|.*(sig|signature|token|secret|password|passwd|pwd|apikey|api_key"
    r"|access_?key(id)?|credential|credentials|auth|policy|jwt|code)|key|googleaccessid"
    r"|s[epvrt]|sks|skt|ske|skv|skoid|sktid|se)$"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was imported from.

    Attributes:
        kind: The importer: ``url``, ``git`` …
        uri: What it was asked for, without credentials.
        revision: What names these very bytes there: a commit, a version, an ETag; may be
            empty.
        digest: ``sha256:…`` of the file that came; of a folder, of its paths and bytes.
    """

    kind: str
    uri: str
    revision: str = ""
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object without what is empty; ``from_json`` gives the value back."""
        data = {
            "kind": self.kind,
            "uri": self.uri,
            "revision": self.revision,
            "digest": self.digest,
        }
        return {key: value for key, value in data.items() if value}

    @classmethod
    def from_json(cls, data: object) -> Origin:
        """The value that ``to_json`` wrote.

        Raises:
            ManifestError: A field is of the wrong type.
        """
        fields = ("kind", "uri", "revision", "digest")
        if not isinstance(data, Mapping) or any(
            not isinstance(data.get(field, ""), str) for field in fields
        ):
            raise ManifestError(f"malformed origin: {str(data)[:80]!r}")
        return cls(**{field: data.get(field, "") for field in fields})


def without_credentials(uri: str) -> str:
    """An address as it may be kept and shown.

    The name and password before a host go, and those parameters of a query that sign it or
    let somebody in; the rest stays as it is.

    >>> without_credentials("https://me:secret@host/m.onnx?file=a&X-Amz-Signature=0f")
    'https://host/m.onnx?file=a'
    """
    scheme, colon, _ = uri.partition("://")
    if not colon:
        return uri[:MAX_URI]
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{scheme}://…"
    place = parts.netloc.rpartition("@")
    # In git@host it is no secret, and the address is none without it.
    netloc = parts.netloc if "ssh" in scheme and ":" not in place[0] else place[2]
    kept = [
        pair
        for pair in parts.query.split("&")
        if pair and not _SECRET.match(pair.partition("=")[0])
    ]
    return urlunsplit(parts._replace(netloc=netloc, query="&".join(kept)))[:MAX_URI]
