import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbmodel.errors import ConfigError, InputError, RuntimeNotFoundError
from nbmodel.fleet.known import FILE, Known, KnownRuntimes
from nbmodel.fleet.options import StartOptions

PI = Known("pi", "http://pi:8000", token="s3cret")
LAB = Known(
    "lab",
    "http://127.0.0.1:8123",
    pid=42,
    home=Path("/srv/lab"),
    options=StartOptions(require_token=True, grpc="127.0.0.1:0"),
    grpc="127.0.0.1:8124",
)


def test_runtimes_are_kept(tmp_path: Path) -> None:
    known = KnownRuntimes(tmp_path / "made")
    known.add(PI)
    known.add(LAB)
    again = KnownRuntimes(tmp_path / "made")
    assert again.list() == (LAB, PI)
    assert again.get("pi") == PI
    assert again.get("lab").is_local
    assert not again.get("pi").is_local


def test_the_file_is_private(tmp_path: Path) -> None:
    KnownRuntimes(tmp_path).add(PI)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_token_is_not_shown() -> None:
    assert "s3cret" not in repr(PI)


def test_a_name_stands_for_one_runtime(tmp_path: Path) -> None:
    known = KnownRuntimes(tmp_path)
    known.add(PI)
    known.add(Known("pi", "http://pi:9000"))
    assert [runtime.url for runtime in known.list()] == ["http://pi:9000"]


def test_removing_gives_what_was_known(tmp_path: Path) -> None:
    known = KnownRuntimes(tmp_path)
    known.add(PI)
    assert known.remove("pi") == PI
    assert known.list() == ()


@pytest.mark.parametrize(
    ("there", "asked", "hint"),
    [
        pytest.param([], "pi", "runtime start", id="none known"),
        pytest.param(["edge"], "egde", "did you mean 'edge'?", id="a near name"),
        pytest.param(["pi", "lab"], "edge-7", "known: lab, pi", id="others"),
    ],
)
def test_an_unknown_runtime_has_a_hint(
    tmp_path: Path, there: list[str], asked: str, hint: str
) -> None:
    known = KnownRuntimes(tmp_path)
    for name in there:
        known.add(Known(name, "http://h:1"))
    for ask in (known.get, known.remove):
        with pytest.raises(RuntimeNotFoundError, match=asked) as caught:
            ask(asked)
        assert hint in (caught.value.hint or "")


def test_an_entry_of_an_older_version_is_read(tmp_path: Path) -> None:
    entry = {"name": "lab", "url": "http://h:1", "token": "t", "pid": 4, "home": "/srv/lab"}
    (tmp_path / FILE).write_text(json.dumps({"runtimes": [entry]}))
    known = KnownRuntimes(tmp_path).get("lab")
    assert known == Known("lab", "http://h:1", token="t", pid=4, home=Path("/srv/lab"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"runtimes": [{}]}',
        '{"runtimes": 1}',
        '{"runtimes": [{"name": "a", "url": "http://h:1", "options": {"safer": true}}]}',
    ],
)
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match=FILE):
        KnownRuntimes(tmp_path).list()
    with pytest.raises(ConfigError, match=FILE):
        KnownRuntimes(tmp_path).add(PI)
    assert (tmp_path / FILE).read_text() == content


def test_nothing_is_lost_when_several_add_at_once(tmp_path: Path) -> None:
    def add(number: int) -> None:
        KnownRuntimes(tmp_path).add(Known(f"r{number}", f"http://h:{number + 1}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len(json.loads((tmp_path / FILE).read_text())["runtimes"]) == 40


@pytest.mark.parametrize(
    "name", ["", "a b", "-a", "a-", "a/b", "a@b", "a:1", "ä", "x" * 61, "../x", "a\n"]
)
def test_a_name_that_cannot_be_used(name: str) -> None:
    with pytest.raises(InputError, match="not a name for a runtime"):
        Known(name, "http://h:1")
