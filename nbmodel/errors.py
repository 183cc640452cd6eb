"""Every error nbmodel raises, and nothing else.

A message says what was expected, what was found and for which thing; ``hint`` says what
to type next. HTTP statuses, exit codes and traceback styles belong to the front ends,
each of which has one table over these classes.

::

    NbModelError                        .hint: what to do next, or None
    ├─ ConfigError                      a setting or a machine config that cannot be used; .problems lists all
    ├─ InputError                       something the caller gave that cannot be used
    │  └─ TargetError                   a SERVICE@RUNTIME or reference that names nothing to run
    ├─ RefError                         a name or reference that cannot be parsed
    ├─ RegistryError
    │  ├─ ModelNotFoundError
    │  ├─ VersionNotFoundError
    │  ├─ ModelExistsError              a name that is taken
    │  ├─ AliasConflictError            an alias was not where the caller expected it
    │  ├─ PinConflictError              a pin forbids what was asked
    │  ├─ PublishedError                a published version cannot be changed
    │  └─ InUseError                    a delete that would take something in use away
    ├─ StorageError
    │  ├─ StorageUnavailableError       disk full, read-only, no permission
    │  ├─ BlobNotFoundError
    │  ├─ RemoteFaultError              a registry failed over a request (HTTP 5xx)
    │  └─ DigestMismatchError           .expected, .actual
    ├─ FormatError                      a file that is not what its format says
    │  ├─ UnknownFormatError
    │  └─ ManifestError
    ├─ SignatureError                   tensors that contradict a signature
    │  ├─ TensorNameError
    │  ├─ ShapeError
    │  └─ DatatypeError
    ├─ PluginError                      unknown plug-in, or its extra is not installed
    ├─ ConversionError                  a conversion failed, or its answers differ too much
    ├─ InferenceError                   the engine refused a model or a request
    │  └─ UnavailableError              it cannot be answered now; later it may be
    ├─ UnsupportedError                 something of a protocol that is not served here
    ├─ ReproductionError                the cells of a version could not be run again
    ├─ GoldenSampleError                a version does not give the answers it carries
    ├─ ProbeError                       a version that must not serve; .reason in one word
    ├─ DeployError
    │  ├─ RuntimeNotFoundError          no runtime of that name is known here
    │  ├─ TargetUnreachableError
    │  ├─ AuthenticationError           a runtime refused the token, or wants one
    │  ├─ ConfigConflictError           the machine config changed since it was read
    │  └─ NoCompatibleBackendError      with the reason each backend was ruled out
    ├─ UntrustedModelError              running code from a model without ``trust``
    └─ TrustError                       not signed, or not by whom it should be; .reason in one word
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fsdecode


class NbModelError(Exception):
    """Base of all errors of nbmodel.

    Args:
        message: One line: what was expected, what was found, for which thing.
        hint: What to do or type next; None when there is nothing useful to say.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:
            # What tracebacks show below the message (PEP 678); Python 3.10 has no add_note.
            self.__notes__ = [f"hint: {hint}"]


class ConfigError(NbModelError):
    """A setting or a machine config that cannot be used.

    Attributes:
        problems: Every problem found, one sentence each; at least one.
    """

    def __init__(
        self, message: str, *, problems: Sequence[str] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems) or (message,)

    @property
    def headline(self) -> str:
        """The message without the problems, for who shows them in a list below it."""
        return str(self).removesuffix("; ".join(self.problems)).removesuffix(": ") or str(self)


class InputError(NbModelError):
    """Something the caller gave (a path, an option, an object) that cannot be used."""


class TargetError(InputError):
    """A target of ``infer``, ``bench`` or ``do`` that names nothing to run."""


class RefError(NbModelError):
    """A name or reference that cannot be parsed."""


class RegistryError(NbModelError):
    """The registry cannot do what was asked."""


class ModelNotFoundError(RegistryError):
    """No model of that name in the registry."""


class VersionNotFoundError(RegistryError):
    """The model exists, the version, alias, timestamp or digest does not."""


class ModelExistsError(RegistryError):
    """A model of that name exists already."""


class AliasConflictError(RegistryError):
    """An alias was not on the version the caller expected it on."""


