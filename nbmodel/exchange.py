"""What goes between the local registry and remotes: push, pull, sync and what they share.

``Client`` documents the verbs; here they know which remote is meant, and what follows of
numbers and aliases that changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from nbmodel import config as settings
from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote, locate
from nbmodel.core.version import Version
from nbmodel.display import (
    GcCard,
    Progress,
    PullCard,
    PushCard,
    RemoteModelTable,
    RemoteTable,
    RemoteVersionTable,
    SyncCard,
)
from nbmodel.errors import (
    InputError,
    ModelNotFoundError,
    StorageUnavailableError,
    VersionNotFoundError,
)
from nbmodel.importing.foreign import unpacking
from nbmodel.registry import Registry
from nbmodel.registry.catalog import local
from nbmodel.registry.remote.numbering import Renumbered
from nbmodel.registry.remote.peer import Peer, connect
from nbmodel.registry.remote.pull import PullReport


class Follow(Protocol):
    """Brings what runs a model up to date; a line for each service."""

    def __call__(self, model: str, *, fixed: bool) -> tuple[str, ...]:
        """Bring it.

        Args:
            model: The model.
            fixed: Whether also what is held at a version, which may have another number now.
        """


class Exchange:
    """The verbs that need a remote, over one local registry.

    Args:
        registry: The local one.
        home: Folder of what was broken off: uploads, imports.
        follow: Brings along what runs a model.
    """

    def __init__(self, registry: Registry, home: Path, follow: Follow) -> None:
        self._registry = registry
        self._home = home
        self._follow = follow

    def push(
        self,
        reference: Reference | None,
        remote: Remote,
        *,
        aliases: Sequence[str],
        force: bool,
        cancelled: Callable[[], bool],
    ) -> PushCard:
        """Push a version, a model's versions, or (None) all; as ``Client.push``."""
        with (
            Progress(f"push {reference or 'all'}") as progress,
            self._peer(remote, progress, cancelled) as peer,
        ):
            report = self._registry.push(peer, reference, aliases=aliases or None, force=force)
        self._used(remote)
        # What was renumbered runs somewhere, whatever else could not be done.
        notes = self._follow_renumbered(report.renumbered)
        report.check(notes)
        return PushCard.of(report).with_notes(notes)

    def pull(
        self,
        reference: str,
        folder: str | os.PathLike[str] | None,
        *,
        name: str | None,
        cancelled: Callable[[], bool],
    ) -> PullCard:
        """Bring a version, or copy its files into a folder; as ``Client.pull``."""
        located = locate(reference, self._known())
        report: PullReport | None = None
        if located is not None:
            report = self._pull_from(*located, name, cancelled)
            version = report.version
        elif name is not None:
            raise InputError(
                f"{reference} is a name here, so that it brings nothing under another one",
                hint="--name goes with a registry, as in `pull registry.example/team/digits`",
            )
        else:
            version, report = self._local_or_pulled(local(reference), cancelled)
            folder = "." if folder is None else folder
        if version.files_on is not None:
            self.fetch(version, cancelled)
        own = Reference(version.model, digest=version.digest)
        target = None if folder is None else Path(folder).expanduser()
        paths = () if target is None else self._registry.extract(own, target)
        if target is not None:
            signature = self._registry.lay_out_signature(version, target)
            paths = paths if signature is None else (*paths, signature)
        card = PullCard(version.reference, paths, report)
        return card if report is None else card.with_notes(self._follow(version.model, fixed=False))

    def sync(self, model: str | None, remote: Remote, *, cancelled: Callable[[], bool]) -> SyncCard:
        """Know what a remote has, without the files; as ``Client.sync``."""
        with (
            Progress(f"sync {remote}") as progress,
            self._peer(remote, progress, cancelled) as peer,
        ):
            report = self._registry.sync(peer, model, note=progress.note)
        self._used(remote)
        card = SyncCard.of(report)
        return card.with_notes(
            line for changed in card.changed for line in self._follow(changed.model, fixed=False)
        )

    def gc(self, remote: Remote, *, grace_s: float, dry_run: bool) -> GcCard:
        """Free what no tag of an object store leads to; as ``Client.gc``."""
        with (
            Progress(f"gc {remote}") as progress,
            self._peer(remote, progress, lambda: False) as peer,
        ):
            report = self._registry.gc_remote(peer, grace_s=grace_s, dry_run=dry_run)
        return GcCard.of(report)

    def list(
        self, model: str | None, remote: Remote, *, cancelled: Callable[[], bool]
    ) -> RemoteModelTable | RemoteVersionTable:
        """The models of a remote, or the versions of one; as ``Client.list``."""
        with (
            Progress(f"list {remote}") as progress,
            self._peer(remote, progress, cancelled) as peer,
        ):
            if model is None:
                return RemoteModelTable(str(remote), self._registry.remote_models(peer))
            there = self._registry.name_there(remote, model)
            versions = self._registry.remote_versions(peer, there)
            return RemoteVersionTable(str(remote), there, versions)

    def fetch(self, version: Version, cancelled: Callable[[], bool]) -> None:
        """Bring the files of a version that are on a remote alone."""
        what = f"fetch {version.reference} from {version.files_on}"
        with Progress(what, total=version.size) as progress:
            self._registry.fetch(version, progress=progress.advance, cancelled=cancelled)

    def remote(self, given: str | None) -> Remote:
        """The registry that is meant: given, configured, chosen, or the first one that was used.

        Raises:
            InputError: It is none, or nothing says which one.
        """
        found = Remote.parse(given) if given else self._default()
        if found is None:
            raise InputError(
                "no registry was given, and none is known",
                hint="name one, as in `push digits localhost:5000/team`, or choose it once: "
                "`remote default localhost:5000/team`",
            )
        return found

    def remotes(self) -> RemoteTable:
        """The remotes that are known here; as ``Client.remotes``."""
        return RemoteTable(self._registry.remote_uses(), self._configured())

    def choose(self, remote: Remote) -> RemoteTable:
        """Make a remote the default; as ``Client.set_default_remote``."""
        self._registry.choose_remote(remote)
        return self.remotes()

    def forget(self, remote: Remote, *, force: bool) -> RemoteTable:
        """Forget a remote; as ``Client.forget_remote``."""
        self._registry.forget_remote(remote, force=force)
        return self.remotes()

    def _configured(self) -> Remote | None:
        """The registry that the environment or a file of settings names."""
        text = settings.setting("remote")
        return None if text is None else Remote.parse(text)

    def _default(self) -> Remote | None:
        """The registry that is meant where none is given."""
        return self._configured() or self._registry.default_remote()

    def _used(self, remote: Remote) -> None:
        """Note that a remote was used, unless the registry here can only be read."""
        with suppress(StorageUnavailableError):
            self._registry.note_use(remote)

    def _known(self) -> Sequence[Remote]:
        """The registries that were configured or used before."""
        configured = self._configured()
        return [*([] if configured is None else [configured]), *self._registry.remotes()]

    def _peer(self, remote: Remote, progress: Progress, cancelled: Callable[[], bool]) -> Peer:
        return Peer(
            remote,
            partial(connect, cancelled=cancelled, sessions=self._home / "uploads"),
            leads=remote == (self._configured() or self._registry.chosen_remote()),
            progress=progress.advance,
            cancelled=cancelled,
            expect=progress.expect,
        )

    def _pull_from(
        self, remote: Remote, ref: Reference, name: str | None, cancelled: Callable[[], bool]
    ) -> PullReport:
        """Bring a version, by the name that its model has there."""
        with (
            Progress(f"pull {ref}") as progress,
            self._peer(remote, progress, cancelled) as peer,
        ):
            take = unpacking(
                self._registry,
                self._home / "imports",
                progress=progress.advance,
                cancelled=cancelled,
            )
            report = self._registry.pull(peer, ref, name=name, unpack=take)
        self._used(remote)
        return report

    def _local_or_pulled(
        self, ref: Reference, cancelled: Callable[[], bool]
    ) -> tuple[Version, PullReport | None]:
        """A version that is known here, or that the registry has that is meant by default."""
        try:
            return self._registry.resolve(ref), None
        except (ModelNotFoundError, VersionNotFoundError) as exc:
            remote = self._default()
            if remote is None:
                raise
            there = replace(ref, name=self._registry.name_there(remote, ref.name))
            try:
                report = self._pull_from(remote, there, None, cancelled)
            except (ModelNotFoundError, VersionNotFoundError) as missing:
                raise type(exc)(f"{exc}, nor on {remote}", hint=exc.hint) from missing
            return report.version, report

    def _follow_renumbered(self, renumbered: Iterable[Renumbered]) -> tuple[str, ...]:
        """Bring along what follows models whose ``latest`` may be another one now."""
        models = dict.fromkeys(one.model for one in renumbered)
        return tuple(line for model in models for line in self._follow(model, fixed=True))
