"""Both clients against a runtime."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.signature import DATATYPES
from nbmodel.errors import (
    AuthenticationError,
    DatatypeError,
    InputError,
    NbModelError,
    ShapeError,
    TargetError,
    TensorNameError,
)
from nbmodel.fleet.known import Known
from nbmodel.inference import AsyncInferenceClient, InferenceClient
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.inference import RequestedOutput

Open = Callable[..., Any]


ONES = np.ones((1, 2), np.float32)
ANSWER = [[15, 27, 39]]


class TestARuntime:
    def test_it_tells_who_it_is_and_what_it_has(self, client: Any) -> None:
        assert client.is_live()
        assert client.is_ready()
        assert client.server_metadata().name
        assert client.is_model_ready("linear")
        assert not client.is_model_ready("nope")
        metadata = client.model_metadata("linear")
        assert (metadata.name, metadata.versions) == ("linear", ("1",))
        assert [(t.name, t.datatype, t.shape) for t in metadata.signature.inputs] == [
            ("x", "FP32", (-1, 2))
        ]

    @pytest.mark.parametrize(
        "given",
        [
            pytest.param({"x": ONES}, id="what the model takes"),
            pytest.param({"x": np.ones((1, 2))}, id="a notebook's float64"),
            pytest.param({"x": [[1, 1]]}, id="lists"),
            pytest.param(ONES, id="the only input without its name"),
            pytest.param([1, 1], id="a row without the batch axis"),
            pytest.param({"x": np.ones((2, 3), np.float32).T[:1]}, id="a view"),
        ],
    )
    def test_what_a_person_has_is_taken(self, client: Any, given: Any) -> None:
        for _ in range(3):  # also when its form is known
            answer = client.infer("linear", given)
            assert answer.outputs["y"].tolist() == ANSWER
            answer.outputs["y"] += 1  # it is the caller's
            assert (answer.model, answer.version) == ("linear", "1")

    def test_files_frames_and_pictures_are_taken(self, client: Any, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        np.save(tmp_path / "x.npy", ONES)
        frame = pandas.DataFrame({"a": [1.0], "b": [1.0]})
        for given in (tmp_path / "x.npy", str(tmp_path / "x.npy"), frame):
            assert client.infer("linear", given).outputs["y"].tolist() == ANSWER
        with pytest.raises(
            NbModelError, match="input x FP32"
        ):  # a picture, to a model that takes none
            client.infer("linear", [Image.new("RGB", (2, 2))])
        with pytest.raises(InputError, match="no such input file"):
            client.infer("linear", tmp_path / "y.npy")

    @pytest.mark.parametrize("datatype", DATATYPES)
    def test_every_datatype_comes_back_as_it_went(self, client: Any, datatype: str) -> None:
        values: Any = [[0, 1, 1], [1, 0, 1]]
        x = np.array(values).astype(to_numpy(datatype))
        if datatype == "BYTES":
            x = np.array([["a", b"\0\n", ""], ["", "é", "b"]], object)
        for _ in range(2):
            y = client.infer(datatype.lower(), {"x": x}).outputs["y"]
            if datatype == "BYTES":
                assert y.tolist() == [[b"a", b"\0\n", b""], [b"", "é".encode(), b"b"]]
            else:
                assert y.dtype == x.dtype
                assert y.tolist() == x.tolist()
                y[0, 0] = 1

    def test_large_tensors_come_back_as_they_went(self, client: Any) -> None:
        x = np.random.default_rng(0).random((3, 150_528), np.float32)
        for rows in (x, x[:1], x[1:]):
            np.testing.assert_array_equal(client.infer("fp32", rows).outputs["y"], rows)

    def test_empty_tensors_come_back(self, client: Any) -> None:
        for _ in range(2):
            y = client.infer("fp32", np.empty((0, 4), np.float32)).outputs["y"]
            assert y.shape == (0, 4)

    @pytest.mark.parametrize(
        ("given", "error", "says"),
        [
            pytest.param({"z": [[1, 1]]}, TensorNameError, "'z'", id="another name"),
            pytest.param({}, TensorNameError, "missing input 'x'", id="no input"),
            pytest.param({"x": [[[1, 1]]]}, ShapeError, r"\[-1, 2\], found \[1, 1, 2\]", id="rank"),
            pytest.param({"x": [["a", "b"]]}, DatatypeError, "FP32, found BYTES", id="text"),
            pytest.param({"x": [[1e300, 0]]}, DatatypeError, "1e\\+300", id="too large for FP32"),
        ],
    )
    def test_what_does_not_fit_is_told_with_tensor_expected_and_found(
        self, client: Any, given: Any, error: type[NbModelError], says: str
    ) -> None:
        for _ in range(2):
            with pytest.raises(error, match=says):
                client.infer("linear", given)

    def test_outputs_are_chosen_and_ids_come_back(self, client: Any) -> None:
        answer = client.infer("linear", ONES, ["y"], id="mine")
        assert (answer.id, list(answer.outputs)) == ("mine", ["y"])
        with pytest.raises(NbModelError, match="z"):
            client.infer("linear", ONES, ["z"])
        with pytest.raises(InputError, match="expected a list of names, found 'y'"):
            client.infer("linear", ONES, "y")
        assert client.infer("linear", ONES).outputs["y"].tolist() == ANSWER

    def test_the_best_classes_are_asked_for(self, client: Any) -> None:
        answer = client.infer("linear", ONES, [RequestedOutput("y", classification=2)])
        assert answer.outputs["y"].shape == (1, 2)
        best, second = (text.decode().split(":")[:2] for text in answer.outputs["y"][0])
        assert [(float(best[0]), best[1]), (float(second[0]), second[1])] == [(39, "2"), (27, "1")]

    def test_configs_statistics_and_the_repository_are_shown(self, client: Any) -> None:
        client.infer("linear", ONES)
        assert client.model_config("linear")["name"] == "linear"
        (counts,) = client.statistics("linear")
        assert counts["name"] == "linear"
        assert int(counts["inference_stats"]["success"]["count"]) >= 1
        assert {entry["name"] for entry in client.statistics()} >= {"linear", "fp32"}
        index = {model.name: model for model in client.repository_index()}
        assert index["linear"].state == "READY"

    def test_models_are_unloaded_and_loaded(self, client: Any) -> None:
        client.unload_model("bool")
        try:
            assert not client.is_model_ready("bool")
        finally:
            client.load_model("bool")
        assert client.is_model_ready("bool")
        with pytest.raises(NbModelError, match="nope"):
            client.load_model("nope")

    def test_what_is_not_there_is_told(self, client: Any, runtime: Known) -> None:
        for ask in (client.infer, lambda model, _: client.model_metadata(model)):
            with pytest.raises(TargetError, match="nope"):
                ask("nope", ONES)
        with pytest.raises(InputError, match="expected a number"):
            client.infer("linear", ONES, version="v1")
        with pytest.raises(TargetError, match="version 99"):
            client.infer("linear", ONES, version="99")
        assert client.infer("linear", ONES, version="1").version == "1"

    @pytest.mark.parametrize("token", [None, "wrong"])
    def test_the_token_is_wanted(self, runtime: Known, connect: Open, token: str | None) -> None:
        client = connect(runtime.url, token=token)
        with pytest.raises(AuthenticationError, match="token"):
            client.infer("linear", ONES)

    def test_many_at_once_get_their_own_answers(self, client: Any, runtime: Known) -> None:
        if not isinstance(client, InferenceClient):

            async def gather() -> list[Any]:
                async with AsyncInferenceClient(runtime.url, token=runtime.token) as one:
                    rows = [np.full((1, 3), n, np.float32) for n in range(50)]
                    return await asyncio.gather(*(one.infer("fp32", row) for row in rows))

            answers = asyncio.run(gather())
        else:
            with ThreadPoolExecutor(8) as threads:
                answers = list(
                    threads.map(
                        lambda n: client.infer("fp32", np.full((1, 3), n, np.float32)), range(50)
                    )
                )
        assert [answer.outputs["y"][0, 0] for answer in answers] == list(range(50))

    def test_both_clients_have_the_same_methods(self) -> None:
        def methods(kind: type) -> dict[str, list[str]]:
            return {
                name: list(inspect.signature(value).parameters)
                for name, value in vars(kind).items()
                if inspect.isfunction(value) and not name.startswith("_")
            }

        assert methods(InferenceClient) == methods(AsyncInferenceClient)

    def test_the_waiting_client_works_inside_a_running_loop(self, runtime: Known) -> None:
        async def cell() -> list[list[float]]:
            with InferenceClient(runtime.url, token=runtime.token) as client:
                rows: list[list[float]] = client.infer("linear", ONES).outputs["y"].tolist()
                return rows

        assert asyncio.run(cell()) == ANSWER

    def test_the_awaiting_client_works_on_other_loops(self, runtime: Known) -> None:
        uvloop = pytest.importorskip("uvloop")

        async def main() -> list[list[float]]:
            async with AsyncInferenceClient(runtime.url, token=runtime.token) as client:
                x = np.ones((1, 150_528), np.float32)
                assert (await client.infer("fp32", x)).outputs["y"].sum() == 150_528
                rows: list[list[float]] = (await client.infer("linear", ONES)).outputs["y"].tolist()
                return rows

        loop = uvloop.new_event_loop()
        try:
            assert loop.run_until_complete(main()) == ANSWER
        finally:
            loop.close()
