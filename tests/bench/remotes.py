"""Pushing, listing and racing at Docker's registry on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nbmodel.client import Client
from nbmodel.core.remote import Remote
from nbmodel.registry.remote.peer import Peer
from nbmodel.storage.remote_registry import RemoteRegistry
from tests.bench.harness import MIB, Row, Spread, in_turn_ms, time_ms, times_ms
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.people import SIGNATURE, check_agreement, race

MODELS, VERSIONS = 100, 20
WRITERS, PUSHES = 8, 25


def rows(folder: Path) -> Iterator[Row]:
    """Nothing new is quick to tell, many are quick to list, and no race loses a version."""
    if PROGRAM is None:
        yield Row("remotes", Spread(()), "docker-registry is not installed")
        return
    with docker_registry(folder / "docker-registry") as url:
        client = Client(folder / "home")
        yield _again(client, Remote(url, "again"))
        yield _list(client, Remote(url, "list"))
        client.close()
        yield _race(folder, Remote(url, "race"))


def _again(client: Client, remote: Remote) -> Row:
    """A push of 64 MiB that are there, beside the one question that it cannot do without."""
    _add(client, "large", os.urandom(64 * MIB))
    client.push("large", str(remote))
    sent = 0

    def push() -> None:
        nonlocal sent
        sent += client.push("large:1", str(remote)).sent

    def ask() -> None:
        with Peer(remote) as peer:
            peer.registry.tags(remote.repository("large"))

    again, asked = in_turn_ms(push, ask, runs=20)
    broken = f"{sent} bytes of blobs were sent" if sent else ""
    return Row(
        "push of 64 MiB again, unchanged",
        again,
        "a list of tags alone",
        asked,
        bar=50,
        must="no blob bytes",
        broken=broken,
    )


def _list(client: Client, remote: Remote) -> Row:
    """Models of a remote: all of them share their files, which are not what is measured."""
    for turn in range(VERSIONS):
        _add(client, "model", str(turn).encode())
    versions = client.registry.versions("model")

    def fill(registry: RemoteRegistry, model: int) -> None:
        repository = remote.repository(f"model{model}")
        for version in versions:
            tags = (
                f"v{version.number}-20260228T133651.000000-{version.digest[7:23]}",
                str(version.number),
                version.stamp,
            )
            registry.push(repository, client.registry.storage, version.digest, tags=tags)

    with Peer(remote) as peer:
        peer.each(fill, range(MODELS))
    listed = times_ms(lambda: client.list(remote=str(remote)), runs=10)
    table = client.list(remote=str(remote))
    found = (len(table), {model.versions for model in table})  # type: ignore[union-attr] # of a remote
    broken = "" if found == (MODELS, {VERSIONS}) else f"found {found}"
    return Row(
        f"list of {MODELS} remote models × {VERSIONS} versions, again",
        listed,
        bar=500,
        must=f"{MODELS} × {VERSIONS} found",
        broken=broken,
    )


def _race(folder: Path, remote: Remote) -> Row:
    """Eight processes that push to one model, against one that does it all."""
    broken = ""

    def together() -> None:
        nonlocal broken
        written = race(folder / "together", remote, WRITERS, PUSHES)
        try:
            check_agreement(folder / "together", remote, written)
        except AssertionError as exc:
            broken = f"not every version under its own number: {exc}"

    alone = Remote(remote.base_url, f"{remote.namespace}-alone")
    return Row(
        f"{WRITERS} writers × {PUSHES} pushes to one remote model, and a sync",
        Spread((time_ms(together),)),
        f"one writer × {WRITERS * PUSHES}",
        Spread((time_ms(lambda: race(folder / "alone", alone, 1, WRITERS * PUSHES)),)),
        must=f"{WRITERS * PUSHES} versions, as many numbers",
        broken=broken,
    )


def _add(client: Client, name: str, content: bytes) -> None:
    client.registry.add(
        name,
        {"model.onnx": content},
        framework="onnx",
        model_type="other",
        signature=SIGNATURE,
    )
