"""The same requests to a real tritonserver and to a runtime: every difference has a reason."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from dataclasses import dataclass, fields
from typing import Any

import pytest

from tests.conformance.conftest import Served
from tests.conformance.corpus import LENGTH, Case, corpus
from tests.conformance.differences import DIFFERENCES, reason_of, without_ignored
from tests.tools.triton import Triton

LEAST = 300  # cases
_DECOMPRESS = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, taken apart.

    Attributes:
        status: HTTP status; 0: the connection ended without an answer.
        type: Content type; empty for an error, which is JSON whatever its type says.
        coding: Content coding.
        error: The message of an error, or None.
        json: The JSON before the tensors, without the error and what is not compared;
            its text where it cannot be read.
        bytes: What follows the JSON.
    """

    status: int
    type: str = ""
    coding: str = ""
    error: str | None = None
    json: Any = None
    bytes: bytes = b""

    @classmethod
    def of(cls, status: int, headers: http.client.HTTPMessage, body: bytes) -> Answer:
        """Take an answer apart; tensors of any alignment are compared as such."""
        coding = headers.get("Content-Encoding", "")
        content = _DECOMPRESS[coding](body) if coding else body
        length = int(headers.get(LENGTH, len(content)))
        document: Any = None
        if length:
            try:
                document = json.loads(content[:length])
            except ValueError:
                document = content[:length].decode("latin-1")
        error = document.pop("error", None) if isinstance(document, dict) else None
        kind = headers.get("Content-Type", "") if status < 400 else ""
        rest = without_ignored(_sorted(document))
        return cls(status, kind, coding, error, rest, content[length:])


def _sorted(document: Any) -> Any:
    """An index of models by name: its order means nothing."""
    if isinstance(document, list) and all(isinstance(entry, dict) for entry in document):
        return sorted(
            ({k: v for k, v in entry.items() if k != "reason" or v} for entry in document),
            key=lambda entry: str(entry.get("name")),
        )
    return document


def send(address: str, case: Case) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in case.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(case.body)))
        connection.endheaders(case.body)
        response = connection.getresponse()
        return Answer.of(response.status, response.headers, response.read())
    except (ConnectionError, http.client.HTTPException):
        return Answer(0)
    finally:
        connection.close()


def differing(theirs: Answer, ours: Answer) -> frozenset[str]:
    names = [field.name for field in fields(Answer)]
    # Through repr, so that a NaN equals a NaN.
    return frozenset(n for n in names if repr(getattr(theirs, n)) != repr(getattr(ours, n)))


@pytest.mark.slow
def test_every_difference_from_triton_has_its_reason(
    real_triton: Triton, our_runtime: Served
) -> None:
    cases = corpus()
    assert len({case.id for case in cases}) == len(cases) >= LEAST
    unused = {(d, pattern) for d in DIFFERENCES for pattern in d.cases}
    unexplained = []
    for case in cases:
        theirs, ours = send(real_triton.http, case), send(our_runtime.http, case)
        different = differing(theirs, ours)
        if not different:
            continue
        reasons = set(reason_of(case.id, different, (theirs.status, ours.status)))
        unused -= reasons
        if not reasons:
            lines = [f"  {n}: {getattr(theirs, n)!r} | {getattr(ours, n)!r}" for n in different]
            unexplained.append("\n".join([case.id, *sorted(lines)]))
    assert not unexplained, "Triton's answer | ours\n" + "\n".join(unexplained)
    stale = sorted(f"{pattern!r}: {difference.why}" for difference, pattern in unused)
    assert not stale, "these differ no more, take them off the list:\n" + "\n".join(stale)
