"""The search language: ``framework=onnx and metrics.acc > 0.9 and tag:fruit``.

A query is parsed into a predicate over the facts of one version; nothing here reads a
registry. Grammar (words beside each other mean ``and``)::

    query      = [ either ]
    either     = both { "or" both }
    both       = single { [ "and" ] single }
    single     = "not" single | "(" either ")" | comparison | word
    comparison = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | ":" ) value

A bare word is searched for in the model's name (``*`` and ``?`` are wildcards); ``~``
asks whether a text contains the value, ignoring case; ``:`` is ``=`` but for
``tag:NAME``, which asks whether there is such a tag. A fact that a version lacks
answers only ``!=``.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

from nbmodel.core.version import parse_time
from nbmodel.errors import InputError

Kind = Literal["text", "number", "size", "time", "age", "flag", "words", "json"]

#: Field → how its values are read.
FIELDS: Mapping[str, Kind] = {
    "name": "text",
    "framework": "text",
    "type": "text",
    "description": "text",
    "stamp": "text",
    "digest": "text",
    "number": "number",
    "size": "size",
    "created": "time",
    "age": "age",
    "alias": "words",
    "tag": "words",
    "published": "flag",
    "archived": "flag",
    "deprecated": "flag",
    "pinned": "flag",
}
#: Prefix → how the values under it are read: ``metrics.acc``.
PREFIXES: Mapping[str, Kind] = {"metrics": "number", "metadata": "json", "tag": "text"}

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = frozenset({"<", "<=", ">", ">="})
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator> != | <= | >= | [=<>~()] )
      | (?P<quoted> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
      | (?P<word> [^\s=<>~()!"']+ )
    )""",
    re.VERBOSE,
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|m|g|t)(i?)b?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w|y)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_DEPTH = 50  # parentheses and "not" within each other; far below Python's own limit


@dataclass(frozen=True)
class Facts:
    """What a query can ask about one version.

    Attributes:
        name: The model's name.
        number: The version's integer.
        stamp: Its timestamp id.
        digest: Digest of its manifest.
        created: UTC, ISO 8601.
        framework: File format.
        model_type: What it is for.
        size: Bytes of all files.
        description: Its own description and its model's, for ``~``.
        aliases: Names on it, ``latest`` included.
        tags_json: Tags as the text of a JSON object, parsed when asked for.
        metrics_json: Metrics, likewise.
        metadata_json: Metadata, likewise.
        published: Whether it is read-only.
        archived: Whether it or its model is archived.
        deprecated: Whether it or its model is deprecated.
        pinned: Whether the registry or a runtime is pinned to it.
    """

    name: str
    number: int = 0
    stamp: str = ""
    digest: str = ""
    created: str = ""
    framework: str = ""
    model_type: str = ""
    size: int = 0
    description: str = ""
    aliases: tuple[str, ...] = ()
    tags_json: str = "{}"
    metrics_json: str = "{}"
    metadata_json: str = "{}"
    published: bool = False
    archived: bool = False
    deprecated: bool = False
    pinned: bool = False

    @cached_property
    def tags(self) -> Mapping[str, Any]:
        """Tags by name."""
        return _json_object(self.tags_json)

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Metrics by name."""
        return _json_object(self.metrics_json)

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata by key."""
        return _json_object(self.metadata_json)


