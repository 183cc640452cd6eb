"""A runtime with a trust policy: real engines, keys and signatures, in the same process."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.manifest import MAX_MANIFEST, read_layers, read_object
from nbmodel.core.referrer import EMPTY, signature_manifest
from nbmodel.errors import ConfigError, InputError, NbModelError
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.collector import GRACE_S, Collector
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.repository import LoadRequest
from nbmodel.runtime.trust_policy import load_policy
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.check import sign
from nbmodel.signing.key import PrivateKey, make_key
from nbmodel.signing.statement import Statement
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.toy_versions import MODEL, ROW, SERVICE, Toy, machine, scaling_onnx, toy

pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
pytestmark = pytest.mark.unhurried

SETTLE_S = 60.0
CREATED = "2026-02-28T13:36:51.250000Z"
Start = Callable[..., EdgeRuntime]


@pytest.fixture
def key() -> PrivateKey:
    return make_key()


@pytest.fixture
def start(tmp_path: Path, key: PrivateKey) -> Iterator[Start]:
    """Start the runtime of one home; the one before is ended."""
    running: list[EdgeRuntime] = []

    def begin(trusted: PrivateKey | None = key, **options: Any) -> EdgeRuntime:
        while running:
            running.pop().close()
        policy = None
        if trusted is not None:
            file, pem = tmp_path / "policy.json", trusted.public.pem.decode()
            file.write_text(json.dumps({"models": [{"name": "*", "keys": [pem]}], **options}))
            policy = load_policy(file, None)
        runtime = EdgeRuntime(
            tmp_path / "home", name="here", environment={"HOME_OF": str(tmp_path)}, trust=policy
        )
        running.append(runtime)
        assert runtime.wait_settled(SETTLE_S)
        return runtime

    yield begin
    while running:
        running.pop().close()


def statement_of(version: Toy, **changed: Any) -> Statement:
    files, _ = read_layers(read_object(version.raw, "manifest", MAX_MANIFEST))
    digests = {entry.path: entry.digest.partition(":")[2] for entry in files}
    return dataclasses.replace(Statement(MODEL, digests, (), MODEL, version.digest), **changed)


def put(runtime: EdgeRuntime, version: Toy, *bundles: bytes) -> None:
    """Have a version and its signatures arrive, as a direct push does."""
    for bundle in bundles:
        for blob in (EMPTY, bundle):
            runtime.storage.add_bytes(blob)
        raw = signature_manifest(version.raw, bundle, created=CREATED)
        runtime.referrers.add(version.digest, runtime.storage.add_bytes(raw))
    for tag in (*version.tags, "latest"):
        runtime.tags.set(MODEL, tag, version.digest)
    runtime.tags_changed(MODEL)
    assert runtime.wait_settled(SETTLE_S)


def configure(runtime: EdgeRuntime, document: dict[str, Any] | None = None) -> None:
    runtime.set_config(machine(confirm_s=0) if document is None else document, if_match=None)
    assert runtime.wait_settled(SETTLE_S)


def factor(runtime: EdgeRuntime) -> float | None:
    """What the live model scales by; None when nothing serves."""
    try:
        answer = runtime.infer(InferRequest(SERVICE, {"x": ROW}))
    except NbModelError:
        return None
    return float(answer.outputs["y"][0, 0])


def status(runtime: EdgeRuntime) -> dict[str, Any]:
    (found,) = (one for one in runtime.status()["services"] if one["name"] == SERVICE)
    return dict(found)


def looked(runtime: EdgeRuntime) -> None:
    """Wait until the registry was asked, and all is done that follows from that."""
    deadline = time.monotonic() + SETTLE_S
    while runtime._follower.busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runtime.reconcile(retry=False)
    assert runtime.wait_settled(SETTLE_S)


def conditions(runtime: EdgeRuntime) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status(runtime)["conditions"]}


def test_what_is_signed_runs_and_what_is_not_does_not(start: Start, key: PrivateKey) -> None:
    runtime = start()
    configure(runtime)
    signed, unsigned = toy(runtime.storage, 1, 2), toy(runtime.storage, 2, 3)
    put(runtime, signed, sign(statement_of(signed), key).to_bytes())
    assert factor(runtime) == 2
    put(runtime, unsigned)
    assert factor(runtime) == 2, "the version before goes on"
    found = status(runtime)
    assert found["error"] == (
        f"scale:2 is not signed, expected a signature by key {key.public.short} (keys[0])"
    )
    assert found["hint"].startswith("nbmodel sign scale:2 --key KEY.pem")
    assert (found["number"], found["state"]) == (1, "ready")
    assert conditions(runtime)["Fetched"] == ("False", "NotTrusted")
    assert conditions(runtime)["Probed"][0] == "Unknown"
    laid_out = [path.name for path in (runtime.storage.root.parent / "packages/data").rglob("*")]
    assert not any("00-02" in name for name in laid_out), "nothing of it is unpacked"


def test_a_signature_that_comes_later_lets_it_run(start: Start, key: PrivateKey) -> None:
    runtime = start()
    configure(runtime)
    version = toy(runtime.storage, 1, 2)
    put(runtime, version)
    assert factor(runtime) is None
    put(runtime, version, sign(statement_of(version), key).to_bytes())
    assert factor(runtime) == 2
    assert status(runtime)["error"] is None


Make = Callable[[PrivateKey, Toy, Toy], bytes]
_CASES: dict[str, tuple[Make, str]] = {
    "another key": (
        lambda key, version, before: sign(statement_of(version), make_key()).to_bytes(),
        "scale:2 may not run: signed by key",
    ),
    "the signature of the version before": (
        lambda key, version, before: sign(statement_of(before), key).to_bytes(),
        "it is the signature of another version: scale",
    ),
    "other files": (
        lambda key, version, before: sign(
            statement_of(version, files={"model.onnx": "0" * 64, "golden.npz": "0" * 64}), key
        ).to_bytes(),
        "over other files: the version is other bytes in golden.npz, model.onnx",
    ),
    "a file less": (
        lambda key, version, before: sign(
            statement_of(version, files=dict(list(statement_of(version).files.items())[:1])),
            key,
        ).to_bytes(),
        "with, unsigned, model.onnx",
    ),
    "another model": (
        lambda key, version, before: sign(statement_of(version, model="other"), key).to_bytes(),
        "as model other, found as scale",
    ),
    "the files alone": (
        lambda key, version, before: sign(
            statement_of(version, model=None, manifest=None), key
        ).to_bytes(),
        "over its files alone",
    ),
    "a changed statement": (
        lambda key, version, before: dataclasses.replace(
            sign(statement_of(before), key), payload=statement_of(version).to_bytes()
        ).to_bytes(),
        "is not a signature of that key over what it says",
    ),
    "malformed DER": (
        lambda key, version, before: Bundle(
            statement_of(version).to_bytes(), b"\x30\x82\xff\xff\x02", key.public.hint
        ).to_bytes(),
        "is not a signature of that key over what it says",
    ),
    "a malformed certificate": (
        lambda key, version, before: Bundle(
            statement_of(version).to_bytes(), b"\x30\x06", chain=(b"\x30\x82\xff\xff",)
        ).to_bytes(),
        "may not run",
    ),
    "no bundle": (
        lambda key, version, before: b'{"mediaType": "text/plain"}',
        "the signature is of type 'text/plain'",
    ),
    "nonsense": (lambda key, version, before: b"\xff" * 1000, "the signature is not JSON"),
}


@pytest.mark.parametrize(
    ("make", "told"), [pytest.param(*case, id=name) for name, case in _CASES.items()]
)
def test_a_signature_that_does_not_count(
    start: Start, key: PrivateKey, make: Make, told: str
) -> None:
    runtime = start()
    configure(runtime)
    before, version = toy(runtime.storage, 1, 2), toy(runtime.storage, 2, 3)
    put(runtime, before, sign(statement_of(before), key).to_bytes())
    put(runtime, version, make(key, version, before))
    assert told in status(runtime)["error"]
    assert "\n" not in status(runtime)["error"]
    assert factor(runtime) == 2
    # One that counts beside it is enough.
    put(runtime, version, sign(statement_of(version), key).to_bytes())
    assert factor(runtime) == 3


def test_a_bundle_of_a_hundred_megabytes_is_not_read(start: Start, key: PrivateKey) -> None:
    runtime = start()
    configure(runtime)
    version = toy(runtime.storage, 1, 2)
    put(runtime, version, b" " * (100 * 1024 * 1024))
    assert status(runtime)["error"].startswith("scale:1 is not signed")


_PATHS = {
    "a path": "{tmp}/model.onnx",
    "a path out of a package": "${packages.ml_model.scale}/../../../../../model.onnx",
    "a path of the environment": "${environment.HOME_OF}/model.onnx",
}


@pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in _PATHS.items()])
def test_a_model_that_is_in_no_package_does_not_run(
    start: Start, key: PrivateKey, tmp_path: Path, path: str
) -> None:
    runtime = start()
    (tmp_path / "model.onnx").write_bytes(scaling_onnx(7))
    version = toy(runtime.storage, 1, 2)
    put(runtime, version, sign(statement_of(version), key).to_bytes())
    document = machine(confirm_s=0)
    document["services"][0]["attributes"]["model_path"] = path.replace("{tmp}", str(tmp_path))
    configure(runtime, document)
    assert factor(runtime) is None
    assert "model_path of service 'scaler' is a path" in status(runtime)["error"]
    assert "expected a package: what is not one has no signature" in status(runtime)["error"]


def test_a_model_by_path_runs_where_the_policy_allows_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(scaling_onnx(7))
    runtime = start(allow_paths=True)
    document = machine(confirm_s=0)
    document["services"][0]["attributes"]["model_path"] = str(tmp_path / "model.onnx")
    configure(runtime, document)
    assert factor(runtime) == 7


def test_what_a_client_loads_is_no_package_either(start: Start, key: PrivateKey) -> None:
    runtime = start()
    configure(runtime)
    version = toy(runtime.storage, 1, 2)
    put(runtime, version, sign(statement_of(version), key).to_bytes())
    request = LoadRequest.from_parameters(
        {"config": '{"backend": "onnxruntime"}', "file:1/model.onnx": scaling_onnx(7)}
    )
    with pytest.raises(NbModelError, match="expected a package: what is not one has no signature"):
        runtime.load(SERVICE, request)
    assert factor(runtime) != 7


def test_what_ran_before_there_was_a_policy_does_not_come_up_unsigned(start: Start) -> None:
    runtime = start(None)
    configure(runtime)
    put(runtime, toy(runtime.storage, 1, 2))
    assert factor(runtime) == 2
    runtime = start()
    assert factor(runtime) is None
    assert "scale:1 is not signed" in status(runtime)["error"]
    assert factor(start(None)) == 2


def test_what_was_accepted_once_comes_up_again_under_the_same_policy(
    start: Start, key: PrivateKey, tmp_path: Path
) -> None:
    runtime = start()
    configure(runtime)
    version = toy(runtime.storage, 1, 2)
    put(runtime, version, sign(statement_of(version), key).to_bytes())
    assert factor(runtime) == 2
    # As if the certificate had expired, or the clock stood at 1970: it could not be checked now.
    shutil.rmtree(tmp_path / "home" / "referrers")
    assert factor(start()) == 2
    assert factor(start(make_key())) is None, "another policy decides anew"
    (tmp_path / "home" / "trusted.json").write_text('{"policy": 3}')
    assert factor(start()) is None


def test_signatures_are_kept_as_long_as_their_version(start: Start, key: PrivateKey) -> None:
    runtime = start()
    kept, gone = toy(runtime.storage, 1, 2), toy(runtime.storage, 2, 3)
    for version in (gone, kept):
        put(runtime, version, sign(statement_of(version), key).to_bytes())
    for tag in gone.tags:
        runtime.tags.delete(MODEL, tag)
    now = [0.0]
    collector = Collector(
        runtime.storage, runtime.tags, referrers=runtime.referrers, clock=lambda: now[0]
    )
    collector.collect(held=())
    assert set(runtime.referrers.subjects()) == {kept.digest, gone.digest}
    now[0] += GRACE_S + 1
    collector.collect(held=())
    assert runtime.referrers.subjects() == (kept.digest,)
    (signature,) = runtime.referrers.of(kept.digest)
    assert runtime.storage.has(signature)
    blobs = {digest for digest, _, _ in runtime.storage.digests()}
    assert gone.digest not in blobs
    assert runtime.referrers.needed(runtime.storage, {kept.digest}) <= blobs


def test_a_follower_fetches_signatures_first_and_nothing_else_of_what_may_not_run(
    start: Start, key: PrivateKey, tmp_path: Path
) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    from nbmodel.storage import MemoryStorage

    mine = MemoryStorage()
    version = toy(mine, 1, 2)
    with (
        docker_registry(tmp_path / "registry") as url,
        Distribution(url, access=Access()) as remote,
    ):
        remote.push(MODEL, mine, version.digest, tags=[*version.tags, "latest"])
        runtime = start()
        document = machine(confirm_s=0)
        document["packages"][0]["registry"] = url
        configure(runtime, document)
        looked(runtime)
        assert "scale:latest is not signed" in status(runtime)["error"]
        files, _ = read_layers(read_object(version.raw, "manifest", MAX_MANIFEST))
        assert not any(runtime.storage.has(entry.digest) for entry in files)

        bundle = sign(statement_of(version), key).to_bytes()
        for blob in (EMPTY, bundle):
            mine.add_bytes(blob)
        raw = signature_manifest(version.raw, bundle, created=CREATED)
        remote.push_signatures(MODEL, mine, version.digest, [mine.add_bytes(raw)])
        runtime.catch_up()
        looked(runtime)
        assert factor(runtime) == 2
        assert runtime.storage.has(runtime.referrers.of(version.digest)[0])


# What a policy is started with


def test_a_policy_names_keys_relative_to_itself(tmp_path: Path, key: PrivateKey) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "team.pem").write_bytes(key.public.pem)
    file = tmp_path / "policy.json"
    file.write_text('{"models": [{"name": "digits", "keys": ["keys/team.pem"]}]}')
    policy = load_policy(file, None)
    assert policy is not None
    assert policy.rules[0].trusted.keys[0].key.hint == key.public.hint
    alone = load_policy(None, tmp_path / "keys" / "team.pem")
    assert alone is not None
    assert (alone.rules[0].name, alone.allow_paths) == ("*", False)
    assert load_policy(None, None) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "cannot read", id="missing"),
        pytest.param(b"{", "cannot be read", id="no JSON"),
        pytest.param(b"[" * 100_000, "cannot be read", id="nested"),
        pytest.param(b'{"models": [], "models": []}', "given twice", id="a key twice"),
        pytest.param(b'{"models": [{"name": "*", "keys": ["x"]}]}', "cannot read", id="no key"),
        pytest.param(b" " * 2_000_000, "more than 1048576 bytes", id="large"),
    ],
)
def test_a_policy_that_cannot_be_read_starts_nothing(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "policy.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load_policy(file, None)


def test_a_policy_and_a_key_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not go together"):
        load_policy(tmp_path / "a", tmp_path / "b")
