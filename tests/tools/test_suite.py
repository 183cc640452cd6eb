from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tools import suite

pytestmark = pytest.mark.slow

FAILS_ONCE = """
from pathlib import Path
def test_that_has_bad_luck():
    seen = Path(__file__).with_suffix(".seen")
    assert seen.exists() or seen.write_text("") != 0
"""
FAILS = "def test_that_is_wrong(): assert False"
PASSES = "def test_that_is_right(): pass"


@pytest.fixture
def outcome(request: pytest.FixtureRequest, tmp_path: Path) -> suite.Outcome:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for number, content in enumerate(request.param):
        (tmp_path / f"test_{number}.py").write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "BUILD", tmp_path)
        return suite.tests("some tests", Path(sys.executable), [str(tmp_path)])


@pytest.mark.parametrize("outcome", [[PASSES, FAILS_ONCE]], indirect=True)
def test_what_fails_beside_others_and_passes_alone_is_counted_and_named(
    outcome: suite.Outcome, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (outcome.state, outcome.passed, outcome.failed) == ("passed", 2, 0)
    assert outcome.alone == 1
    assert "1 passed only alone" in str(outcome)


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        pytest.param([PASSES, FAILS, FAILS_ONCE], 2, id="one that fails again"),
        pytest.param([FAILS_ONCE] * 6, 6, id="more than bad luck"),
    ],
    indirect=["outcome"],
)
def test_what_is_wrong_stays_failed(outcome: suite.Outcome, failed: int) -> None:
    assert (outcome.state, outcome.failed, outcome.alone) == ("failed", failed, 0)
