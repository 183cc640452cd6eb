"""The text form of protocol buffers, as Triton's ``config.pbtxt`` is written in.

Messages are read without their schema: a field is the list of what was given for it.

Source: "Text Format Language Specification" (https://protobuf.dev/reference/protobuf/textformat-spec/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from nbmodel.errors import FormatError

MAX_TEXT = 1 << 20  # characters
_MAX_DEPTH = 32
_MAX_TOKENS = 200_000

#: What a field can be: a text, a word such as ``true`` or ``TYPE_FP32``, or a message.
Value: TypeAlias = "str | Word | Fields"


class Word(str):
    """An identifier or a number, as it is written."""

    __slots__ = ()


class Fields(dict[str, "list[Value]"]):
    """A message: the values of each field, in the order of the text."""

    __slots__ = ()

    def messages(self, name: str) -> list[Fields]:
        """The messages given for a field; other values are left out."""
        return [value for value in self.get(name, ()) if isinstance(value, Fields)]

    def text(self, name: str) -> str:
        """The last text or word given for a field; empty when there is none."""
        given = [value for value in self.get(name, ()) if isinstance(value, str)]
        return str(given[-1]) if given else ""

    def numbers(self, name: str) -> tuple[int, ...]:
        """The integers given for a field.

        Raises:
            FormatError: One of them is something else.
        """
        numbers = []
        for value in self.get(name, ()):
            if not isinstance(value, Word) or not _INTEGER.fullmatch(value):
                raise FormatError(f"{name}: expected an integer, found {str(value)[:40]!r}")
            numbers.append(int(value, 0) if "x" in value.lower() else int(value))
        return tuple(numbers)


_INTEGER = re.compile(r"-?(?:\d{1,19}|0[xX][0-9a-fA-F]{1,16})")
_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>-?\s*[\w.+]+(?:(?<=[eE])-\d+)?)
    |(?P<extension>\[[\w./]*[a-zA-Z_./][\w./]*\](?=\s*[:{<]))
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
#: Escapes stand for bytes of UTF-8, or for a character by its number.
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"v": b"\v",
}
_CLOSING = {"{": "}", "<": ">"}


def parse(text: str) -> Fields:
    """The fields of a message.

    Raises:
        FormatError: The text is no message, nested too deeply, or too long; names the line.
    """
    if len(text) > MAX_TEXT:
        raise FormatError(f"{len(text):,} characters, expected at most {MAX_TEXT:,}")
    return _Reader(text, _tokens(text)).message("", 0)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FormatError(f"line {_line(text, position)}: unexpected {text[position]!r}")
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match.group(), position))
        if len(tokens) > _MAX_TOKENS:
            raise FormatError(f"more than {_MAX_TOKENS:,} words")
        position = match.end()
    return tokens


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _Reader:
    """Reads messages from tokens, keeping its place."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    def message(self, closing: str, depth: int) -> Fields:
        """The fields up to ``closing``, or to the end of the text when that is empty."""
        if depth > _MAX_DEPTH:
            raise self._error("nested too deeply")
        fields = Fields()
        while not self._takes(closing) if closing else self._next < len(self._tokens):
            name = self._take()
            if name.kind not in ("word", "extension"):
                raise self._error(f"expected a field, found {name.text!r}", name)
            values = fields.setdefault(name.text, [])
            has_colon = self._takes(":")
            if self._takes("["):
                while not self._takes("]"):
                    values.append(self._value(depth, is_scalar=has_colon))
                    self._takes(",")
            else:
                values.append(self._value(depth, is_scalar=has_colon))
            if not self._takes(","):
                self._takes(";")
        return fields

    def _value(self, depth: int, *, is_scalar: bool) -> Value:
        token = self._take()
        if token.text in _CLOSING:
            return self.message(_CLOSING[token.text], depth + 1)
        if is_scalar and token.kind == "word":
            return Word("".join(token.text.split()))
        if is_scalar and token.kind == "text":
            parts = [_unescaped(token.text[1:-1])]
            while self._peek() == "text":  # neighbours are one text
                parts.append(_unescaped(self._take().text[1:-1]))
            return "".join(parts)
        raise self._error(f"expected a value, found {token.text!r}", token)

    def _peek(self) -> str:
        return self._tokens[self._next].kind if self._next < len(self._tokens) else ""

    def _take(self) -> _Token:
        if self._next == len(self._tokens):
            raise self._error("the text ends within a message")
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, mark: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next].text == mark
        self._next += found
        return found

    def _error(self, problem: str, token: _Token | None = None) -> FormatError:
        position = len(self._text) if token is None else token.at
        return FormatError(f"line {_line(self._text, position)}: {problem}")


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_bytes, text.encode()).decode(errors="replace")


def _bytes(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, number, letter = match.groups()
    if number:
        return chr(int(number, 16)).encode(errors="replace")
    if octal or hexadecimal:
        return bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)])
    return _ESCAPES.get(letter, letter)
