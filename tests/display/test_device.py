"""A machine in words, whatever its status says of it."""

from __future__ import annotations

import pytest

from nbmodel.display import StatusCard
from nbmodel.display.device import board_words, device_facts, gpu_words

H200 = {
    "name": "NVIDIA H200",
    "memory_used": 754_820_096,
    "memory_total": 150_754_820_096,
    "utilisation": 0.37,
    "temperature": 41.0,
}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (
            {"board": "NVIDIA Jetson AGX Orin", "jetpack": "6.2", "l4t": "36.4.3"},
            "NVIDIA Jetson AGX Orin, JetPack 6.2 (L4T 36.4.3)",
        ),
        ({"board": "NVIDIA Jetson AGX Orin", "jetpack": None}, "NVIDIA Jetson AGX Orin"),
        ({"board": None, "jetpack": "", "l4t": "99.1.0"}, "L4T 99.1.0"),
        ({"jetpack": "6"}, "JetPack 6"),
        ({}, ""),
    ],
)
def test_a_board_is_told_as_far_as_it_is_known(device, words):
    assert board_words(device) == words


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        (H200, "NVIDIA H200: 37.0 % busy, 755 MB of 151 GB, 41 °C"),
        ({"name": "Orin"}, "Orin"),
        ({"name": "Orin", "utilisation": "much", "memory_used": [], "temperature": None}, "Orin"),
        ({"utilisation": 0}, "GPU: 0.0 % busy"),
        ({"name": "Orin", "memory_used": 5, "memory_total": 0}, "Orin"),
        ({}, "GPU"),
    ],
)
def test_a_gpu_is_told_as_far_as_it_is_known(gpu, words):
    assert gpu_words(gpu) == words


@pytest.mark.parametrize("device", [{}, {"gpus": None}, {"gpus": [1, "x"]}, {"gpus": {}}])
def test_a_machine_without_news_is_not_told(device):
    assert list(device_facts(device)) == []


def test_gpus_are_numbered_where_there_are_several():
    names = [name for name, _ in device_facts({"gpus": [H200, H200]})]
    assert names == ["GPU 0", "GPU 1"]


def test_a_status_shows_its_machine_and_what_a_model_runs_on():
    service = {
        "name": "digits",
        "state": "ready",
        "backend": "nbmodel:mlmodel:onnx_gpu",
        "runs_on": "cpu",
        "note": "runs on the CPU, not on a GPU: cuda: the library libcudnn.so.9 is missing",
    }
    device = {"board": "NVIDIA Jetson AGX Orin", "jetpack": "6.2", "l4t": "36.4.3", "gpus": [H200]}
    card = StatusCard({"runtime": "orin", "services": [service], "device": device})
    text = " ".join(card.text().split())
    assert "JetPack 6.2 (L4T 36.4.3)" in text
    assert "37.0 % busy" in text
    assert "onnx_gpu on cpu" in text
    assert "digits: runs on the CPU, not on a GPU: cuda: the library" in text
