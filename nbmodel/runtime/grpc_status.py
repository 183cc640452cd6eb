"""Which gRPC status an error is answered with; every error class has an entry."""

from __future__ import annotations

from collections.abc import Mapping

from grpc import StatusCode

from nbmodel import errors
from nbmodel.errors import NbModelError

MAX_DETAILS = 1000  # characters; clients refuse more than 8 KiB of trailing metadata

#: Error class → status. Triton knows INTERNAL, NOT_FOUND, INVALID_ARGUMENT, UNAVAILABLE,
#: UNIMPLEMENTED and ALREADY_EXISTS; the rest follows the words of gRPC's ``status.h``.
GRPC_STATUS: Mapping[type[NbModelError], StatusCode] = {
    errors.NbModelError: StatusCode.INTERNAL,
    errors.ConfigError: StatusCode.INVALID_ARGUMENT,
    errors.InputError: StatusCode.INVALID_ARGUMENT,
    errors.TargetError: StatusCode.NOT_FOUND,
    errors.RefError: StatusCode.INVALID_ARGUMENT,
    errors.RegistryError: StatusCode.INTERNAL,
    errors.ModelNotFoundError: StatusCode.NOT_FOUND,
    errors.VersionNotFoundError: StatusCode.NOT_FOUND,
    errors.ModelExistsError: StatusCode.ALREADY_EXISTS,
    errors.AliasConflictError: StatusCode.ABORTED,
    errors.PinConflictError: StatusCode.FAILED_PRECONDITION,
    errors.PublishedError: StatusCode.FAILED_PRECONDITION,
    errors.InUseError: StatusCode.FAILED_PRECONDITION,
    errors.StorageError: StatusCode.INTERNAL,
    errors.RemoteFaultError: StatusCode.UNAVAILABLE,
    errors.StorageUnavailableError: StatusCode.RESOURCE_EXHAUSTED,
    errors.BlobNotFoundError: StatusCode.NOT_FOUND,
    errors.DigestMismatchError: StatusCode.INVALID_ARGUMENT,
    errors.FormatError: StatusCode.INVALID_ARGUMENT,
    errors.UnknownFormatError: StatusCode.INVALID_ARGUMENT,
    errors.ManifestError: StatusCode.INVALID_ARGUMENT,
    errors.SignatureError: StatusCode.INVALID_ARGUMENT,
    errors.TensorNameError: StatusCode.INVALID_ARGUMENT,
    errors.ShapeError: StatusCode.INVALID_ARGUMENT,
    errors.DatatypeError: StatusCode.INVALID_ARGUMENT,
    errors.PluginError: StatusCode.UNIMPLEMENTED,
    errors.ConversionError: StatusCode.FAILED_PRECONDITION,
    errors.InferenceError: StatusCode.INTERNAL,
    errors.UnavailableError: StatusCode.UNAVAILABLE,
    errors.UnsupportedError: StatusCode.UNIMPLEMENTED,
    errors.ReproductionError: StatusCode.INTERNAL,
    errors.GoldenSampleError: StatusCode.FAILED_PRECONDITION,
    errors.ProbeError: StatusCode.FAILED_PRECONDITION,
    errors.DeployError: StatusCode.FAILED_PRECONDITION,
    errors.RuntimeNotFoundError: StatusCode.NOT_FOUND,
    errors.TargetUnreachableError: StatusCode.UNAVAILABLE,
    errors.AuthenticationError: StatusCode.UNAUTHENTICATED,
    errors.ConfigConflictError: StatusCode.ABORTED,
    errors.NoCompatibleBackendError: StatusCode.FAILED_PRECONDITION,
    errors.UntrustedModelError: StatusCode.PERMISSION_DENIED,
    errors.TrustError: StatusCode.PERMISSION_DENIED,
}


def status_of(error: NbModelError) -> StatusCode:
    """The status of an error: its class's, or of the nearest base that has one."""
    return next(GRPC_STATUS[base] for base in type(error).__mro__ if base in GRPC_STATUS)


def details_of(error: NbModelError) -> str:
    """What a client is told: the message and, in brackets, the hint."""
    text = f"{error} ({error.hint})" if error.hint else str(error)
    return text if len(text) <= MAX_DETAILS else f"{text[: MAX_DETAILS - 1]}…"
