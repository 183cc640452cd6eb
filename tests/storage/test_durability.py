"""What a storage or a tag store said is done is done, wherever the power is cut."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from tests.tools import powercut
from tests.tools.powercut import Cut, Disk, cuts, differences, read_calls, traced

if sys.platform != "linux" or powercut.why_not() is not None:
    pytest.skip(f"{powercut.why_not()}", allow_module_level=True)

#: Prints a line when a promise was made: when, a path, and the text that it has from now on.
DRIVER = """
import json, sys, time
from pathlib import Path
from nbmodel.storage import OciLayout
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.tags import TagStore

root = Path(sys.argv[1])
layout, tags = OciLayout(root / "blobs"), TagStore(root / "tags")

def promise(path, text):
    print(json.dumps([time.time_ns(), path, text]))

for text in ("one", "two"):
    digest = layout.add_bytes(text.encode())
    promise("blobs/blobs/sha256/" + digest.removeprefix("sha256:"), text)
    for tag in ("latest", "pinned"):
        tags.set("team/fruit", tag, digest)
        promise("tags/team+fruit/" + tag, digest)
    tags.delete("team/fruit", "pinned")
    promise("tags/team+fruit/pinned", None)
    write_atomically(root / "new" / "folder" / "file", text.encode())
    promise("new/folder/file", text)
with layout.receive(name="upload") as upload:
    upload.write(b"thr")
with layout.receive(name="upload") as upload:
    upload.write(b"ee")
    upload.commit("sha256:8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f")
promise("blobs/blobs/sha256/8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f", "three")
"""

#: Paths whose text is one of few, whenever the power is cut, if they are there at all.
WHOLE = {
    "blobs/oci-layout": {'{"imageLayoutVersion": "1.0.0"}'},
    "blobs/index.json": {
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    },
    "new/folder/file": {"one", "two"},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Cut], list[list[object]]]:
    """All power cuts of the driver, and its promises."""
    folder = tmp_path_factory.mktemp("durability")
    root, log = folder / "root", folder / "log"
    root.mkdir()
    log.mkdir()
    disk = Disk.read(root)
    command = [sys.executable, "-c", DRIVER, str(root)]
    said = subprocess.run(traced(command, log), check=True, capture_output=True, timeout=60)
    found = list(cuts(disk, read_calls(log)))
    assert differences(disk, root) == []
    return found, [json.loads(line) for line in said.stdout.splitlines()]


def texts(cut: Cut) -> dict[str, str]:
    return {path: content.decode() for path, (_, content) in cut.tree.files.items()}


def test_a_promise_is_kept(recorded: tuple[list[Cut], list[list[object]]]) -> None:
    found, promises = recorded
    times = [int(str(at)) for at, _, _ in promises]
    for cut in found:
        kept = texts(cut)
        # Of a path that is being changed again, its former text is promised no more.
        until = sum(at < cut.begin_ns for at in times)
        changing = None if until == len(promises) else promises[until][1]
        promised = {path: text for _, path, text in promises[:until] if path != changing}
        assert {path: kept.get(str(path)) for path in promised} == promised, str(cut)


def test_a_file_is_there_as_a_whole_or_not_at_all(
    recorded: tuple[list[Cut], list[list[object]]],
) -> None:
    found, _ = recorded
    for cut in found:
        for path, text in texts(cut).items():
            name = path.rpartition("/")[2]
            if name.startswith(".new-") or path.startswith("blobs/uploads/"):
                continue  # not there yet
            if path in WHOLE:
                assert text in WHOLE[path], str(cut)
            elif path.startswith("tags/"):
                assert len(text) == len("sha256:") + 64, str(cut)
            else:
                assert hashlib.sha256(text.encode()).hexdigest() == name, str(cut)
