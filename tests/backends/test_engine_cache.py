"""Where engines lie, and for whom: what tells them apart, and what goes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.backends.cuda import Gpu
from nbmodel.backends.engine_cache import (
    SEAL,
    cache_options,
    engine_key,
    engines_in,
    files_digest,
    is_whole,
    prepare,
    seal,
    sweep,
)

ORIN = Gpu("Orin", (8, 7), 32 << 30)
OPTIONS = {"device_id": "0", "trt_fp16_enable": "True"}


def key(**changes):
    given = {
        "gpu": ORIN,
        "tensorrt": "10.3.0",
        "onnxruntime": "1.23.2",
        "model": "5f" * 32,
        "options": OPTIONS,
        **changes,
    }
    return engine_key(given.pop("gpu"), **given)


def test_a_folder_says_what_it_is_for():
    folder = key().folder(Path("/home/pi/engines"))
    assert folder.parent == Path("/home/pi/engines/sm_87-orin-trt10.3.0-ort1.23.2")
    assert folder.name.startswith("5f" * 12 + "-")


OTHERS = {
    "another architecture": {"gpu": replace(ORIN, capability=(7, 2))},
    "another GPU of that architecture": {"gpu": replace(ORIN, name="Orin Nano")},
    "another TensorRT": {"tensorrt": "10.7.0"},
    "another ONNX Runtime": {"onnxruntime": "1.24.0"},
    "other weights": {"model": "60" * 32},
    "another precision": {"options": {**OPTIONS, "trt_fp16_enable": "False"}},
    "other sizes": {"options": {**OPTIONS, "trt_profile_max_shapes": "x:8x3"}},
}
EQUALS = {
    "another number of the GPU": {"options": {**OPTIONS, "device_id": "1"}},
    "another order of options": {"options": dict(reversed(OPTIONS.items()))},
    "more memory to build with": {"options": {**OPTIONS, "trt_max_workspace_size": "1"}},
    "another place": {"options": {**OPTIONS, **cache_options(Path("/elsewhere/x"))}},
    "more memory of the same GPU": {"gpu": replace(ORIN, memory_bytes=64 << 30)},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_engines_are_not_shared(changes):
    root = Path("/engines")
    assert key(**changes).folder(root) != key().folder(root)


@pytest.mark.parametrize("changes", EQUALS.values(), ids=EQUALS)
def test_engines_are_shared(changes):
    root = Path("/engines")
    assert key(**changes).folder(root) == key().folder(root)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "NVIDIA GeForce RTX™ 4090", "", "\0"])
def test_no_name_of_a_gpu_leads_out_of_the_folder(name):
    root = Path("/engines")
    folder = key(gpu=replace(ORIN, name=name)).folder(root)
    assert folder.parent.parent == root
    assert ".." not in folder.parts


def test_the_provider_is_told_where_engines_lie():
    assert cache_options(Path("/e/device/model")) == {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/e/device/model",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": "/e/device",
    }


def test_weights_beside_the_model_count(tmp_path):
    model, weights = tmp_path / "model.onnx", tmp_path / "weights.bin"
    model.write_bytes(b"graph")
    weights.write_bytes(b"one")
    files = [("", model), ("weights.bin", weights)]
    first = files_digest(files)
    assert first == files_digest(files)
    weights.write_bytes(b"two")
    assert files_digest(files) != first
    assert len(first) == 64


def test_a_byte_that_moves_to_the_other_file_counts(tmp_path):
    digests = set()
    for parts in ((b"ab", b"c"), (b"a", b"bc")):
        paths = [tmp_path / "a", tmp_path / "b"]
        for path, part in zip(paths, parts, strict=True):
            path.write_bytes(part)
        digests.add(files_digest([("", paths[0]), ("b", paths[1])]))
    assert len(digests) == 2


def test_what_was_not_used_for_longest_goes(tmp_path):
    made = [prepare(tmp_path, key(model=f"{number:064x}"[::-1])) for number in range(5)]
    for age, folder in enumerate(made):
        (folder / "subgraph_sm87.engine").write_bytes(b"engine")
        seal(folder)
        os.utime(folder, (1000 + age, 1000 + age))
    timing = made[0].parent / "TensorrtExecutionProvider_cache_sm87.timing"
    timing.write_bytes(b"")
    prepare(tmp_path, key(model=f"{0:064x}"))  # used again
    assert sweep(tmp_path, most=2) == 3
    assert [folder.exists() for folder in made] == [True, False, False, False, True]
    assert timing.exists()
    assert engines_in(made[0]) == 1


def test_engines_that_were_sealed_are_found_again(tmp_path):
    folder = prepare(tmp_path, key())
    (folder / "a.engine").write_bytes(b"engine")
    (folder / "a.profile").write_bytes(b"sizes")
    seal(folder)
    assert prepare(tmp_path, key()) == folder
    assert engines_in(folder) == 1
    assert {path.name for path in folder.iterdir()} == {"a.engine", "a.profile", SEAL}


DAMAGE = {
    "never sealed": lambda folder: (folder / SEAL).unlink(),
    "a seal cut short": lambda folder: (folder / SEAL).write_text('{"a.engine": "'),
    "a seal of something else": lambda folder: (folder / SEAL).write_text("[1]"),
    "a byte that turned": lambda folder: (folder / "a.engine").write_bytes(b"engimE"),
    "an engine cut short": lambda folder: (folder / "a.engine").write_bytes(b"eng"),
    "an engine that is gone": lambda folder: (folder / "a.engine").unlink(),
    "one more engine": lambda folder: (folder / "b.engine").write_bytes(b"half"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_engines_that_are_not_whole_are_built_again(tmp_path, damage):
    folder = prepare(tmp_path, key())
    (folder / "a.engine").write_bytes(b"engine")
    seal(folder)
    assert is_whole(folder)
    damage(folder)
    assert list(prepare(tmp_path, key()).iterdir()) == []


def test_there_is_nothing_to_sweep_where_nothing_was_built(tmp_path):
    assert sweep(tmp_path / "engines") == 0
