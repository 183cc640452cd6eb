"""What the registry of a package says: the version it names, and that version's own tags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nbmodel.core.machine import Package
from nbmodel.core.unpinned import is_unpinned
from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    NbModelError,
    RefError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.runtime.own_tags import likely_numbers, likely_stamps, own_stamp
from nbmodel.runtime.resolve import PINNED, wanted_tags
from nbmodel.storage.origin import Origin
from nbmodel.storage.reading import (
    RemoteManifest,
    read_manifest,
    read_manifest_unless,
    read_tags,
)

_FAILURES = (StorageError, AuthenticationError)
_LOCAL = "local/"  # what comes before a model's name in the id of a package of nobody's
_MAX_TAGS = 10_000  # of a repository that are looked through for a version's own


@dataclass(frozen=True, slots=True)
class Named:
    """The version that a registry names for a package.

    Attributes:
        repository: What it is called here.
        place: Where the registry has it: that, below the registry's namespace.
        tag: What led to it.
        unset: Tags that would have come before ``tag``, and are not there.
        digest: Of its manifest.
        raw: The manifest's bytes.
    """

    repository: str
    place: str
    tag: str
    unset: tuple[str, ...]
    digest: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class OwnTags:
    """The number and the timestamp id of a version.

    Attributes:
        tags: Those that are known.
        is_final: Whether asking again would tell no more.
    """

    tags: tuple[str, ...]
    is_final: bool


class Upstream:
    """The registry of one package, and what it said last.

    Args:
        package: With a registry.
        origin: That registry.
        namespace: What comes before the names of models there; empty for nothing.
    """

    def __init__(self, package: Package, origin: Origin, namespace: str = "") -> None:
        self.origin = origin
        self._package = package
        self._namespace = f"{namespace}/" if namespace else ""
        self._known: dict[tuple[str, str], RemoteManifest] = {}

    def look(self) -> Named:
        """Ask which version the package means; what did not change is not sent again.

        Raises:
            BlobNotFoundError: The registry has none.
            RefError: The package's name or version can be no name or tag there.
            TargetUnreachableError: It does not answer.
            AuthenticationError: It refuses the token, or wants one.
            StorageError: It answers anything else.
        """
        failure: NbModelError | None = None
        for repository in self._package.repositories:
            place = f"{self._namespace}{repository}"
            tags = wanted_tags(self._package.version)
            for at, tag in enumerate(tags):
                try:
                    found = self._manifest(place, tag)
                except BlobNotFoundError:
                    continue
                except RefError as exc:
                    failure = exc
                    continue
                except AuthenticationError as exc:
                    # Some registries say so of what is not there. "local/" is hardly there;
                    # any other name that is refused must not become another model.
                    if not repository.startswith(_LOCAL):
                        raise
                    failure = exc
                    break
                if tag == PINNED and is_unpinned(found.raw):
                    continue
                return Named(repository, place, tag, tags[:at], found.digest, found.raw)
        if failure is not None:
            raise failure
        raise BlobNotFoundError(
            f"registry {self.origin.host} has no "
            f"{self._namespace}{self._package.repositories[-1]}:{self._package.version}",
            hint="push it there, or correct the package in the machine config",
        )

    def forget(self) -> None:
        """Have everything sent again: what was sent last was no good, whatever its ETag."""
        self._known.clear()

    def own_tags(self, named: Named, created: str) -> OwnTags:
        """The number and the timestamp id of a version, as far as they can be told.

        They are the registry's tags on the same manifest, of which a few are looked at;
        without one, the timestamp id is told from the time of creation.

        Args:
            named: The version.
            created: When it was made, UTC, ISO 8601.
        """
        asking = _Asking(self.origin, named)
        tags = asking.tags()
        stamp = asking.first(likely_stamps(tags, created))
        number = asking.first(likely_numbers(tags, stamp))
        derived = own_stamp(created)
        if stamp is None and derived not in tags:
            stamp = derived
        found = tuple(tag for tag in (number, stamp) if tag is not None)
        return OwnTags(found, number is not None or not asking.failed)

    def _manifest(self, repository: str, tag: str) -> RemoteManifest:
        known = self._known.pop((repository, tag), None)
        if known is None or known.etag is None:
            found = read_manifest(self.origin, repository, tag)
        else:
            changed = read_manifest_unless(self.origin, repository, tag, known.etag)
            found = known if changed is None else changed
        self._known[repository, tag] = found
        return found


class _Asking:
    """Requests about a version's own tags; one that fails says nothing."""

    def __init__(self, origin: Origin, named: Named) -> None:
        self.failed = False
        self._origin = origin
        self._named = named

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository, up to a bound."""
        try:
            return read_tags(self._origin, self._named.place, at_most=_MAX_TAGS)
        except (TargetUnreachableError, *_FAILURES):
            self.failed = True
            return ()

    def first(self, tags: Iterable[str]) -> str | None:
        """The first of some tags that is on the version."""
        for tag in tags:
            try:
                found = read_manifest(self._origin, self._named.place, tag)
            except BlobNotFoundError:
                continue  # it went meanwhile
            except TargetUnreachableError:
                self.failed = True
                return None  # each further request would wait as long
            except _FAILURES:
                self.failed = True
                continue
            if found.digest == self._named.digest:
                return tag
        return None
