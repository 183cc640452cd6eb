"""The local registry: models, versions, aliases and pins over a folder of blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmodel.core.deployment import Deployment
from nbmodel.core.diff import Diff, diff_versions
from nbmodel.core.golden import Golden
from nbmodel.core.graph import LineageGraph
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.pin import Pin
from nbmodel.core.reference import Reference
from nbmodel.core.signature import Signature
from nbmodel.core.version import AliasMove, Model, Version
from nbmodel.registry import (
    aliases,
    deployments,
    extract,
    gc,
    lineage,
    notes,
    pins,
    removal,
    search,
    signatures,
    verify,
    versions,
)
from nbmodel.registry.aliases import UNSET, Unset
from nbmodel.registry.catalog import Catalog, find_model, model_of
from nbmodel.registry.contents import Contents
from nbmodel.registry.gc import GcReport
from nbmodel.registry.packing import pack_all
from nbmodel.registry.rebuild import rebuild_index
from nbmodel.registry.removal import Deleted
from nbmodel.registry.repositories import RegistryRepositories
from nbmodel.registry.verify import VerifyReport
from nbmodel.storage.copying import Progress
from nbmodel.storage.layout import OciLayout
from nbmodel.storage.room import room_told

if TYPE_CHECKING:
    from typing_extensions import Self

    from nbmodel.core.remote import Remote
    from nbmodel.registry.remote.listing import RemoteModel, RemoteVersion
    from nbmodel.registry.remote.numbering import Renumbered
    from nbmodel.registry.remote.peer import Connect, Peer
    from nbmodel.registry.remote.pull import PullReport, Unpack
    from nbmodel.registry.remote.push import PushReport
    from nbmodel.registry.remote.sync import SyncReport
    from nbmodel.registry.remote.uses import RemoteUse
    from nbmodel.registry.signing import ClaimedSignature
    from nbmodel.signing.bundle import Bundle
    from nbmodel.signing.certificate import Certificate
    from nbmodel.signing.check import Signed, Trusted
    from nbmodel.signing.key import PrivateKey

_NO_TAGS: Mapping[str, str] = {}
_NO_VALUES: Mapping[str, Any] = {}
_NO_METRICS: Mapping[str, float] = {}


class Registry:
    """One registry, in a folder of this machine; nothing is made before the first write.

    Several processes and threads may use one folder at once. Where a method takes a
    reference, text is parsed; a bare name stands for the version the registry is pinned
    to, else the newest that is not archived. All methods raise ModelNotFoundError or
    VersionNotFoundError for what is not there, RefError for a malformed reference, and
    StorageUnavailableError when the folder cannot be used; the docstrings name the rest.

    Args:
        root: Folder of blobs and index.
    """

    def __init__(self, root: Path) -> None:
        self._catalog = Catalog(root)

    @property
    def root(self) -> Path:
        """The folder."""
        return self._catalog.root

    @property
    def storage(self) -> OciLayout:
        """The blobs."""
        return self._catalog.storage

    def repositories(self) -> RegistryRepositories:
        """The models as the distribution API offers them."""
        return RegistryRepositories(self._catalog)

    def close(self) -> None:
        """Close the index; the next use opens it again."""
        self._catalog.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── versions ──────────────────────────────────────────────────────────────────

    def add(
        self,
        name: str,
        files: Mapping[str, Path | bytes],
        *,
        framework: str,
        model_type: str,
        signature: Signature,
        metadata: Mapping[str, Any] = _NO_VALUES,
        metrics: Mapping[str, float] = _NO_METRICS,
        lineage: Lineage = Lineage(),
        golden: Golden | None = None,
        conversion: Conversion | None = None,
        description: str = "",
        tags: Mapping[str, str] = _NO_TAGS,
        media_types: Mapping[str, str] = _NO_TAGS,
        progress: Progress | None = None,
    ) -> Version:
        """Make a version; the model is made with its first one.

        Args:
            name: The model.
            files: Path in the version → a local file or the bytes themselves.
            framework: File format: ``onnx``, ``tflite`` …
            model_type: A name of ``core.model_type.MODEL_TYPES``.
            signature: Inputs and outputs.
            metadata: JSON values by key.
            metrics: Finite numbers by name.
            lineage: Where it comes from.
            golden: The acceptance test; its arrays are one of ``files``.
            conversion: How the file was made.
            description: Free text.
            tags: Key → value words.
            media_types: Path → media type of the files that are not weights.
            progress: Told of the bytes of the files, those recognised included.

        Raises:
            InputError: Something given cannot be used, or a file changed meanwhile.
            RegistryError: The model is archived.
        """
        contents = Contents(
            name=name,
            files=files,
            framework=framework,
            model_type=model_type,
            signature=signature,
            metadata=metadata,
            metrics=metrics,
            lineage=lineage,
            golden=golden,
            conversion=conversion,
            description=description,
            tags=tags,
            media_types=media_types,
        )

        def size() -> int:
            return sum(
                len(file) if isinstance(file, bytes) else file.stat().st_size
                for file in files.values()
            )

        with room_told(self.storage, size):
            return versions.add(self._catalog, contents, progress)

    def adopt(self, manifest: bytes, name: str) -> Version:
        """Make a version of a manifest whose blobs are in the storage already.

        Bringing the same manifest again gives the version that it made.

        Raises:
            ManifestError: It is not a manifest of a model.
            BlobNotFoundError: A blob is missing or of another size.
            RegistryError: The model is archived.
        """
        return versions.adopt(self._catalog, manifest, name)

    def resolve(self, ref: Reference | str) -> Version:
        """The version that a reference means, its manifest read and checked."""
        return versions.resolve(self._catalog, ref)

    def wanted(self, name: str, runtime: str, selector: str) -> Version:
        """The version a runtime is to run: its own pin, the registry's, then the selector.

        Args:
            name: The model.
            runtime: Name of the runtime.
            selector: ``latest``, an alias, a number or a stamp.
        """
        return pins.wanted(self._catalog, name, runtime, selector)

    def model(self, name: str) -> Model:
        """The model of that name."""
        with self._catalog.db.read() as db:
            return model_of(db, find_model(db, name).id)

    def models(self, query: str = "", *, archived: bool = False) -> list[Model]:
        """Models by name: all, or those that a query holds for in any version.

        Raises:
            InputError: The query cannot be read; see ``core.query`` for the language.
        """
        return search.list_models(self._catalog, query, archived=archived)

    def versions(
        self, name: str | None = None, query: str = "", *, archived: bool = False
    ) -> list[Version]:
        """Versions of one model or of all, newest first; manifests are read when asked for.

        Raises:
            InputError: The query cannot be read; see ``core.query`` for the language.
        """
        return search.list_versions(self._catalog, name, query, archived=archived)

    def extract(self, ref: Reference | str, folder: Path) -> tuple[Path, ...]:
        """Copy the files of a version into a folder, digests checked, and give their paths.

        Files that are on a remote alone are fetched before.

        Raises:
            InputError: A file of the same name and other bytes is there; nothing changed.
            BlobNotFoundError, DigestMismatchError: The storage is damaged.
            TargetUnreachableError, AuthenticationError: The remote's own.
        """
        version = self.resolve(ref)
        self.fetch(version)
        return extract.extract(self.storage, version, folder)

    # ── remotes ───────────────────────────────────────────────────────────────────

    def push(
        self,
        peer: Peer,
        ref: Reference | str | None,
        *,
        aliases: Sequence[str] | None = None,
        force: bool = False,
    ) -> PushReport:
        """Push a version, a model's versions, or (None) all; see ``registry.remote.push``.

        The report tells of what was left undone, too: ``check`` it.
        """
        from nbmodel.registry.remote.push import push

        return push(self._catalog, peer, ref, aliases=aliases, force=force)

    def push_size(
        self, ref: Reference | str | None, *, aliases: Sequence[str] | None = None
    ) -> int:
        """Bytes of what ``push`` would push, there already or not; raises as it would here."""
        from nbmodel.registry.remote.push import push_size

        return push_size(self._catalog, ref, aliases=aliases)

    def pull(
        self,
        peer: Peer,
        ref: Reference,
        *,
        name: str | None = None,
        unpack: Unpack | None = None,
    ) -> PullReport:
        """Bring a version with its files from a remote; see ``registry.remote.pull``."""
        from nbmodel.registry.remote.pull import pull

        return pull(self._catalog, peer, ref, name=name, unpack=unpack)

    def sync(
        self, peer: Peer, model: str | None, *, note: Callable[[str], None] = lambda _: None
    ) -> SyncReport:
        """Know what a remote has of a model, or (None) of all; see ``registry.remote.sync``."""
        from nbmodel.registry.remote.sync import sync

        return sync(self._catalog, peer, model, note=note)

    def fetch(
        self,
        version: Version,
        *,
        connect: Connect | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str | None:
        """Bring the files of a version that are on a remote alone.

        Args:
            version: Which one.
            connect: Opens a connection to a remote; None: as the environment says.
            progress: Told of the bytes that came, or are here already.
            cancelled: Asked while bytes move.

        Returns:
            The host that they came from; None when all of them were here.

        Raises:
            BlobNotFoundError: No remote is known to have them.
            TargetUnreachableError, AuthenticationError, StorageError: The remote's own.
            CancelledError: Nobody wants them any more.
        """
        if version.files_on is None:
            return None
        from nbmodel.registry.remote.fetch import fetch_version

        return fetch_version(
            self._catalog, version, connect, progress=progress, cancelled=cancelled
        )

    def remotes(self) -> list[Remote]:
        """The remotes that something was pushed to or came from, the oldest first."""
        from nbmodel.registry.remote.seen import known_remotes

        with self._catalog.db.read() as db:
            return known_remotes(db)

    def remote_uses(self) -> list[RemoteUse]:
        """The same with when they were used, and which is the default."""
        from nbmodel.registry.remote.uses import remote_uses

        with self._catalog.db.read() as db:
            return remote_uses(db)

    def default_remote(self) -> Remote | None:
        """The remote that is meant where none is named: the one chosen, else the first used."""
        from nbmodel.registry.remote.uses import default_remote

        with self._catalog.db.read() as db:
            return default_remote(db)

    def chosen_remote(self) -> Remote | None:
        """The remote that somebody chose as the default, or None."""
        from nbmodel.registry.remote.uses import chosen_remote

        with self._catalog.db.read() as db:
            return chosen_remote(db)

    def choose_remote(self, remote: Remote) -> None:
        """Make a remote the default, whether or not it was used before."""
        from nbmodel.registry.remote.uses import choose_remote

        with self._catalog.db.write() as db:
            choose_remote(db, remote)

    def forget_remote(self, remote: Remote, *, force: bool = False) -> None:
        """Forget a remote and what was seen there; nothing changes there.

        Raises:
            InputError: It is not known.
            InUseError: It alone has the files of versions, and there is no force.
        """
        from nbmodel.registry.remote.uses import forget_remote

        with self._catalog.db.write() as db:
            forget_remote(db, remote, force=force)

    def note_use(self, remote: Remote) -> None:
        """Note that a remote was used now."""
        from nbmodel.registry.remote.uses import note_use

        with self._catalog.db.write() as db:
            note_use(db, remote)

    def name_there(self, remote: Remote, name: str) -> str:
        """What a model here is called on a remote: as it is there already, else as here."""
        from nbmodel.registry.remote.sharing import name_there

        with self._catalog.db.read() as db:
            return name_there(db, remote, name)

    def shared_places(self, name: str) -> list[str]:
        """The repositories that a model is, ``registry.example/team/digits``."""
        from nbmodel.registry.remote.sharing import shared_places

        with self._catalog.db.read() as db:
            return shared_places(db, name)

    def alias_places(self, name: str, alias: str) -> list[Remote]:
        """The remotes where an alias of a model was seen."""
        from nbmodel.registry.remote.sharing import alias_places

        with self._catalog.db.read() as db:
            return [remote for remote, _ in alias_places(db, name, alias)]

    def remote_models(self, peer: Peer) -> list[RemoteModel]:
        """The models of a remote; see ``registry.remote.listing``."""
        from nbmodel.registry.remote.listing import list_models

        return list_models(self._catalog, peer)

    def remote_versions(self, peer: Peer, model: str) -> list[RemoteVersion]:
        """The versions of a model of a remote; see ``registry.remote.listing``."""
        from nbmodel.registry.remote.listing import list_versions

        return list_versions(self._catalog, peer, model)

    def renumbered(self, name: str) -> list[Renumbered]:
        """Every version of a model that lost its number to another one, newest first."""
        from nbmodel.registry.remote.numbering import renumbered_of

        with self._catalog.db.read() as db:
            return renumbered_of(db, find_model(db, name).id)

    # ── names that move, and names that stay ──────────────────────────────────────

    def set_alias(
        self,
        ref: Reference | str,
        alias: str,
        *,
        expect: int | Unset | None = UNSET,
        why: str = "",
    ) -> AliasMove:
        """Put an alias on a version.

        Args:
            ref: The version.
            alias: The name; not one that reads as a version.
            expect: The number it must be on now, None for no version; unset: anywhere.
            why: Kept in the history.

        Raises:
            AliasConflictError: It is not where ``expect`` says.
            RegistryError: The version is archived.
        """
        return aliases.set_alias(self._catalog, ref, alias, expect=expect, why=why)

    def remove_alias(self, name: str, alias: str, why: str = "") -> AliasMove:
        """Take an alias away from a model; its history stays."""
        return aliases.remove_alias(self._catalog, name, alias, why=why)

    def alias_history(self, name: str, alias: str | None = None) -> list[AliasMove]:
        """Every move of a model's aliases, or of one of them, newest first."""
        return aliases.alias_history(self._catalog, name, alias)

    def pin(self, ref: Reference | str, *, runtime: str | None = None, why: str = "") -> Pin:
        """Hold a model at a version, for a runtime or (None) the whole registry.

        Raises:
            RegistryError: The version is archived.
        """
        return pins.pin(self._catalog, ref, runtime=runtime, why=why)

    def unpin(self, name: str, *, runtime: str | None = None) -> Pin:
        """Let go of a pin, and give what it was.

        Raises:
            PinConflictError: There is no such pin.
        """
        return pins.unpin(self._catalog, name, runtime=runtime)

    def pins(self, name: str | None = None) -> list[Pin]:
        """Pins of one model or of all, the registry's before the runtimes'."""
        return pins.list_pins(self._catalog, name)

    # ── what people say about them ────────────────────────────────────────────────

    def tag(
        self,
        ref: Reference | str,
        set: Mapping[str, str],  # noqa: A002 - the verb
        remove: Sequence[str] = (),
    ) -> Version:
        """Set tags of a version and remove others.

        Raises:
            PublishedError: The version is published.
            InputError: A tag is malformed.
        """
        return notes.tag(self._catalog, ref, set, remove)

    def describe(self, ref: Reference | str, text: str) -> Version | Model:
        """Give a version, or with a bare name the model, its description.

        Raises:
            PublishedError: The version is published.
        """
        return notes.describe(self._catalog, ref, text)

    def rename(self, old: str, new: str) -> Model:
        """Give a model another name; everything else stays.

        Raises:
            ModelExistsError: The name is taken.
        """
        return notes.rename(self._catalog, old, new)

    def publish(self, ref: Reference | str) -> Version:
        """Make a version read-only."""
        return notes.publish(self._catalog, ref)

    def deprecate(self, ref: Reference | str, message: str | None) -> Version | Model:
        """Say why nobody should use a version, or with a bare name the model.

        Args:
            ref: The version or model.
            message: Why; None takes it back.
        """
        return notes.deprecate(self._catalog, ref, message)

    def archive(self, ref: Reference | str) -> Version | Model:
        """Leave a version, or with a bare name the model, out of lists and ``latest``.

        Raises:
            InUseError: An alias or deployment names it.
            PinConflictError: A pin holds it.
        """
        return notes.archive(self._catalog, ref)

    def restore(self, ref: Reference | str) -> Version | Model:
        """Take a version, or with a bare name the model, out of the archive."""
        return notes.restore(self._catalog, ref)

    def delete(self, ref: Reference | str, *, force: bool = False) -> Deleted:
        """Delete a version, or with a bare name the model; ``gc`` frees the bytes.

        Raises:
            InUseError: Something uses it, or it is published, and there is no force.
        """
        return removal.delete(self._catalog, ref, force=force)

    # ── comparing, and where things come from ─────────────────────────────────────

    def diff(self, old: Reference | str, new: Reference | str) -> Diff:
        """What changes from one version to another."""
        return diff_versions(self.resolve(old), self.resolve(new))

    def lineage(self, ref: Reference | str) -> LineageGraph:
        """The versions that one descends from and that descend from it."""
        return lineage.lineage(self._catalog, ref)

    def record_deployment(self, deployment: Deployment) -> None:
        """Remember that a service follows a model; one of the same name is replaced."""
        deployments.record_deployment(self._catalog, deployment)

    def remove_deployment(self, runtime: str, service: str) -> None:
        """Forget a deployment; nothing to do when there is none."""
        deployments.remove_deployment(self._catalog, runtime, service)

    def deployments(self, model: str | None = None, runtime: str | None = None) -> list[Deployment]:
        """Deployments by runtime and service, of one model or runtime when it is given."""
        return deployments.list_deployments(self._catalog, model, runtime)

    # ── who signed them ───────────────────────────────────────────────────────────

    def sign(
        self, ref: Reference | str, key: PrivateKey, chain: Sequence[Certificate] = ()
    ) -> tuple[Version, Bundle]:
        """Sign a version, and keep the signature with it.

        Args:
            ref: The version.
            key: Whose signature it is.
            chain: The certificate of that key, then those of authorities; empty: none.

        Raises:
            InputError: The certificate is not the key's.
        """
        from nbmodel.registry import signing

        return signing.sign_version(self._catalog, ref, key, chain)

    def attach(self, ref: Reference | str, bundle: bytes) -> tuple[Version, Bundle]:
        """Keep a signature that was made elsewhere with the version that it is of.

        Raises:
            TrustError: It cannot be read, or is of other files.
        """
        from nbmodel.registry import signing

        return signing.attach(self._catalog, ref, bundle)

    def signatures(self, digest: str) -> tuple[str, ...]:
        """Digests of the manifests of a version's signatures, by the digest of its own."""
        return signatures.signatures_of(self._catalog, digest)

    def bundles(self, digest: str) -> tuple[bytes, ...]:
        """The signatures of a version, newest first, by the digest of its manifest."""
        kept = signatures.kept_signatures(self._catalog, digest)
        return tuple(one.bundle for one in kept if one.bundle is not None)

    def lay_out_signature(self, version: Version, folder: Path) -> Path | None:
        """Write the newest signature of a version beside its files; None when it has none."""
        return signatures.lay_out(self._catalog, version, folder)

    def claims(self, digest: str) -> tuple[ClaimedSignature, ...]:
        """The signatures of a version by what they say; nothing of that is checked."""
        if not signatures.signatures_of(self._catalog, digest):
            return ()
        from nbmodel.registry import signing

        return signing.claims(self._catalog, digest)

    def check_signatures(
        self, version: Version, trusted: Trusted, bundles: Iterable[bytes] | None = None
    ) -> tuple[Signed, ...]:
        """The signatures of a version that count now, at least one.

        Args:
            version: The version.
            trusted: Whose count.
            bundles: Signatures to look at in place of those that are kept with it.

        Raises:
            TrustError: None counts.
        """
        from nbmodel.registry import signing

        at = datetime.now(timezone.utc)
        return signing.check_signatures(self._catalog, version, trusted, at=at, bundles=bundles)

    # ── keeping it sound ──────────────────────────────────────────────────────────

    def verify(
        self,
        ref: Reference | str | None = None,
        *,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Read every byte of a version, a model or the registry, and check its digest.

        Args:
            ref: What; None for all.
            rebuild: Before that, make an index that is lost or damaged anew of the layout,
                and ``index.json`` of the index. Aliases, pins, tags and descriptions are in
                the index alone and do not come back.
            progress: Told of the bytes just read.

        Raises:
            StorageError: The index is gone while the layout lists versions.
        """
        if not rebuild:
            return verify.verify(self._catalog, ref, progress)
        made = rebuild_index(self._catalog)
        report = verify.verify(self._catalog, ref, progress)
        left_out = (verify.Problem(f"left out of the index: {one}") for one in made.left_out)
        return replace(report, rebuilt=made.versions, problems=(*left_out, *report.problems))

    def gc(self, *, grace_s: float = 3600.0, dry_run: bool = False) -> GcReport:
        """Free what no version needs and nobody wrote or reused for ``grace_s`` seconds.

        Files of former versions that differ little from their successors' are packed, where
        they lie whole: those of registries of older releases, and what was read meanwhile.

        Raises:
            InputError: ``grace_s`` is negative.
            StorageError: The index is gone while the layout lists versions.
            StorageUnavailableError: The disk does not let something go; the rest is freed.
        """
        report = gc.collect(self._catalog, grace_s=grace_s, dry_run=dry_run)
        if dry_run or not self._catalog.root.exists():
            return report
        return replace(report, packed=pack_all(self._catalog))

    def gc_remote(self, peer: Peer, *, grace_s: float, dry_run: bool) -> GcReport:
        """Free what no tag of an object store leads to; ``collect_remote`` says what it raises."""
        from nbmodel.registry.remote.garbage import collect_remote

        return collect_remote(peer, grace_s=grace_s, dry_run=dry_run)
