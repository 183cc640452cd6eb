from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.errors import InputError
from nbmodel.label_file import MAX_SIZE, read_label_file


def test_labels_are_those_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("background\n\ncat\n")
    assert read_label_file(path) == ("background", "", "cat")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "No such file or directory", id="no file"),
        pytest.param(b"\x00\x01", "not a label file: NUL", id="no text"),
        pytest.param(b" " * (MAX_SIZE + 1), f"larger than {MAX_SIZE} bytes", id="too large"),
    ],
)
def test_what_is_no_label_file_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_label_file(path)
