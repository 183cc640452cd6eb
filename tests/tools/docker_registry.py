"""The CNCF's registry, started on a free port of loopback and ended."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.tools.certificate import Certificate

PROGRAM = shutil.which("docker-registry")
_START_S = 10.0
_LISTENS = re.compile(r"listening on 127\.0\.0\.1:([0-9]+)")


@contextmanager
def docker_registry(
    folder: Path,
    *,
    auth: Mapping[str, object] | None = None,
    certificate: Certificate | None = None,
    secret: str | None = None,
) -> Iterator[str]:
    """Run one that keeps its files in a folder; its URL.

    Args:
        folder: Made when it is missing.
        auth: How it is entered, as its own config says that; None: by anybody.
        certificate: With that it speaks TLS.
        secret: What it signs uploads with, so that another one on the same folder goes on
            with them; None: a secret of its own.

    Raises:
        FileNotFoundError: It is not installed.
        OSError: It did not start.
    """
    if PROGRAM is None:
        raise FileNotFoundError("docker-registry is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "registry.yml"
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "127.0.0.1:0"}
        | ({} if secret is None else {"secret": secret})
        | ({} if certificate is None else {"tls": certificate.settings}),
    } | ({} if auth is None else {"auth": auth})
    config.write_text(json.dumps(settings))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log) as process,
    ):
        try:
            port = _port(folder / "log", process)
            yield f"http{'s' if certificate else ''}://127.0.0.1:{port}"
        finally:
            process.terminate()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Where it listens; it says so as soon as it does."""
    deadline = time.monotonic() + _START_S
    while (found := _LISTENS.search(log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"docker-registry did not start: {log.read_text()[-2000:]}")
        time.sleep(0.02)
    return int(found[1])
