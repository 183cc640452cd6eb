"""The registry on disk is an OCI image layout to a program that knows nothing of nbmodel."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nbmodel.core.signature import Signature
from nbmodel.registry import Registry


@pytest.fixture
def skopeo() -> str:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    return program


def test_skopeo_reads_the_versions_of_a_registry(skopeo: str, tmp_path: Path) -> None:
    contents = (b"first weights", b"second weights")
    fill(tmp_path / "registry", contents)
    for number, content in enumerate(contents, start=1):
        assert copied(skopeo, tmp_path, number) == content


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is packed on Windows")
def test_skopeo_reads_the_newest_version_and_packed_ones_when_they_were_made_whole(
    skopeo: str, tmp_path: Path
) -> None:
    old = random.Random(0).randbytes(2_000_000)
    new = old[:1_000_000] + b"changed" + old[1_000_007:]
    fill(tmp_path / "registry", (old, new))
    assert copied(skopeo, tmp_path, 2) == new
    with pytest.raises(subprocess.CalledProcessError):
        copied(skopeo, tmp_path, 1)
    with Registry(tmp_path / "registry") as registry:
        registry.storage.path(registry.resolve("digits:1").files[0].digest)
    assert copied(skopeo, tmp_path, 1) == old


def fill(root: Path, contents: tuple[bytes, ...]) -> None:
    """A version of each."""
    with Registry(root) as registry:
        for content in contents:
            registry.add(
                "digits",
                {"model.bin": content},
                framework="onnx",
                model_type="other",
                signature=Signature(),
            )


def copied(skopeo: str, folder: Path, number: int) -> bytes:
    """The file of a version, as skopeo finds it."""
    copy = folder / f"copy{number}"
    source = f"oci:{folder / 'registry'}:digits:{number}"
    command = [skopeo, "--insecure-policy", "copy", "--quiet", source, f"dir:{copy}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    layers = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))["layers"]
    return (copy / layers[0]["digest"].removeprefix("sha256:")).read_bytes()
