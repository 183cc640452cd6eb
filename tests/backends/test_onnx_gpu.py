"""ONNX Runtime on a GPU, and what takes its place where there is none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Known, Session, load_backend
from nbmodel.backends.cuda import Driver
from nbmodel.backends.onnx_gpu import BUILD_S, OnnxGraphSession
from nbmodel.backends.onnx_lacks import Here, lack, look, smallest_model
from nbmodel.backends.onnx_profile import Profile, Range
from nbmodel.backends.onnx_providers import Choice, Provider
from nbmodel.backends.onnx_session import import_engine, open_engine
from nbmodel.errors import ConfigError, InferenceError, PluginError, ShapeError

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

CPU = Choice((Provider("cpu"),))
HERE = Here("1.31.1", ("CPUExecutionProvider",), driver=Driver((13, 0)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(smallest_model())
    return path


@pytest.fixture
def is_without_gpu() -> None:
    if lack("cuda", look(onnxruntime, ["cuda"])) is None:
        pytest.skip("there is a GPU here")


def load(path: Path, **attributes: Any) -> Session:
    return load_backend("onnx_gpu").load({"model_path": str(path), **attributes})


@pytest.mark.usefixtures("is_without_gpu")
class TestWithoutGpu:
    def test_the_cpu_does_not_take_its_place_by_itself(self, model):
        with pytest.raises(PluginError, match="no GPU can be used: cuda: ") as caught:
            load(model)
        assert '"allow_cpu": true' in str(caught.value.hint)

    def test_a_listed_cpu_runs_what_is_left_over_and_no_more(self, model):
        with pytest.raises(PluginError, match="no GPU can be used"):
            load(model, providers=["tensorrt", "cuda", "cpu"])

    def test_the_cpu_takes_its_place_where_it_may_and_says_so(self, model):
        session = load(model, providers=["tensorrt", "cuda"], allow_cpu=True)
        assert session.runs_on == "cpu"
        assert session.note.startswith("runs on the CPU, not on a GPU: tensorrt: ")
        assert "; cuda: " in session.note
        assert session.infer({"x": np.ones(4, np.float32)})["y"].tolist() == [2] * 4

    def test_nothing_is_written_where_engines_would_lie(self, model, tmp_path):
        engines = tmp_path / "engines"
        attributes = {"model_path": str(model), "providers": ["tensorrt"], "allow_cpu": True}
        load_backend("onnx_gpu").load(attributes, Known(engines=engines))
        assert not engines.exists()


def test_the_cpu_by_choice_is_nothing_to_speak_of(model):
    session = load(model, providers=["cpu"])
    assert (session.runs_on, session.note) == ("cpu", "")


ATTRIBUTES = {
    "a limit that is no number": ({"gpu_mem_limit": "2 GB"}, "'gpu_mem_limit' must be an integer"),
    "a limit below any use": ({"gpu_mem_limit": 1024}, "'gpu_mem_limit' must be an integer from"),
    "a GPU before the first": ({"device_id": -1}, "'device_id' must be an integer from 0 to 63"),
    "a flag that is a text": ({"allow_cpu": "yes"}, "'allow_cpu' must be true or false"),
    "a flag that is a number": ({"allow_cpu": 1}, "'allow_cpu' must be true or false"),
    "a provider, not a list": ({"providers": "cuda"}, "'providers' must be a list, found 'cuda'"),
    "an unknown provider": ({"providers": ["rocm"]}, "found 'rocm' in it"),
}


@pytest.mark.parametrize(("attributes", "words"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_what_is_wrong_with_a_service_is_said_before_anything_is_loaded(attributes, words):
    with pytest.raises(ConfigError, match=words):
        load(Path("model.onnx"), **attributes)


@pytest.mark.parametrize(
    ("providers", "seconds"), [(["cuda"], 0), (["tensorrt"], BUILD_S), (["cpu"], 0)], ids=str
)
def test_building_engines_is_given_its_time(providers, seconds):
    assert load_backend("onnx_gpu").patience_s({"providers": providers}) == seconds


def graph_session(path: Path) -> OnnxGraphSession:
    """A session with bound tensors, bound to the memory of the CPU."""
    engine = open_engine(import_engine("onnx_gpu"), path)
    return OnnxGraphSession(
        engine, name=path.name, choice=CPU, profile=Profile(), here=HERE, device_id=0
    )


class TestBoundTensors:
    def test_answers_are_those_of_the_model_and_belong_to_the_caller(self, model):
        session = graph_session(model)
        first = session.infer({"x": np.arange(4, dtype=np.float32)})["y"]
        second = session.infer({"x": np.ones(4, np.float32)})["y"]
        assert first.tolist() == [0, 2, 4, 6]
        assert second.tolist() == [2] * 4
        assert first.flags.writeable

    def test_threads_do_not_take_each_others_answers(self, model):
        session, wrong = graph_session(model), []

        def work(number: int) -> None:
            x = np.full(4, number, np.float32)
            wrong.extend(
                answer
                for _ in range(50)
                if (answer := session.infer({"x": x})["y"].tolist()) != [2 * number] * 4
            )

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_closed_session_says_so(self, model):
        session = graph_session(model)
        session.close()
        with pytest.raises(InferenceError, match="is closed"):
            session.infer({"x": np.ones(4, np.float32)})

    def test_sizes_that_vary_cannot_be_bound(self, linear_onnx):
        with pytest.raises(InferenceError, match="CUDA graphs need tensors of one size") as caught:
            graph_session(linear_onnx)
        assert "fixed sizes" in str(caught.value.hint)


def test_a_request_that_no_engine_was_built_for_is_refused(model):
    session = OnnxGraphSession(
        open_engine(import_engine("onnx_gpu"), model),
        name="model.onnx",
        choice=CPU,
        profile=Profile((Range("x", (1,), (3,)),)),
        here=HERE,
        device_id=0,
    )
    with pytest.raises(ShapeError, match=r"input 'x' is \[4\].*expected \[1–3\]"):
        session.infer({"x": np.ones(4, np.float32)})


@pytest.fixture
def needs_gpu(request: pytest.FixtureRequest) -> None:
    provider = request.getfixturevalue("provider")
    why = lack(provider, look(onnxruntime, [provider]))
    if why is not None:
        pytest.skip(f"no {provider} here: {why.reason}")


@pytest.mark.gpu
@pytest.mark.usefixtures("needs_gpu")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
class TestOnGpu:
    def test_it_answers_as_the_cpu_does(self, provider, linear_onnx):
        session = load(linear_onnx, providers=[provider])
        assert session.runs_on == provider
        for rows in (1, 3):
            answer = session.infer({"x": np.ones((rows, 2), np.float32)})["y"]
            assert answer.tolist() == [[15, 27, 39]] * rows

    def test_engines_are_built_once(self, provider, linear_onnx, tmp_path):
        if provider != "tensorrt":
            pytest.skip("CUDA builds none")
        said: list[str] = []
        known = Known(engines=tmp_path / "engines", tell=said.append)
        attributes = {"model_path": str(linear_onnx), "providers": ["tensorrt"]}
        for words in ("building", "loading"):
            said.clear()
            load_backend("onnx_gpu").load(attributes, known)
            assert said[0].startswith(f"{words} TensorRT's engines")
        assert list((tmp_path / "engines").glob("*/*/*.engine"))

    def test_graphs_are_played_again(self, provider, model):
        options = {
            "cuda": {"enable_cuda_graph": True},
            "tensorrt": {"trt_cuda_graph_enable": True},
        }[provider]
        session = load(model, providers=[{"name": provider, "options": options}])
        for number in range(5):
            answer = session.infer({"x": np.full(4, number, np.float32)})["y"]
            assert answer.tolist() == [2 * number] * 4
