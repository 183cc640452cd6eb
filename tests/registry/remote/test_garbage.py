"""Freeing what nobody needs in a remote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbmodel.cli import main
from nbmodel.client import Client
from nbmodel.core.remote import Remote
from nbmodel.errors import UnsupportedError
from nbmodel.storage.remote_registry import open_registry
from tests.tools.people import SIGNATURE

pytest.importorskip("obstore", reason="object stores are opened with obstore")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path / "home")
    for content in (b"first", b"second"):
        made.registry.add(
            "digits",
            {"model.onnx": content},
            framework="onnx",
            model_type="other",
            signature=SIGNATURE,
        )
    yield made
    made.close()


@pytest.fixture
def pushed(client: Client, folder_remote: Remote) -> Remote:
    """A folder with two versions, the first of which no tag leads to any more."""
    client.push("digits", str(folder_remote))
    first = client.registry.resolve("digits:1").digest
    with open_registry(folder_remote.base_url) as registry:
        name = folder_remote.repository("digits")
        for tag in registry.tags(name):
            if registry.digest(name, tag) == first:
                registry.delete_tag(name, tag)
    return folder_remote


def test_what_no_tag_leads_to_is_freed_there_and_nothing_here(
    client: Client, pushed: Remote, tmp_path: Path
) -> None:
    seen = client.gc(str(pushed), grace_s=0, dry_run=True)
    assert (seen.blobs, seen.dry_run) == (3, True), "manifest, config and file"
    assert client.gc(str(pushed)).blobs == 0, "they are young"
    assert client.gc(str(pushed), grace_s=0).blobs == 3
    assert client.gc(str(pushed), grace_s=0).blobs == 0
    assert client.verify().is_clean
    other = Client(tmp_path / "other")
    other.pull(f"{pushed}/digits:2")
    assert other.verify().is_clean
    other.close()


def test_a_version_that_was_collected_is_pushed_again(client: Client, pushed: Remote) -> None:
    client.gc(str(pushed), grace_s=0)
    left = client.push("digits", str(pushed))
    assert [one.number for one in left.versions] == [2]
    report = client.push("digits:1", str(pushed))
    assert report.sent > 0
    assert [one.number for one in report.versions] == [1]
    assert client.gc(str(pushed), grace_s=0).blobs == 0


def test_it_is_a_word_of_the_command_line(
    client: Client,
    pushed: Remote,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    client.close()
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))
    assert main(["--json", "gc", str(pushed), "--grace", "0", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["blobs"] == 3


@pytest.mark.unhurried
def test_a_registry_says_that_it_does_that_itself(client: Client, docker_remote: Remote) -> None:
    with pytest.raises(UnsupportedError, match="expected an object store") as caught:
        client.gc(str(docker_remote))
    assert "garbage-collect" in str(caught.value.hint)
