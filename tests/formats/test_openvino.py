"""OpenVINO IR of other makes than the samples, and XML that means harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbmodel.core.signature import describe
from nbmodel.errors import FormatError
from nbmodel.formats.openvino import OpenVino, _shape, _split

PARAMETER = (
    '<layer id="0" name="data" type="Parameter"><data shape="1,3" element_type="f32"/>'
    '<output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim></port></output></layer>'
)
SOFTMAX = (
    '<layer id="1" name="prob" type="SoftMax"><output><port id="1" precision="FP32">'
    "<dim>1</dim><dim>3</dim></port></output></layer>"
)
RESULT = (
    '<layer id="2" name="prob/sink_port_0" type="Result"><input><port id="0" precision="FP32">'
    "<dim>1</dim><dim>3</dim></port></input></layer>"
)
EDGE = '<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/>'


def net(*layers: str, edges: str = EDGE, rest: str = "") -> str:
    return (
        f'<net name="m" version="10"><layers>{"".join(layers)}</layers>'
        f"<edges>{edges}</edges>{rest}</net>"
    )


def read(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "m.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    signature = OpenVino().read(path).signature
    return list(map(describe, signature.inputs + signature.outputs))


def test_without_names_of_tensors_those_of_layers_count(tmp_path: Path) -> None:
    """As in IR version 10, which had no names of tensors."""
    assert read(tmp_path, net(PARAMETER, SOFTMAX, RESULT)) == ["data FP32[1,3]", "prob FP32[1,3]"]


def test_weights_are_expected_beside_it_where_there_are_constants(tmp_path: Path) -> None:
    path = tmp_path / "v1.0.xml"
    for layers, external in (((), ()), (('<layer id="9" type="Const"/>',), ("v1.0.bin",))):
        path.write_text(net(PARAMETER, SOFTMAX, RESULT, *layers))
        assert OpenVino().read(path).external == external


def test_layers_of_bodies_are_not_the_graphs(tmp_path: Path) -> None:
    inner = net(PARAMETER, SOFTMAX, RESULT).removeprefix('<net name="m" version="10">')
    body = f'<layer id="5" type="Loop"><body>{inner.removesuffix("</net>")}</body></layer>'
    assert len(read(tmp_path, net(PARAMETER, SOFTMAX, RESULT, body))) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = f'<?xml version="1.0"?>{net(PARAMETER.replace("data", "größe", 1), SOFTMAX, RESULT)}'
    assert read(tmp_path, text.encode(encoding))[0] == "größe FP32[1,3]"


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,3,224,224", (1, 3, 224, 224)),
        ("?,3", (-1, 3)),
        ("1..8,2", (-1, 2)),
        ("..4", (-1,)),
        ("-1,2", (-1, 2)),
        ("", ()),
        ("...", None),
    ],
)
def test_shapes(text: str, shape: tuple[int, ...] | None) -> None:
    assert _shape(text, "x") == shape


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("a", ["a"]),
        ("b,a", ["b", "a"]),
        (r"a\,b,c", ["a,b", "c"]),
        ("", []),
        (r"a\\,b", ["a\\", "b"]),
    ],
)
def test_names_are_behind_each_other(names: str, split: list[str]) -> None:
    assert _split(names) == split


@pytest.mark.parametrize(
    ("version", "names", "output_names", "name"),
    [
        (10, "", "", "prob"),
        (10, "zoo,out", "", "out"),
        (10, "zoo", "", "prob"),
        (11, "", "", "prob/sink_port_0"),
        (11, "zoo,out", "", "out"),
        (11, "zoo", "own", "own"),
    ],
)
def test_outputs_are_called_as_openvino_finds_them(
    tmp_path: Path, version: int, names: str, output_names: str, name: str
) -> None:
    """``get_any_name`` of OpenVINO 2026.4, by which Triton knows a tensor, says the same."""
    softmax = SOFTMAX.replace('precision="FP32"', f'precision="FP32" names="{names}"')
    result = RESULT.replace('type="Result"', f'type="Result" output_names="{output_names}"')
    text = net(PARAMETER, softmax, result).replace('version="10"', f'version="{version}"')
    assert read(tmp_path, text)[1] == f"{name} FP32[1,3]"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    + net(PARAMETER.replace('name="data"', 'name="&b;"'), RESULT)
)
OUTSIDE = '<!DOCTYPE net [<!ENTITY file SYSTEM "file:///etc/passwd">]><net>&file;</net>'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("hello world", "starts with b'hello world'", id="text"),
        pytest.param("<html><body/></html>", "expected a net, found 'html'", id="a web page"),
        pytest.param(BOMB, "expected no document type declaration", id="entities"),
        pytest.param(OUTSIDE, "expected no document type declaration", id="a file outside"),
        pytest.param('<net version="11">&undefined;</net>', "undefined entity", id="an undefined entity"),
        pytest.param('<net version="11"><layers>', "no element found", id="cut short"),
        pytest.param('<net version="11"/>', "the net has no Result", id="empty"),
        pytest.param("<net/>", "the net's version: expected an integer, found ''", id="no version"),
        pytest.param(f'<net version="11">{"<a>" * 300}', "more than 256 deep", id="nested"),
        pytest.param(net(PARAMETER.replace("f32", "f31"), RESULT), "unknown element type 'f31'", id="type"),
        pytest.param(net(PARAMETER, RESULT.replace(">3<", ">three<")), "found 'three'", id="dim"),
        pytest.param(net(PARAMETER.replace('"1,3"', f'"{"1," * 2000}1"'), RESULT), "more than 1024", id="rank"),
        pytest.param('<?xml version="1.0" encoding="klingon"?><net/>', "starts with", id="encoding"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, text)
    assert problem in str(caught.value)
    assert "cannot be read as" not in str(caught.value)
