"""What a service may name under a trust policy, and which signatures are looked at."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from nbmodel.backends import BACKENDS, load_backend
from nbmodel.backends.base import SCHEDULING_ATTRIBUTES
from nbmodel.core.digest import digest_of
from nbmodel.core.machine import Package
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.errors import TrustError
from nbmodel.runtime.trust import TrustGate
from nbmodel.signing.policy import TrustPolicy
from nbmodel.storage import MemoryStorage
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.referrer_store import ReferrerStore
from tests.tools.storage_server import add_version

FOLDER = "${packages.ml_model.digits}"
PACKAGES = {"digits": Package("digits", "local/digits")}
#: Objects and lists that can name no file and no code, by backend.
HARMLESS = {("onnx_gpu", "providers"), ("triton", "tensor_name_remappings")}
#: Texts that name no file.
TEXTS = {
    "address",
    "device",
    "model_name",
    "package_reference",
    "preferred_input_memory_type",
}


def gate(folder: Path, *, allow_paths: bool = False) -> TrustGate:
    policy = TrustPolicy((), allow_paths)
    return TrustGate(policy, MemoryStorage(), ReferrerStore(folder / "referrers"), folder)


_ADDRESS = "http://gpu:8000"
_HARMFUL: dict[str, tuple[str, dict[str, Any], str]] = {
    "a model that a server has": (
        "triton",
        {"address": _ADDRESS, "model_name": "evil", "model_repository_path": FOLDER},
        "service 'it' names a model that the Triton at its address has itself",
    ),
    "libraries of plug-ins": (
        "onnx_gpu",
        {
            "model_path": f"{FOLDER}/m.onnx",
            "providers": [{"name": "tensorrt", "options": {"trt_extra_plugin_lib_paths": "/x.so"}}],
        },
        "providers of service 'it' may name files or code",
    ),
    "an environment to run in": (
        "triton",
        {
            "model_path": FOLDER,
            "model_config": {"parameters": {"EXECUTION_ENV_PATH": {"string_value": "/evil"}}},
        },
        "model_config of service 'it' may name files or code",
    ),
    "a program": (
        "triton",
        {"model_path": FOLDER, "tritonserver": "/evil"},
        "tritonserver of service 'it' is a path, '/evil'",
    ),
    "what is beside a package": (
        "onnx_cpu",
        {"model_path": f"{FOLDER}/../digits/m.onnx"},
        "model_path of service 'it' is a path",
    ),
    "what a variable says": (
        "onnx_cpu",
        {"model_path": f"{FOLDER}/${{environment.WHERE}}"},
        "model_path of service 'it' is a path",
    ),
    "nothing": ("triton", {}, "service 'it' names no package"),
}


@pytest.mark.parametrize(
    ("model", "attributes", "told"),
    [pytest.param(*case, id=name) for name, case in _HARMFUL.items()],
)
def test_what_may_run_something_unsigned_is_refused(
    tmp_path: Path, model: str, attributes: dict[str, Any], told: str
) -> None:
    with pytest.raises(TrustError) as caught:
        gate(tmp_path).check_attributes("service 'it'", model, attributes, PACKAGES)
    assert str(caught.value).startswith(told)
    allowing = gate(tmp_path, allow_paths=True)
    allowing.check_attributes("service 'it'", model, attributes, PACKAGES)


@pytest.mark.parametrize(
    ("model", "attributes"),
    [
        ("triton", {"model_path": FOLDER, "address": _ADDRESS}),
        ("triton", {"model_repository_path": FOLDER, "model_name": "digits"}),
        ("triton", {"model_path": FOLDER, "tensor_name_remappings": {"inputs": {"x": "y"}}}),
        ("onnx_gpu", {"model_path": f"{FOLDER}/m.onnx", "providers": ["tensorrt", "cuda"]}),
        ("onnx_cpu", {"model_path": f"{FOLDER}/m.onnx", "label_path": f"{FOLDER}/l.txt"}),
    ],
)
def test_what_is_in_packages_passes(tmp_path: Path, model: str, attributes: dict[str, Any]) -> None:
    gate(tmp_path).check_attributes("service 'it'", model, attributes, PACKAGES)


@pytest.mark.parametrize("name", BACKENDS.names())
def test_of_every_backend_it_is_known_what_may_name_files_or_code(name: str) -> None:
    for one in (*load_backend(name).attributes, *SCHEDULING_ATTRIBUTES):
        assert one.harmless == ((name, one.name) in HARMLESS), one.name
        if one.kind in ("object", "array"):
            assert one.is_harmless({} if one.kind == "object" else ["x"]) == one.harmless
            assert one.kind == "object" or not one.is_harmless([{"name": "x"}])
        elif one.kind == "string":
            assert one.name in TEXTS, "what names files is of kind path"


def test_any_number_of_other_things_that_refer_to_a_version_hide_no_signature(
    tmp_path: Path,
) -> None:
    pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
    from nbmodel.signing.check import Trusted, TrustedKey, sign
    from nbmodel.signing.key import make_key
    from nbmodel.signing.policy import Rule
    from nbmodel.signing.statement import statement_of

    key, storage, referrers = make_key(), MemoryStorage(), ReferrerStore(tmp_path / "referrers")
    version = add_version(storage, {"model.onnx": b"weights"})
    raw = storage.read(version, limit=1 << 20)
    bundle = sign(statement_of("digits", version, load_manifest(storage, version)), key).to_bytes()
    for blob in (EMPTY, bundle):
        storage.add_bytes(blob)
    made = (signature_manifest(raw, bundle, created=str(number)) for number in itertools.count())
    signature = next(one for one in made if digest_of(one).startswith("sha256:f"))
    referrers.add(version, storage.add_bytes(signature))
    other = json.loads(signature)
    for number in range(100):
        other |= {"artifactType": "text/plain", "annotations": {"n": str(number)}}
        referrers.add(version, storage.add_bytes(json.dumps(other).encode()))
    trusted = Trusted((TrustedKey("team.pem", key.public),))
    policy = TrustPolicy((Rule("*", trusted),))
    TrustGate(policy, storage, referrers, tmp_path).check("digits", "digits:1", version)
