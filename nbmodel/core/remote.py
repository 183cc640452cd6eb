"""Remotes: the registries that a person pushes to and pulls from, as text.

::

    registry.example/team            https, because nothing else was said
    localhost:5000                   http, because it does not leave this machine
    http://registry.lan:5000/team    as written
    s3://bucket/models               an object store; also gs://, az:// and file://
    s3://bucket/prefix               an object store: all of it is its address

Source: OCI distribution specification, "Pulling manifests" (the grammar of names).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbmodel.core.address import is_loopback, is_store, store_address
from nbmodel.core.reference import MAX_REPOSITORY, Reference, check_name, check_repository
from nbmodel.errors import InputError, RefError

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,39}\])(?::(\d{1,5}))?"
)
_FORMS = "forms: registry.example/team, localhost:5000, http://registry.lan:5000/team"


@dataclass(frozen=True, slots=True, order=True)
class Remote:
    """A registry, and the namespace in it under which models are.

    ``str()`` gives the shortest text that means it: ``parse(str(remote)) == remote``.

    Attributes:
        base_url: ``http[s]://host[:port]``, in lower case, without a path; or the address of an
            object store, as ``store_address`` gives it.
        namespace: What comes before the name of a model, ``a/b``; empty for none.

    Raises:
        InputError: ``base_url`` is no such address, or ``namespace`` none that registries take.
    """

    base_url: str
    namespace: str = ""

    def __post_init__(self) -> None:
        if is_store(self.base_url):
            if self.namespace or self.base_url != store_address(self.base_url):
                raise InputError(f"not the address of an object store: {self.base_url[:80]!r}")
            return
        scheme, colon, host = self.base_url.partition("://")
        match = _HOST.fullmatch(host)
        if not colon or scheme not in ("http", "https") or match is None:
            # An address may carry a password: it is not shown.
            raise InputError("not the address of a registry", hint=_FORMS)
        if match[1] is not None and not 0 < int(match[1]) < 65536:
            raise InputError(f"port {match[1]} of {host!r}: expected 1 to 65535")
        if self.base_url != self.base_url.lower():
            object.__setattr__(self, "base_url", self.base_url.lower())
        if self.namespace:
            try:
                check_repository(self.namespace)
            except RefError as exc:
                raise InputError(
                    f"not a namespace of {self.host}: {self.namespace[:80]!r}", hint=exc.hint
                ) from exc
        if len(self.host) + len(self.namespace) + 1 > MAX_REPOSITORY:
            raise InputError(
                f"namespace of {len(self.namespace)} characters on {self.host}, "
                f"expected at most {MAX_REPOSITORY} with the host"
            )

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Read ``host[:port][/namespace]``, with ``http://`` or ``https://`` before it or not.

        Without a scheme it is https, except for this machine itself, which is http as
        container tools have it.

        Raises:
            InputError: It is none of these, or a name and a password are in it.
        """
        given: object = text
        if not isinstance(given, str):
            raise InputError(f"expected a registry, found {type(given).__name__}", hint=_FORMS)
        text = text.strip()
        if is_store(text):
            return cls(store_address(text))
        scheme, colon, rest = text.partition("://")
        if not colon:
            scheme, rest = "", text
        rest = rest.rstrip("/")
        host, _, namespace = rest.partition("/")
        if "@" in host:
            raise InputError(
                "a name or password in the address of a registry",
                hint="leave it out and `docker login` the registry",
            )
        if not scheme:
            if not _is_host(host):
                raise InputError(f"not a registry: {_shown(text)}", hint=_FORMS)
            scheme = "http" if is_loopback(_bare(host)) else "https"
        elif scheme.lower() not in ("http", "https"):
            raise InputError(f"not a registry: {_shown(text)} is neither http nor https")
        if any(mark in namespace for mark in "?#@:"):
            raise InputError(f"not a registry: {_shown(text)} has more than a path", hint=_FORMS)
        return cls(f"{scheme.lower()}://{host}", namespace)

    @property
    def host(self) -> str:
        """``host[:port]``: what references and credentials call it; a store's whole address."""
        if is_store(self.base_url):
            return self.base_url
        return self.base_url.partition("://")[2]

    def repository(self, model: str) -> str:
        """Where a model's versions are: ``namespace/model``.

        Raises:
            RefError: ``model`` cannot be the name of one.
            InputError: Together they are longer than registries take.
        """
        name = f"{self.namespace}/{check_name(model)}" if self.namespace else check_name(model)
        if len(self.host) + len(name) + 1 > MAX_REPOSITORY:
            raise InputError(
                f"{name[:80]!r} on {self.host}: {len(name)} characters, expected at most "
                f"{MAX_REPOSITORY} with the host"
            )
        return name

    def model(self, repository: str) -> str | None:
        """The model whose versions are there, or None for what is not of this remote."""
        prefix = f"{self.namespace}/" if self.namespace else ""
        if not repository.startswith(prefix):
            return None
        try:
            return check_name(repository[len(prefix) :])
        except RefError:
            return None

    def __str__(self) -> str:
        if is_store(self.base_url):
            return self.base_url
        scheme, _, host = self.base_url.partition("://")
        path = f"{host}/{self.namespace}" if self.namespace else host
        usual = "http" if is_loopback(_bare(host)) else "https"
        return path if scheme == usual and _is_host(host) else f"{scheme}://{path}"


