"""Models of Triton's Python backend: a folder with a ``model.py``, which is never run.

Its tensors are in Triton's configuration beside it, or in what ``auto_complete_config`` adds,
where that can be read as plain values: lists and dictionaries of texts and numbers.

Source: "Python Backend", "Auto-complete config"
(https://github.com/triton-inference-server/python_backend).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, SignatureError
from nbmodel.formats.base import Format, ModelFacts, starts_with
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.sidecar import config_beside, signature_beside, tensors_of
from nbmodel.formats.textproto import Fields, Word

CLASS = "TritonPythonModel"
MAX_CODE = 1 << 20  # bytes
_MAX_DEPTH = 16
_MAX_TOKENS = 50_000  # words and marks of the method
_BRANCHES = ("if", "elif", "else", "while", "try", "except", "match")
_CHANGING = ("append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault")
_CLASS = re.compile(rf"^class\s+{CLASS}\b".encode(), re.MULTILINE)
_METHOD = re.compile(r"^(?P<indent>[ \t]+)def[ \t]+auto_complete_config[ \t]*\(", re.MULTILINE)
_TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\f]|\\\r?\n|\#[^\n]*)+)
    |(?P<line>\n)
    |(?P<text>[rRbBuUfF]{0,2}(?:\"{3}(?:[^"\\]|\\.|"(?!""))*\"{3}|'{3}(?:[^'\\]|\\.|'(?!''))*'{3}
        |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<name>[^\W\d]\w*)
    |(?P<number>\d[\w.]*)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


class PythonModel(Format):
    """Folders with a ``model.py`` of Triton's Python backend."""

    name: ClassVar[str] = "python"
    suffixes: ClassVar[tuple[str, ...]] = (".py",)
    marker: ClassVar[str] = "model.py"

    def sniff(self, head: bytes) -> bool:
        """Whether it is text with the class that the backend looks for."""
        return b"\0" not in head and _CLASS.search(head) is not None

    def _read(self, source: ByteSource) -> ModelFacts:
        if source.size > MAX_CODE:
            raise FormatError(f"{source.size:,} bytes of code, expected at most {MAX_CODE:,}")
        content = source.read(0, source.size)
        if b"\0" in content or _CLASS.search(content) is None:
            raise FormatError(
                f"not a model of Triton's Python backend, {starts_with(source)} (no class {CLASS})"
            )
        try:
            code = content.decode()
        except UnicodeDecodeError as exc:
            raise FormatError(f"expected UTF-8, {starts_with(source)} ({exc.reason})") from exc
        configured = signature_beside(source.path) if source.path else None
        signature = configured or _Completion(code).signature()
        is_whole = bool(signature.inputs and signature.outputs)
        return ModelFacts(
            framework=self.name,
            signature=signature,
            model_type=model_type_of(signature),
            metadata={"signature_from": "config.pbtxt" if configured else "auto_complete_config"}
            if is_whole
            else {},
            external=_beside(source),
            gap="" if is_whole else "model.py does not tell its tensors in auto_complete_config",
        )


def _beside(source: ByteSource) -> tuple[str, ...]:
    """The configuration that goes with the file, where it is in the same folder."""
    config = config_beside(source.path) if source.path else None
    if config is None or source.path is None or config.parent != source.path.parent:
        return ()
    return (config.name,)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


class _Unreadable:
    """A value that only running the code would tell."""


_UNREADABLE = _Unreadable()


