"""What is particular to LiteRT, on the models people have."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbmodel.backends import load_backend, open_session, tflite_cpu
from nbmodel.core.signature import Quantization
from nbmodel.errors import InferenceError

pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")


def picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))[None]


def labels(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_mobilenet_sees_a_macaw(test_models):
    session = load_backend("tflite_cpu").load(
        {
            "model_path": str(test_models / "mobilenet_v2_1.0_224_quant.tflite"),
            "label_path": str(test_models / "imagenet_labels.txt"),
            "num_threads": 2,
        }
    )
    image = picture(test_models / "parrot.jpg", (224, 224))
    scores = session.infer({"input": image})["MobilenetV2/Predictions/Softmax"]
    assert scores.dtype == np.uint8  # raw: nothing is dequantised
    assert scores.shape == (1, 1001)
    assert scores[0].argmax() == 89
    assert session.signature.labels[89] == "macaw"
    assert session.signature.outputs[0].quantization == Quantization((0.00390625,), (0,))


def test_ssd_sees_a_cat(test_models):
    session = open_session(
        test_models / "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite", "tflite"
    )
    name = "TFLite_Detection_PostProcess"
    answer = session.infer(
        {"normalized_input_image_tensor": picture(test_models / "cat_720p.jpg", (300, 300))}
    )
    assert answer[name].shape == (1, 10, 4)
    assert answer[f"{name}:3"].tolist() == [10]
    best = int(answer[f"{name}:1"][0, answer[f"{name}:2"][0].argmax()])
    assert labels(test_models / "coco_labels.txt")[best].endswith("cat")


def test_deeplab_sees_the_cat_too(test_models):
    session = open_session(test_models / "deeplabv3_mnv2_dm05_pascal_quant.tflite", "tflite")
    image = picture(test_models / "cat_720p.jpg", (513, 513))
    classes = session.infer({"MobilenetV2/MobilenetV2/input": image})["ArgMax"]
    names = labels(test_models / "pascal_voc_segmentation_labels.txt")
    assert classes.dtype == np.int64
    counted = np.bincount(classes.ravel(), minlength=len(names))
    counted[0] = 0  # background
    assert names[int(counted.argmax())] == "cat"


def test_an_lstm_reads_a_nine_each_time_it_is_asked(test_models):
    session = open_session(test_models / "keras_lstm_mnist_ptq.tflite", "tflite")
    with Image.open(test_models / "mnist_nine.bmp") as image:
        pixels = np.asarray(image.convert("L").resize((28, 28)))[None]
    first = session.infer({"serving_default_x:0": pixels})["StatefulPartitionedCall:0"]
    assert first[0].argmax() == 9
    # What it remembers of one request must not reach the next.
    session.infer({"serving_default_x:0": 255 - pixels})
    again = session.infer({"serving_default_x:0": pixels})["StatefulPartitionedCall:0"]
    assert again.tolist() == first.tolist()


def test_movenet_gives_seventeen_points(test_models):
    session = open_session(test_models / "movenet_single_pose_lightning_ptq.tflite", "tflite")
    image = picture(test_models / "kite_and_cold.jpg", (192, 192))
    points = session.infer({"serving_default_input:0": image})["StatefulPartitionedCall:0"]
    assert points.shape == (1, 1, 17, 3)
    assert points.dtype == np.float32
    assert ((points >= 0) & (points <= 1)).all()


def test_a_custom_operation_that_is_missing_is_named(test_models):
    with pytest.raises(
        InferenceError,
        match=r"model_invoking_error\.tflite needs the custom operation 'fake-op-double'",
    ):
        open_session(test_models / "model_invoking_error.tflite", "tflite")


class TestFallback:
    """``tflite_runtime`` is used where LiteRT is not installed, in a process of its own."""

    CODE = (
        "import sys; sys.modules['ai_edge_litert'] = None;"  # as if it were not installed
        "from pathlib import Path; from nbmodel.backends import open_session;"
        "from nbmodel.errors import NbModelError\n"
        "try: print(open_session(Path(sys.argv[1]), 'tflite').signature.inputs[0].name)\n"
        "except NbModelError as exc: print(f'{type(exc).__name__}: {exc} | {exc.hint}')"
    )

    def run(self, tmp_path: Path, module: str | None) -> str:
        (tmp_path / "model.tflite").write_bytes(b"not read here")
        if module is not None:
            package = tmp_path / "site" / "tflite_runtime"
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "interpreter.py").write_text(module)
        done = subprocess.run(
            [sys.executable, "-c", self.CODE, str(tmp_path / "model.tflite")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        )
        return done.stdout.strip()

    def test_it_is_used(self, tmp_path):
        module = (
            "import numpy\n"
            "class Interpreter:\n"
            "    def __init__(self, model_path, num_threads): pass\n"
            "    def allocate_tensors(self): pass\n"
            "    def get_input_details(self):\n"
            "        none = {'scales': [], 'zero_points': [], 'quantized_dimension': 0}\n"
            "        return [{'name': 'from_tflite_runtime', 'index': 0, 'shape': [1],\n"
            "                 'shape_signature': [1], 'dtype': numpy.float32,\n"
            "                 'quantization_parameters': none}]\n"
            "    def get_output_details(self): return []\n"
        )
        assert self.run(tmp_path, module) == "from_tflite_runtime"

    def test_without_either_the_extra_is_named(self, tmp_path):
        said = self.run(tmp_path, None)
        assert said.startswith("PluginError: backend 'tflite_cpu' needs ai_edge_litert")
        assert said.endswith("| pip install 'nbmodel[runtime]'")

    @pytest.mark.skipif(
        int(np.__version__.partition(".")[0]) < 2, reason="numpy 1 is what tflite_runtime wants"
    )
    @pytest.mark.parametrize(
        "module",
        [
            # What tflite_runtime 2.14 does under numpy 2: it is imported, and breaks in use.
            (
                "class Interpreter:\n"
                "    def __init__(self, model_path, num_threads):\n"
                "        raise SystemError('returned a result with an exception set')\n"
            ),
            "raise ImportError('numpy.core.multiarray failed to import')",
        ],
        ids=["when it is used", "when it is imported"],
    )
    def test_numpy_2_is_named_where_it_is_the_reason(self, tmp_path, module):
        said = self.run(tmp_path, module)
        assert said.startswith("PluginError: the engine of 'tflite_cpu' does not work with numpy 2")
        assert said.endswith("pip install 'numpy<2'")


_LOADS = """
import os, sys
from nbmodel.backends import open_session
from nbmodel.errors import InferenceError
from pathlib import Path
os.write(2, b"before\\n")
try:
    open_session(Path(sys.argv[1]), "tflite")
