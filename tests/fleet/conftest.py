"""A runtime in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.fleet.known import Known
from nbmodel.fleet.local import start_local, stop_local


@pytest.fixture(scope="session")
def linear_config(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Path:
    """A machine config whose service ``linear`` runs the toy model."""
    config = tmp_path_factory.mktemp("config") / "machine.json"
    service = {
        "name": "linear",
        "api": "rdk:service:mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": str(linear_onnx)},
    }
    config.write_text(json.dumps({"services": [service]}))
    return config


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, linear_config: Path) -> Iterator[Known]:
    """A runtime that serves ``linear`` and wants a token."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    home = tmp_path_factory.mktemp("guarded")
    runtime = start_local("guarded", home, config=linear_config, require_token=True)
    yield runtime
    assert stop_local(runtime)
