"""``infer`` and ``bench`` on a vision service of a real runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nbmodel.client import Client
from nbmodel.errors import TargetError

SSD = "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite"


def test_a_vision_service_is_a_target_of_infer(tmp_path: Path, test_models: Path) -> None:
    client = Client(tmp_path)
    client.runtimes.start("edge")
    try:
        remote = client.runtimes.get("edge")
        services = [
            {
                "name": "coco",
                "api": "rdk:service:mlmodel",
                "model": "viam:mlmodel-tflite:tflite_cpu",
                "attributes": {"model_path": str(test_models / SSD)},
            },
            {
                "name": "eye",
                "api": "rdk:service:vision",
                "model": "viam:vision:mlmodel",
                "attributes": {"mlmodel_name": "coco"},
            },
        ]
        remote.put_config({"services": services}, if_match=None)
        while not remote.status()["settled"]:
            pass
        picture = test_models / "kite_and_cold.jpg"
        result = client.infer("eye@edge", picture, threshold=0.5)
        with Image.open(picture) as file:
            assert result.images[0].size == file.size
        assert {"person", "kite"} >= {box.label for box in result.boxes()} >= {"person"}
        assert "person" in result.text()
        assert result.picture() is not None
        with pytest.raises(TargetError, match="'eye' is a vision service over 'coco'"):
            client.bench("eye@edge", count=1, concurrency=[1])
        assert client.do("eye@edge", {"command": "stats"})["inferences"] >= 1
        with pytest.raises(TargetError, match="found the address"):
            client.infer("http://localhost:1/coco", picture)
    finally:
        client.runtimes.remove("edge")
        client.close()
