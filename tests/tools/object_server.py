"""An S3-compatible object store on a free port of loopback: moto, which keeps it in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

SECRET = "a-secret-that-no-message-tells"


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """A running one.

    Attributes:
        url: Its endpoint.
    """

    url: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What its clients find in theirs."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket; its address."""
        httpx.put(f"{self.url}/{name}", trust_env=False).raise_for_status()
        return f"s3://{name}"

    def unfinished(self, bucket: str) -> bytes:
        """What it says of uploads in parts that were neither ended nor given up."""
        return httpx.get(f"{self.url}/{bucket}?uploads", trust_env=False).content


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Run one."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        yield ObjectServer(url)
        # Its objects clean up after themselves, which they cannot when the interpreter ends.
        httpx.post(f"{url}/moto-api/reset", trust_env=False)
    finally:
        server.stop()
