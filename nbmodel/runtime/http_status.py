"""Which HTTP status an error is answered with; every error class has an entry."""

from __future__ import annotations

from collections.abc import Mapping

from nbmodel import errors
from nbmodel.errors import NbModelError

#: Error class → status. Triton's INTERNAL is 500, NOT_FOUND 404, UNAVAILABLE 503,
#: UNSUPPORTED 501, and everything else 400; the rest follows RFC 9110.
HTTP_STATUS: Mapping[type[NbModelError], int] = {
    errors.NbModelError: 500,
    errors.ConfigError: 422,
    errors.InputError: 400,
    errors.TargetError: 404,
    errors.RefError: 400,
    errors.RegistryError: 500,
    errors.ModelNotFoundError: 404,
    errors.VersionNotFoundError: 404,
    errors.ModelExistsError: 409,
    errors.AliasConflictError: 409,
    errors.PinConflictError: 409,
    errors.PublishedError: 409,
    errors.InUseError: 409,
    errors.StorageError: 500,
    errors.RemoteFaultError: 502,
    errors.StorageUnavailableError: 507,
    errors.BlobNotFoundError: 404,
    errors.DigestMismatchError: 400,
    errors.FormatError: 400,
    errors.UnknownFormatError: 400,
    errors.ManifestError: 400,
    errors.SignatureError: 400,
    errors.TensorNameError: 400,
    errors.ShapeError: 400,
    errors.DatatypeError: 400,
    errors.PluginError: 501,
    errors.ConversionError: 422,
    errors.InferenceError: 500,
    errors.UnavailableError: 503,
    errors.UnsupportedError: 501,
    errors.ReproductionError: 500,
    errors.GoldenSampleError: 422,
    errors.ProbeError: 422,
    errors.DeployError: 409,
    errors.RuntimeNotFoundError: 404,
    errors.TargetUnreachableError: 502,
    errors.AuthenticationError: 401,
    errors.ConfigConflictError: 412,
    errors.NoCompatibleBackendError: 422,
    errors.UntrustedModelError: 403,
    errors.TrustError: 403,
}


def status_of(error: NbModelError) -> int:
    """The status of an error: its class's, or of the nearest base that has one."""
    return next(HTTP_STATUS[base] for base in type(error).__mro__ if base in HTTP_STATUS)
