"""What single cards say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.diff import Change, Diff, diff_versions
from nbmodel.core.graph import LineageGraph
from nbmodel.core.lineage import Lineage
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Model, Version
from nbmodel.display import (
    DeployCard,
    DiffCard,
    InferenceResult,
    LineageCard,
    ModelCard,
    StatusCard,
    VersionCard,
)
from nbmodel.display.origin import origin
from nbmodel.display.quantity import listed
from nbmodel.display.render_text import cell_text


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        (Lineage(user="root"), "made by root"),
        (Lineage(notebook="a.ipynb", cell=4, user="ada"), "made in a.ipynb cell 4 by ada"),
        (
            Lineage(git_commit="f" * 40, git_dirty=True),
            "made in commit ffffffffff with local changes",
        ),
        (Lineage(), "made by "),
    ],
)
def test_where_a_version_was_made_has_no_gap(lineage: Lineage, said: str) -> None:
    name, cell = origin(lineage)
    assert f"{name} {cell_text(cell)}" == said


def test_lineage_says_where_the_version_and_its_parents_were_made(graph: LineageGraph) -> None:
    made = Lineage(notebook="train.ipynb", cell=4, git_commit="c" * 40, user="ada")
    root, parent, *rest = graph.nodes
    nodes = (replace(root, lineage=made), replace(parent, lineage=Lineage(notebook="p.ipynb")))
    text = LineageCard.of(replace(graph, nodes=(*nodes, *rest))).text()
    assert "made in  train.ipynb cell 4 at commit cccccccccc by ada" in text
    assert "p.ipynb" in text


def test_items_are_cut_between_them_and_keep_their_commas() -> None:
    assert listed(["a, b", "c"]) == "a, b · c"
    assert listed(["x" * 150, "y" * 150]) == "x" * 150 + " · …"
    assert listed(["x" * 300]) == "x" * 199 + "…"


def test_metadata_in_short_ends_with_dots(version: Version) -> None:
    metadata = {f"key{place}": "words " * 10 for place in range(9)}
    long = replace(version, manifest=replace(version.manifest, metadata=metadata))
    (line,) = [x for x in VersionCard.of(long).text().splitlines() if x.startswith("metadata")]
    assert line.endswith("· …")


def test_a_renamed_output_shows_labels_once(version: Version) -> None:
    x, y = version.signature.inputs, version.signature.outputs
    renamed = Signature(x, (y[0], replace(y[1], name="scores")))
    other = replace(version, manifest=replace(version.manifest, signature=renamed))
    text = DiffCard.of(diff_versions(version, other)).text()
    assert "output name" in text
    assert "5 labels, equal" in text
    many = tuple(Change(f"y[{place}]", "changed", "a", "b") for place in range(30))
    text = DiffCard.of(Diff("a:1", "a:2", labels=many, label_count=1001)).text()
    assert "30 of 1,001 labels differ" in text
    assert "18 more" in text


def test_a_long_value_of_a_difference_ends_with_dots() -> None:
    change = Change("m", "added", new=list(range(500)))
    html = DiffCard.of(Diff("a:1", "a:2", metadata=(change,))).html()
    assert "[0, 1, 2" in html
    assert "…" in html
    assert "499" not in html


def test_a_deployment_of_a_deprecated_version_says_so(version: Version) -> None:
    placement: Any = SimpleNamespace(
        service="s", package="p", version="latest", backend="b", attributes={}, deployment={}
    )
    old = replace(version, deprecated="use digits:4")
    assert "deprecated: use digits:4" in DeployCard("pi", "u", old, placement).text()
    assert (
        "deprecated" not in DeployCard("pi", "u", replace(old, deprecated=None), placement).text()
    )


def test_a_deployment_says_what_it_runs_on_and_its_attributes_as_they_are_typed(
    version: Version,
) -> None:
    given = {"allow_cpu": True, "providers": ["tensorrt"], "device": "gpu", "name": "3"}
    placement: Any = SimpleNamespace(
        service="s", package="p", version="latest", backend="b", attributes=given, deployment={}
    )
    status = {"runs_on": "CPU", "note": "its GPU cannot be used"}
    text = DeployCard("pi", "u", version, placement, seconds=1, status=status).text()
    assert 'allow_cpu=true, providers=["tensorrt"], device=gpu, name="3"' in text
    assert "b on CPU" in text
    assert "its GPU cannot be used" in text


def test_a_service_that_failed_is_not_said_to_serve() -> None:
    for state, still in (("ready", True), ("failed", False)):
        one = {"name": "s", "state": state, "phase": "failed", "number": 2, "error": "it ended"}
        assert ("version 2 keeps serving" in StatusCard({"services": [one]}).text()) == still


def test_what_a_trial_left_on_a_triton_is_not_said_to_be_somebody_elses() -> None:
    text = StatusCard({"services": [], "others": [], "trials": ["digits.0f3a9c1e-47-11.1"]}).text()
    assert "left by a trial that was broken off: digits.0f3a9c1e-47-11.1" in text
    assert "left alone" not in text


def test_a_status_says_what_a_vision_service_finds_and_through_which_model(
    status: dict[str, Any],
) -> None:
    lines = StatusCard(status).text().splitlines()
    (row,) = [line for line in lines if "ear" in line.split()]
    assert row.split()[-6:-2] == ["ready", "digits", "detections", "7"]
    assert any(line.strip().startswith("eye: ") for line in lines)


def test_a_status_is_headed_by_the_name_known_here(status: dict[str, Any]) -> None:
    card = StatusCard({**status, "runtime": "raspberry"}).named("pi").with_notes(["x"])
    assert card.text().startswith("pi")
    assert "raspberry" in card.text()
    assert card.to_json()["runtime"] == "raspberry"


def test_a_name_used_again_says_which_numbers_are_gone(model: Model) -> None:
    assert "numbers 1–2 were used before" in ModelCard.of(replace(model, retired=2)).text()
    assert "used before" not in ModelCard.of(model).text()


@pytest.mark.parametrize(
    ("array", "shares"),
    [
        (np.array([[[0, 1], [1, 1]]]), ["75.0 %", "25.0 %"]),
        (np.array([[[[0.0], [1]], [[1], [1]]]], np.float32), ["75.0 %", "25.0 %"]),
        (np.eye(2)[np.array([[[0, 1, 1], [1, 1, 0], [1, 1, 1]]])], ["77.8 %", "22.2 %"]),
    ],
    ids=["numbers", "one channel", "scores"],
)
def test_a_class_map_is_told_by_shares(array: Any, shares: list[str]) -> None:
    signature = Signature((), (Tensor("y", "FP32", None, labels=("background", "cat")),))
    picture = Image.new("RGB", (40, 30), "white")
    result = InferenceResult(
        {"y": array}, signature, model_type="segmentation", images=[picture]
    ).with_notes(["deprecated: old"])
    text = result.text()
    assert text.index("cat") < text.index("background")
    assert all(share in text for share in shares)
    assert text.endswith("deprecated: old")
    drawn = result.picture()
    assert drawn is not None
    assert drawn.getpixel((0, 0)) == (255, 255, 255)  # the background stays as it is
    assert drawn.getpixel((39, 29)) != (255, 255, 255)


def test_points_are_told_in_pixels_and_drawn() -> None:
    points = np.array([[[[0.5, 0.25, 0.9], [0.1, 0.1, 0.01]]]], np.float32)
    picture = Image.new("RGB", (400, 200), "white")
    result = InferenceResult({"y": points}, Signature(), model_type="keypoints", images=[picture])
    rows = result.text().splitlines()
    assert any(row.split()[:3] == ["0", "100", "100"] for row in rows)
    drawn = result.picture()
    assert drawn is not None
    assert drawn.getpixel((100, 100)) != (255, 255, 255)
    assert drawn.getpixel((40, 20)) == (255, 255, 255)  # a ring: the score is low


@pytest.mark.parametrize("kind", ["segmentation", "keypoints"])
def test_other_outputs_are_shown_as_tensors_with_the_reason(kind: str) -> None:
    result = InferenceResult({"y": np.array([[0.5, 0.5]])}, Signature(), model_type=kind)
    assert f"not shown as {kind}" in result.text()
    assert result.picture() is None
