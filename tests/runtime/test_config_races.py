"""Several clients change one machine's config at once: one wins, the others are told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import ConfigConflictError
from nbmodel.fleet.deploy import change_config
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.storage import MemoryStorage
from tests.tools.device import Device
from tests.tools.toy_versions import machine, toy

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are ended as POSIX does"),
]

CLIENTS, CHANGES = 4, 3


def test_of_clients_that_saw_the_same_config_one_wins_and_all_others_are_told(
    tmp_path: Path,
) -> None:
    with Device(tmp_path / "home") as device:
        url = device.remote.url
        together = threading.Barrier(CLIENTS)

        def change(client: int) -> str | None:
            with RemoteRuntime(url) as remote:
                config, etag = remote.config()
                together.wait()
                try:
                    remote.put_config({**config, "changed_by": client}, if_match=etag)
                except ConfigConflictError as exc:
                    return str(exc)
                return None

        with ThreadPoolExecutor(CLIENTS) as threads:
            answers = list(threads.map(change, range(CLIENTS)))
        assert answers.count(None) == 1
        config, etag = device.remote.config()
        assert config["changed_by"] == answers.index(None)
        assert all(etag in answer for answer in answers if answer is not None), "found which"


def test_no_change_is_lost_and_all_of_it_outlives_a_kill(tmp_path: Path) -> None:
    storage = MemoryStorage()
    version = toy(storage, 1, 2)
    with Device(tmp_path / "home") as device:
        device.push(storage, version, "latest")
        device.configure(machine(confirm_s=0))
        url = device.remote.url

        def change(client: int) -> None:
            with RemoteRuntime(url) as remote:
                for number in range(CHANGES):

                    def with_ours(
                        config: Mapping[str, Any], key: str = f"{client}.{number}"
                    ) -> dict[str, Any]:
                        return {**config, "changes": [*config.get("changes", ()), key]}

                    # As patient as it takes: each try loses to a change that won.
                    while True:
                        try:
                            change_config(remote, with_ours)
                            break
                        except ConfigConflictError:
                            continue

        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(change, range(CLIENTS)))
        expected = {f"{client}.{number}" for client in range(CLIENTS) for number in range(CHANGES)}
        changes = device.remote.config()[0]["changes"]
        assert (len(changes), set(changes)) == (len(expected), expected)
        device.wait_committed(version)
        device.kill()
    with Device(tmp_path / "home") as device:
        assert device.remote.config()[0]["changes"] == changes
        device.wait(lambda status: status["state"] == "ready")
        assert device.answer() == 2
