from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, FormatError, ShapeError
from nbmodel.inference.http1 import Answer
from nbmodel.inference.known import KnownModel, KnownModels, model_of, optional_inputs
from nbmodel.protocol.http import decode_request, encode_response
from nbmodel.protocol.inference import InferRequest, InferResponse, RequestedOutput

SIGNATURE = Signature((Tensor("a", "FP32", (-1, 2)), Tensor("b", "INT64", (-1,))))
A, B = np.arange(4, dtype=np.float32).reshape(2, 2), np.array([1, 2])


def known(signature: Signature = SIGNATURE) -> KnownModel:
    return KnownModel("m", "", signature)


def sent(model: KnownModel, inputs: object, outputs: Any = None, **more: Any) -> InferRequest:
    """What a server reads of the request."""
    body = model.body(inputs, outputs, id=more.pop("id", ""), parameters=more)
    return decode_request(bytearray(body.join()), body.header_length, model="m")


class TestRequests:
    def test_a_known_form_is_sent_as_an_unknown_one(self) -> None:
        model = known()
        for factor in (1, 2, 3):
            request = sent(model, {"a": A * np.float32(factor), "b": B * factor})
            np.testing.assert_array_equal(request.inputs["a"], A * factor)
            np.testing.assert_array_equal(request.inputs["b"], B * factor)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"a": A[:1], "b": B}, id="another shape"),
            pytest.param({"b": B, "a": A}, id="another order"),
            pytest.param({"a": A.astype(">f4"), "b": B}, id="the other byte order"),
            pytest.param({"a": np.asfortranarray(A), "b": B}, id="columns first"),
            pytest.param({"a": A[::-1], "b": B[::-1]}, id="backwards"),
            pytest.param({"a": A.astype(np.float64), "b": B}, id="another datatype"),
            pytest.param({"a": A.tolist(), "b": B}, id="lists"),
            pytest.param({"a": A, "b": B.astype(np.int32)}, id="narrower integers"),
        ],
    )
    def test_what_differs_from_a_known_form_is_sent_right(self, other: dict[str, Any]) -> None:
        model = known()
        sent(model, {"a": A, "b": B})
        for _ in range(2):
            request = sent(model, other)
            np.testing.assert_array_equal(request.inputs["a"], np.asarray(other["a"], np.float32))
            np.testing.assert_array_equal(request.inputs["b"], other["b"])

    def test_outputs_ids_and_parameters_are_no_form(self) -> None:
        model = known()
        inputs = {"a": A, "b": B}
        assert sent(model, inputs).output_names is None
        assert sent(model, inputs, ["y"]).output_names == ("y",)
        assert sent(model, inputs, [RequestedOutput("z", binary=False)]).wants_binary("z") is False
        assert sent(model, inputs, ["y"]).output_names == ("y",)
        assert sent(model, inputs, id="7").id == "7"
        assert sent(model, inputs, priority=1).parameters == {"priority": 1}
        again = sent(model, inputs)
        assert (again.id, again.parameters, again.output_names) == ("", {}, None)

    def test_what_does_not_fit_is_refused_each_time(self) -> None:
        model = known()
        sent(model, {"a": A, "b": B})
        for _ in range(2):
            with pytest.raises(ShapeError):
                sent(model, {"a": A[0, 0], "b": B})
            with pytest.raises(DatatypeError):
                sent(model, {"a": A, "b": np.array([0.5, 1])})

    def test_text_of_any_length_is_sent(self) -> None:
        model = known(Signature((Tensor("s", "BYTES", (-1,)),)))
        for text in (["a"], ["bcd"], [""]):
            request = sent(model, {"s": np.array(text, object)})
            assert request.inputs["s"].tolist() == [text[0].encode()]

    def test_many_forms_are_not_kept_for_ever(self) -> None:
        model = known(Signature((Tensor("x", "FP32", (-1,)),)))
        for length in range(1, 200):
            assert sent(model, np.zeros(length, np.float32)).inputs["x"].size == length


def answer(outputs: dict[str, np.ndarray[Any, Any]], **more: Any) -> Answer:
    """What a server sends, in memory of its own."""
    request = InferRequest("m", {}, binary_outputs=True)
    encoded = encode_response(InferResponse("m", "1", outputs, **more), request)
    headers = {name.lower(): value for name, value in encoded.headers.items()}
    return Answer(200, "OK", headers, memoryview(bytearray(encoded.join())))


class TestAnswers:
    @pytest.mark.parametrize(
        "outputs",
        [
            pytest.param({"y": A}, id="one"),
            pytest.param({"y": A, "z": B, "w": np.uint8([1, 2, 3])}, id="several"),
            pytest.param({"w": np.uint8([1, 2, 3]), "y": A}, id="not aligned"),
            pytest.param({"y": np.array([True, False])}, id="booleans"),
            pytest.param({"y": np.array([b"a", b""], object)}, id="text"),
            pytest.param({"y": np.empty((0, 3), np.float32)}, id="nothing"),
            pytest.param({"y": np.float64(3.5).reshape(())}, id="a scalar"),
        ],
    )
    def test_a_known_answer_is_read_as_an_unknown_one(self, outputs: dict[str, Any]) -> None:
        model = known()
        for _ in range(3):
            response = model.read(answer(outputs))
            assert (response.model, response.version) == ("m", "1")
            assert list(response.outputs) == list(outputs)
            for name, array in outputs.items():
                assert response.outputs[name].dtype == array.dtype
                np.testing.assert_array_equal(response.outputs[name], array)
                assert response.outputs[name].flags.writeable

    def test_values_and_ids_are_those_of_the_answer(self) -> None:
        model = known()
        for number in range(3):
            response = model.read(answer({"y": A + number}, id=str(number)))
            assert (response.id, response.outputs["y"][0, 0]) == (str(number), number)

    def test_bytes_that_are_missing_are_noticed_where_the_form_is_known(self) -> None:
        model = known()
        whole = answer({"y": A})
        model.read(whole)
        for body in (whole.body[:-1], memoryview(bytearray(whole.body) + b"\0")):
            with pytest.raises(FormatError, match=r"expecting|unexpected"):
                model.read(Answer(200, "OK", whole.headers, body))


class TestKnownModels:
    def test_a_model_is_forgotten_when_another_version_answers(self) -> None:
        models = KnownModels()
        model = models.keep(known())
        models.answered(model, "1")
        current = models.get("m", "")
        assert current is not None
        assert current.answering == "1"
        models.answered(current, "1")
        assert models.get("m", "") is current
        models.answered(current, "2")
        assert models.get("m", "") is None

    def test_an_unknown_rank_takes_any(self) -> None:
        model = model_of("m", "", Signature((Tensor("x", "FP32", (-1,)),)))
        assert sent(model, A).inputs["x"].shape == (2, 2)

    @pytest.mark.parametrize(
        ("config", "found"),
        [
            ({"input": [{"name": "a", "optional": True}, {"name": "b"}]}, {"a"}),
            ({"input": [{"name": "a", "optional": "yes"}, 3]}, set()),
            ({"input": None}, set()),
            ({}, set()),
        ],
    )
    def test_a_config_tells_what_may_be_left_out(
        self, config: dict[str, Any], found: set[str]
    ) -> None:
        assert optional_inputs(config) == found
