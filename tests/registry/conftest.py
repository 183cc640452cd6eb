"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version
from nbmodel.registry import Registry

SIGNATURE = Signature(
    inputs=(Tensor("x", "FP32", (-1, 64)),),
    outputs=(Tensor("y", "FP32", (-1, 3), labels=("ant", "bee", "cat")),),
)
Add = Callable[..., Version]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry whose folder is not there yet."""
    with Registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def add(registry: Registry) -> Add:
    """Make a version: ``add("digits", b"weights", metrics={...})``."""

    def make(name: str = "digits", content: bytes | Path = b"weights", **options: Any) -> Version:
        given: dict[str, Any] = {
            "framework": "onnx",
            "model_type": "classification",
            "signature": SIGNATURE,
        }
        return registry.add(name, {"model.onnx": content}, **{**given, **options})

    return make
