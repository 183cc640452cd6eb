"""Lineage, deployments, and differences between versions, as the registry gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbmodel.core.deployment import Deployment
from nbmodel.core.lineage import Lineage
from nbmodel.core.version import Version
from nbmodel.errors import ModelNotFoundError
from nbmodel.registry import Registry

Add = Callable[..., Version]
FOREIGN = "sha256:" + "f" * 64


def test_a_graph_has_ancestors_and_descendants_and_no_cousins(registry: Registry, add: Add) -> None:
    base = add("base", b"0", lineage=Lineage(parents=(FOREIGN,)))
    root = add("root", b"1", lineage=Lineage(parents=(base.digest,)))
    add("cousin", b"2", lineage=Lineage(parents=(base.digest,)))
    child = add("child", b"3", lineage=Lineage(parents=(root.digest,)))
    grandchild = add("child", b"4", lineage=Lineage(parents=(child.digest, root.digest)))
    registry.record_deployment(Deployment("pi", "vision", "child", "latest", "c", "2026"))
    graph = registry.lineage("root:1")
    assert graph.root == root.digest
    assert [node.reference for node in graph.nodes] == [
        "root:1",
        "base:1",
        None,
        "child:1",
        "child:2",
    ]
    assert set(graph.edges) == {
        (FOREIGN, base.digest),
        (base.digest, root.digest),
        (root.digest, child.digest),
        (child.digest, grandchild.digest),
        (root.digest, grandchild.digest),
    }
    assert [node.reference for node in graph.children(root.digest)] == ["child:1", "child:2"]
    assert graph.node(FOREIGN).title == "ffffffffffff (not in this registry)"
    assert [deployment.target for deployment in graph.node(grandchild.digest).deployments] == [
        "vision@pi"
    ]
    assert graph.node(child.digest).deployments == ()
    assert graph.node(grandchild.digest).aliases == ("latest",)


def test_a_graph_tells_where_a_version_and_its_parents_were_made(
    registry: Registry, add: Add
) -> None:
    made = Lineage(notebook="train.ipynb", cell=4)
    base = add("base", b"0", lineage=made)
    root = add("root", b"1", lineage=Lineage(parents=(base.digest, FOREIGN), user="ada"))
    child = add("child", b"2", lineage=Lineage(parents=(root.digest,)))
    graph = registry.lineage("root:1")
    assert graph.node(base.digest).lineage == made
    assert graph.node(root.digest).lineage == root.manifest.lineage
    assert graph.node(FOREIGN).lineage is None
    assert graph.node(child.digest).lineage is None
    assert graph.to_json()["nodes"][1]["lineage"] == made.to_json()


def test_a_version_without_relatives_is_a_graph_of_itself(registry: Registry, add: Add) -> None:
    made = add()
    graph = registry.lineage("digits")
    assert [node.digest for node in graph.nodes] == [made.digest]
    assert graph.edges == ()


def test_deployments_are_replaced_listed_and_forgotten(registry: Registry, add: Add) -> None:
    add("digits")
    add("fruits")
    on_pi = Deployment("pi", "vision", "digits", "latest", "digits", "2026-01-01T00:00:00Z")
    on_nano = Deployment("nano", "vision", "fruits", "champion", "fruits", "2026-01-01T00:00:00Z")
    moved = Deployment("pi", "vision", "fruits", "3", "fruits", "2026-01-02T00:00:00Z")
    registry.record_deployment(on_pi)
    registry.record_deployment(on_nano)
    assert registry.deployments() == [on_nano, on_pi]
    assert registry.deployments(model="digits") == [on_pi]
    assert registry.deployments(runtime="nano") == [on_nano]
    registry.record_deployment(moved)
    assert registry.deployments() == [on_nano, moved]
    registry.remove_deployment("pi", "vision")
    registry.remove_deployment("pi", "vision")
    assert registry.deployments() == [on_nano]
    with pytest.raises(ModelNotFoundError):
        registry.record_deployment(Deployment("pi", "vision", "zebra", "latest", "z", "2026"))


def test_two_versions_are_compared(registry: Registry, add: Add) -> None:
    add(content=b"a", metrics={"acc": 0.5})
    add(content=b"b", metrics={"acc": 0.75}, metadata={"depth": 3})
    diff = registry.diff("digits:1", "digits")
    assert (diff.old, diff.new) == ("digits:1", "digits:2")
    assert [(change.name, change.delta) for change in diff.metrics] == [("acc", 0.25)]
    assert [(change.name, change.kind) for change in diff.metadata] == [("depth", "added")]
    assert [change.name for change in diff.files] == ["model.onnx"]
    assert registry.diff("digits", "digits").is_empty
