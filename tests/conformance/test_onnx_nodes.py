"""The ONNX standard's own node tests, through ``onnx_cpu``: it may refuse, but never be wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nbmodel.backends import load_backend
from nbmodel.errors import InferenceError, SignatureError
from tests.tools.onnx_nodes import KNOWN, array, collect, disagreements, floor, refused


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    pytest.importorskip("onnx.backend.test.case.node", reason="pip install onnx")
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    return collect()


@pytest.mark.slow
def test_no_node_test_is_answered_wrongly(cases: list[Any], tmp_path: Path) -> None:
    verdicts: Counter[str] = Counter()
    failures = []
    for case in cases:
        verdict = judge(case, tmp_path / "model.onnx")
        verdicts[verdict] += 1
        if verdict.startswith(("wrong", "unexplained")) and case.name not in KNOWN:
            failures.append(f"{case.name}: {verdict}")
    assert not failures, "\n".join(failures)
    assert verdicts["right"] >= floor(1375, 1000), verdicts


def judge(case: Any, path: Path) -> str:
    path.write_bytes(case.model.SerializeToString())
    try:
        session = load_backend("onnx_cpu").load({"model_path": str(path)})
        names = [tensor.name for tensor in session.signature.outputs]
        for inputs, outputs in case.data_sets:
            feed = dict(zip((t.name for t in session.signature.inputs), inputs, strict=False))
            answers = session.infer({name: array(value) for name, value in feed.items()})
            wrong = next(disagreements(case, names, answers, outputs), None)
            if wrong is not None:
                return f"wrong: {wrong}"
    except (InferenceError, SignatureError) as exc:
        text = f"{exc} {exc.__cause__}"
        return refused(text) or f"unexplained: {text[:500]}"
    return "right"
