import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.errors import FormatError, NbModelError, UnsupportedError
from nbmodel.protocol.compression import CODINGS, accepted, check_coding, compress, decompress

LIMIT = 1 << 20


@given(st.lists(st.binary(max_size=200), max_size=4), st.sampled_from(CODINGS))
def test_what_is_compressed_comes_back(parts: list[bytes], coding: str) -> None:
    packed = b"".join(compress([memoryview(part) for part in parts], coding))
    assert decompress(packed, limit=LIMIT) == b"".join(parts)


def test_what_the_standard_library_packs_is_read() -> None:
    assert decompress(gzip.compress(b"abc"), limit=LIMIT) == b"abc"
    assert decompress(zlib.compress(b"abc"), limit=LIMIT) == b"abc"


def test_the_standard_library_reads_what_is_packed() -> None:
    assert gzip.decompress(b"".join(compress([b"ab", b"c"], "gzip"))) == b"abc"
    assert zlib.decompress(b"".join(compress([b"ab", b"c"], "deflate"))) == b"abc"


def test_the_limit_itself_may_come_out() -> None:
    assert len(decompress(zlib.compress(bytes(LIMIT)), limit=LIMIT)) == LIMIT


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"abc", "cannot be decompressed", id="not compressed"),
        pytest.param(gzip.compress(b"abc" * 99)[:-9], "ends too early", id="cut off"),
        pytest.param(gzip.compress(b"abc")[:-1] + b"\x7f", "cannot be", id="a wrong length"),
        pytest.param(zlib.compress(b"abc") + b"x", "bytes follow", id="more after the end"),
        pytest.param(zlib.compress(bytes(LIMIT + 1)), f"value of {LIMIT}", id="one byte too much"),
        pytest.param(zlib.compress(bytes(1 << 28)), f"value of {LIMIT}", id="a bomb"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        decompress(data, limit=LIMIT)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for head in (b"", b"\x1f\x8b\x08\x00", b"\x78\x9c"):
        with suppress(NbModelError):
            assert len(decompress(head + data, limit=1000)) <= 1000


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("gzip", "gzip", id="gzip"),
        pytest.param("deflate, gzip", "deflate", id="the first of equals"),
        pytest.param("gzip;q=0.5, deflate;q=0.8", "deflate", id="the heavier"),
        pytest.param("identity, gzip;q=0.9", None, id="as it is"),
        pytest.param("gzip;q=0", None, id="refused"),
        pytest.param("br, zstd", None, id="others"),
        pytest.param("br, gzip ; q=0.1", "gzip", id="spaces"),
        pytest.param("gzip;q=x, deflate;q=0.1", "deflate", id="malformed"),
        pytest.param("*", None, id="anything"),
        pytest.param("gzip;q=nan", None, id="no number"),
    ],
)
def test_the_best_coding_is_chosen(header: str, coding: str | None) -> None:
    assert accepted(header) == coding


def test_another_coding_is_refused() -> None:
    assert [check_coding(coding) for coding in ("gzip", "deflate", "identity", "")] == [
        "gzip",
        "deflate",
        None,
        None,
    ]
    with pytest.raises(UnsupportedError, match="Unsupported compression type: br"):
        check_coding("br")
