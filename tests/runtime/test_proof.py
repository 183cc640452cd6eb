"""What a loaded model has to show: its tensors, its golden answers, answers that make sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Session, open_session
from nbmodel.core.golden import Golden
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ProbeError
from nbmodel.golden import GoldenSample
from nbmodel.runtime.proof import check_signature, is_out_of_memory, prove_golden, prove_made_up
from tests.tools.bad_backend import BadSession

X = np.array([[1, 2]], np.float32)
SAMPLE = GoldenSample({"x": X}, {"y": 2 * X})


def quiet(_doing: str) -> None:
    """Nobody wants to know."""


def made_up(session: Session, own: Signature = Signature(), *, allow: bool = False) -> Any:
    return prove_made_up(session, own, allow_non_finite=allow, tell=quiet)


class TestSignatures:
    ENGINE = Signature((Tensor("x", "FP32", (-1, 4)),), (Tensor("y", "FP32", (-1, 3)),))

    @pytest.mark.parametrize(
        "own",
        [
            pytest.param(ENGINE, id="the same"),
            pytest.param(Signature(), id="nothing is promised"),
            pytest.param(Signature((Tensor("x", "FP32", None),)), id="any rank"),
            pytest.param(Signature((Tensor("x", "FP32", (8, 4)),)), id="a dimension is fixed"),
            pytest.param(Signature((Tensor("x", "UNKNOWN", (-1, 4)),)), id="any datatype"),
            pytest.param(
                Signature(outputs=(Tensor("y", "FP32", (-1, 5)),)), id="an output's length"
            ),
        ],
    )
    def test_what_a_manifest_leaves_open_contradicts_nothing(self, own: Signature) -> None:
        check_signature(self.ENGINE, own)

    @pytest.mark.parametrize("shape", [(), None])
    def test_what_an_engine_does_not_know_contradicts_nothing(self, shape: Any) -> None:
        check_signature(
            Signature(outputs=(Tensor("y", "FP32", shape),)),
            Signature(outputs=(Tensor("y", "FP32", (1, 10, 4)),)),
        )

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            pytest.param(
                Signature((Tensor("z", "FP32", (-1, 4)),)),
                "input z FP32[-1,4] is missing; input x FP32[-1,4] is not promised",
                id="a name",
            ),
            pytest.param(
                Signature((Tensor("x", "UINT8", (-1, 4)),)),
                "input x FP32[-1,4] was promised as x UINT8[-1,4]",
                id="a datatype",
            ),
            pytest.param(
                Signature((Tensor("x", "FP32", (4,)),)),
                "input x FP32[-1,4] was promised as x FP32[4]",
                id="a rank",
            ),
            pytest.param(
                Signature((Tensor("x", "FP32", (-1, 5)),)),
                "input x FP32[-1,4] was promised as x FP32[-1,5]",
                id="an input's length",
            ),
            pytest.param(
                Signature(outputs=(Tensor("y", "FP32", (-1, 3, 1)),)),
                "output y FP32[-1,3] was promised as y FP32[-1,3,1]",
                id="an output's rank",
            ),
        ],
    )
    def test_a_contradiction_is_named(self, own: Signature, message: str) -> None:
        with pytest.raises(ProbeError, match="other tensors than its manifest") as caught:
            check_signature(self.ENGINE, own)
        assert str(caught.value).endswith(message)
        assert caught.value.reason == "WrongSignature"


class TestGoldenSamples:
    def test_the_right_answers(self) -> None:
        doing: list[str] = []
        proof = prove_golden(BadSession({}), SAMPLE, Golden(), tell=doing.append)
        assert proof.golden == (
            "all outputs agree; the largest difference is 0, in output 'y' at [0, 0]"
        )
        assert proof.latency_ms is not None
        assert 0 < proof.latency_ms < 1000
        assert proof.note == ""
        assert doing[:2] == [
            "answering its golden sample",
            "answering its golden sample (run 2)",
        ]
        assert len(doing) <= 10

    @pytest.mark.parametrize(
        ("behaviour", "reason", "message"),
        [
            pytest.param(
                {"run": "raise no such kernel"},
                "RunFailed",
                "cannot run the golden sample: bad cannot be run: no such kernel",
                id="an error",
            ),
            pytest.param(
                {"run": "raise no such kernel", "on": 2},
                "RunFailed",
                "cannot run the golden sample (run 2): bad cannot be run: no such kernel",
                id="an error of the second request",
            ),
            pytest.param(
                {"run": "nan"},
                "NotFinite",
                "answers its golden sample wrongly: output 'y' differs at [0, 1]: expected 4, "
                "found nan (1 of 2 elements out of tolerance)",
                id="NaN",
            ),
            pytest.param(
                {"run": "nan", "on": 2},
                "NotFinite",
                "answers its golden sample wrongly (run 2): output 'y' differs at [0, 1]: "
                "expected 4, found nan (1 of 2 elements out of tolerance)",
                id="NaN of the second request",
            ),
            pytest.param(
                {"run": "shape"},
                "WrongAnswer",
                "answers its golden sample wrongly: output 'y' should have shape [1, 2], "
                "found [1, 1]",
                id="another shape",
            ),
            pytest.param(
                {"run": "datatype"},
                "WrongAnswer",
                "answers its golden sample wrongly: output 'y' should be FP32, found INT64",
                id="another datatype",
            ),
            pytest.param(
                {"run": "raise std::bad_alloc"},
                "OutOfMemory",
                "cannot run the golden sample: bad cannot be run: std::bad_alloc",
                id="no memory",
            ),
        ],
    )
    def test_what_is_wrong_is_told(self, behaviour: Any, reason: str, message: str) -> None:
        with pytest.raises(ProbeError) as caught:
            prove_golden(BadSession(behaviour), SAMPLE, Golden(), tell=quiet)
        assert str(caught.value) == message
        assert caught.value.reason == reason

    def test_wrong_numbers_are_told_with_their_place(self) -> None:
        sample = GoldenSample({"x": X}, {"y": np.array([[2, 4.5]], np.float32)})
        with pytest.raises(ProbeError) as caught:
            prove_golden(BadSession({}), sample, Golden(rtol=0.01), tell=quiet)
        assert caught.value.reason == "WrongAnswer"
        assert str(caught.value) == (
            "answers its golden sample wrongly: output 'y' differs at [0, 1]: expected 4.5, "
            "found 4 (1 of 2 elements out of tolerance)"
        )
        prove_golden(BadSession({}), sample, Golden(rtol=0.2), tell=quiet)

    def test_nan_that_was_always_there_is_right(self) -> None:
        sample = GoldenSample({"x": X}, {"y": np.array([[2, np.nan]], np.float32)})
        prove_golden(BadSession({"run": "nan"}), sample, Golden(), tell=quiet)
        with pytest.raises(ProbeError, match="expected nan, found 4"):
            prove_golden(BadSession({}), sample, Golden(), tell=quiet)

    def test_inputs_that_the_model_does_not_take_are_told(self) -> None:
        sample = GoldenSample({"z": X}, {"y": 2 * X})
        with pytest.raises(ProbeError, match="unexpected input 'z'; missing input 'x'") as caught:
            prove_golden(BadSession({}), sample, Golden(), tell=quiet)
        assert caught.value.hint == "the model takes x FP32[-1,2]"


class TestMadeUpInputs:
    def test_a_model_that_answers_them(self) -> None:
        proof = made_up(BadSession({}))
        assert proof.golden == "no golden sample; answers made-up inputs x FP32[1,2]"
        assert proof.inputs["x"].shape == (1, 2)
        assert proof.note == ""

    @pytest.mark.parametrize(
        ("behaviour", "reason", "message"),
        [
            pytest.param(
                {"run": "shape"},
                "WrongAnswer",
                "answers made-up inputs x FP32[1,2] with an output 'y' of FP32[1, 1], its "
                "signature says y FP32[-1,2]",
                id="another shape",
            ),
            pytest.param(
                {"run": "datatype", "on": 2},
                "WrongAnswer",
                "answers made-up inputs x FP32[1,2] with an output 'y' of INT64[1, 2], its "
                "signature says y FP32[-1,2]",
                id="another datatype, the second time",
            ),
            pytest.param(
                {"run": "nan"},
                "NotFinite",
                "answers made-up inputs x FP32[1,2] with nan in output 'y' at [0, 1]",
                id="never finite",
            ),
            pytest.param(
                {"run": "raise Failed to allocate memory"},
                "OutOfMemory",
                "cannot run made-up inputs x FP32[1,2]: bad cannot be run: Failed to allocate "
                "memory",
                id="no memory",
            ),
        ],
    )
    def test_what_is_wrong_is_told(self, behaviour: Any, reason: str, message: str) -> None:
        with pytest.raises(ProbeError) as caught:
            made_up(BadSession(behaviour))
        assert str(caught.value) == message
        assert caught.value.reason == reason

    def test_nan_may_be_allowed(self) -> None:
        assert made_up(BadSession({"run": "nan"}), allow=True).latency_ms is not None

    def test_the_manifest_says_what_the_engine_does_not(self) -> None:
        own = Signature((Tensor("x", "FP32", (3, 2)),), (Tensor("y", "FP32", (3, 2)),))
        assert made_up(BadSession({}), own).inputs["x"].shape == (3, 2)

    def test_refusing_what_was_guessed_is_a_note(self) -> None:
        proof = made_up(BadSession({"run": "raise too few rows"}))
        assert proof.latency_ms is None
        assert proof.inputs is None
        assert proof.note == (
            "it was not tried out: cannot run made-up inputs x FP32[1,2]: bad cannot be run: too "
            "few rows; log it with a golden sample"
        )

    def test_refusing_what_was_taken_once_is_an_error(self) -> None:
        with pytest.raises(
            ProbeError, match=r"x FP32\[1,2\] \(run 2\): .* no such kernel"
        ) as caught:
            made_up(BadSession({"run": "raise no such kernel", "on": 2}))
        assert caught.value.reason == "RunFailed"
        with pytest.raises(ProbeError, match="with nan in output 'y'") as caught:
            made_up(BadSession({"run": "nan", "on": 2}))
        assert caught.value.reason == "NotFinite"

    def test_refusing_what_was_not_guessed_is_an_error(self) -> None:
        own = Signature((Tensor("x", "FP32", (3, 2)),))
        with pytest.raises(ProbeError, match=r"x FP32\[3,2\]: .* too few rows") as caught:
            made_up(BadSession({"run": "raise too few rows"}), own)
        assert caught.value.reason == "RunFailed"

    def test_what_cannot_be_made_up_is_a_note(self) -> None:
        own = Signature((Tensor("x", "FP32", (2**20, 2**20)),))
        proof = made_up(BadSession({}), own)
        assert proof.note == (
            "it was not tried out: input x FP32[1048576,1048576] is too large to be made up; log "
            "it with a golden sample"
        )


class TestRealEngines:
    @pytest.fixture
    def load(self, tmp_path: Path) -> Callable[[bytes], Session]:
        pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
        pytest.importorskip("onnx", reason="toy models are made with onnx")

        def load(content: bytes) -> Session:
            path = tmp_path / "model.onnx"
            path.write_bytes(content)
            return open_session(path, "onnx")

        return load

    @pytest.mark.parametrize(
        ("make", "rows"),
        [
            pytest.param(lambda bad: bad.picky(32), 32, id="a window of rows"),
            pytest.param(lambda bad: bad.spread(), 2, id="not a number for one row"),
        ],
    )
    def test_another_guess_is_tried(
        self, load: Callable[[bytes], Session], make: Callable[[Any], bytes], rows: int
    ) -> None:
        from tests.tools import bad_models

        session = load(make(bad_models))
        assert (
            made_up(session).golden == f"no golden sample; answers made-up inputs x FP32[{rows},2]"
        )

    def test_an_engine_that_takes_no_guess_is_a_note(
        self, load: Callable[[bytes], Session]
    ) -> None:
        from tests.tools.bad_models import picky

        assert "cannot be reshaped to the requested shape" in made_up(load(picky(7))).note

    @pytest.mark.parametrize(
        "name",
        [
            "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite",
            "keras_lstm_mnist_ptq.tflite",
            "movenet_single_pose_lightning_ptq.tflite",
        ],
    )
    def test_real_models_answer_made_up_inputs(self, test_models: Path, name: str) -> None:
        pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
        from nbmodel.formats import read_model

        session = open_session(test_models / name, "tflite")
        own = read_model(test_models / name).signature
        check_signature(session.signature, own)
        assert made_up(session, own).note == ""
        session.close()


@pytest.mark.parametrize(
    "text",
    [
        "std::bad_alloc",
        "Failed to allocate memory for requested buffer of size 104857600000",
        "MemoryError: Unable to allocate 3.00 GiB for an array",
        "mmap: Cannot allocate memory",
    ],
)
def test_engines_without_memory_are_understood(text: str) -> None:
    assert is_out_of_memory(text)
    assert not is_out_of_memory("the graph has no such memory")
