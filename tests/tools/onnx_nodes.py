"""The node tests of the ONNX standard, and what is known of them on ONNX Runtime."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

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
    "type the protocol cannot carry": r"cannot carry|is (SEQUENCE|OPTIONAL)|is not an array|is not a regular array",
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


def collect() -> list[Any]:
    """All cases of the installed ``onnx``, made by its reference implementation."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the cases mean
        return list(collect_testcases(None))


def array(value: Any) -> Any:
    """The array that a case has as an input or output."""
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def refused(text: str) -> str | None:
    """Why ONNX Runtime or the protocol refuses a case, from what the error says."""
    return next((reason for reason, told in REFUSALS.items() if re.search(told, text)), None)


def floor(most: int, fewer: int) -> int:
    """How many cases must be right: ``most``, or ``fewer`` with an older ONNX Runtime."""
    import onnxruntime

    # Counted with onnx 1.23 and ONNX Runtime 1.31; older engines know fewer operators.
    version = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    return most if version >= (1, 31) else fewer


def disagreements(
    case: Any, names: Sequence[str], answers: Mapping[str, Any], outputs: Sequence[Any]
) -> Iterator[str]:
    """What is wrong with the answers to a case.

    Args:
        case: The case.
        names: Of the model's outputs, in its order.
        answers: Name → array.
        outputs: What the standard expects, in order.
    """
    for name, expected in zip(names, outputs, strict=False):
        wanted = GoldenSample({}, {"y": array(expected)}).outputs["y"]
        found = answers[name]
        if (wanted.dtype, wanted.shape) != (found.dtype, found.shape):
            yield f"{name} is {found.dtype}{found.shape}, not {wanted.dtype}{wanted.shape}"
        elif wanted.dtype == object:
            if wanted.tolist() != found.tolist():
                yield f"{name} is {found.tolist()}, not {wanted.tolist()}"
        elif not np.allclose(
            found.astype(np.float64),
            wanted.astype(np.float64),
            rtol=case.rtol,
            atol=ROUNDED.get(case.name, case.atol),
            equal_nan=True,
        ):
            yield f"{name} is {found}, not {wanted}"