except InferenceError:
    os.write(2, b"refused\\n")
for path in sys.argv[2:]:
    open_session(Path(path), "tflite")
os.write(2, b"after\\n")
"""


def test_the_first_load_is_silent_but_for_errors(test_models, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    models = [
        test_models / "mobilenet_v2_1.0_224_quant.tflite",
        test_models / "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite",
    ]
    command = [sys.executable, "-c", _LOADS, str(damaged), *map(str, models)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[0] == "before"
    assert done.stderr.splitlines()[-1] == "after"
    assert "refused" in done.stderr
    assert "XNNPACK" not in done.stderr


def test_what_else_is_written_at_the_first_load_is_kept(capfd, monkeypatch):
    monkeypatch.setattr(tflite_cpu, "_has_greeted", threading.Event())
    line = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"

    def fail():
        with tflite_cpu._without_greeting():
            os.write(2, b"ERROR: bad\n" + line + b"why")
            raise InferenceError("why")

    with pytest.raises(InferenceError):
        fail()
    assert capfd.readouterr().err == "ERROR: bad\nwhy"
    assert not tflite_cpu._has_greeted.is_set()
    with tflite_cpu._without_greeting():
        os.write(2, line)
    with tflite_cpu._without_greeting():
        os.write(2, b"second\n")
    assert capfd.readouterr().err == "second\n"