def locate(text: str, known: Iterable[Remote] = ()) -> tuple[Remote, Reference] | None:
    """The remote and the model or version on it that a person wrote.

    The remote is the one that is known with the longest namespace that fits, as of
    ``host/team/digits`` ``host/team`` before ``host``. Of unknown ones all but the last word
    are the namespace: the model is ``digits``.

    Args:
        text: ``[http[s]://]host[:port]/[namespace/]name[:tag|@digest]``, or an object store's
            address and a name.
        known: Remotes that were given or used before.

    Returns:
        The remote, and the reference without it; None when ``text`` is a local reference.

    Raises:
        InputError, RefError: It names a registry, and nothing in it.
    """
    if is_store(text):
        return _locate_in_store(text, known)
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, rest = "", text
    host, slash, path = rest.partition("/")
    if not scheme and not (slash and is_host(host)):
        return None
    base = Remote.parse(f"{scheme}://{host}" if scheme else host)
    name, mark, selector = _split(path)
    of_host = [
        one
        for one in known
        if one.base_url == base.base_url or (not scheme and one.host == base.host)
    ]
    for one in sorted(of_host, key=lambda one: len(one.namespace), reverse=True):
        model = one.model(name)
        if model is not None:
            return one, Reference.parse(f"{model}{mark}{selector}")
    namespace, _, last = name.rpartition("/")
    if namespace:
        base, name = Remote(base.base_url, namespace), last
    return base, Reference.parse(f"{name}{mark}{selector}")


def _locate_in_store(text: str, known: Iterable[Remote]) -> tuple[Remote, Reference]:
    address, mark, selector = _split(text)
    for one in sorted(known, key=lambda one: len(one.base_url), reverse=True):
        model = address.removeprefix(f"{one.base_url}/")
        if model != address and one.model(model) is not None:
            return one, Reference.parse(f"{model}{mark}{selector}")
    store, _, name = address.rpartition("/")
    return Remote.parse(store), Reference.parse(f"{name}{mark}{selector}")


def _split(path: str) -> tuple[str, str, str]:
    """What comes before the tag or digest, ``:`` or ``@`` or nothing, and that itself."""
    head, slash, last = path.rpartition("/")
    for mark in "@:":
        name, found, selector = last.partition(mark)
        if found:
            return f"{head}{slash}{name}", mark, selector
    return path, "", ""


def is_registry(text: str) -> bool:
    """Whether a word that may be a model or a remote is a remote: it has a scheme, or a host."""
    try:
        Remote.parse(text)
    except InputError:
        return False
    return "://" in text or is_host(text.partition("/")[0])


def is_host(text: str) -> bool:
    """Whether the first word of a reference is a registry rather than a namespace."""
    try:
        return Reference.parse(f"{text}/m").registry is not None
    except RefError:
        return False


def _is_host(text: str) -> bool:
    """Whether it reads as a host where a bare word would be a namespace or a model."""
    return text.lower() == "localhost" or any(mark in text for mark in ".:[")


def _bare(host: str) -> str:
    """A host without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _shown(text: str) -> str:
    """``text`` quoted and cut, without what an address may carry after a ``?``."""
    text = text.partition("?")[0]
    return repr(text if len(text) <= 80 else text[:77] + "…")
