"""What checking a signature takes on a device."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """
import sys
from datetime import datetime, timezone
before = set(sys.modules)
from nbmodel.signing.check import Trusted, TrustedKey, check_version, sign
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.key import make_key
from nbmodel.signing.policy import read_policy
from nbmodel.signing.statement import Statement
print("cryptography" in sys.modules)
key, files = make_key(), {"model.onnx": "0" * 64}
raw = sign(Statement("digits", files), key).to_bytes()
trusted = Trusted((TrustedKey("key", key.public),))
at = datetime.now(timezone.utc)
check_version(Bundle.from_bytes(raw), trusted, digest="sha256:" + "0" * 64, files=files, at=at)
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names)))
"""


def test_a_signature_is_checked_with_cryptography_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHECK], check=True, capture_output=True, text=True
    )
    imported_early, foreign = done.stdout.splitlines()
    assert imported_early == "False", "not before a key is used"
    assert set(foreign.split()) <= {"nbmodel", "cryptography", "_cffi_backend", "_openssl"}
