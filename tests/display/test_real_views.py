"""Class maps and points of real models, as they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nbmodel.client import Client

pytest.importorskip("ai_edge_litert", reason="needs nbmodel[runtime]")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with closing(Client(home=tmp_path)) as client:
        yield client


def test_a_cat_is_a_large_share_of_its_picture(test_models: Path, client: Client) -> None:
    model = test_models / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    labels = test_models / "pascal_voc_segmentation_labels.txt"
    client.upload(str(model), name="lab", type="segmentation", labels=labels)
    result = client.infer("lab", str(test_models / "cat_720p.jpg"))
    (line,) = [line for line in result.text().splitlines() if line.split()[:1] == ["cat"]]
    assert 25 < float(line.split()[-2]) < 60  # percent
    picture = result.picture()
    assert picture is not None
    assert picture.size == (1280, 720)
    assert len(result.html()) < 250_000


def test_a_body_has_seventeen_points(test_models: Path, client: Client) -> None:
    model = test_models / "movenet_single_pose_lightning_ptq.tflite"
    client.upload(str(model), name="pose", type="keypoints")
    result = client.infer("pose", str(test_models / "kite_and_cold.jpg"))
    rows = [line.split() for line in result.text().splitlines() if line.endswith("%")]
    assert [row[0] for row in rows] == [str(place) for place in range(17)]
    assert result.picture() is not None
    assert len(result.html()) < 250_000
