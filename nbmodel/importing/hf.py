"""A model on the Hugging Face hub, or whatever server speaks its API, over plain HTTPS.

``HF_ENDPOINT`` names the server, ``HF_TOKEN`` is the token that it and nobody else gets.
Every file is checked against the digest that the hub has for it.

Source: the hub's documentation, "Hub API Endpoints": ``/api/models/{repo}/revision/{rev}``,
``/{repo}/resolve/{rev}/{path}``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nbmodel.core.origin import Origin
from nbmodel.errors import InputError, StorageError
from nbmodel.importing.base import Fetched, Import, Importer, safe_path
from nbmodel.importing.choice import chosen
from nbmodel.importing.download import Web
from nbmodel.importing.hf_cache import described, verify_blob

_URI = re.compile(r"hf://(?:models/)?([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)?)(?:@([^\s?#]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HuggingFace(Importer):
    """``hf://ORG/NAME[@REVISION]``."""

    name = "hf"
    form = "hf://ORG/NAME@REVISION"

    def takes(self, uri: str) -> bool:
        """Whether it is an address of the hub."""
        return uri.startswith("hf://")

    def fetch(self, uri: str, job: Import) -> Fetched:
        """The files of a revision, or those of them that are wanted."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise InputError(
                f"not a repository of the hub: {uri[:200]!r}", hint=f"form: {self.form}"
            )
        repo, revision = found[1], found[2] or job.revision or "main"
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        token = os.environ.get("HF_TOKEN", "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with Web(job, endpoint, headers) as web:
            about = web.json(
                "GET",
                f"{endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true",
            )
            commit, files = _listed(about, repo)
            wanted = chosen({name: size for name, (size, _) in files.items()}, job, repo)
            job.expect(sum(files[name][0] for name in wanted))
            room = job.room("hub")
            used = 0
            for name in wanted:
                size, blob = files[name]
                job.note(name)
                got = web.download(
                    f"{endpoint}/{repo}/resolve/{commit}/{quote(name)}",
                    room / name,
                    sha256=blob if len(blob) == 64 else None,
                    size=size,
                    used=used,
                )
                verify_blob(got.path, blob if len(blob) == 40 else "", job)
                used += size
        return described(room, repo, Origin(self.name, f"hf://{repo}@{revision}", commit), job)


def _listed(about: Any, repo: str) -> tuple[str, dict[str, tuple[int, str]]]:
    """The commit, and path → (bytes, name of its content)."""
    try:
        commit = str(about["sha"])
        files: dict[str, tuple[int, str]] = {}
        for one in about["siblings"]:
            large = one.get("lfs")
            is_large = isinstance(large, Mapping)
            blob = str(large["sha256"] if is_large else one.get("blobId") or "")
            size = int(large["size"] if is_large else one["size"])
            files[safe_path(str(one["rfilename"]))] = (size, blob)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise StorageError(f"the hub answered something else than the files of {repo}") from exc
    if not _COMMIT.fullmatch(commit) or any(size < 0 for size, _ in files.values()):
        raise StorageError(f"the hub answered no commit for {repo}")
    return commit, files
