"""Label files: the names of classes, in index order.

What lives here turns text and maps into a tuple of names and back. Which output the names
belong to is the signature's business.

Source: ``getLabelsFromFile`` of Viam's rdk for the shapes a ``labels.txt`` may have.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence

from nbmodel.errors import InputError

MAX_LABELS = 100_000  # five times ImageNet-21k; a larger index is a mistake
_BREAKS = re.compile(r"\r\n|[\n\r]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")  # what no text has, white space apart
_COLON = re.compile(r"([0-9]{1,9}):(?:\s+(.*)|(\D.*))?")  # "12:30" is a time, not label 12
_SPACE = re.compile(r"([0-9]{1,9})\s+(.+)")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def parse_labels(text: str | bytes) -> tuple[str, ...]:
    r"""The labels of a label file, each at its index.

    Understood are: one label a line; a single line, split at commas or else at spaces;
    lines that each start with their index (``7 cat`` or ``7: cat``). A blank line keeps
    its index as an empty label, as does an index that is left out; blank lines at the end
    are dropped. White space around a label is not part of it.

    >>> parse_labels("background\n\ncat\n")
    ('background', '', 'cat')
    >>> parse_labels("0 person\n2 car")
    ('person', '', 'car')

    Args:
        text: The content of the file. Bytes are UTF-8, or what their byte order mark says.

    Raises:
        InputError: The bytes are not text, or there are more than ``MAX_LABELS`` labels.
    """
    if isinstance(text, bytes):
        text = _decode(text)
    lines = [line.strip() for line in _BREAKS.split(text.removeprefix("\ufeff"))]
    while lines and not lines[-1]:
        lines.pop()
    filled = [line for line in lines if line]
    by_index = _indexed(filled, _COLON)
    if by_index is None and len(filled) == 1:
        lines = _split_line(filled[0])
    elif by_index is None:
        by_index = _spaced(filled)
    labels = tuple(lines) if by_index is None else labels_by_index(by_index)
    if len(labels) > MAX_LABELS:
        raise InputError(f"{len(labels):,} labels, expected at most {MAX_LABELS:,}")
    return labels


def labels_from_map(indices: Mapping[str, int]) -> tuple[str, ...]:
    """The labels of a ``{name: index}`` map; an index that nobody has is an empty label.

    >>> labels_from_map({"cat": 2, "background": 0})
    ('background', '', 'cat')

    Raises:
        InputError: An index is no whole number, negative, above ``MAX_LABELS``, or taken.
    """
    by_index: dict[int, str] = {}
    for name, index in indices.items():
        given: object = index  # often from a JSON file: the annotation promises nothing
        if not isinstance(given, int) or isinstance(given, bool):
            raise InputError(f"index of label {name!r} is not a whole number: {index!r}")
        if index in by_index:
            raise InputError(f"labels {by_index[index]!r} and {name!r} have one index, {index}")
        by_index[index] = name
    return labels_by_index(by_index)


def labels_by_index(names: Mapping[int, str]) -> tuple[str, ...]:
    """The labels of an ``{index: name}`` map; an index that is left out is an empty label.

    >>> labels_by_index({0: "background", 2: "cat"})
    ('background', '', 'cat')

    Raises:
        InputError: An index is negative or above ``MAX_LABELS``.
    """
    for index, name in names.items():
        if not 0 <= index < MAX_LABELS:
            raise InputError(
                f"index of label {name!r} is {index}, expected 0 to {MAX_LABELS - 1:,}"
            )
    return tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))


def format_labels(labels: Sequence[str]) -> bytes:
    """A label file that ``parse_labels`` reads back as ``labels``.

    That is one label a line, which every reader knows. Only where such a file would be
    read differently (a single label of two words, an empty label at the end) does every
    line start with its index.

    Raises:
        InputError: A label has a line break or control character in it, or white space around it.
    """
    for index, label in enumerate(labels):
        if label != label.strip() or set(label) & set("\r\n") or _CONTROL.search(label):
            raise InputError(
                f"label {index} cannot be a line of a label file: {label!r}",
                hint="take line breaks out, and white space from both ends",
            )
    plain = "".join(f"{label}\n" for label in labels)
    if parse_labels(plain) != tuple(labels):
        plain = "".join(f"{index}: {label}\n" for index, label in enumerate(labels))
    return plain.encode()


def _decode(data: bytes) -> str:
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise InputError(
            f"a label file must be {exc.encoding} text, found {data[exc.start]:#04x} at "
            f"byte {exc.start}",
            hint="save it as UTF-8",
        ) from exc
    control = _CONTROL.search(text)
    if control is not None:
        found = "NUL" if control[0] == "\0" else f"control character {ord(control[0]):#04x}"
        raise InputError(f"not a label file: {found} at character {control.start()}")
    return text


def _split_line(line: str) -> list[str]:
    separator = "," if "," in line else None
    return [label.strip() for label in line.split(separator)]


def _indexed(lines: Sequence[str], pattern: re.Pattern[str]) -> dict[int, str] | None:
    """Index → label when *every* line starts with an index of its own, else None."""
    by_index: dict[int, str] = {}
    for line in lines:
        match = pattern.fullmatch(line)
        if match is None or int(match[1]) in by_index:
            return None
        by_index[int(match[1])] = next((name for name in match.groups()[1:] if name), "")
    # Postal codes and years are names, however regular they look.
    sparse = max(by_index, default=0) >= 10 * len(lines) + 100
    return None if sparse or not by_index else by_index


def _spaced(lines: Sequence[str]) -> dict[int, str] | None:
    """As ``_indexed`` for ``7 cat``; "1 euro", "2 euro", "50 cent" are names, though."""
    by_index = _indexed(lines, _SPACE)
    if by_index is None:
        return None
    ordered = list(by_index) == sorted(by_index)
    return by_index if ordered and len(set(by_index.values())) == len(by_index) else None
