"""Compile ``nbmodel/protocol/proto/*.proto`` to the descriptors that nbmodel ships.

Run it after a change of a text: ``python tests/tools/compile_protos.py``. It needs
grpcio-tools.
"""

from __future__ import annotations

import tempfile
from importlib import resources
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "nbmodel" / "protocol" / "proto"
COMPILED = FOLDER / "descriptors.binpb"


def compile_protos() -> bytes:
    """The compiled descriptors of all texts, without what they import from protobuf itself.

    Raises:
        ValueError: A text has an error; protoc has printed it.
    """
    from grpc_tools import protoc

    # protobuf's own definitions come with grpcio-tools.
    own = resources.files("grpc_tools").joinpath("_proto")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / COMPILED.name
        arguments = [f"-I{FOLDER}", f"-I{own}", f"--descriptor_set_out={made}"]
        texts = sorted(str(path) for path in FOLDER.glob("*.proto"))
        if protoc.main(["protoc", *arguments, *texts]) != 0:
            raise ValueError(f"protoc cannot compile the texts in {FOLDER}")
        return made.read_bytes()


if __name__ == "__main__":
    COMPILED.write_bytes(compile_protos())
    print(f"{COMPILED}: {COMPILED.stat().st_size} bytes")
