"""What a runtime with a trust policy lets run.

The policy is given where the runtime is started, by whoever looks after the machine. It is
no part of the machine config: whoever may send a config, or hold the token, could lower it.

A version that was accepted once stays accepted while the policy stays the same: what it is
of is fixed by its digest, and a device must come up again when its clock has not been set
yet, or a certificate has expired meanwhile.
"""

from __future__ import annotations

import json
import posixpath
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nbmodel.backends import load_backend
from nbmodel.core.document import canonical_json
from nbmodel.core.machine import Package
from nbmodel.core.manifest import MAX_MANIFEST, read_layers, read_object
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.core.referrer import MAX_BUNDLE, MAX_REFERRERS, read_signature_manifest
from nbmodel.errors import (
    FormatError,
    StorageError,
    StorageUnavailableError,
    TrustError,
)
from nbmodel.signing.policy import TrustPolicy
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.base import Storage
from nbmodel.storage.referrer_store import ReferrerStore

ACCEPTED_FILE = "trusted.json"
_MAX_ACCEPTED = 1000  # versions that are remembered; a device has a few
_MAX_REMEMBERED = 1024 * 1024  # bytes of what is remembered


class TrustGate:
    """Whether versions may run on this machine. Methods may be called from any thread.

    Args:
        policy: What is demanded.
        storage: Where versions and signatures are.
        referrers: Where it is noted which signature is of which version.
        home: Where it is remembered what was accepted.
    """

    def __init__(
        self, policy: TrustPolicy, storage: Storage, referrers: ReferrerStore, home: Path
    ) -> None:
        self._policy = policy
        self._storage = storage
        self._referrers = referrers
        self._file = home / ACCEPTED_FILE
        self._lock = threading.Lock()
        self._accepted = _remembered(self._file, policy.digest)

    def check(self, model: str, what: str, digest: str, raw: bytes | None = None) -> None:
        """Pass when a version may run.

        Args:
            model: Its repository here.
            what: What it is called, for messages.
            digest: Of its manifest.
            raw: The manifest, when it is not in the storage yet.

        Raises:
            TrustError: It may not; the message says who is trusted and who signed it.
            ManifestError: It is no manifest.
            StorageError: It cannot be read.
        """
        with self._lock:
            if (model, digest) in self._accepted:
                return
        if raw is None:
            raw = self._storage.read(digest, limit=MAX_MANIFEST)
        files, _ = read_layers(read_object(raw, "manifest", MAX_MANIFEST))
        self._policy.check(
            model,
            what,
            digest=digest,
            files={entry.path: entry.digest.partition(":")[2] for entry in files},
            bundles=self._bundles(digest),
            at=datetime.now(timezone.utc),
        )
        self._accept(model, digest)

    def accepts(self, model: str, digest: str) -> bool:
        """Whether a version that is here may run, as ``check`` has it."""
        try:
            self.check(model, model, digest)
        except (TrustError, FormatError, StorageError):
            return False
        return True

    def check_attributes(
        self, who: str, model: str, attributes: Mapping[str, Any], packages: Mapping[str, Package]
    ) -> None:
        """Pass when nothing that a service says can name files or code outside of packages.

        Its paths have to lead into packages, and to one at least; its model must not be one
        that a server has itself; and of objects and arrays only those pass that the backend
        says are harmless.

        Args:
            who: The service, for messages.
            model: What implements it.
            attributes: Its attributes, placeholders not replaced.
            packages: Local name → package of the config.

        Raises:
            TrustError: Something else is named, and the policy does not allow it.
            PluginError: There is no such backend.
        """
        if self._policy.allow_paths:
            return
        backend = load_backend(model)
        known = [one for one in backend.attributes if one.name in attributes]
        paths = [one.name for one in known if one.kind == "path"]
        if not paths:
            raise _no_package(f"{who} names no package")
        for name in paths:
            _check_path(who, name, attributes[name], packages)
        foreign = backend.foreign(attributes)
        if foreign is not None:
            raise _no_package(f"{who} names {foreign}")
        for one in known:
            if not one.is_harmless(attributes[one.name]):
                raise _no_package(f"{one.name} of {who} may name files or code")

    def _bundles(self, subject: str) -> Iterator[bytes]:
        """The signatures of a version that are here, one after another; what is damaged is none.

        Whoever may push can have anything refer to a version, and choose its digest: what is
        no signature does not count towards ``MAX_REFERRERS``.
        """
        found = 0
        for digest in self._referrers.of(subject):
            try:
                raw = self._storage.read(digest, limit=MAX_MANIFEST)
                *_, bundle = read_signature_manifest(raw, subject=subject)
                content = self._storage.read(bundle, limit=MAX_BUNDLE)
            except StorageUnavailableError:
                raise
            except (FormatError, StorageError):
                continue
            yield content
            found += 1
            if found == MAX_REFERRERS:
                return

    def _accept(self, model: str, digest: str) -> None:
        with self._lock:
            self._accepted[model, digest] = None
            while len(self._accepted) > _MAX_ACCEPTED:
                del self._accepted[next(iter(self._accepted))]
            entries = [list(one) for one in self._accepted]
        content = canonical_json({"policy": self._policy.digest, "accepted": entries})
        try:
            write_atomically(self._file, content, mode=0o600)
        except OSError:
            return  # a full disk: it is checked again after the next start


def _remembered(file: Path, policy: str) -> dict[tuple[str, str], None]:
    """The versions that were accepted under a policy, oldest first."""
    try:
        with file.open("rb") as opened:
            data = json.loads(opened.read(_MAX_REMEMBERED))
        if data["policy"] != policy:
            return {}
        return {(str(model), str(digest)): None for model, digest in data["accepted"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # what is not remembered is checked again


def _check_path(who: str, name: str, value: object, packages: Mapping[str, Package]) -> None:
    """Pass when a path leads into a package."""
    found = replace_placeholders(
        {name: value}, packages, folder=lambda one: f"/packages/{one.name}", environment={}
    )
    path = str(found.value[name])
    # What a variable says, and which folder is above a package's, is another matter there.
    is_clear = not found.problems and ".." not in path.split("/")
    path = posixpath.normpath(path)
    if not is_clear or not any(
        path == f"/packages/{one}" or path.startswith(f"/packages/{one}/") for one in found.packages
    ):
        raise _no_package(f"{name} of {who} is a path, {str(value)[:200]!r}")


def _no_package(what: str) -> TrustError:
    return TrustError(
        f"{what}, expected a package: what is not one has no signature",
        reason="NotAPackage",
        hint='deploy a signed version, or have the trust policy say "allow_paths": true',
    )