Predicate = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    Attributes:
        text: As it was written.
        matches: Whether it holds for the facts of a version.
    """

    text: str
    matches: Predicate

    @classmethod
    def parse(cls, text: str, *, now: datetime | None = None) -> Query:
        """Read a query; an empty one holds for everything.

        Args:
            text: The query.
            now: What ``age`` counts from; the present when None.

        Raises:
            InputError: The text is no query; the message names the character.
        """
        return cls(text, _Parser(text, now or datetime.now(timezone.utc)).parse())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # operator, quoted, word or end
    text: str
    at: int


class _Parser:
    """Recursive descent over the grammar of the module docstring."""

    def __init__(self, text: str, now: datetime) -> None:
        self._text = text
        self._now = now
        self._tokens = self._scan()
        self._position = 0

    def parse(self) -> Predicate:
        if self._peek().kind == "end":
            return _everything
        predicate = self._either(0)
        if self._peek().kind != "end":
            raise self._error("expected the end, 'and' or 'or'", self._peek())
        return predicate

    def _scan(self) -> list[_Token]:
        tokens, at = [], 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                what = "a closing quote" if self._text[start] in "\"'" else "a word or an operator"
                raise self._error(f"expected {what}", _Token("bad", self._text[start:], start))
            group = match.lastgroup
            tokens.append(_Token(group, match.group(group), match.start(group)))
            at = match.end()
        return [*tokens, _Token("end", "", end)]

    def _peek(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _is(self, *words: str) -> bool:
        token = self._peek()
        return token.kind in ("word", "operator") and token.text.lower() in words

    def _either(self, depth: int) -> Predicate:
        terms = [self._both(depth)]
        while self._is("or"):
            self._next()
            terms.append(self._both(depth))
        return terms[0] if len(terms) == 1 else lambda facts: any(term(facts) for term in terms)

    def _both(self, depth: int) -> Predicate:
        terms = [self._single(depth)]
        while self._peek().kind != "end" and not self._is("or", ")"):
            if self._is("and"):
                self._next()
            terms.append(self._single(depth))
        return terms[0] if len(terms) == 1 else lambda facts: all(term(facts) for term in terms)

    def _single(self, depth: int) -> Predicate:
        token = self._next()
        if depth > _DEPTH:
            raise self._error(f"more than {_DEPTH} levels within each other", token)
        if token.kind == "word" and token.text.lower() == "not":
            inner = self._single(depth + 1)
            return lambda facts: not inner(facts)
        if token.text == "(" and token.kind == "operator":
            inside = self._either(depth + 1)
            closing = self._next()
            if closing.text != ")" or closing.kind != "operator":
                raise self._error("expected ')'", closing)
            return inside
        if token.kind == "quoted":
            return _name_has(_unquote(token.text))
        if token.kind != "word" or token.text.lower() in ("and", "or"):
            raise self._error("expected a word, a field, 'not' or '('", token)
        return self._term(token)

    def _term(self, token: _Token) -> Predicate:
        following = self._peek()
        if following.kind == "operator" and following.text not in "()":
            self._next()
            field = token.text.replace(":", ".", 1)  # tag:colour = red
            return self._comparison(field, token, following.text, self._value())
        field, colon, value = token.text.partition(":")
        if not colon:
            return _name_has(token.text)
        given = _Token("word", value, token.at + len(field) + 1) if value else self._value()
        if field == "tag":
            return lambda facts: given.text in facts.tags
        return self._comparison(field, token, "=", given)

    def _value(self) -> _Token:
        token = self._next()
        if token.kind == "quoted":
            return _Token("quoted", _unquote(token.text), token.at)
        if token.kind != "word":
            raise self._error("expected a value", token)
        return token

    def _comparison(self, field: str, name: _Token, sign: str, value: _Token) -> Predicate:
        get, kind = self._field(field, name)
        if sign == "!=":
            equal = self._comparison(field, name, "=", value)
            return lambda facts: not equal(facts)
        if sign == "~":
            part = value.text.lower()
            return lambda facts: part in _as_text(get(facts)).lower()
        return self._compare(get, kind, sign, value)

    def _field(self, field: str, token: _Token) -> tuple[Callable[[Facts], Any], Kind]:
        prefix, dot, key = field.partition(".")
        if dot and prefix in PREFIXES:
            name = {"tag": "tags"}.get(prefix, prefix)
            return (lambda facts: getattr(facts, name).get(key)), PREFIXES[prefix]
        if field not in FIELDS:
            known = [*FIELDS, *(f"{prefix}.NAME" for prefix in PREFIXES)]
            near = get_close_matches(field, FIELDS, n=1)
            raise self._error(
                f"no field {field!r}",
                token,
                hint=f"did you mean {near[0]!r}?" if near else f"fields: {', '.join(known)}",
            )
        attribute = {"type": "model_type", "alias": "aliases", "tag": "tags", "age": "created"}
        name = attribute.get(field, field)
        return (lambda facts: getattr(facts, name)), FIELDS[field]

    def _compare(
        self, get: Callable[[Facts], Any], kind: Kind, sign: str, value: _Token
    ) -> Predicate:
        compare = _COMPARE[sign]
        text = value.text
        if kind in ("words", "flag") and sign in _ORDERED:
            raise self._error(f"only '=', '!=' and ':' make sense here, found {sign!r}", value)
        if kind == "words":
            return lambda facts: text in get(facts)
        if kind == "flag":
            wanted = self._flag(value)
            return lambda facts: bool(get(facts)) is wanted
        if kind == "text":
            return _compare_text(get, sign, text)
        if kind == "json":
            return _compare_json(get, sign, value)
        if kind == "time":
            return self._compare_time(get, sign, value)
        if kind == "age":
            limit = self._now - self._age(value)
            # Older means created earlier, so the comparison turns round.
            return lambda facts: compare(limit, parse_time(get(facts)))
        number = self._size(value) if kind == "size" else self._number(value)
        return lambda facts: _is_number(get(facts)) and compare(get(facts), number)

    def _compare_time(self, get: Callable[[Facts], Any], sign: str, value: _Token) -> Predicate:
        text = value.text.upper().removesuffix("Z")
        if sign == "=":  # as exact as it was written: a day, an hour, a second
            self._time(value)
            return lambda facts: str(get(facts)).upper().startswith(text)
        compare, limit = _COMPARE[sign], self._time(value)
        return lambda facts: compare(parse_time(get(facts)), limit)

    def _time(self, value: _Token) -> datetime:
        text = value.text.upper().replace("Z", "+00:00")
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise self._error(
                "expected a time such as 2026-02-28 or 2026-02-28T13:36", value
            ) from None
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)

    def _age(self, value: _Token) -> timedelta:
        match = _AGE.fullmatch(value.text.lower())
        if match is None:
            raise self._error("expected an age such as 30m, 12h, 7d or 2w", value)
        try:
            return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
        except OverflowError:
            raise self._error("expected an age below 2,000 years", value) from None

    def _size(self, value: _Token) -> float:
        match = _SIZE.fullmatch(value.text)
        if match is None:
            raise self._error("expected a size such as 4096, 14MB or 1GiB", value)
        step = 1024.0 if match[3] else 1000.0
        return float(match[1]) * step ** " kmgt".index(match[2].lower() or " ")

    def _number(self, value: _Token) -> float:
        try:
            number = float(value.text)
        except ValueError:
            raise self._error("expected a number", value) from None
        if math.isnan(number):
            raise self._error("expected a number", value)
        return number

    def _flag(self, value: _Token) -> bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.text.lower() not in words:
            raise self._error("expected true or false", value)
        return words[value.text.lower()]

    def _error(self, expected: str, token: _Token, *, hint: str | None = None) -> InputError:
        found = f", found {token.text[:40]!r}" if token.text else ", found the end"
        before, after = self._text[: token.at][-30:], self._text[token.at :][:30]
        return InputError(
            f"query, character {token.at + 1}: {expected}{'' if hint else found}",
            hint=hint or f"here: {before}▸{after}",
        )


def _everything(_: Facts) -> bool:
    return True


def _name_has(word: str) -> Predicate:
    pattern = word.lower()
    if set(pattern) & set("*?"):
        return lambda facts: fnmatchcase(facts.name, pattern)
    return lambda facts: pattern in facts.name


def _compare_text(get: Callable[[Facts], Any], sign: str, text: str) -> Predicate:
    if sign == "=" and set(text) & set("*?"):
        return lambda facts: fnmatchcase(_as_text(get(facts)), text)
    compare = _COMPARE[sign]

    def holds(facts: Facts) -> bool:
        found = get(facts)
        return found is not None and compare(_as_text(found), text)

    return holds


def _compare_json(get: Callable[[Facts], Any], sign: str, value: _Token) -> Predicate:
    """Compare as numbers where both sides are, as texts otherwise; quotes force text."""
    compare, text = _COMPARE[sign], value.text
    try:
        number = None if value.kind == "quoted" else float(text)
    except ValueError:
        number = None

    def holds(facts: Facts) -> bool:
        found = get(facts)
        if found is None:
            return sign == "=" and text == "null" and value.kind != "quoted"
        if number is not None and _is_number(found):
            return compare(found, number)
        return compare(_as_text(found), text)

    return holds


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _json_object(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
