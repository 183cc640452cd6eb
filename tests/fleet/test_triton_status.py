"""What a status makes of a Triton's own answers."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.display import StatusCard
from nbmodel.fleet.triton_record import Ran, Record
from nbmodel.fleet.triton_runtime import Loaded

RECORD = Record(
    Ran("digits", 3, "2026-02-28T13-36-51", f"sha256:{'a' * 64}"),
    "classification",
    Signature((Tensor("x", "FP32", (-1, 2)),)),
    "2026-03-01T00:00:00Z",
    before=Ran("digits", 2, "2026-02-27T13-36-51", f"sha256:{'b' * 64}"),
)
#: As HTTP has them; 4 requests of 2.5 ms, of which 1 ms waited and 1.25 ms computed.
COUNTED: dict[str, Any] = {
    "name": "digits",
    "version": "3",
    "last_inference": 1772323200000,
    "inference_count": 4,
    "execution_count": 2,
    "inference_stats": {
        "success": {"count": 4, "ns": 10_000_000},
        "fail": {"count": 1, "ns": 3},
        "queue": {"count": 4, "ns": 4_000_000},
        "compute_infer": {"count": 4, "ns": 5_000_000},
    },
}


def as_text(value: Any) -> Any:
    """As the JSON of gRPC has it: 64-bit numbers are text."""
    if isinstance(value, dict):
        return {key: as_text(one) for key, one in value.items()}
    return str(value)


@pytest.mark.parametrize("counted", [COUNTED, as_text(COUNTED)], ids=["http", "grpc"])
def test_counts_and_mean_times_are_shown(counted: dict[str, Any]) -> None:
    loaded = Loaded("digits", "3", ("3",), "onnxruntime", RECORD, True, counted)
    entry = loaded.to_json()
    assert (entry["inferences"], entry["statistics"]["execution_count"]) == (4, 2)
    assert entry["statistics"]["inference_stats"]["queue"] == {"count": 4, "ns": 4_000_000}
    assert (entry["number"], entry["before"], entry["phase"]) == (3, "digits:2", "ready")
    text = StatusCard({"services": [entry], "server": "triton 2.51.0"}).text()
    (line,) = [line for line in text.splitlines() if line.split()[:3] == ["digits", "4", "1"]]
    assert line.split() == ["digits", "4", "1", "2.5", "1", "1.25"]
    assert "triton 2.51.0" in text


def test_a_service_that_has_answered_nothing_has_no_mean_times() -> None:
    loaded = Loaded("digits", "3", ("3",), "onnxruntime", RECORD, True, {})
    text = StatusCard({"services": [loaded.to_json()]}).text()
    assert [line.split() for line in text.splitlines() if line.split()[:3] == ["digits", "0", "0"]]


def test_a_model_that_is_not_ready_fails_and_says_so() -> None:
    loaded = Loaded("digits", "3", ("3",), "onnxruntime", RECORD, False, {})
    card = StatusCard({"services": [loaded.to_json()]})
    assert card.failed
    assert "not ready" in card.text()


def test_models_of_others_are_named_and_left_alone() -> None:
    other = Loaded("bert", "1", ("1",), "pytorch", None, True, {}).to_json()
    lost = {"name": "gpt", "state": "unavailable", "error": "no file"}
    text = StatusCard({"services": [], "others": [other, lost]}).text()
    assert "left alone: bert (ready), gpt (unavailable: no file)" in text
