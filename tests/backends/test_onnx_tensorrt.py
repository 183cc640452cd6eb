"""What TensorRT is told of a model, on a machine that has it as far as anyone can see."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from nbmodel.backends import Known
from nbmodel.backends.cuda import Driver, Gpu
from nbmodel.backends.engine_cache import engines_in
from nbmodel.backends.onnx_lacks import Here
from nbmodel.backends.onnx_profile import NAMES
from nbmodel.backends.onnx_providers import providers_of
from nbmodel.backends.onnx_tensorrt import Prepared, keep, prepare_tensorrt, told
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError
from nbmodel.golden import GoldenSample

ORIN = Here("1.23.2", (), driver=Driver((12, 6), (Gpu("Orin", (8, 7), 32 << 30),)))


def prepared(path: Path, known: Known, version: str | None = "10.3.0", **attributes) -> Prepared:
    given = {"model_path": str(path), "providers": ["tensorrt"], **attributes}
    provider = providers_of(given)[0]
    assert provider.name == "tensorrt"
    return prepare_tensorrt(provider, given, known, ORIN, 0, version=lambda: version)


def test_engines_are_built_for_a_batch_and_kept_at_home(linear_onnx, tmp_path):
    home = tmp_path / "engines"
    one = prepared(linear_onnx, Known(engines=home))
    assert one.folder is not None
    assert one.folder.parent == home / "sm_87-orin-trt10.3.0-ort1.23.2"
    assert dict(one.provider.options) == {
        "device_id": "0",
        "trt_profile_min_shapes": "x:1x2",
        "trt_profile_opt_shapes": "x:4x2",
        "trt_profile_max_shapes": "x:4x2",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(one.folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(one.folder.parent),
    }
    assert [str(sizes) for sizes in one.profile.ranges] == ["[1–4, 2]"]


def test_a_larger_batch_is_another_engine(linear_onnx, tmp_path):
    known = Known(engines=tmp_path)
    small, large = prepared(linear_onnx, known), prepared(linear_onnx, known, max_batch_size=32)
    assert large.provider.options["trt_profile_max_shapes"] == "x:32x2"
    assert small.folder != large.folder


def test_the_same_file_elsewhere_is_the_same_engine(linear_onnx, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(linear_onnx.read_bytes())
    known = Known(engines=tmp_path)
    assert prepared(copy, known).folder == prepared(linear_onnx, known).folder


def test_weights_beside_the_file_make_another_engine(tmp_path):
    onnx = pytest.importorskip("onnx", reason="toy models are made with onnx")
    folders = set()
    for number in range(2):
        path = tmp_path / str(number) / "model.onnx"
        path.parent.mkdir()
        weights = onnx.numpy_helper.from_array(np.full(3, number, np.float32), "w")
        value = [onnx.helper.make_tensor_value_info(name, 1, [3]) for name in "xy"]
        node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
        graph = onnx.helper.make_graph([node], "toy", value[:1], value[1:], [weights])
        model = onnx.helper.make_model(graph, ir_version=8)
        onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
        folders.add(prepared(path, Known(engines=tmp_path / "engines")).folder)
    files = [(tmp_path / str(number) / "model.onnx").read_bytes() for number in range(2)]
    assert files[0] == files[1]
    assert len(folders) == 2


@pytest.mark.parametrize(
    ("known", "version"),
    [
        pytest.param(Known(), "10.3.0", id="no home"),
        pytest.param(Known(engines=Path("/nowhere")), None, id="a TensorRT of no known version"),
    ],
)
def test_engines_of_nobody_are_not_kept(linear_onnx, known, version):
    one = prepared(linear_onnx, known, version)
    assert one.folder is None
    assert "trt_engine_cache_enable" not in one.provider.options


def test_a_service_may_say_where_engines_lie_and_for_which_sizes(linear_onnx, tmp_path):
    options = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": "/data/engines",
        **dict.fromkeys(NAMES, "x:7x2"),
    }
    providers = [{"name": "tensorrt", "options": options}]
    one = prepared(linear_onnx, Known(engines=tmp_path), providers=providers)
    assert one.folder is None
    assert one.profile.ranges == ()
    assert one.provider.options["trt_engine_cache_path"] == "/data/engines"
    assert one.provider.options["trt_profile_max_shapes"] == "x:7x2"
    assert list(tmp_path.iterdir()) == []


def varying_onnx(path: Path) -> Path:
    """``y = x``, x FP32[-1,-1]."""
    onnx = pytest.importorskip("onnx", reason="toy models are made with onnx")
    value = [onnx.helper.make_tensor_value_info(name, 1, ["n", "m"]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "toy", value[:1], value[1:])
    path.write_bytes(onnx.helper.make_model(graph, ir_version=8).SerializeToString())
    return path


def test_a_golden_sample_tells_the_sizes_that_the_file_does_not(tmp_path):
    path, sample = varying_onnx(tmp_path / "model.onnx"), tmp_path / "golden.npz"
    x = np.ones((1, 5), np.float32)
    sample.write_bytes(GoldenSample({"x": x}, {"y": x}).to_bytes())
    one = prepared(path, Known(sample=sample))
    assert one.provider.options["trt_profile_max_shapes"] == "x:4x5"


def test_a_signature_tells_the_sizes_that_the_file_does_not(tmp_path):
    path = varying_onnx(tmp_path / "model.onnx")
    signature = Signature((Tensor("x", "FP32", (-1, 6)),), (Tensor("y", "FP32", (-1, 6)),))
    one = prepared(path, Known(signature))
    assert one.provider.options["trt_profile_max_shapes"] == "x:4x6"


def test_sizes_that_nobody_tells_are_asked_for(tmp_path):
    path = varying_onnx(tmp_path / "model.onnx")
    with pytest.raises(InferenceError, match=r"sizes of input 'x', which is \[-1, -1\]") as caught:
        prepared(path, Known())
    assert "golden sample" in str(caught.value.hint)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(InferenceError, match=r"onnx_gpu cannot load model\.onnx: "):
        prepared(path, Known())


class TestTelling:
    def test_it_says_how_many_engines_are_there_and_since_when_it_goes_on(self, tmp_path):
        said: list[str] = []
        with told(tmp_path, said.append, every_s=0.02):
            (tmp_path / "a.engine").write_bytes(b"")
            until = time.monotonic() + 10
            while len(said) < 3 and time.monotonic() < until:
                time.sleep(0.01)
        assert said[0] == "building TensorRT's engines, once on this device, 0 s so far"
        assert said[-1] == "building TensorRT's engines, once on this device, 1 done, 0 s so far"
        there = len(said)
        time.sleep(0.1)
        assert len(said) == there

    def test_engines_that_are_there_are_loaded(self, tmp_path):
        (tmp_path / "a.engine").write_bytes(b"")
        said: list[str] = []
        with told(tmp_path, said.append):
            pass
        assert said == ["loading TensorRT's engines"]

    def test_an_error_ends_it(self):
        with pytest.raises(RuntimeError, match="no"), told(None, lambda _: None):
            raise RuntimeError("no")


class TestKeeping:
    def test_what_was_built_is_found_again(self, linear_onnx, tmp_path):
        known = Known(engines=tmp_path)
        first = prepared(linear_onnx, known)
        assert first.folder is not None
        (first.folder / "a.engine").write_bytes(b"engine")
        keep(first.folder)
        keep(first.folder)
        assert engines_in(first.folder) == 1
        assert prepared(linear_onnx, known) == first
        assert engines_in(first.folder) == 1

    def test_what_a_killed_process_left_is_built_again(self, linear_onnx, tmp_path):
        known = Known(engines=tmp_path)
        first = prepared(linear_onnx, known)
        assert first.folder is not None
        (first.folder / "a.engine").write_bytes(b"half an eng")
        assert prepared(linear_onnx, known) == first
        assert engines_in(first.folder) == 0

    def test_a_disk_that_does_not_take_the_seal_stops_nothing(self, tmp_path, caplog):
        keep(None)
        keep(tmp_path / "gone")
        assert "are built again next time" in caplog.text
