"""The verbs, each implemented once.

``%mlmodel log``, ``nbmodel log`` and ``nbmodel.log`` are readings of ``Client.log``. What
a verb needs beyond a few lines lives below: the registry, the fleet, the converters.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from nbmodel import config as settings
from nbmodel.core.benchmark import CONCURRENCIES, SECONDS
from nbmodel.core.deployment import Deployment
from nbmodel.core.digest import is_digest
from nbmodel.core.golden import ATOL, RTOL, Golden
from nbmodel.core.job import LINEAGE
from nbmodel.core.lineage import Lineage
from nbmodel.core.model_type import MODEL_TYPES, check_model_type, model_type_of
from nbmodel.core.pin import Pin
from nbmodel.core.reference import Reference, check_name
from nbmodel.core.version import Model, Version, now
from nbmodel.errors import (
    DeployError,
    InputError,
    ModelNotFoundError,
    NbModelError,
    RefError,
    RegistryError,
    TargetError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbmodel.background import Did, Transfer, Transfers
    from nbmodel.benchmark import Subject
    from nbmodel.core.job import Job
    from nbmodel.core.origin import Origin
    from nbmodel.core.signature import Signature
    from nbmodel.display import (
        AliasCard,
        AliasHistory,
        BenchCard,
        DeletedCard,
        DeployCard,
        DiffCard,
        ExportCard,
        GcCard,
        InferenceResult,
        KeyCard,
        LineageCard,
        ModelCard,
        ModelTable,
        PackageCard,
        PinCard,
        PullCard,
        PushCard,
        RemoteModelTable,
        RemoteTable,
        RemoteVersionTable,
        ReproductionCard,
        RuntimeTable,
        ServingCard,
        SignatureCard,
        SourceCard,
        StatusCard,
        SyncCard,
        TransferTable,
        VerifyCard,
        VersionCard,
        VersionTable,
    )
    from nbmodel.display.live import View
    from nbmodel.exchange import Exchange
    from nbmodel.fleet.kinds import Runtime
    from nbmodel.fleet.runtimes import Runtimes
    from nbmodel.importing.signature import SignatureGiven
    from nbmodel.local import LocalModels
    from nbmodel.provenance import Look
    from nbmodel.registry import Registry
    from nbmodel.serving.server import Offer, RegistryServer
    from nbmodel.source import LabelsGiven, Source

REPRODUCE_S = 600.0  # that the cells of a version have to be run again
_MAX_RENUMBERED = 10  # changes of numbers that a model's card tells of

Unset: TypeAlias = "type[_Unset]"


class _Unset:
    """Tells "not given" from None."""


class Client:
    """All verbs over one registry folder and the runtimes known to it.

    Cheap to make: the registry is opened with the first verb that needs it.

    Args:
        home: Folder that holds everything; ``NBMODEL_HOME`` or the platform's data
            folder when not given.
        registry: Folder of the registry; ``<home>/registry`` when not given.

    Attributes:
        home: The folder in use.
        record: How much versions tell of the code that they come from: ``all``, ``facts``
            (no source) or ``nothing``; None: as ``NBMODEL_RECORD`` or a settings file says,
            else all.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        registry: str | os.PathLike[str] | None = None,
    ) -> None:
        self.home = settings.home(home)
        self.record: str | None = None
        root = settings.setting("registry", registry)
        self._root = self.home / "registry" if root is None else Path(root).expanduser().absolute()

    @cached_property
    def registry(self) -> Registry:
        """The local registry."""
        from nbmodel.registry import Registry

        return Registry(self._root)

    @cached_property
    def runtimes(self) -> Runtimes:
        """The runtimes known here, and the verbs on them: start, add, list, logs …."""
        from nbmodel.fleet.runtimes import Runtimes

        return Runtimes(self.home, on_up=lambda name: self._bring(runtime=name))

    @cached_property
    def models(self) -> LocalModels:
        """Versions loaded for inference on this machine."""
        from nbmodel.local import LocalModels

        return LocalModels(self.registry)

    @cached_property
    def exchange(self) -> Exchange:
        """What goes between the registry here and others."""
        from nbmodel.exchange import Exchange

        return Exchange(self.registry, self.home, self._follow)

    @cached_property
    def _served(self) -> list[RegistryServer]:
        """The servers of the registry that run in this process."""
        return []

    @cached_property
    def background(self) -> Transfers:
        """What is pushed and uploaded in the background: begin, go on with, cancel."""
        from nbmodel.background import Transfers

        return Transfers(self.home, self._root, self._do)

    def close(self) -> None:
        """Free the registry and every model loaded for inference here; end its servers."""
        self.stop_serving()
        self.__dict__.pop("exchange", None)
        for name in ("background", "models", "runtimes", "registry"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    # ── make versions ─────────────────────────────────────────────────────────────

    def log(
        self,
        name: str,
        model: object,
        *,
        sample: object = None,
        type: str | None = None,  # noqa: A002 - the word of the surface
        labels: LabelsGiven = None,
        signature: SignatureGiven = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        parents: Sequence[str] = (),
        rtol: float = RTOL,
        atol: float = ATOL,
        seed: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> VersionCard:
        """Make a version of a live object, converted to an edge format and checked.

        The converted file answers the golden sample (``sample``, or rows made from what
        the object knows of its training data) as the object itself does, within
        ``rtol`` and ``atol``; both answers travel with the version as its acceptance
        test.

        Args:
            name: Model name, ``[namespace/]name``.
            model: A fitted scikit-learn estimator or pipeline; or a plain function of arrays,
                which needs a ``sample`` and becomes a ``model.py``.
            sample: Rows as the model takes them: array or data frame; ≤ 16 are kept.
            type: Model type, when the object does not tell.
            labels: Class names, when they are better than the object's own.
            signature: What to say about tensors beyond what the file made of it says, as for
                ``upload``.
            metrics: Numbers by name.
            metadata: JSON values by name.
            tags: Free words by key.
            description: Free text.
            parents: References of versions this one was made from.
            rtol: Relative tolerance of the golden sample, ≥ 0.
            atol: Absolute tolerance of the golden sample, ≥ 0.
            seed: Of the random numbers, to be recorded.
            data: Name → files, arrays or data frames it was made from; their digests are
                recorded.

        Returns:
            The version made.

        Raises:
            RefError: ``name`` cannot name a model.
            InputError: The object is a path, the model type is unknown, or something in
                ``data`` has no digest.
            PluginError: No converter knows the object, or its extra is not installed.
            ConversionError: It cannot be converted, or answers too differently then.
            SignatureError: ``signature`` contradicts what it becomes.
        """
        from nbmodel.display import Progress
        from nbmodel.local import convert_source

        check_name(name)
        said = _signature(signature)
        if isinstance(model, str | os.PathLike):
            raise InputError(
                f"log takes a live object, found the path {os.fspath(model)!r}",
                hint=f"nbmodel upload {os.fspath(model)} --name {name}",
            )
        golden = Golden(rtol=rtol, atol=atol)
        digests = self._digests(parents)
        look = self._look(name, seed, data)
        with Progress(f"log {name}") as progress:
            source = convert_source(
                model,
                sample=sample,
                labels=labels,
                signature=said,
                golden=golden,
                note=progress.note,
            )
            version = self._add(
                name,
                source,
                progress.advance,
                model_type=type,
                metrics=metrics or {},
                metadata=metadata or {},
                tags=tags or {},
                description=description,
                lineage=look.lineage(digests),
            )
        return self._made(version)

    @overload
    def upload(
        self,
        *paths: str | os.PathLike[str],
        name: str,
        background: Literal[False] = False,
        **about: Any,
    ) -> VersionCard: ...

    @overload
    def upload(
        self,
        *paths: str | os.PathLike[str],
        name: str,
        background: Literal[True],
        **about: Any,
    ) -> Transfer: ...

    def upload(  # type: ignore[misc] # what it takes is spelled out once
        self,
        *paths: str | os.PathLike[str],
        name: str,
        sample: object = None,
        type: str | None = None,  # noqa: A002 - the word of the surface
        labels: LabelsGiven = None,
        signature: SignatureGiven = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        parents: Sequence[str] = (),
        rtol: float = RTOL,
        atol: float = ATOL,
        seed: int | None = None,
        data: Mapping[str, object] | None = None,
        lineage: Lineage | None = None,
        background: bool = False,
    ) -> VersionCard | Transfer:
        """Make a version of a model file with its companions, or of a folder.

        Args:
            paths: Files, or one folder; exactly one model among them.
            name: Model name, ``[namespace/]name``.
            sample: Inputs to run the model on now; they and its answers become the
                version's golden sample. Where the file does not tell its tensors, they say
                what the inputs are, and the answers the outputs.
            type: Model type, when the file does not tell and no earlier version does.
            labels: A labels file, names in index order, or ``{name: index}``.
            signature: What to say about tensors beyond what the file says, or all of it where
                that says nothing: a ``Signature``; a mapping such as ``{"inputs": {"x":
                "float32[-1,4]"}, "outputs": {"y": {"dtype": "int64", "shape": [-1], "labels":
                ["no", "yes"]}}}``; or a JSON or YAML file of one, ``serving.yaml`` included.
            metrics: Numbers by name.
            metadata: JSON values by name.
            tags: Free words by key.
            description: Free text.
            parents: References of versions this one was made from.
            rtol: Relative tolerance of the golden sample, ≥ 0.
            atol: Absolute tolerance of the golden sample, ≥ 0.
            seed: Of the random numbers, to be recorded.
            data: Name → files, arrays or data frames it was made from; their digests are
                recorded.
            lineage: Where it comes from, parents aside, ``seed`` and ``data`` included; None:
                from the code that runs now.
            background: Whether to go on at once, with a handle in place of the version. What
                is given is then written down, so it must be files and JSON values.

        Returns:
            The version made, or the transfer that makes it.

        Raises:
            RefError: ``name`` cannot name a model.
            InputError: A path is missing, the model type must be given, or something in
                ``data`` has no digest.
            FormatError: The model file is broken, or of no known format.
            SignatureError: ``signature`` contradicts the file.
        """
        from nbmodel.display import Progress
        from nbmodel.local import upload_source
        from nbmodel.source import gather_files

        check_name(name)
        said = _signature(signature)
        digests = self._digests(parents)
        look = self._look(name, seed, data) if lineage is None else None

        def made_in() -> Lineage:
            if look is not None:
                return look.lineage(digests)
            assert lineage is not None
            return replace(lineage, parents=digests)

        if background:
            gather_files(paths)  # what is not there is told at once
            return self.background.begin(
                "upload",
                {
                    "paths": [_absolute(os.fspath(path)) for path in paths],
                    "name": name,
                    "sample": _absolute(sample),
                    "type": type,
                    "labels": _absolute(labels),
                    "signature": None if said is None else said.to_json(),
                    "metrics": metrics,
                    "metadata": metadata,
                    "tags": tags,
                    "description": description,
                    "parents": list(parents),
                    "rtol": rtol,
                    "atol": atol,
                    "lineage": made_in().to_json(),
                },
            )
        source, notes = upload_source(
            [Path(path) for path in paths],
            labels,
            said,
            sample=sample,
            golden=Golden(rtol=rtol, atol=atol),
        )
        with Progress(f"upload {name}", total=source.size) as progress:
            version = self._add(
                name,
                source,
                progress.advance,
                model_type=type,
                metrics=metrics or {},
                metadata=metadata or {},
                tags=tags or {},
                description=description,
                lineage=made_in(),
            )
        return self._made(version).with_notes(notes)

    def import_(
        self,
        uri: str,
        *,
        name: str | None = None,
        revision: str = "",
        paths: Sequence[str] = (),
        sha256: str | None = None,
        max_size: int | None = None,
        importer: str | None = None,
        sample: object = None,
        type: str | None = None,  # noqa: A002 - the word of the surface
        labels: LabelsGiven = None,
        signature: SignatureGiven = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        parents: Sequence[str] = (),
        rtol: float = RTOL,
        atol: float = ATOL,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> VersionCard:
        """Make a version of a model that is kept elsewhere; its lineage says where.

        What its source says of it comes along: numbers, aliases and words as tags and
        metadata, the signature and labels where the files do not contradict them. Importing
        what a version has already, bytes and words, gives that version and says so.

        Args:
            uri: An address (``https:``, ``git+https:``, ``s3:``, ``gs:``, ``az:``, ``hf:``,
                ``models:``) or a path (Viam package, ``hs``, MLflow, ClearML or Hugging Face
                folder, archive).
            name: Model name; None: what it is called there.
            revision: Which one, where ``uri`` does not say.
            paths: What of it: files, folders or patterns with ``*``; nothing: all that is
                needed.
            sha256: 64 hex digits that the one file must have as its digest.
            max_size: The most bytes that may come, and be unpacked; None: 20 GB.
            importer: Name of the importer, where ``uri`` does not tell.
            sample: Inputs to run the model on now, as for ``upload``.
            type: Model type, when neither the files nor the source tell.
            labels: Class names that prevail.
            signature: What to say about tensors beyond what the file says, as for ``upload``.
            metrics: Numbers by name, beside those of the source.
            metadata: JSON values by name, beside those of the source.
            tags: Free words by key, beside those of the source.
            description: Free text in place of the source's.
            parents: References of versions this one was made from.
            rtol: Relative tolerance of the golden sample, ≥ 0.
            atol: Absolute tolerance of the golden sample, ≥ 0.
            cancelled: Asked while it comes; what came is kept for the next time.

        Raises:
            InputError: Nothing imports it, there is no such thing, it is too large, or holds
                no model or several.
            FormatError: It is damaged, hostile, or of no known format.
            DigestMismatchError: It is another file than ``sha256`` says.
            TargetUnreachableError, AuthenticationError: Who has it is away, or refuses.
            PluginError: What the importer needs is not installed.
        """
        from nbmodel.display import Progress, VersionCard
        from nbmodel.importing.bring import workplace
        from nbmodel.importing.version import import_version

        def answer(source: Source) -> Source:
            if sample is None:
                return source
            from nbmodel.local import answer_source

            return answer_source(source, sample, Golden(rtol=rtol, atol=atol))

        def add(*what: Any, parents: Sequence[str], origin: Origin, **says: Any) -> Version:
            made_in = self._look(what[0]).lineage(self._digests(parents))
            return self._add(*what, lineage=replace(made_in, origin=origin), **says)

        if name is not None:
            check_name(name)
        said = _signature(signature)
        with (
            Progress(f"import {name or ''}".rstrip()) as progress,
            workplace(
                self.home / "imports",
                max_size=max_size,
                sha256=sha256,
                revision=revision,
                paths=tuple(paths),
                progress=progress.advance,
                expect=progress.expect,
                note=progress.note,
                cancelled=cancelled,
            ) as job,
        ):
            imported = import_version(
                self.registry,
                uri,
                job,
                add,
                name=name,
                importer=importer,
                model_type=type,
                labels=labels,
                signature=said,
                metrics=metrics or {},
                metadata=metadata or {},
                tags=tags or {},
                description=description,
                parents=parents,
                answer=answer,
            )
        version = imported.version
        card = self._made(version) if imported.is_new else VersionCard.of(version)
        return card.with_notes(imported.notes)

    # ── look ──────────────────────────────────────────────────────────────────────

    def list(
        self,
        name: str | None = None,
        query: str = "",
        *,
        archived: bool = False,
        remote: str | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ModelTable | VersionTable | RemoteModelTable | RemoteVersionTable:
        """All models; or the versions of one, or those that a query finds.

        Args:
            name: A model, to list its versions.
            query: ``framework=onnx and metrics.acc > 0.9 and tag:fruit``; words match
                names.
            archived: Whether to list what is archived too.
            remote: A registry to ask instead, ``host[:port][/namespace]``; empty: the
                configured one. Its models, or the versions of one, are read there and not
                kept: ``sync`` keeps them.
            cancelled: Asked between requests to a remote.

        Raises:
            ModelNotFoundError: No model ``name``.
            InputError: The query cannot be read, the message points at the place; or it is
                for a remote, which is not searched.
            TargetUnreachableError, AuthenticationError: The remote is away, or refuses.
        """
        from nbmodel.display import ModelTable, VersionTable

        if remote is not None:
            if query:
                raise InputError(
                    "a query is answered here, not by a registry",
                    hint="`sync` first, and then list with the query",
                )
            model = None if name is None else _local(name).name
            place = self.exchange.remote(remote)
            return self.exchange.list(model, place, cancelled=cancelled)
        if name is None and not query:
            return ModelTable(self.registry.models(archived=archived))
        return VersionTable(self.registry.versions(name, query, archived=archived), query)

    def show(self, reference: str) -> ModelCard | VersionCard:
        """A model with its versions, aliases and pins, or one version.

        Raises:
            RefError, ModelNotFoundError, VersionNotFoundError: Nothing of that name.
        """
        from nbmodel.display import ModelCard, VersionCard

        ref = _local(reference)
        if ref.is_model:
            model = ModelCard.of(self.registry.model(ref.name)).with_versions(
                self.registry.versions(ref.name, archived=True)
            )
            renumbered = map(str, self.registry.renumbered(ref.name)[:_MAX_RENUMBERED])
            places = [f"on {place}" for place in self.registry.shared_places(ref.name)]
            held = _holding(self.registry.pins(ref.name))
            return model.with_notes((*places, *held, *renumbered))
        version = self.registry.resolve(ref)
        pins = [pin for pin in self.registry.pins(version.model) if pin.number == version.number]
        card = VersionCard.of(version).with_notes(_holding(pins))
        return card.with_claims(self.registry.claims(version.digest))

    def diff(self, old: str, new: str) -> DiffCard:
        """What differs between two versions: files, signature, labels, metadata, metrics."""
        from nbmodel.display import DiffCard

        return DiffCard.of(self.registry.diff(_local(old), _local(new)))

    def lineage(self, reference: str) -> LineageCard:
        """Where a version comes from, what was made from it and where it runs."""
        from nbmodel.display import LineageCard

        return LineageCard.of(self.registry.lineage(_local(reference)))

    def cells(self, reference: str) -> SourceCard:
        """The cells that a version was made by, in order, and what differed from the commit.

        A cell with the line ``# nbmodel: private`` is not kept, and neither are others where
        ``record`` is not ``all``.

        Raises:
            RefError, ModelNotFoundError, VersionNotFoundError: Nothing of that name.
            ManifestError: What is kept cannot be read.
        """
        from nbmodel.display import SourceCard

        return SourceCard.of(self.registry.resolve(_local(reference)))

    def reproduce(
        self,
        reference: str,
        *,
        folder: str | os.PathLike[str] | None = None,
        timeout: float = REPRODUCE_S,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ReproductionCard:
        """Run the cells that made a version in a fresh kernel, and compare what comes of it.

        It runs code that came with the version: ``cells`` shows it. What that logs goes to a
        home that is thrown away; what else it does, it does.

        Args:
            reference: The version.
            folder: Where paths in the cells are looked up; None: the current folder.
            timeout: Seconds for all cells together, > 0.
            cancelled: Asked while they run; Ctrl-C ends them, too.

        Raises:
            RefError, ModelNotFoundError, VersionNotFoundError: Nothing of that name.
            InputError: No cells are kept with it, or there is no such folder.
            PluginError: There is no Jupyter kernel.
            ReproductionError: The kernel does not start or ends, or time is over.
            CancelledError: Of ``concurrent.futures``: nobody wants to go on.
        """
        from nbmodel.display import Progress, ReproductionCard
        from nbmodel.provenance.reproduce import reproduce

        if not timeout > 0:
            raise InputError(f"a timeout of {timeout} s, expected more than 0")
        version = self.registry.resolve(_local(reference))
        with Progress(f"reproduce {version.reference}", unit="cells") as progress:

            def begun(number: int) -> None:
                progress.note(f"cell {number}")
                progress.advance(1)

            found = reproduce(
                version,
                folder=Path.cwd() if folder is None else _file(folder),
                timeout=timeout,
                begun=begun,
                cancelled=cancelled,
                settle=_finish_uploads,
                clear=_end_runtimes,
            )
        return ReproductionCard.of(found)

    def package(self, reference: str) -> PackageCard:
        """The package entry for a machine config: at ``latest``, or held at a version."""
        from nbmodel.display import PackageCard
        from nbmodel.fleet.plan import package_json

        ref = _local(reference)
        version = self.registry.resolve(ref)
        return PackageCard.of(package_json(version.model, _selector(ref, version)))

    # ── name ──────────────────────────────────────────────────────────────────────

    def alias(
        self,
        reference: str,
        alias: str,
        *,
        expect: int | Unset | None = _Unset,
        why: str = "",
    ) -> AliasCard:
        """Put an alias on a version; runtimes that follow it are brought along.

        Args:
            reference: The version, or a model for its latest.
            alias: A name such as ``champion``.
            expect: The version number it must be on now (None: on none) for the move
                to happen; not given: no matter where it is.
            why: Kept in the alias's history.

        Raises:
            RefError: ``alias`` cannot be one.
            AliasConflictError: It is not where ``expect`` says.
        """
        from nbmodel.display import AliasCard
        from nbmodel.registry import UNSET

        ref = _local(reference)
        expected = UNSET if expect is _Unset else expect
        move = self.registry.set_alias(ref, alias, expect=expected, why=why)  # type: ignore[arg-type] # narrowed
        return AliasCard.of(ref.name, move).with_notes(self._bring_followers(ref.name))

    def remove_alias(self, name: str, alias: str, *, why: str = "") -> AliasCard:
        """Take an alias away from its model; its history stays.

        It stays on registries where it is, and no synchronisation brings it back; ``push`` takes
        it away there when it is named, and ``pull`` of it puts it on its version again.
        """
        from nbmodel.display import AliasCard

        ref = _local(name)
        removed = self.registry.remove_alias(ref.name, alias, why=why)
        return AliasCard.of(ref.name, removed).with_notes(
            f"it stays on {remote}: `push {ref.name} {remote} --alias {alias}` takes it away there"
            for remote in self.registry.alias_places(ref.name, alias)
        )

    def alias_history(self, name: str, alias: str | None = None) -> AliasHistory:
        """Every move of a model's aliases, or of one of them, newest first."""
        from nbmodel.display import AliasHistory

        ref = _local(name)
        return AliasHistory(ref.name, self.registry.alias_history(ref.name, alias))

    def pin(self, reference: str, *, on: str | None = None, why: str = "") -> PinCard:
        """Hold a model at a version: on one runtime, or wherever its name is followed.

        Args:
            reference: The version, or a model for the one it resolves to.
            on: A runtime; None pins in the whole registry.
            why: Kept with the pin.

        Raises:
            RuntimeNotFoundError: No runtime ``on``.
        """
        from nbmodel.display import PinCard

        if on is not None:
            self.runtimes.get(on)
        pin = self.registry.pin(_local(reference), runtime=on, why=why)
        return PinCard.of(pin).with_notes(self._bring_followers(pin.model, on))

    def unpin(self, name: str, *, on: str | None = None) -> PinCard:
        """Let go of a pin; runtimes follow again.

        Raises:
            PinConflictError: There is no such pin.
        """
        from nbmodel.display import PinCard

        removed = self.registry.unpin(_local(name).name, runtime=on)
        return PinCard.of(removed, removed=True).with_notes(
            self._bring_followers(removed.model, on)
        )

    def tag(
        self,
        reference: str,
        tags: Mapping[str, str] | None = None,
        *,
        remove: Sequence[str] = (),
    ) -> VersionCard:
        """Set and remove free words on a version.

        Raises:
            PublishedError: The version is read-only.
        """
        from nbmodel.display import VersionCard

        return VersionCard.of(self.registry.tag(_local(reference), tags or {}, remove))

    def describe(self, reference: str, text: str) -> VersionCard | ModelCard:
        """Set the description of a model or version.

        Raises:
            PublishedError: The version is read-only.
        """
        return self._card(self.registry.describe(_local(reference), text))

    def rename(self, old: str, new: str) -> ModelCard:
        """Give a model another name; versions, aliases and pins come along.

        Raises:
            ModelExistsError: The new name is taken.
        """
        from nbmodel.display import ModelCard

        model = self.registry.rename(_local(old).name, check_name(new))
        return ModelCard.of(model).with_notes(self._bring(model=model.name))

    # ── states ────────────────────────────────────────────────────────────────────

    def publish(self, reference: str) -> VersionCard:
        """Make a version read-only, for good."""
        from nbmodel.display import VersionCard

        return VersionCard.of(self.registry.publish(_local(reference)))

    def deprecate(self, reference: str, message: str | None) -> VersionCard | ModelCard:
        """Say why nobody should use a model or version any more; None takes it back."""
        return self._card(self.registry.deprecate(_local(reference), message))

    def archive(self, reference: str) -> VersionCard | ModelCard:
        """Leave a model or version out of lists; ``latest`` moves past it.

        Raises:
            InUseError, PinConflictError: An alias or pin holds it.
        """
        ref = _local(reference)
        card = self._card(self.registry.archive(ref))
        return card.with_notes(self._bring_followers(ref.name))

    def restore(self, reference: str) -> VersionCard | ModelCard:
        """Take a model or version out of the archive."""
        ref = _local(reference)
        card = self._card(self.registry.restore(ref))
        return card.with_notes(self._bring_followers(ref.name))

    def delete(self, reference: str, *, force: bool = False) -> DeletedCard:
        """Delete a model with all versions, or one version; ``gc`` frees its bytes.

        What a registry has stays there, and ``sync`` does not bring it back: ``pull`` does.

        Raises:
            InUseError: An alias, pin, deployment or child uses it, or it is published,
                and ``force`` is not given.
        """
        from nbmodel.display import DeletedCard

        ref = _local(reference)
        running = self.registry.deployments(model=ref.name)
        deleted = DeletedCard.of(self.registry.delete(ref, force=force))
        there = [f"sync leaves it there: `pull {one}` brings it back" for one in deleted.returns]
        running_on = (
            f"{one.service}@{one.runtime} runs on with what it has: "
            f"`undeploy {one.service}@{one.runtime}` stops it"
            for one in running
        )
        return deleted.with_notes((*there, *running_on))

    # ── keep ──────────────────────────────────────────────────────────────────────

    def verify(self, reference: str | None = None, *, rebuild: bool = False) -> VerifyCard:
        """Read every byte of a version, a model or the registry, and check its digest.

        Args:
            reference: What; None for the whole registry.
            rebuild: Make a lost or damaged index anew before that.
        """
        from nbmodel.display import Progress, VerifyCard

        ref = None if reference is None else _local(reference)
        with Progress("verify") as progress:
            report = self.registry.verify(ref, rebuild=rebuild, progress=progress.advance)
            return VerifyCard.of(report)

    def verify_signature(
        self,
        reference: str,
        *,
        public_keys: Sequence[str | os.PathLike[str]] = (),
        roots: Sequence[str | os.PathLike[str]] = (),
        signers: Sequence[str] = (),
        ignore_expiry: bool = False,
        signature: str | os.PathLike[str] | None = None,
    ) -> SignatureCard | VerifyCard:
        """Read every byte of a version, and check who signed it.

        Args:
            reference: The version.
            public_keys: Files with the keys that count.
            roots: Files with the authorities whose certificates count, and others on the way.
            signers: Patterns of names, one of which a certificate must have; none: any name.
            ignore_expiry: Whether certificates count that were valid once.
            signature: A file with the signature; None: those kept with the version.

        Returns:
            Who signed it; what is damaged where its bytes are not what they should be.

        Raises:
            InputError: A file cannot be used, or nobody is named who would count.
            TrustError: It is not signed, or by nobody who counts, or something else is.
            PluginError: The signing extra is not installed.
        """
        from nbmodel.display import Progress, SignatureCard, VerifyCard
        from nbmodel.registry.key_files import open_bundle, open_trusted

        _require_signing()
        trusted = open_trusted(
            map(_file, public_keys),
            map(_file, roots),
            signers=signers,
            ignores_expiry=ignore_expiry,
        )
        bundles = None if signature is None else [open_bundle(_file(signature))]
        version = self.registry.resolve(_local(reference))
        with Progress(f"verify {version.reference}") as progress:
            report = self.registry.verify(version.reference, progress=progress.advance)
        if not report.is_clean:
            return VerifyCard.of(report)
        signed = self.registry.check_signatures(version, trusted, bundles)
        return SignatureCard.of(version, signed, report.bytes)

    def sign(
        self,
        reference: str,
        *,
        key: str | os.PathLike[str] | None = None,
        password: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        chain: Sequence[str | os.PathLike[str]] = (),
        bundle: str | os.PathLike[str] | None = None,
        output: str | os.PathLike[str] | None = None,
    ) -> SignatureCard:
        """Sign a version in the OpenSSF Model Signing format, and keep the signature with it.

        Files that are on a registry alone are fetched and checked before: nobody signs what was
        never read.

        Args:
            reference: The version.
            key: PEM file with a private key on P-256, P-384 or P-521.
            password: What the key is encrypted with.
            certificate: PEM file with the certificate of that key, which is signed with then.
            chain: PEM files with the certificates of authorities that whoever checks it may
                lack.
            bundle: In place of a key: a file with a signature that was made elsewhere, by
                ``model_signing sign`` say, of this version's files.
            output: A file that the signature is written to besides.

        Returns:
            The signature; and what became of services that follow the model.

        Raises:
            InputError: A file cannot be used.
            TrustError: The signature given is of other files.
            StorageUnavailableError: The signature is kept, but ``output`` cannot be written.
            PluginError: The signing extra is not installed.
        """
        from nbmodel.display import SignatureCard
        from nbmodel.registry.key_files import open_bundle, open_certificates, open_key
        from nbmodel.signing.check import claimed
        from nbmodel.signing.statement import Statement
        from nbmodel.storage.atomic import write_atomically
        from nbmodel.storage.base import translated

        _require_signing()
        if (key is None) == (bundle is None):
            raise InputError(
                "sign takes a key, or a signature that was made elsewhere",
                hint=f"nbmodel sign {reference} --key KEY.pem; --make-key KEY.pem makes one",
            )
        if chain and certificate is None:
            raise InputError("a chain goes with the certificate of the key: --certificate CERT.pem")
        ref = _local(reference)
        if bundle is not None:
            version, made = self.registry.attach(ref, open_bundle(_file(bundle)))
        else:
            assert key is not None
            self._fetch(self.registry.resolve(ref))
            own = () if certificate is None else (certificate,)
            certificates = open_certificates(map(_file, (*own, *chain)))
            version, made = self.registry.sign(ref, open_key(_file(key), password), certificates)
        if output is not None:
            target = _file(output)
            with translated(f"write {target}; {version.reference} is signed nevertheless"):
                write_atomically(target, made.to_bytes())
        statement = Statement.from_json(made.statement)
        card = SignatureCard(
            version.reference,
            version.digest,
            (claimed(made),),
            is_checked=False,
            files=len(statement.files),
            covers_version=statement.manifest is not None,
            output=None if output is None else _file(output),
        )
        # A runtime that demands it may have refused the version until now.
        return card.with_notes(self._bring(model=version.model))

    def make_key(self, file: str | os.PathLike[str], *, password: str | None = None) -> KeyCard:
        """Make a pair of keys to sign with; the private one in a file only its owner may read.

        Args:
            file: Where the private key goes; the public one goes beside it, ``….pub.pem``.
            password: What the private key is encrypted with; None: it is not.

        Raises:
            InputError: There is such a file already.
            PluginError: The signing extra is not installed.
        """
        from nbmodel.display import KeyCard
        from nbmodel.registry.key_files import make_key_files

        _require_signing()
        return KeyCard(make_key_files(_file(file), password))

    def gc(
        self, remote: str | None = None, *, grace_s: float = 3600.0, dry_run: bool = False
    ) -> GcCard:
        """Free what no version needs and nobody wrote for ``grace_s`` seconds.

        Args:
            remote: An object store, where that is what no tag leads to; None: the registry here.
            grace_s: Seconds; ≥ 0.
            dry_run: Only count.

        Raises:
            InUseError: Somebody pushes to the object store.
            UnsupportedError: ``remote`` is a registry, which has a tool of its own for that.
        """
        from nbmodel.display import GcCard
        from nbmodel.importing.parts import collect

        if remote is not None:
            there = self.exchange.remote(remote)
            return self.exchange.gc(there, grace_s=grace_s, dry_run=dry_run)
        # First, for on a full disk the index needs the room.
        parts = self.home / "imports" / "parts"
        count, size = collect(parts, grace_s=max(0.0, grace_s), dry_run=dry_run)
        report = self.registry.gc(grace_s=grace_s, dry_run=dry_run)
        report = replace(report, uploads=report.uploads + count, freed=report.freed + size)
        return GcCard.of(report)

    # ── exchange ──────────────────────────────────────────────────────────────────

    @overload
    def push(
        self,
        reference: str | None = None,
        remote: str | None = None,
        *,
        everything: bool = False,
        aliases: Sequence[str] = (),
        force: bool = False,
        cancelled: Callable[[], bool] = ...,
        background: Literal[False] = False,
    ) -> PushCard: ...

    @overload
    def push(
        self,
        reference: str | None = None,
        remote: str | None = None,
        *,
        everything: bool = False,
        aliases: Sequence[str] = (),
        force: bool = False,
        background: Literal[True],
    ) -> Transfer: ...

    def push(
        self,
        reference: str | None = None,
        remote: str | None = None,
        *,
        everything: bool = False,
        aliases: Sequence[str] = (),
        force: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
        background: bool = False,
    ) -> PushCard | Transfer:
        """Push a version, or all versions of a model, to a registry.

        What is there already is not sent again, and what was deleted there since it was seen
        there is left out unless the version is named. Each version claims its number there; one
        that another version has already is changed here, visibly. Signatures travel with
        their versions, aliases as tags. A model that is on the registry already goes where it
        is there, whatever it is called here.

        Args:
            reference: A version; a bare name is the model with all its versions.
            remote: ``host[:port][/namespace]`` of the registry, or an object store's address;
                None: the setting ``remote``, else the default: see ``remotes``.
            everything: Push all models, in the place of a reference.
            aliases: The aliases to push; none: all that are on the versions. One that was
                removed here is taken away there when it is named, and stays there else.
            force: Move aliases there also when somebody else moved them; push what was deleted
                there, and to a repository that has only versions of somebody else.
            cancelled: Asked while bytes move; a push that was cut is made again and goes on.
            background: Whether to go on at once, with a handle in place of what was done.

        Raises:
            InputError: Nothing, or two things, to push; or no registry is known.
            ModelExistsError: Its repository is another model here, or has versions and none
                in common.
            AliasConflictError: Somebody moved aliases there since they were last seen; all
                versions and other aliases were pushed.
            TargetUnreachableError, AuthenticationError: The registry is away, or refuses.
            CancelledError: Of ``concurrent.futures``: nobody wants to go on.
        """
        if (reference is None) != everything:
            raise InputError(
                "push takes a version, a model, or everything",
                hint="`push digits:3`, `push digits`, or `push --all`",
            )
        ref = None if reference is None else _local(reference)
        place = self.exchange.remote(remote)
        if background:
            self.registry.push_size(ref, aliases=aliases or None)  # what is not there is told
            return self.background.begin(
                "push",
                {
                    "reference": reference,
                    "remote": str(place),
                    "everything": everything,
                    "aliases": list(aliases),
                    "force": force,
                },
            )
        return self.exchange.push(ref, place, aliases=aliases, force=force, cancelled=cancelled)

    def pull(
        self,
        reference: str,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> PullCard:
        """Bring a version from a registry; or copy a version's files into a folder.

        A reference with a registry, ``host/team/digits:3``, comes into the local registry
        with its files, and into the folder when one is given. A local one is copied into the
        folder, here when none is given; what is not known here is looked for in the registry
        that is meant by default.

        Where a model came from is kept: the same repository is the same model here, whatever
        it is called and whichever way it is named. The first time it gets the last word of its
        address (past the namespace of a registry that is known) as its name. A model here of
        that name is the same one if it has a version in common, or if ``sync`` of it said so;
        else nothing is brought without another ``name``. What was deleted or removed here, a
        version or an alias, comes back when it is pulled.

        Args:
            reference: The version, or a model for its latest.
            folder: Where its files go.
            name: What the model is to be called here, where it is not known yet.
            cancelled: Asked while bytes move; what came is kept for the next time.

        Raises:
            InputError: A file of the same name and other contents is there.
            ModelExistsError: The name is another model's, or the model has another one.
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            TargetUnreachableError, AuthenticationError: The registry is away, or refuses.
            CancelledError: Of ``concurrent.futures``: nobody wants to go on.
        """
        if name is not None:
            check_name(name)
        return self.exchange.pull(reference, folder, name=name, cancelled=cancelled)

    def sync(
        self,
        model: str | None = None,
        remote: str | None = None,
        *,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> SyncCard:
        """Know what a registry has, without the files: they are fetched when they are needed.

        Lists, searches and lineage tell of all versions then. Numbers are those that the
        registry's claims settle; aliases that moved there move here, and signatures that were
        made since come along, of the newest versions (200 of one model, 8 of each of all) and
        of those with an alias. A version that was deleted here stays deleted until it is pulled,
        a model that was deleted whole also until it is synchronised by its name, and an alias that was removed here
        stays removed until it is pulled; the card tells of both. Which model here a repository
        is, ``pull`` says.

        Args:
            model: One model; None: all that are there and were pushed with nbmodel.
            remote: As for ``push``.
            cancelled: Asked between requests.

        Raises:
            ModelNotFoundError: The registry has no such model.
            ModelExistsError: It is another model than the one of that name here.
            InputError: No registry is known.
            TargetUnreachableError, AuthenticationError: The registry is away, or refuses.
            CancelledError: Of ``concurrent.futures``: nobody wants to go on.
        """
        name = None if model is None else _local(model).name
        return self.exchange.sync(name, self.exchange.remote(remote), cancelled=cancelled)

    def remotes(self) -> RemoteTable:
        """The registries that were pushed to or pulled from, and which one is the default.

        Where a verb is given none, it means the setting ``remote`` (NBMODEL_REMOTE), else the
        default: the one that was chosen, else the first one that was used.
        """
        return self.exchange.remotes()

    def set_default_remote(self, remote: str) -> RemoteTable:
        """Choose the registry that is meant where none is named; its numbers count.

        Args:
            remote: As for ``push``; it need not have been used before.

        Raises:
            InputError: It is none.
        """
        from nbmodel.core.remote import Remote

        return self.exchange.choose(Remote.parse(remote))

    def forget_remote(self, remote: str, *, force: bool = False) -> RemoteTable:
        """Forget a registry and what was seen there; nothing changes there.

        Args:
            remote: As ``remotes`` shows it.
            force: Also when it alone has the files of versions, which cannot be had then.

        Raises:
            InputError: It is not known.
            InUseError: It alone has the files of versions, and there is no ``force``.
        """
        from nbmodel.core.remote import Remote

        return self.exchange.forget(Remote.parse(remote), force=force)

    # ── offer ─────────────────────────────────────────────────────────────────────

    def serve_registry(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        read_only: bool = True,
        require_token: bool | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
    ) -> ServingCard:
        """Offer the registry to OCI clients, from a thread of this process.

        A model is a repository there; numbers, timestamp ids, aliases and ``latest`` are its
        tags. What is pushed becomes a version.

        Args:
            host: Name or address of this machine to listen on; ``0.0.0.0`` for all its
                networks.
            port: 0 for any free one.
            read_only: Whether nothing can be pushed or deleted.
            require_token: None: off loopback; True: everywhere; False: nowhere, which off
                loopback only what is read-only may be.
            token_file: Keeps the token, made when it is missing; in the home folder when not
                given.
            tls_cert: PEM file of a certificate, to speak TLS.
            tls_key: PEM file of its key.

        Returns:
            The address; its ``close`` ends it, as ``stop_serving`` and the end of the
            process do.

        Raises:
            InputError: It cannot listen there, or would be open to a network.
            PluginError: The runtime extra is not installed.
            ConfigError: The token is not private, or the certificate cannot be used.
        """
        from nbmodel.serving.server import Offer

        def path(given: str | os.PathLike[str] | None) -> Path | None:
            return None if given is None else Path(given).expanduser().absolute()

        return self.offer_registry(
            Offer(
                host=host,
                port=port,
                read_only=read_only,
                require_token=require_token,
                token_file=path(token_file),
                tls_cert=path(tls_cert),
                tls_key=path(tls_key),
            )
        )

    def offer_registry(self, offer: Offer) -> ServingCard:
        """As ``serve_registry``, with everything that an offer can say."""
        from nbmodel.display import ServingCard

        server = self.registry_server(offer)
        server.start()
        self._served.append(server)
        models = self.registry.models()
        return ServingCard(
            root=str(self._root),
            url=server.url,
            url_for_others=server.url_for_others,
            read_only=server.read_only,
            example=models[0].name if models else None,
            new_token=server.new_token,
            token_file=None if server.token_file is None else str(server.token_file),
            end=server.close,
            alive=lambda: server.is_running,
        )

    def registry_server(self, offer: Offer) -> RegistryServer:
        """The server of an offer, which listens and does not answer yet."""
        from nbmodel.serving.server import RegistryServer

        return RegistryServer(self._root, self.home, offer)

    def stop_serving(self) -> None:
        """End every server of the registry that runs in this process."""
        while self.__dict__.get("_served"):
            self._served.pop().close()

    def export(
        self,
        reference: str,
        target: str | os.PathLike[str],
        *,
        to: str,
        options: Mapping[str, str] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ExportCard:
        """Write a version as another system keeps its models.

        Args:
            reference: The version, or a model for its latest.
            target: A folder, file or address, as the exporter says.
            to: ``viam``, ``viam-upload``, ``triton``, ``kserve`` or ``mlflow``.
            options: Words by name that the exporter knows.
            cancelled: Asked while it goes.

        Raises:
            PluginError: No exporter ``to``.
            InputError: It cannot be said there, or something is in the way; nothing changed.
            TargetUnreachableError, AuthenticationError: Who takes it is away, or refuses.
        """
        from nbmodel.display import ExportCard, Progress
        from nbmodel.exporting import Export, check_options, exporter_named

        version = self.registry.resolve(_local(reference))
        exporter = exporter_named(to)
        check_options(exporter, options or {})
        self._fetch(version, cancelled)
        with Progress(f"export {version.reference}", total=version.size) as progress:
            job = Export(
                self.registry,
                version,
                os.fspath(target),
                options or {},
                progress.advance,
                cancelled,
            )
            done = exporter.export(job)
        return ExportCard(version.reference, to, done.place, done.paths).with_notes(done.notes)

    # ── run ───────────────────────────────────────────────────────────────────────

    def deploy(
        self,
        reference: str,
        *,
        on: str | None = None,
        service: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        confirm_s: float | None = None,
        max_failure_rate: float | None = None,
        max_latency_ms: float | None = None,
        min_requests: int | None = None,
        probe_timeout_s: float | None = None,
        windows: Sequence[str] | None = None,
        registry: str | None = None,
        reset: Sequence[str] = (),
        dry_run: bool = False,
    ) -> DeployCard:
        """Run a model as a service of a runtime, and keep it at what the reference names.

        ``digits`` follows the newest version, ``digits:champion`` an alias,
        ``digits:3`` stays. Returns when the version is live and has answered its golden
        sample there, or waits for its maintenance window. It is provisional then: what ran
        before comes back if it fails before it is committed.

        Args:
            reference: What to run.
            on: The runtime; the only one known when not given.
            service: Name of the service; the model's name when not given.
            backend: What runs it; the first that can when not given.
            threads: CPU threads of one inference, ≥ 1.
            attributes: Further ones of the backend; those not given stay as they are.
            confirm_s: Seconds of health after which a new version is committed. What is not
                given, of this and the next five, stays as it is, by default at 10.
            max_failure_rate: Share of requests, 0..1, that may fail before that; else it is
                rolled back.
            max_latency_ms: Milliseconds that an answer may take on average before that.
            min_requests: Requests that there must be before those two count, ≥ 1; 20 by
                default.
            probe_timeout_s: Seconds that trying a version out may take.
            windows: When a version may be taken up, in the runtime's local time:
                ``Mon-Fri 02:00-04:00``; empty: always.
            registry: Address of a registry to push to, and for the runtime to fetch from, now
                and for later versions; ``off`` for pushing to the runtime.
            reset: Of those options, what goes back to what is usual on the runtime; or
                ``all``.
            dry_run: Say what would change and change nothing.

        Raises:
            RuntimeNotFoundError, TargetUnreachableError, AuthenticationError: The
                runtime is unknown, away, or wants another token.
            NoCompatibleBackendError: Nothing can run the version.
            ConfigError: The runtime cannot follow an option; nothing was changed.
            DeployError: The runtime refused it, with its reason; what ran before runs on. Or
                a pin holds the model at another version than the one asked for.
            StorageError: The registry does not take it.
        """
        from nbmodel.display import DeployCard, Progress
        from nbmodel.fleet import deploy, plan

        ref = _local(reference)
        version = self.registry.resolve(ref)
        remote = self.runtimes.get(on)
        if not (ref.is_model or ref.alias == "latest"):
            deploy.check_hold(self.registry, version, remote.name)
        follows = _selector(ref, version)
        version = self.registry.wanted(version.model, remote.name, follows)  # a pin may hold it
        name = service or plan.local_name(version.model)
        policy = {
            "confirm_s": confirm_s,
            "max_failure_rate": max_failure_rate,
            "max_latency_ms": max_latency_ms,
            "min_requests": min_requests,
            "probe_timeout_s": probe_timeout_s,
            "windows": None if windows is None else list(windows),
        }
        placement = plan.place_version(
            version,
            service=name,
            backend=deploy.choose_backend(version, backend, remote),
            follows=follows,
            threads=threads,
            attributes=attributes or {},
            deployment={key: value for key, value in policy.items() if value is not None},
            registry=deploy.registry_url(registry),
            reset=reset,
        )
        began = time.perf_counter()
        if dry_run:
            rehearsal = deploy.rehearse(
                remote, version, name, lambda config: plan.with_placement(config, placement)
            )
            placement = replace(
                placement, deployment=rehearsal.policy, attributes=rehearsal.attributes
            )
            return DeployCard(remote.name, remote.url, version, placement, steps=rehearsal.steps)
        deployment = Deployment(
            runtime=remote.name,
            service=name,
            model=version.model,
            selector=placement.version,
            package=placement.package,
            at=now(),
        )
        is_wished = threading.Event()
        try:
            with Progress(f"deploy {version.reference}", total=version.size) as progress:
                delivery = deploy.bring(
                    self.registry,
                    remote,
                    deployment,
                    change=lambda config: plan.with_placement(config, placement),
                    progress=progress.advance,
                    note=progress.note,
                    wished=is_wished.set,
                )
        except deploy.RefusedError:
            raise
        except BaseException:
            if is_wished.is_set():  # nobody waited for it; the runtime goes on by itself
                self.registry.record_deployment(deployment)
            raise
        self.registry.record_deployment(replace(deployment, registry=delivery.registry))
        card = DeployCard(
            remote.name,
            remote.url,
            delivery.version,
            replace(placement, deployment=delivery.policy, attributes=delivery.attributes),
            sent=delivery.pushed.sent,
            present=delivery.pushed.present,
            saved=delivery.pushed.saved,
            seconds=time.perf_counter() - began,
            registry=delivery.registry,
            status=delivery.live.status,
            held=delivery.live.held,
        )
        pin = deploy.hold_on(self.registry, version.model, remote.name)
        return card.with_notes(_holding([] if pin is None else [pin]))

    def redeploy(self, on: str | None = None) -> StatusCard:
        """Bring every service that was deployed to a runtime from here to what it should run.

        A Triton server that was started again gets all back so, as it was. What each service
        follows, its attributes and pins stay as they are.

        Args:
            on: The runtime; the only one known when not given.

        Returns:
            The runtime's status, with a line for each service; its ``exit_code`` is not 0 when
            one could not be brought there.

        Raises:
            RuntimeNotFoundError, TargetUnreachableError: The runtime is unknown or away.
            DeployError: Nothing was deployed there from here.
        """
        from nbmodel.display import StatusCard
        from nbmodel.fleet.deploy import bring_all, follows

        remote = self.runtimes.get(on)
        remote.status()  # one that is away is told once
        deployments = self.registry.deployments(runtime=remote.name)
        if not deployments:
            raise DeployError(
                f"nothing was deployed to {remote.name} from here",
                hint=f"say which model: `deploy REF --on {remote.name}`",
            )
        brought = bring_all(self.registry, {remote.name: remote}, deployments, retry=True)
        card = StatusCard(follows(self.registry, remote, remote.status())).named(remote.name)
        if any(one.error is not None for one in brought):
            card = card.ending(1)
        return card.with_notes([*map(str, brought), *self._held_there(remote)])

    def undeploy(self, target: str) -> StatusCard:
        """Stop a service and take it out of its runtime's config.

        Args:
            target: ``service@runtime``, or a service of the only runtime known.

        Raises:
            DeployError: There is no such service.
        """
        from nbmodel.display import StatusCard
        from nbmodel.fleet.deploy import take_away

        service, remote = self._service(target)
        take_away(self.registry, remote, service)
        self.registry.remove_deployment(remote.name, service)
        return StatusCard(remote.status()).named(remote.name)

    def rollback(self, target: str) -> StatusCard:
        """Bring back the version that a service ran before, and hold it there.

        The runtime stays on it until ``unpin MODEL --on RUNTIME``.

        Raises:
            DeployError: There is nothing to go back to.
        """
        from nbmodel.display import StatusCard
        from nbmodel.fleet import deploy

        service, remote = self._service(target)
        moved = deploy.roll_back(self.registry, remote, service)
        notes = [f"{service}: back from {moved.get('from') or 'nothing'} to {moved.get('to')}"]
        for deployment in self.registry.deployments(runtime=remote.name):
            if deployment.service == service:
                live = deploy.service_status(remote.status(), service)["digest"]
                version = self.registry.resolve(Reference(deployment.model, digest=live))
                why = f"rolled back {service}"
                self.registry.pin(version.reference, runtime=remote.name, why=why)
                notes.append(
                    f"{service} stays at {version.reference} until "
                    f"`unpin {version.model} --on {remote.name}`"
                )
        return StatusCard(remote.status()).named(remote.name).with_notes(notes)

    def status(
        self,
        runtime: str | None = None,
        *,
        follow: bool = False,
        wait: bool = False,
        timeout_s: float | None = None,
        view: View | None = None,
    ) -> StatusCard | RuntimeTable:
        """What runs on a runtime, or all runtimes known with what they say.

        Followed, it is shown while it changes: how far new versions are, what is
        provisional and for how long, what failed and why.

        Args:
            runtime: Its name; None: all, or to follow it, the only one known.
            follow: Show it until interrupted.
            wait: Show it until nothing goes on any more, or until interrupted. What waits for
                its maintenance window, or for a registry that does not answer, is not waited
                for. The card's ``exit_code`` is not 0 when a service does not run what it
                should.
            timeout_s: Seconds after which a wait ends in any case; None: never.
            view: Where that is seen; None: the notebook or the terminal.

        Raises:
            RuntimeNotFoundError, TargetUnreachableError: ``runtime`` is unknown or away.
        """
        from nbmodel.display import StatusCard
        from nbmodel.fleet.behind import behind
        from nbmodel.fleet.deploy import follows

        if runtime is None and not (follow or wait):
            return self.runtimes.list()
        remote = self.runtimes.get(runtime)

        def look() -> dict[str, Any]:
            status = follows(self.registry, remote, remote.status())
            return status | {"url": remote.url, "grpc": grpc}

        grpc = remote.version().get("grpc")
        if not (follow or wait):
            card = StatusCard(look()).named(remote.name)
        else:
            from nbmodel.display.live import view_here
            from nbmodel.fleet.follow import Follower

            follower = Follower(remote, view_here() if view is None else view, look)
            card = follower.status(until_settled=wait, timeout_s=timeout_s if wait else None)
        late = list(behind(self.registry, remote, card))
        if wait and card.exit_code == 0 and any(not one.is_held for one in late):
            card = card.ending(1)
        return card.with_notes([*self._held_there(remote), *(one.line for one in late)])

    def infer(
        self,
        target: str,
        *inputs: object,
        threshold: float | None = None,
        image: tuple[int, int] | None = None,
    ) -> InferenceResult:
        """Run inputs through a model and see the answer.

        Args:
            target: ``service@runtime``, or a reference to run it right here.
            inputs: An array, list, mapping, data frame, picture or file; several
                pictures are a batch, several arrays the model's inputs in order.
            threshold: Smallest score of a box that is drawn, 0..1.
            image: Height and width, to draw rows of numbers as pictures.

        Raises:
            TargetError: The target names nothing to run.
            SignatureError: The inputs are not what the model takes; names tensor,
                expected and found.
            InferenceError: The engine refused.
        """
        from nbmodel.asking import ask_here, ask_there

        if "://" in target:
            raise TargetError(
                f"infer runs SERVICE@RUNTIME or a reference, found the address {target!r}",
                hint="`nbmodel runtime add NAME URL` makes a runtime known; `bench` and "
                "nbmodel.InferenceClient take the address of any server",
            )
        if _is_remote(target):
            service, remote = self._service(target)
            return ask_there(remote, service, inputs, threshold=threshold, image=image)
        version = self._runnable(target)
        run = self.models.of(version)
        return ask_here(version, run, inputs, threshold=threshold, image=image)

    def dummy_inputs(
        self,
        target: str,
        *,
        seed: int = 0,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Make up inputs from what a model takes, for ``infer``, to try it out.

        They fit the signature, and what it says its tensors hold: pixels for pictures
        (normalised where the model wants that), one of the known categories, words of text;
        else numbers in 0..1. The same seed gives the same inputs.

        Args:
            target: ``service@runtime``, or a reference.
            seed: Another one makes other inputs, ≥ 0.
            shapes: Whole shapes by input name; a variable dimension is 1 else.

        Raises:
            TargetError: The target names nothing that could be run.
            InputError: An input's datatype or rank leaves open what it could be.
            TensorNameError, ShapeError: A shape given is of no input, or none that it takes.
        """
        from nbmodel.sample import sample_inputs

        if _is_remote(target):
            service, remote = self._service(target)
            signature = remote.served(service).signature
        else:
            signature = self._version(target).signature
        return sample_inputs(signature, seed=seed, shapes=shapes)

    def bench(
        self,
        target: str,
        *inputs: object,
        seconds: float = SECONDS,
        count: int | None = None,
        concurrency: Sequence[int] = CONCURRENCIES,
        token: str | None = None,
    ) -> BenchCard:
        """Measure latency and throughput of a model at several numbers of requests at once.

        Each request is followed by the next as soon as its answer is there. This process
        sends them, so it takes a share of the machine when it measures a runtime on the same.
        Ctrl-C ends it at once; the levels that were measured are shown.

        Args:
            target: ``service@runtime``, a reference to run it right here, or the address
                of a model of any server of the inference protocol:
                ``http://host:8000/model``.
            inputs: As for ``infer``; none: made up from the signature.
            seconds: How long each level takes, > 0.
            count: Requests of a level, ≥ 1, instead of its seconds.
            concurrency: How many requests at once, each ≥ 1.
            token: What a server at an address wants to be shown.

        Raises:
            TargetError: The target names nothing to run.
            InputError: An option is out of range, or no input can be made up.
            SignatureError: The inputs are not what the model takes.
            InferenceError: The model refuses the first request.
        """
        from nbmodel.benchmark import measure
        from nbmodel.display import BenchCard

        with self._subject(target, token) as subject:
            found = measure(subject, inputs, seconds=seconds, count=count, concurrency=concurrency)
        return BenchCard.of(found)

    def do(self, target: str, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send a free-form command to a service (Viam's DoCommand) and give its answer."""
        service, remote = self._service(target)
        return dict(remote.do(service, command))

    # ── in the background ─────────────────────────────────────────────────────────

    def transfers(self) -> TransferTable:
        """What is pushed and uploaded in the background, by any process of this home.

        ``client.background`` goes on with what was interrupted, and ends what is not wanted.
        """
        from nbmodel.display import TransferTable

        queue = self.background.queue
        jobs = queue.jobs()
        held = [job.id for job in jobs if job.is_open and queue.is_held(job.id)]
        return TransferTable(jobs, held)

    # ── inside ────────────────────────────────────────────────────────────────────

    def _fetch(self, version: Version, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Bring the files of a version that are on a remote alone."""
        if version.files_on is not None:  # else nothing of what remotes need is imported
            self.exchange.fetch(version, cancelled)

    def _do(self, job: Job, *, cancelled: Callable[[], bool]) -> Did:
        """Do a job of the background, in whatever thread that is."""
        from nbmodel.background import Did
        from nbmodel.display.quantity import file_size

        client = Client(self.home, job.registry)
        try:
            given = dict(job.given)
            if LINEAGE in given:  # the cell that runs now is another one
                given[LINEAGE] = Lineage.from_json(given[LINEAGE])
            if job.verb == "push":
                card = client.push(**given, cancelled=cancelled)
                there = f"{file_size(card.sent)} sent, {file_size(card.present)} there already"
                return Did(card, there)
            version = client.upload(*given.pop("paths"), **given)
            return Did(version, f"{version.reference}, {file_size(version.size)}")
        finally:
            client.close()

    def _add(
        self,
        name: str,
        source: Source,
        progress: Callable[[int], None],
        *,
        model_type: str | None,
        metrics: Mapping[str, float],
        metadata: Mapping[str, Any],
        tags: Mapping[str, str],
        description: str,
        lineage: Lineage,
    ) -> Version:
        return self.registry.add(
            name,
            source.files,
            framework=source.framework,
            model_type=self._model_type(name, model_type, source),
            signature=source.signature,
            metadata={**source.metadata, **metadata},
            metrics=metrics,
            lineage=lineage,
            golden=source.golden,
            conversion=source.conversion,
            description=description or source.description,
            tags=tags,
            media_types=source.media_types,
            progress=progress,
        )

    def _made(self, version: Version) -> VersionCard:
        from nbmodel.display import VersionCard

        return VersionCard.of(version).with_notes(self._bring_followers(version.model))

    def _card(self, value: Version | Model) -> VersionCard | ModelCard:
        from nbmodel.display import ModelCard, VersionCard

        return VersionCard.of(value) if isinstance(value, Version) else ModelCard.of(value)

    def _bring(self, *, model: str | None = None, runtime: str | None = None) -> tuple[str, ...]:
        """Bring what runs a model, or on a runtime, up to date; a line for each service."""
        return self._bring_all(self.registry.deployments(model=model, runtime=runtime))

    def _bring_followers(self, model: str, runtime: str | None = None) -> tuple[str, ...]:
        """Bring what follows a model's name or aliases up to date, or what is on a runtime."""
        deployments = self.registry.deployments(model=model, runtime=runtime)
        return self._bring_all(
            [one for one in deployments if runtime is not None or not one.is_fixed]
        )

    def _follow(self, model: str, *, fixed: bool) -> tuple[str, ...]:
        """Bring what follows a model along, or (fixed) all that runs it."""
        return self._bring(model=model) if fixed else self._bring_followers(model)

    def _bring_all(self, deployments: Sequence[Deployment]) -> tuple[str, ...]:
        if not deployments:
            return ()
        from nbmodel.fleet.deploy import bring_all

        brought = bring_all(self.registry, self.runtimes.reachable(), deployments)
        return tuple(map(str, brought))

    def _held_there(self, remote: Runtime) -> tuple[str, ...]:
        """A line for each model of a runtime that a pin holds."""
        from nbmodel.fleet.deploy import hold_on

        models = {one.model for one in self.registry.deployments(runtime=remote.name)}
        pins = (hold_on(self.registry, model, remote.name) for model in sorted(models))
        return _holding(pin for pin in pins if pin is not None)

    def _model_type(self, name: str, given: str | None, source: Source) -> str:
        """The model type: given, read, told by the tensors, or as the last version's."""
        if given is not None:
            return check_model_type(given)
        known = source.model_type or model_type_of(source.signature)
        if known is not None:
            return known
        try:
            return self.registry.resolve(Reference(name)).model_type
        except RegistryError:
            raise InputError(
                f"cannot tell what model {name!r} is for",
                hint=f"add --type and one of {', '.join(MODEL_TYPES)}",
            ) from None

    def _look(
        self, name: str, seed: int | None = None, data: Mapping[str, object] | None = None
    ) -> Look:
        """Begin to look where the code runs that makes a version."""
        from nbmodel.provenance import Look

        return Look(name, record=self.record, seed=seed, data=data)

    def _digests(self, references: Sequence[str]) -> tuple[str, ...]:
        """Digests of the manifests of versions."""
        return tuple(self.registry.resolve(_local(ref)).digest for ref in references)

    def _service(self, target: str) -> tuple[str, Runtime]:
        service, at, runtime = target.rpartition("@")
        if not at:
            service, runtime = target, ""
        if not service:
            raise TargetError(f"no service in target {target!r}", hint="service@runtime")
        return service, self.runtimes.get(runtime or None)

    @contextmanager
    def _subject(self, target: str, token: str | None) -> Iterator[Subject]:
        """What ``bench`` measures."""
        from nbmodel.benchmark import LocalSubject, ServedSubject
        from nbmodel.fleet.triton_runtime import TritonRuntime

        if "://" in target:
            from nbmodel.inference.client import InferenceClient
            from nbmodel.inference.server import ModelAddress

            address = ModelAddress.parse(target)
            with InferenceClient(address.url, token=token) as server:
                yield ServedSubject(target, server.inferrer, address.model, address.version)
        elif _is_remote(target):
            service, remote = self._service(target)
            label = f"{service}@{remote.name}"
            if isinstance(remote, TritonRuntime):
                yield LocalSubject(label, remote.metadata(service), partial(remote.infer, service))
            else:
                yield ServedSubject(label, remote.inferrer, service)
        else:
            version = self._runnable(target)
            run = self.models.of(version)
            yield LocalSubject(str(version.reference), version.signature, run)

    def _runnable(self, target: str) -> Version:
        version = self._version(target)
        self._fetch(version)
        return version

    def _version(self, target: str) -> Version:
        try:
            return self.registry.resolve(_local(target))
        except ModelNotFoundError as exc:
            raise TargetError(
                f"{exc}: nothing to run",
                hint=exc.hint or "a target is service@runtime, or a model reference",
            ) from exc


def _finish_uploads(home: Path) -> None:
    """Make the versions that a process which is gone had begun in the background."""
    client = Client(home, home / "registry")
    try:
        for job in client.background.queue.jobs():
            if job.is_open and job.verb == "upload":
                with suppress(NbModelError):
                    client.background.finish(job.id)
    finally:
        client.close()


def _end_runtimes(home: Path) -> None:
    """End the runtimes of a home that is thrown away."""
    client = Client(home, home / "registry")
    try:
        for runtime in client.runtimes.list():
            with suppress(NbModelError):
                client.runtimes.remove(str(runtime["name"]))
    finally:
        client.close()


def _holding(pins: Iterable[Pin]) -> tuple[str, ...]:
    """A line for each pin: what it holds, and what lets go of it."""
    return tuple(f"{pin.holding} until `{pin.release}`" for pin in pins)


def _require_signing() -> None:
    from nbmodel.plugins import require

    require("signing", "cryptography", extra="signing")


def _file(given: str | os.PathLike[str]) -> Path:
    return Path(given).expanduser()


def _signature(given: SignatureGiven) -> Signature | None:
    """The signature that a person gives, read; who gives none waits for no import."""
    if given is None:
        return None
    from nbmodel.importing.signature import read_signature

    return read_signature(given)


def _local(text: str) -> Reference:
    """The reference, which must be of the local registry."""
    ref = Reference.parse(text)
    if ref.registry is not None:
        raise RefError(
            f"{text!r} is in the remote registry {ref.registry}",
            hint=f"this verb works on the local registry: {replace(ref, registry=None)}",
        )
    return ref


def _absolute(given: object) -> object:
    """What is given, a path as one that means the same in another process."""
    if isinstance(given, (str, os.PathLike)):
        return str(Path(given).expanduser().absolute())
    return given


def _selector(ref: Reference, version: Version) -> str:
    """What a package follows for a reference: ``latest``, an alias, or the timestamp id."""
    if ref.is_model:
        return "latest"
    return ref.alias or version.stamp


def _is_remote(target: str) -> bool:
    return "@" in target and not is_digest(target.partition("@")[2])


@cache
def _client_of(home: Path, registry: Path) -> Client:
    return Client(home, registry)


def default_client() -> Client:
    """The client that ``import nbmodel`` and the magic use: one for every set of folders."""
    return _client_of(settings.home(), settings.registry_root())