class PinConflictError(RegistryError):
    """A pin forbids what was asked."""


class PublishedError(RegistryError):
    """A published version is read-only."""


class InUseError(RegistryError):
    """A delete would take away something that an alias, pin, deployment or child uses."""


class StorageError(NbModelError):
    """Bytes cannot be read from or written to a storage."""


class StorageUnavailableError(StorageError):
    """The storage itself cannot be used: full, read-only, no permission, not there."""


class BlobNotFoundError(StorageError):
    """No blob of that digest in the storage."""


class RemoteFaultError(StorageError):
    """A registry failed over a request that it may carry out another time."""


class DigestMismatchError(StorageError):
    """Bytes are not what their digest says.

    Attributes:
        expected: The digest that was promised.
        actual: The digest of the bytes found.
    """

    def __init__(self, what: str, *, expected: str, actual: str, hint: str | None = None) -> None:
        super().__init__(f"{what}: expected {expected}, found {actual}", hint=hint)
        self.expected = expected
        self.actual = actual


class FormatError(NbModelError):
    """A file is not what its format says: truncated, malformed or hostile."""


class UnknownFormatError(FormatError):
    """No format knows this file."""


class ManifestError(FormatError):
    """A manifest that is malformed or unsafe."""


class SignatureError(NbModelError):
    """Tensors that contradict a signature."""


class TensorNameError(SignatureError):
    """A tensor that the signature does not have, or one of its own that is missing."""


class ShapeError(SignatureError):
    """A tensor's shape is not what the signature says."""


class DatatypeError(SignatureError):
    """A tensor's datatype is not what the signature says, or cannot be carried."""


class PluginError(NbModelError):
    """A plug-in that does not exist, or whose extra is not installed."""


class ConversionError(NbModelError):
    """A conversion failed, or what it made answers too differently from the original."""


class InferenceError(NbModelError):
    """The engine refused a model or a request."""


class UnavailableError(InferenceError):
    """It cannot be answered now: not loaded, queue full, waited too long, or stopping."""


class UnsupportedError(NbModelError):
    """Something of a protocol that is not served here."""


class ReproductionError(NbModelError):
    """The cells of a version could not be run again to their end."""


class GoldenSampleError(NbModelError):
    """A version does not give the answers that it carries."""


class ProbeError(NbModelError):
    """A version that was tried out in a process of its own, and must not serve.

    Attributes:
        reason: In one word, for conditions: ``LoadFailed``, ``WrongSignature``, ``RunFailed``,
            ``WrongAnswer``, ``NotFinite``, ``OutOfMemory``, ``Crashed``, ``TimedOut`` or
            ``NoAnswer``; ``Refused`` where that is not known.
    """

    def __init__(self, message: str, *, reason: str = "Refused", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class DeployError(NbModelError):
    """A deployment could not be made."""


class RuntimeNotFoundError(DeployError):
    """No runtime of that name is known here."""


class TargetUnreachableError(DeployError):
    """A runtime does not answer."""


class AuthenticationError(DeployError):
    """A runtime refused the token, or wants one."""


class ConfigConflictError(DeployError):
    """The machine config of a runtime changed since it was read."""


class NoCompatibleBackendError(DeployError):
    """No backend can run the version; the message says why each was ruled out."""


class UntrustedModelError(NbModelError):
    """A model whose file runs code was opened without ``trust``."""


class TrustError(NbModelError):
    """A version that is not signed as it has to be.

    Attributes:
        reason: In one word: ``Unsigned``, ``OtherSigner``, ``WrongSignature``, ``OtherFiles``,
            ``OtherVersion``, ``NotValidNow``, ``Malformed``, ``NotSupported``, ``NoRule`` or
            ``NotAPackage``.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


def refused_path(exc: OSError) -> InputError | None:
    """What a person is told when the system refuses a path; None for what is of no path."""
    if not isinstance(exc.filename, str | bytes | PathLike) or not exc.strerror:
        return None
    where = fsdecode(exc.filename)
    return InputError(
        f"cannot use {where}: {exc.strerror}",
        hint="check the permissions of it and of the folders above it"
        if isinstance(exc, PermissionError)
        else None,
    )
