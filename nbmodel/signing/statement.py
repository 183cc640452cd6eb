"""What a signature says: these files have these digests. An in-toto statement.

Source: OpenSSF Model Signing specification 1.0, sections 5 to 6; in-toto attestation
framework, Statement v1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.digest import is_digest
from nbmodel.core.document import canonical_json
from nbmodel.core.manifest import Manifest, check_path
from nbmodel.core.referrer import BUNDLE_FILE
from nbmodel.errors import ManifestError, TrustError
from nbmodel.signing.bundle import why

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
#: Left out by every signer of this format, at the top of the folder alone.
USUALLY_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
_MODEL = "io.nbmodel.model"  # annotations of the subject
_MANIFEST = "io.nbmodel.manifest"
_HEX = re.compile("[0-9a-f]{64}")
_SHOWN = 3  # files named in a message


@dataclass(frozen=True, slots=True)
class Statement:
    """The files of a model, and where nbmodel made the statement the version that they are.

    Attributes:
        name: What the signer called the folder; says nothing.
        files: Path → sha256 of the file, 64 hex digits.
        ignored: Paths that the signer left out, with all below them.
        model: Name of the model, where nbmodel signed it; None: only the files are signed.
        manifest: Digest of the version's manifest, which also fixes what is said of the files
            (tensors, labels, golden sample); None: only the files are signed.
    """

    name: str
    files: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    model: str | None = None
    manifest: str | None = None

    def to_bytes(self) -> bytes:
        """The payload of a signature."""
        resources = [
            {"algorithm": "sha256", "digest": digest, "name": path}
            for path, digest in sorted(self.files.items())
        ]
        subject: dict[str, Any] = {
            "name": self.name,
            "digest": {"sha256": _root(digest for _, digest in sorted(self.files.items()))},
        }
        if self.model is not None and self.manifest is not None:
            subject["annotations"] = {_MODEL: self.model, _MANIFEST: self.manifest}
        serialization: dict[str, Any] = {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
        }
        if self.ignored:
            serialization["ignore_paths"] = list(self.ignored)
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [subject],
                "predicateType": PREDICATE_TYPE,
                "predicate": {"resources": resources, "serialization": serialization},
            }
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statement:
        """Read the payload of a signature that was checked.

        Raises:
            TrustError: It is no statement about the files of a model, or one that cannot be
                compared with digests of whole files.
        """
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError, AttributeError, ManifestError) as exc:
            raise _malformed(f"cannot be read: {why(exc)}") from exc

    def difference(self, files: Mapping[str, str]) -> str | None:
        """How files differ from those signed, in words; None when they are those.

        Args:
            files: Path → sha256 of the file, 64 hex digits.
        """
        changed = sorted(
            path for path in self.files.keys() & files.keys() if self.files[path] != files[path]
        )
        missing = sorted(self.files.keys() - files.keys())
        more = [path for path in self.unsigned(files) if not self._is_ignored(path)]
        told = [
            f"{words} {_listed(paths)}"
            for words, paths in (
                ("other bytes in", changed),
                ("without", missing),
                ("with, unsigned,", more),
            )
            if paths
        ]
        return "; ".join(told) or None

    def unsigned(self, files: Iterable[str]) -> tuple[str, ...]:
        """The paths of files that the statement says nothing of, sorted."""
        return tuple(sorted(set(files) - self.files.keys()))

    def _is_ignored(self, path: str) -> bool:
        return any(
            path == one or path.startswith(f"{one}/") for one in (*USUALLY_IGNORED, *self.ignored)
        )


def files_of(manifest: Manifest) -> dict[str, str]:
    """Path → sha256 of each file of a version, 64 hex digits."""
    return {entry.path: entry.digest.partition(":")[2] for entry in manifest.files}


def statement_of(model: str, digest: str, manifest: Manifest) -> Statement:
    """What is signed of a version.

    Args:
        model: The model's present name.
        digest: Of the version's manifest.
        manifest: The manifest.
    """
    files = files_of(manifest)
    # Laid out in a folder, the version has its signature beside its files.
    ignored = () if BUNDLE_FILE in files else (BUNDLE_FILE,)
    return Statement(model.rpartition("/")[2], files, ignored, model, digest)


def _read(data: Mapping[str, Any]) -> Statement:
    if data["_type"] != STATEMENT_TYPE:
        raise _malformed(f"has type {data['_type']!r:.80}, expected {STATEMENT_TYPE}")
    if data["predicateType"] != PREDICATE_TYPE:
        raise _malformed(
            f"is about {data['predicateType']!r:.80}, expected {PREDICATE_TYPE}",
            reason="NotSupported",
        )
    (subject,) = data["subject"]
    predicate = data["predicate"]
    how = predicate["serialization"]
    if (how["method"], how["hash_type"]) != ("files", "sha256"):
        raise _malformed(
            f"has {how['hash_type']!r:.40} digests of {how['method']!r:.40}, expected sha256 of "
            "whole files",
            reason="NotSupported",
            hint="sign it again without --shard_size and with the usual hash",
        )
    files: dict[str, str] = {}
    for resource in predicate["resources"]:
        path, digest = check_path(_text(resource["name"])), _text(resource["digest"])
        if resource["algorithm"] != "sha256" or _HEX.fullmatch(digest) is None:
            raise ValueError(f"no sha256 of {path!r}")
        if path in files:
            raise ValueError(f"{path!r} is listed twice")
        files[path] = digest
    if not files:
        raise ValueError("it lists no files")
    if _root(files.values()) != subject["digest"]["sha256"]:
        raise ValueError("the digest of its subject is not that of its files")
    model, manifest = _version(subject.get("annotations") or {})
    return Statement(
        _text(subject["name"]),
        files,
        tuple(_text(path) for path in how.get("ignore_paths") or ()),
        model,
        manifest,
    )


def _version(annotations: Mapping[str, Any]) -> tuple[str | None, str | None]:
    if _MODEL not in annotations and _MANIFEST not in annotations:
        return None, None
    model, manifest = _text(annotations[_MODEL]), _text(annotations[_MANIFEST])
    if not is_digest(manifest):
        raise ValueError(f"not the digest of a manifest: {manifest!r:.100}")
    return model, manifest


def _root(digests: Iterable[str]) -> str:
    """One digest for all files: of theirs, as bytes, in the order of the statement."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, found {value!r:.80}")
    return value


def _listed(paths: list[str]) -> str:
    more = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _malformed(what: str, *, reason: str = "Malformed", hint: str | None = None) -> TrustError:
    return TrustError(f"the signed statement {what}", reason=reason, hint=hint)