class _Completion:
    """Follows ``auto_complete_config`` as far as it is made of plain values.

    Understood are ``name = value``, ``for name in value:``, ``if value["name"] not in names:``
    and calls of ``add_input``, ``add_output`` and ``set_max_batch_size``. A value that is
    changed after it was given, and a branch that depends on anything else, make it unreadable;
    what has nothing to do with tensors is passed over.
    """

    def __init__(self, code: str) -> None:
        self._tokens = _method(code)
        self._next = 0
        self._values: dict[str, Any] = {}
        self._added: dict[str, list[Any]] = {"add_input": [], "add_output": []}
        self._batch: Any = 0
        self._is_clear = True

    def signature(self) -> Signature:
        """What it adds; without tensors where that is not all readable."""
        while self._next < len(self._tokens):
            self._step()
        if not self._is_clear or not isinstance(self._batch, int):
            return Signature()
        try:
            inputs = tensors_of(_fields(self._added["add_input"]), batch=self._batch > 0)
            outputs = tensors_of(_fields(self._added["add_output"]), batch=self._batch > 0)
        except (FormatError, SignatureError):
            return Signature()
        return Signature(inputs, outputs)

    def _step(self) -> None:
        token = self._tokens[self._next]
        self._next += 1
        if token.kind != "name":
            return
        if token.text in _BRANCHES:
            self._is_clear &= token.text == "if" and self._is_idiom()
        elif token.text == "for" and self._kind(0) == "name" and self._text(1) == "in":
            name = self._text(0)
            self._next += 2
            self._values[name] = _Each(self._value(0))
        elif token.text in self._added and self._text(0) == "(":
            self._next += 1
            self._add(self._added[token.text], self._value(0))
        elif token.text == "set_max_batch_size" and self._text(0) == "(":
            self._next += 1
            self._batch = self._value(0)
        elif self._text(0) == "=" and self._text(1) != "=":
            self._next += 1
            is_new = token.text not in self._values
            value = self._value(0)
            self._values[token.text] = value if is_new else _UNREADABLE
        elif token.text in self._values and self._is_changed():
            self._values[token.text] = _UNREADABLE

    def _is_idiom(self) -> bool:
        """Whether ``value["name"] not in names:`` follows, as in Triton's own examples."""
        follows = [self._text(ahead) for ahead in range(8)]
        return follows[1:6] == ["[", follows[2], "]", "not", "in"] and follows[7] == ":"

    def _is_changed(self) -> bool:
        """Whether the name before is followed by something that changes its value."""
        if self._text(0) == ".":
            return self._text(1) in _CHANGING
        if self._text(0) == "[":
            return self._text(2) == "]" and self._text(3) == "=" and self._text(4) != "="
        return self._kind(0) == "mark" and self._text(0) in "+-*|&" and self._text(1) == "="

    def _add(self, added: list[Any], value: Any) -> None:
        each = value.values if isinstance(value, _Each) else [value]
        added.extend(each if isinstance(each, list) else [_UNREADABLE])

    def _value(self, depth: int) -> Any:
        """The value that starts here; the place is behind it, or where it is unreadable."""
        token = self._take()
        if token is None or depth > _MAX_DEPTH:
            return _UNREADABLE
        if token.text in "[(" and token.kind == "mark":
            return self._items(depth, "]" if token.text == "[" else ")")
        if token.text == "{":
            return self._pairs(depth)
        value = self._scalar(token)
        # An operator or a call behind it makes another value of it.
        return value if self._text(0) in ("", ",", ")", "]", "}", ":", "\n") else _UNREADABLE

    def _scalar(self, token: _Token) -> Any:
        if token.kind == "text":
            return _string(token.text)
        if token.text == "-" and self._kind(0) == "number":
            number = _integer(self._tokens[self._next].text)
            self._next += 1
            return -number if isinstance(number, int) else number
        if token.kind == "number":
            return _integer(token.text)
        if token.kind == "name":
            return self._values.get(token.text, _UNREADABLE)
        return _UNREADABLE

    def _items(self, depth: int, closing: str) -> Any:
        items: list[Any] = []
        while not self._takes(closing):
            items.append(self._value(depth + 1))
            if not self._takes(",") and self._text(0) != closing:
                return _UNREADABLE
        return items

    def _pairs(self, depth: int) -> Any:
        pairs: dict[str, Any] = {}
        while not self._takes("}"):
            key = self._value(depth + 1)
            if not isinstance(key, str) or not self._takes(":"):
                return _UNREADABLE
            pairs[key] = self._value(depth + 1)
            if not self._takes(",") and self._text(0) != "}":
                return _UNREADABLE
        return pairs

    def _take(self) -> _Token | None:
        self._skip_lines()
        if self._next >= len(self._tokens):
            return None
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, mark: str) -> bool:
        self._skip_lines()
        found = self._text(0) == mark
        self._next += found
        return found

    def _skip_lines(self) -> None:
        while self._text(0) == "\n":
            self._next += 1

    def _text(self, ahead: int) -> str:
        at = self._next + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _kind(self, ahead: int) -> str:
        at = self._next + ahead
        return self._tokens[at].kind if at < len(self._tokens) else ""


@dataclass(frozen=True, slots=True)
class _Each:
    """What a loop's variable is: each of some values."""

    values: Any


def _method(code: str) -> list[_Token]:
    """The tokens of ``auto_complete_config`` behind its arguments; none when there is none."""
    start = _METHOD.search(code)
    if start is None:
        return []
    tokens: list[_Token] = []
    depth = 1  # of brackets: the method's arguments come first
    indent: int | None = None  # of a line of which no code was met yet
    for match in _TOKEN.finditer(code, start.end()):
        kind, text = match.lastgroup or "", match.group()
        if kind == "line":
            indent = 0 if depth == 0 else None
        elif kind == "space":
            indent = len(text) if indent == 0 else indent
            continue
        elif indent is not None and indent <= len(start["indent"]):
            break  # what stands no deeper than the method is behind it
        else:
            indent = None
        if text in ("'", '"') or len(tokens) > _MAX_TOKENS:
            return []  # a text that does not end: nothing behind it is code
        depth += (text in "([{") - (text in ")]}") if kind == "mark" else 0
        tokens.append(_Token(kind, text))
    return tokens


def _string(text: str) -> Any:
    """A literal's text; one with a prefix or escapes is left alone."""
    if text[0] not in "\"'" or "\\" in text:
        return _UNREADABLE
    quotes = 3 if text[:3] in ('"""', "'''") else 1
    return text[quotes:-quotes]


def _integer(text: str) -> Any:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else _UNREADABLE


def _fields(added: Sequence[Any]) -> list[Fields]:
    """Added tensors as a configuration has them.

    Raises:
        FormatError: One is unreadable.
    """
    fields = []
    for one in added:
        if not isinstance(one, dict):
            raise FormatError("a tensor that only running the code would tell")
        name, data_type, dims = one.get("name"), one.get("data_type"), one.get("dims")
        if not isinstance(name, str) or not isinstance(data_type, str):
            raise FormatError("a tensor that only running the code would tell")
        if not isinstance(dims, list) or not all(type(dim) is int for dim in dims):
            raise FormatError(f"dims of {name!r} that only running the code would tell")
        fields.append(
            Fields(
                name=[name],
                data_type=[Word(data_type)],
                dims=[Word(dim) for dim in dims],
            )
        )
    return fields
