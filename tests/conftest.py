"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
_ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Have Ctrl-C end what tests start, also where a shell runs them in its background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes what belongs to the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBMODEL_HOME", str(home / "nbmodel"))
        patch.delenv("NBMODEL_REGISTRY", raising=False)
        patch.delenv("NBMODEL_REMOTE", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(home / "jupyter"))
        yield


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds ``pyproject.toml``."""
    return _ROOT


@pytest.fixture(scope="session")
def test_models(project_root: Path) -> Path:
    """The folder of real models, ``$NBMODEL_TEST_MODELS`` or ``../shared/models``."""
    given = os.environ.get("NBMODEL_TEST_MODELS")
    folder = Path(given) if given else project_root.parent / "shared" / "models"
    if not folder.is_dir():
        pytest.skip(f"no real models at {folder}; set NBMODEL_TEST_MODELS to their folder")
    return folder


@pytest.fixture(scope="session")
def linear_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model, ``y = x @ W + b``: x FP32[-1,2], y FP32[-1,3].

    W is [[1, 2, 3], [4, 5, 6]] and b is [10, 20, 30], so [[1, 1]] gives [[15, 27, 39]].
    """
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    import numpy as np

    weights = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    path = tmp_path_factory.mktemp("models") / "linear.onnx"
    path.write_bytes(_linear_onnx(weights, np.array([10, 20, 30], np.float32)))
    return path


def _linear_onnx(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "W", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(bias, "b")],
    )
    # Versions that every supported onnxruntime reads, not the newest that onnx writes.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
