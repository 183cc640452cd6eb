"""The text form of protocol buffers, against Google's own reader of it."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.textproto import MAX_TEXT, Fields, Word, parse

TEXTS = {
    "a field a line": 'name: "digits"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n',
    "messages in a list": 'input [ { name: "a" dims: [ 1, -1 ] }, { name: "b", dims: 3; dims: 4 } ]',
    "a message by a colon": 'input: { name: "a" data_type: TYPE_FP32 }',
    "angle brackets": 'input < name: "a" dims: [] >',
    "comments": '# first\nname: "a" # "not a text\ninput { # more\n dims: 0x10 }',
    "texts beside each other": 'name: "a" \'b\'\n  "c"',
    "escapes": r'name: "tab\there \"quoted\" \x41\102 é \303\251 \u00e9 \\"',
    "a map": 'parameters { key: "k" value: { string_value: "v" } }',
    "words and numbers": "version_policy: { latest { num_versions: 2 } } dynamic_batching { }",
    "an empty text": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_configuration_is_read_as_protobuf_reads_it(name: str) -> None:
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="has the message")
    from google.protobuf import text_format

    expected = text_format.Parse(TEXTS[name], pb2.ModelConfig())
    fields = parse(TEXTS[name])
    assert fields.text("name") == expected.name
    assert fields.text("platform") == expected.platform
    assert (fields.numbers("max_batch_size") or (0,))[-1] == expected.max_batch_size
    assert [(one.text("name"), one.numbers("dims")) for one in fields.messages("input")] == [
        (one.name, tuple(one.dims)) for one in expected.input
    ]
    assert len(fields.messages("parameters")) == len(expected.parameters)


def test_texts_words_and_messages_are_told_apart() -> None:
    fields = parse('a: "TYPE_FP32" a: TYPE_FP32 a { b: 1 }')
    assert fields == Fields(a=["TYPE_FP32", Word("TYPE_FP32"), Fields(b=[Word("1")])])
    assert [type(value) for value in fields["a"]] == [str, Word, Fields]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("name", "line 1: the text ends within a message", id="no value"),
        pytest.param("input {\n name: 1\n", "line 3: the text ends within", id="no end"),
        pytest.param("\n}", "line 2: expected a field, found '}'", id="an end too many"),
        pytest.param("a b", "line 1: expected a value, found 'b'", id="a word without a colon"),
        pytest.param('a: "open\n', "line 1: unexpected '\"'", id="a text without end"),
        pytest.param("a: \0", r"line 1: unexpected '\\x00'", id="a NUL"),
        pytest.param("a {" * 40 + "}" * 40, "nested too deeply", id="nested"),
        pytest.param("a: 1\n" * 70_000, "more than 200,000 words", id="words"),
        pytest.param(" " * (MAX_TEXT + 1), "expected at most 1,048,576", id="long"),
    ],
)
def test_what_is_no_message_names_the_line(text: str, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        parse(text)


@pytest.mark.parametrize("value", ['"1"', "one", "1.5", "{ }", "99999999999999999999999"])
def test_what_is_no_integer_is_refused(value: str) -> None:
    with pytest.raises(FormatError, match="dims: expected an integer"):
        parse(f"dims: {value}").numbers("dims")


def test_any_text_is_fields_or_an_error() -> None:
    dice = random.Random(0)
    pieces = ["a", ":", "{", "}", "[", "]", "<", ">", ",", '"x"', "'", "\\", "-1", "#", "\n", "\0"]
    read = 0
    for _ in range(2000):
        with suppress(FormatError):
            read += isinstance(parse("".join(dice.choices(pieces, k=dice.randrange(12)))), Fields)
    assert 0 < read < 2000
