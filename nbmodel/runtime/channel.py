"""How a runtime and its worker processes talk: lines of JSON, and connections passed on.

A worker is told what to serve, and asked what it did; each line that it is sent has an
``id``, which its answer has too. A connection that is not a worker's to serve goes to the
runtime as a file descriptor with what was read of it.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nbmodel.runtime.packages import Installed
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.runtime.services import Source
from nbmodel.runtime.statistics import BatchStatistics, Duration, ModelStatistics
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import load_manifest

logger = logging.getLogger(__name__)

MAX_PASSED = 128 * 1024  # bytes read of a connection that is passed on


def send_line(channel: socket.socket, data: Mapping[str, Any]) -> None:
    """Send one JSON object."""
    channel.sendall(json.dumps(data, separators=(",", ":")).encode() + b"\n")


def lines(channel: socket.socket) -> Iterator[dict[str, Any]]:
    """The JSON objects that the other side sends, until it is gone."""
    with channel.makefile("rb") as file:
        try:
            for line in file:
                yield json.loads(line)
        except (OSError, ValueError):
            return  # it ended in the middle of a line


def pass_connection(channel: socket.socket, descriptor: int, data: bytes) -> None:
    """Give a connection to the other process; this one's descriptor stays open.

    Raises:
        OSError: The other process is gone.
        ValueError: More than ``MAX_PASSED`` bytes were read of it.
    """
    if len(data) > MAX_PASSED:
        raise ValueError(f"{len(data)} bytes of a connection, at most {MAX_PASSED} are passed on")
    socket.send_fds(channel, [data], [descriptor])


def take_connection(channel: socket.socket) -> tuple[socket.socket, bytes] | None:
    """The next connection that the other process passes on; None when it is gone.

    One for which this process has no descriptor left is lost, and the next one is waited for.
    """
    while True:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(channel, MAX_PASSED, 1)
        except OSError:
            return None
        if descriptors:
            return socket.socket(fileno=descriptors[0]), data
        if not data:
            return None
        logger.warning("a connection is lost: too many files are open")


def source_to_json(source: Source) -> dict[str, Any]:
    """A source as JSON; the manifest by its digest."""
    installed = source.installed
    return {
        "model": source.model,
        "attributes": dict(source.attributes),
        "key": source.key,
        "engines": None if source.engines is None else str(source.engines),
        "installed": None
        if installed is None
        else {"version": asdict(installed.version), "folder": str(installed.folder)},
    }


def source_from_json(data: Mapping[str, Any], storage: Storage) -> Source:
    """The source that ``source_to_json`` wrote.

    Args:
        data: As it was sent.
        storage: Where manifests are.

    Raises:
        StorageError, ManifestError: Its manifest cannot be read.
    """
    installed = data["installed"]
    if installed is not None:
        version = PackageVersion(**installed["version"])
        manifest = load_manifest(storage, version.digest)
        installed = Installed(version, manifest, Path(installed["folder"]))
    engines = None if data["engines"] is None else Path(data["engines"])
    return Source(data["model"], data["attributes"], data["key"], installed, engines)


def statistics_from_json(data: Mapping[str, Any]) -> ModelStatistics:
    """The counts that ``dataclasses.asdict`` made an object of."""
    values: dict[str, Any] = {
        name: Duration(**value) if isinstance(value, dict) else value
        for name, value in data.items()
    }
    batches = (
        BatchStatistics(
            one["batch_size"],
            *(
                Duration(**one[name])
                for name in ("compute_input", "compute_infer", "compute_output")
            ),
        )
        for one in data["batch_stats"]
    )
    values["batch_stats"] = tuple(batches)
    return ModelStatistics(**values)
