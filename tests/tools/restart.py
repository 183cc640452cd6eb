"""What becomes of a home when a runtime is started in it again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.errors import NbModelError
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.collector import Collector
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import MemoryStorage, OciLayout, Storage
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.tags import TagStore
from tests.tools.laws import config_models, kept_versions, unowned
from tests.tools.toy_versions import MODEL, ROW, SERVICE, Toy, machine, toy

AFTER = 9.0  # what the version scales by that is deployed in the end
PATIENCE_S = 60.0
_POLL_S = 0.005
_WRITTEN_S = 1.0  # more than it takes to write any file
_MAX_BLOB = 1024 * 1024
_CONFIRM_S = 0.05
_LONG_S = 30 * 24 * 3600.0  # no period of grace is longer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a runtime did that was started in a home.

    Attributes:
        factors: What it scaled by, one after the other; None where it did not answer.
        settled: What it scaled by in the end.
        unowned: What is on its disk for no reason, when every period of grace is over.
        after: What it scaled by when another version was deployed; None: none was.
    """

    factors: tuple[float | None, ...]
    settled: float | None
    unowned: tuple[str, ...]
    after: float | None


def started_again(home: Path, *, deploy: bool) -> Outcome:
    """Start a runtime in a home, wait until it has settled, and end it.

    Args:
        home: The folder.
        deploy: Whether to deploy another version then.
    """
    runtime = EdgeRuntime(home, name="again", environment={})
    try:
        factors: list[float | None] = []
        deadline = time.monotonic() + PATIENCE_S
        while not (runtime.settled and is_steady(runtime)):
            assert time.monotonic() < deadline, runtime.status()
            if runtime.ready:  # before, it may still load what it ran
                _note(factors, factor(runtime))
            time.sleep(_POLL_S)
        settled = factor(runtime)
        _note(factors, settled)
        after = _deployed(runtime) if deploy else None
        collect(home)
        return Outcome(tuple(factors), settled, _rubbish(home), after)
    finally:
        runtime.close()


def collect(home: Path) -> None:
    """Let a home's collector do what it would do in a month."""
    passed_s = 0.0
    collector = Collector(
        OciLayout(home / "blobs"), TagStore(home / "tags"), clock=lambda: passed_s
    )
    collector.collect(kept_versions(home), models=config_models(home))
    passed_s = _LONG_S
    collector.collect(kept_versions(home), models=config_models(home))


def _rubbish(home: Path) -> tuple[str, ...]:
    """What is there for no reason, and not only as long as a file is written."""
    deadline = time.monotonic() + _WRITTEN_S
    while (found := tuple(unowned(home))) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return found


def is_steady(runtime: EdgeRuntime) -> bool:
    """Whether no version is on its way, or on trial."""
    return all(
        entry.get("phase", "ready") in ("ready", "failed", "stopped", "waiting")
        for entry in runtime.status()["services"]
    )


def _note(factors: list[float | None], now: float | None) -> None:
    if not factors or factors[-1] != now:
        factors.append(now)


def factor(runtime: EdgeRuntime) -> float | None:
    try:
        return float(runtime.infer(InferRequest(SERVICE, {"x": ROW})).outputs["y"][0, 0])
    except NbModelError:
        return None


def deploy(runtime: EdgeRuntime, storage: Storage, version: Toy, config: Mapping[str, Any]) -> None:
    """Put a version on a device as a push does, then have the config want it.

    Args:
        runtime: The device.
        storage: Where the version is.
        version: It becomes the latest one.
        config: The machine config.
    """
    for digest in (*blobs_of(version.raw), version.digest):
        runtime.storage.add_bytes(storage.read(digest, limit=_MAX_BLOB))
    for tag in (*version.tags, "latest"):
        runtime.tags.set(MODEL, tag, version.digest)
    runtime.tags.delete(MODEL, "pinned")
    runtime.tags_changed(MODEL)
    runtime.set_config(config, if_match=None)


def _deployed(runtime: EdgeRuntime) -> float | None:
    """What it scales by when another version was deployed."""
    storage = MemoryStorage()
    version = toy(storage, int(AFTER), AFTER)
    deploy(runtime, storage, version, machine(confirm_s=_CONFIRM_S))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if factor(runtime) == AFTER and runtime.settled and is_steady(runtime):
            break
        time.sleep(_POLL_S)
    return factor(runtime)
