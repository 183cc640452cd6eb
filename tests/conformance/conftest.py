"""A real tritonserver and a runtime of ours, with the same models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.triton import NoTritonError, Triton, installed, packages, triton


@pytest.fixture(scope="session")
def real_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A tritonserver with every toy model loaded; skips where there can be none."""
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    from tests.tools.example_models import ALL, write_triton_repository

    try:
        installed()
    except NoTritonError as exc:
        pytest.skip(f"no tritonserver: {exc}")
    repository = tmp_path_factory.mktemp("triton") / "models"
    write_triton_repository(repository, packages=packages())
    names = [model.name for model in ALL]
    with triton(repository, tmp_path_factory.mktemp("triton-scratch"), models=names) as server:
        yield server
