"""The ONNX standard's own node tests, through ``onnx_cpu``: it may refuse, but never be wrong."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Session, load_backend
from nbmodel.errors import InferenceError, SignatureError
from nbmodel.golden import GoldenSample

#: Why ONNX Runtime or the protocol refuses a case: reason → what the error says.
REFUSALS = {
    "operator not implemented": r"NOT_IMPLEMENTED",
    "operator set newer than the engine": r"newer ONNX than onnxruntime",
    "operator of a training or preview domain": r"is not a registered function",
    "attribute newer than the engine": r"Unrecognized attribute",
    "feature of an operator not supported": r"not supported|Batchwise recurrent|is not defined for",
    "types the engine does not allow": r"Type Error|INVALID_GRAPH",
    "shapes the engine does not allow": r"Attention node",
    "locale that is not on this machine": r"Failed to construct locale",
    "type the protocol cannot carry": r"cannot carry|is (SEQUENCE|OPTIONAL)|is not an array",
}

#: Cases whose answers differ from the standard's, and why that is not ours to mend.
KNOWN = {
    # The reference masks with minus infinity, ONNX Runtime with the lowest finite number.
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
    # Random numbers: the standard fixes no generator.
    "test_training_dropout",
    "test_training_dropout_default",
    "test_training_dropout_default_mask",
    "test_training_dropout_mask",
    # Scales or output_shape read otherwise; on ONNX Runtime's own list of exclusions.
    "test_maxunpool_export_with_output_shape",
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}

#: Cases that are right up to rounding: name → absolute tolerance, above the runner's 1e-7.
ROUNDED = {
    # Sums of 10 to 128 products of up to 100 in 32 bits, where the reference has exact zeros.
    **{
        f"test_{name}{suffix}": 2e-3
        for name in ("dft", "dft_axis", "dft_inverse", "dft_rfft", "dft_irfft")
        for suffix in ("", "_opset19")
    },
    "test_stft": 1e-3,
    "test_stft_with_window": 1e-3,
    # One unit in the last place of 16 bits at 0.4.
    "test_attention_4d_causal_fp16": 5e-4,
}


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    collect = pytest.importorskip(
        "onnx.backend.test.case.node", reason="pip install onnx"
    ).collect_testcases
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the cases mean
        return list(collect(None))


@pytest.mark.slow
def test_no_node_test_is_answered_wrongly(cases: list[Any], tmp_path: Path) -> None:
    import onnxruntime

    verdicts: Counter[str] = Counter()
    failures = []
    for case in cases:
        verdict = judge(case, tmp_path / "model.onnx")
        verdicts[verdict] += 1
        if verdict.startswith(("wrong", "unexplained")) and case.name not in KNOWN:
            failures.append(f"{case.name}: {verdict}")
    assert not failures, "\n".join(failures)
    version = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    # Counted with onnx 1.23 and ONNX Runtime 1.31; older engines know fewer operators.
    assert verdicts["right"] >= (1375 if version >= (1, 31) else 1000), verdicts


def judge(case: Any, path: Path) -> str:
    path.write_bytes(case.model.SerializeToString())
    try:
        session = load_backend("onnx_cpu").load({"model_path": str(path)})
        for inputs, outputs in case.data_sets:
            feed = dict(zip((t.name for t in session.signature.inputs), inputs, strict=False))
            answers = session.infer({name: array(value) for name, value in feed.items()})
            wrong = next(disagreements(case, session, answers, outputs), None)
            if wrong is not None:
                return f"wrong: {wrong}"
    except (InferenceError, SignatureError) as exc:
        text = f"{exc} {exc.__cause__}"
        found = (reason for reason, told in REFUSALS.items() if re.search(told, text))
        return next(found, f"unexplained: {text[:500]}")
    return "right"


def array(value: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def disagreements(
    case: Any, session: Session, answers: dict[str, Any], outputs: list[Any]
) -> Iterator[str]:
    for tensor, expected in zip(session.signature.outputs, outputs, strict=False):
        wanted = GoldenSample({}, {"y": array(expected)}).outputs["y"]
        found = answers[tensor.name]
        if (wanted.dtype, wanted.shape) != (found.dtype, found.shape):
            yield f"{tensor.name} is {found.dtype}{found.shape}, not {wanted.dtype}{wanted.shape}"
        elif wanted.dtype == object:
            if wanted.tolist() != found.tolist():
                yield f"{tensor.name} is {found.tolist()}, not {wanted.tolist()}"
        elif not np.allclose(
            found.astype(np.float64),
            wanted.astype(np.float64),
            rtol=case.rtol,
            atol=ROUNDED.get(case.name, case.atol),
            equal_nan=True,
        ):
            yield f"{tensor.name} is {found}, not {wanted}"
