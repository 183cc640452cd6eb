"""The soak, for a short while."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_runtime_under_mixed_load_is_right_and_does_not_grow(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    from tests.tools.soak import run

    report = run(40, tmp_path)
    assert not report.problems(), report.table()
