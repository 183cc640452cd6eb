"""The trust policy that a runtime is started with, read from files of its machine."""

from __future__ import annotations

import json
from pathlib import Path

from nbmodel.core.document import unique_keys
from nbmodel.errors import ConfigError, InputError
from nbmodel.plugins import require
from nbmodel.signing.files import read_small_file
from nbmodel.signing.key import MAX_PEM
from nbmodel.signing.policy import TrustPolicy, read_policy

_MAX_POLICY = 1024 * 1024  # bytes of a policy file


def load_policy(file: Path | None, key: Path | None) -> TrustPolicy | None:
    """The trust policy that a runtime is started with; None when nothing is given.

    Args:
        file: The policy file.
        key: File with a public key that is trusted for all models.

    Raises:
        ConfigError: It cannot be read or used.
        InputError: Both are given.
        PluginError: The signing extra is not installed.
    """
    if file is None and key is None:
        return None
    require("a trust policy", "cryptography", extra="signing")
    if file is not None and key is not None:
        raise InputError(
            "a trust policy and a trusted key do not go together",
            hint='name the key in the policy: {"models": [{"name": "*", "keys": ["team.pem"]}]}',
        )
    if file is None:
        only = {"models": [{"name": "*", "keys": [str(key)]}]}
        return read_policy(only, lambda name: read_small_file(Path(name), MAX_PEM))
    try:
        data = json.loads(read_small_file(file, _MAX_POLICY), object_pairs_hook=unique_keys)
    except (InputError, ValueError, RecursionError) as exc:
        raise ConfigError(f"trust policy {file} cannot be read: {exc}") from exc
    # Names of files in a policy are relative to it, wherever the runtime is started.
    return read_policy(data, lambda name: read_small_file(file.absolute().parent / name, MAX_PEM))
