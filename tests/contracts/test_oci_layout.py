"""The registry on disk is an OCI image layout to a program that knows nothing of nbmodel."""

from __future__ import annotations

import json
import shutil
import subprocess
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
    with Registry(tmp_path / "registry") as registry:
        for content in contents:
            registry.add(
                "digits",
                {"model.bin": content},
                framework="onnx",
                model_type="other",
                signature=Signature(),
            )
    for number, content in enumerate(contents, start=1):
        copied = tmp_path / f"copy{number}"
        source = f"oci:{tmp_path / 'registry'}:digits:{number}"
        command = [skopeo, "--insecure-policy", "copy", "--quiet", source, f"dir:{copied}"]
        subprocess.run(command, check=True, timeout=60)
        (layer,) = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))["layers"]
        assert (copied / layer["digest"].removeprefix("sha256:")).read_bytes() == content
