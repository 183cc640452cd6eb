"""What a runtime on this machine is started with, kept so that the next start is alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from nbmodel.errors import InputError
from nbmodel.runtime.limits import DEFAULT_LIMITS, Limits, option_of
from nbmodel.runtime.server import DEFAULT_HTTP, SERVER_NAME, Address

OFF = "off"  # in place of an address: not spoken any more

_KINDS: Mapping[str, type] = {
    "http": str,
    "require_token": bool,
    "grpc": str,
    "allow_shared_memory": bool,
    "workers": int,
    "server_name": str,
    "maintenance_hook": str,
    "trust_policy": str,
    "trusted_key": str,
    "allow_code": bool,
}
#: Options that may be ``OFF``.
_OPTIONAL = ("grpc", "maintenance_hook", "trust_policy", "trusted_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """The options of ``runtime start`` that hold from one start to the next.

    Attributes:
        http: ``HOST:PORT``; port 0 is a free one.
        require_token: Want a token on loopback too.
        grpc: ``HOST:PORT`` for gRPC; None: it is not spoken.
        allow_shared_memory: Let clients register shared memory.
        workers: Processes that answer inference requests over HTTP.
        server_name: What the inference protocol calls it.
        maintenance_hook: Path of a program that is asked before a version is taken up; None:
            there is none.
        trust_policy: Path of a file that says whose signatures count; None: there is none.
        trusted_key: Path of a public key whose signatures alone count; None: there is none.
        allow_code: Run models that are code of their own.
        limits: What clients may use.

    Raises:
        InputError: ``http`` or ``grpc`` is no address.
    """

    http: str = DEFAULT_HTTP
    require_token: bool = False
    grpc: str | None = None
    allow_shared_memory: bool = False
    workers: int = 1
    server_name: str = SERVER_NAME
    maintenance_hook: str | None = None
    trust_policy: str | None = None
    trusted_key: str | None = None
    allow_code: bool = False
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        for address in (self.http, self.grpc):
            if address is not None:
                Address.parse(address)

    def changed(self, given: Mapping[str, Any]) -> StartOptions:
        """These options with those in place that were given.

        Args:
            given: Name of an option or of a limit → its value; ``grpc``,
                ``maintenance_hook``, ``trust_policy`` and ``trusted_key`` may be ``OFF``. Of
                the last two one takes the other's place.

        Raises:
            InputError: There is no such option, or a value cannot be used.
        """
        limits = {limit.name for limit in fields(Limits)}
        unknown = sorted(given.keys() - _KINDS.keys() - limits)
        if unknown:
            raise InputError(f"no such option of a runtime: {', '.join(unknown)}")
        own: dict[str, Any] = {name: given[name] for name in given.keys() & _KINDS.keys()}
        own |= {name: None for name in _OPTIONAL if own.get(name) == OFF}
        for one, other in (("trust_policy", "trusted_key"), ("trusted_key", "trust_policy")):
            if own.get(one) is not None:
                own.setdefault(other, None)
        bounds: dict[str, Any] = {name: given[name] for name in given.keys() & limits}
        return replace(self, **own, limits=replace(self.limits, **bounds))

    def words(self, *, without: Collection[str] = ()) -> list[str]:
        """The words on the command line that give these options; defaults are left out.

        Args:
            without: Names of options and limits to leave out besides.
        """
        words: list[str] = []
        for name, value in self.to_json().items():
            if name in without:
                continue
            words.append(option_of(name))
            if value is not True:
                words.append(str(value))
        return words

    def to_json(self) -> dict[str, Any]:
        """Options and limits that are not as by default, in one object."""
        own = {name: getattr(self, name) for name in _KINDS}
        bounds = {limit.name: getattr(self.limits, limit.name) for limit in fields(Limits)}
        usual = {field.name: field.default for field in (*fields(StartOptions), *fields(Limits))}
        return {name: value for name, value in (own | bounds).items() if value != usual[name]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StartOptions:
        """What ``to_json`` gave.

        Raises:
            InputError: It is not that. An option that is not understood is never passed
                over: without it, the runtime could be more open than it was asked to be.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"expected an object of options, found {data!r}")
        for name, value in data.items():
            if name in _KINDS and type(value) is not _KINDS[name]:
                raise InputError(
                    f"option {name!r} must be a {_KINDS[name].__name__}, found {value!r}"
                )
        return cls().changed(data)
