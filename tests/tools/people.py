"""People who share a remote, and several of them that push to it at once."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from nbmodel.core.remote import Remote
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version
from nbmodel.registry import Registry
from nbmodel.registry.remote.peer import Peer

SIGNATURE = Signature(
    inputs=(Tensor("x", "FP32", (-1, 64)),),
    outputs=(Tensor("y", "FP32", (-1, 3), labels=("ant", "bee", "cat")),),
)
_turn = count()

_PROGRAM = """
import json, sys
from nbmodel.core.remote import Remote
from nbmodel.errors import ModelExistsError
from tests.tools.people import Person
folder, url, name, pushes = sys.argv[1:]
from pathlib import Path
person = Person(Path(folder), Remote(url, name))
own = set()
for turn in range(int(pushes)):
    own.add(person.add(content=f"{folder} {turn}".encode()).digest)
    try:
        person.push("digits")
    except ModelExistsError:  # others were first: it is one model, so we say so, as told
        assert turn == 0
        person.sync("digits")
        person.push("digits")
print(json.dumps({digest: number for digest, number in person.numbers().items() if digest in own}))
person.registry.close()
"""


class Person:
    """A registry, and what one does with it.

    Args:
        folder: Where it is.
        remote: What is shared.
    """

    def __init__(self, folder: Path, remote: Remote) -> None:
        self.registry = Registry(folder)
        self.remote = remote

    def add(self, name: str = "digits", content: bytes | Path = b"", **options: Any) -> Version:
        """Make a version, of content that no other has when none is given."""
        given: dict[str, Any] = {
            "framework": "onnx",
            "model_type": "classification",
            "signature": SIGNATURE,
        }
        content = content or f"weights {next(_turn)}".encode()
        return self.registry.add(name, {"model.onnx": content}, **{**given, **options})

    def peer(self, **options: Any) -> Peer:
        """A connection to what is shared."""
        return Peer(self.remote, **options)

    def push(self, ref: str | None = "digits", **options: Any) -> Any:
        """Push to it, all of what is meant."""
        with self.peer() as peer:
            report = self.registry.push(peer, ref, **options)
        report.check()
        return report

    def sync(self, model: str | None = None) -> Any:
        """Know what it has."""
        with self.peer() as peer:
            return self.registry.sync(peer, model)

    def numbers(self, name: str = "digits") -> dict[str, int]:
        """Digest → number of the versions of a model."""
        return {version.digest: version.number for version in self.registry.versions(name)}


def race(folder: Path, remote: Remote, processes: int, pushes: int) -> list[dict[str, int]]:
    """Digest → number, as each of the processes saw its own versions at its end."""
    root = Path(__file__).resolve().parents[2]
    place = [remote.base_url, remote.namespace, str(pushes)]

    def write(index: int) -> dict[str, int]:
        words = [sys.executable, "-c", _PROGRAM, str(folder / f"writer{index}"), *place]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        own: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return own

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(write, range(processes)))


def check_agreement(folder: Path, remote: Remote, written: list[dict[str, int]]) -> None:
    """Everybody finds every version, under one number that nobody else has."""
    digests = {digest for own in written for digest in own}
    reader = Person(folder / "reader", remote)
    (part,) = reader.sync("digits").models
    settled = reader.numbers()
    assert set(settled) == digests
    assert len(set(settled.values())) == len(digests) == part.there
    for index in range(2):
        writer = Person(folder / f"writer{index}", remote)
        writer.sync("digits")
        assert writer.numbers() == settled
        assert writer.registry.verify().is_clean
        writer.registry.close()
    reader.registry.close()
