"""Signed versions on their way to a runtime that demands signatures, process and all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nbmodel.cli import main
from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ConfigError, DeployError, InputError
from nbmodel.fleet.options import StartOptions
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.toy_versions import scaling_onnx

pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")

SIGNATURE = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path / "home")
    yield made
    for known in made.runtimes._known.list():
        if known.is_local:
            made.runtimes.remove(known.name)
    made.close()


def add(client: Client, factor: float) -> str:
    """The reference of a version that scales."""
    return client.registry.add(
        "scale",
        {"model.onnx": scaling_onnx(factor)},
        framework="onnx",
        model_type="other",
        signature=SIGNATURE,
    ).reference


def answer(client: Client) -> float:
    result = client.infer("scale@edge", {"x": np.array([[1, 2]], np.float32)})
    return float(result.outputs["y"][0, 0])


@pytest.mark.unhurried
@pytest.mark.slow
def test_deploying_to_a_runtime_that_trusts_one_key(client: Client, tmp_path: Path) -> None:
    mine, other = (client.make_key(tmp_path / f"{name}.pem").made for name in ("mine", "other"))
    client.runtimes.start("edge", trusted_key=mine.public)
    first = add(client, 2)
    with pytest.raises(
        DeployError, match="scale:1 is not signed, expected a signature by key"
    ) as e:
        client.deploy("scale:1", on="edge", confirm_s=0)
    assert "nbmodel sign scale:1 --key KEY.pem" in (e.value.hint or "")
    client.sign(first, key=mine.private)
    client.deploy("scale", on="edge", confirm_s=0)
    assert answer(client) == 2

    client.sign(add(client, 3), key=other.private)
    expected = f"signed by key {other.hint[:12]}, expected key {mine.hint[:12]}"
    with pytest.raises(DeployError, match=expected) as e:
        client.deploy("scale", on="edge", confirm_s=0)
    assert "version 1 keeps serving" in str(e.value)
    assert answer(client) == 2
    client.sign("scale:2", key=mine.private)
    assert answer(client) == 3, "what is followed is brought at once"

    # Started again it demands the same, without being told.
    client.runtimes.stop("edge")
    client.runtimes.start("edge")
    add(client, 4)
    with pytest.raises(DeployError, match="scale:3 is not signed"):
        client.deploy("scale", on="edge", confirm_s=0)
    client.runtimes.stop("edge")
    mine.public.unlink()
    with pytest.raises(DeployError, match="cannot read"):  # nothing runs without what it demands
        client.runtimes.start("edge")


@pytest.mark.unhurried
@pytest.mark.slow
def test_deploying_through_a_registry_carries_signatures(client: Client, tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    key = client.make_key(tmp_path / "mine.pem").made
    policy = tmp_path / "policy.json"
    policy.write_text('{"models": [{"name": "sca*", "keys": ["mine.pub.pem"]}]}')
    client.runtimes.start("edge", trust_policy=policy)
    with docker_registry(tmp_path / "registry") as url:
        client.sign(add(client, 2), key=key.private)
        client.deploy("scale", on="edge", registry=url, confirm_s=0)
        assert answer(client) == 2
        add(client, 3)
        with pytest.raises(DeployError, match="is not signed"):
            client.deploy("scale", on="edge", registry=url, confirm_s=0)
        client.sign("scale:2", key=key.private)
        client.deploy("scale", on="edge", registry=url, confirm_s=0)
        assert answer(client) == 3


def test_a_policy_and_a_key_take_each_others_place() -> None:
    before = StartOptions().changed({"trust_policy": "/etc/policy.json"})
    assert before.words() == ["--trust-policy", "/etc/policy.json"]
    after = before.changed({"trusted_key": "/etc/key.pem"})
    assert (after.trust_policy, after.trusted_key) == (None, "/etc/key.pem")
    assert after.changed({"trusted_key": "off"}) == StartOptions()
    assert StartOptions.from_json(after.to_json()) == after


def test_a_policy_that_is_no_file_is_told_at_once(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*policy\.json"):
        client.runtimes.start("edge", trust_policy=tmp_path / "policy.json")
    with pytest.raises((ConfigError, InputError)):
        client.runtimes.install(
            "edge", print_only=True, user=True, trusted_key=tmp_path / "key.pem"
        )


# On the command line


def test_sign_verify_and_show_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "cli-home"))
    monkeypatch.setenv("GEHEIM", "sesame")
    monkeypatch.chdir(tmp_path)
    with Client(tmp_path / "cli-home").registry as registry:
        files: dict[str, Path | bytes] = {"model.onnx": scaling_onnx(2)}
        registry.add("scale", files, framework="onnx", model_type="other", signature=SIGNATURE)

    def run(*words: str, code: int = 0) -> str:
        assert main(words) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    assert "keep it to yourself; wants its password" in run(
        "sign", "--make-key", "team.pem", "--password-env", "GEHEIM"
    )
    assert "is not signed" in run("verify", "scale:1", "--public-key", "team.pub.pem", code=1)
    assert "is encrypted" in run("sign", "scale:1", "--key", "team.pem", code=2)
    signed = run("sign", "scale:1", "--key", "team.pem", "--password-env", "GEHEIM", "-o", "a.sig")
    assert "1 file, and what the version says of them" in signed
    assert Path("a.sig").read_bytes().startswith(b'{"dsseEnvelope"')
    assert "signature is good" in run("verify", "scale:1", "--public-key", "team.pub.pem")
    assert "not checked" in run("show", "scale:1")
    run("sign", "--make-key", "other.pem")
    refused = run("verify", "scale:1", "--public-key", "other.pub.pem", code=1)
    assert "has 1 signature, which does not count: signed by key" in refused
    assert "is not set, expected a password" in run(
        "sign", "scale:1", "--key", "team.pem", "--password-env", "NOWHERE", code=2
    )
    assert "go with --public-key or --root" in run("verify", "scale:1", "--signer", "x", code=2)
    assert "expected a version to sign" in run("sign", code=2)
