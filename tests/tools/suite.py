"""Everything that must pass: ``suite.py check`` in daily work, ``suite.py test`` for all.

Runs on the standard library alone, inside the project's virtual environment. The last
line is ``N passed, N failed, N skipped`` over all interpreters.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
TOOLS = ROOT / "tests" / "tools"
BIN = Path(sys.executable).parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")  # as in pyproject.toml's classifiers
WORKERS = 3  # on two cores: most tests wait for something most of the time
FAST = ("-m", "not slow")
QUICK = ("-m", "not slow and not unhurried")
AGAIN = 5  # files whose failed tests may be run again alone; more of them are no accident

STATIC = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy",),
    "imports": ("lint-imports",),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended.

    Attributes:
        name: For the summary.
        state: ``passed``, ``failed`` or ``not found``.
        seconds: Wall time.
        passed, failed, skipped: Numbers of tests; 0 for a step that is not a test run.
        alone: Of those that passed, how many did so only without neighbours.
        files: How many files or classes those that failed are in: a server that does not
            come up in time fails all of a file.
    """

    name: str
    state: str
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    alone: int = 0
    files: int = 0

    def __str__(self) -> str:
        line = f"{self.name:<22} {self.state:<10} {self.seconds:6.1f} s"
        if self.passed or self.failed or self.skipped:
            line += f"   {self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        if self.alone:
            line += f"; {self.alone} passed only alone: mend what is named above"
        return line


def check() -> list[Outcome]:
    """Static checks and the quick tests on this interpreter."""
    return [*static_checks(), tests("quick tests", Path(sys.executable), QUICK)]


def test() -> list[Outcome]:
    """Static checks, every test here, and those without ``slow`` on the other interpreters.

    Between the oldest and the newest the quick tests are enough.
    """
    outcomes = [*static_checks(), tests("all tests", Path(sys.executable), ())]
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in VERSIONS:
        if version != mine:
            is_outermost = version in (VERSIONS[0], VERSIONS[-1])
            outcomes.append(
                tests_on(version, *(("fast", FAST) if is_outermost else ("quick", QUICK)))
            )
    return outcomes


def static_checks() -> list[Outcome]:
    """Lint, format, types and import contracts; a failure does not stop the others."""
    outcomes = []
    for name, command in STATIC.items():
        started = time.monotonic()
        done = run([str(BIN / command[0]), *command[1:]], name)
        state = "failed" if done else "passed"
        outcomes.append(Outcome(name, state, time.monotonic() - started))
    return outcomes


def tests_on(version: str, kind: str, options: Sequence[str]) -> Outcome:
    """Tests in a virtual environment of their own, made when it is not there."""
    name = f"{kind} tests on {version}"
    found = subprocess.run(
        ["sh", str(TOOLS / "find_python.sh"), version],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if found.returncode:
        return Outcome(name, "not found", 0.0)
    venv = ROOT / f".venv-{version}"
    started = time.monotonic()
    if not is_installed(venv):
        install = ["sh", str(TOOLS / "install.sh"), venv.name, found.stdout.strip(), "test"]
        if run(install, f"install for {version}"):
            return Outcome(f"install for {version}", "failed", time.monotonic() - started)
    return tests(name, venv / "bin" / "python", options)


def is_installed(venv: Path) -> bool:
    """Whether the environment was made after the last change of pyproject.toml."""
    stamp = venv / ".installed"
    newest = (ROOT / "pyproject.toml").stat().st_mtime
    return stamp.is_file() and stamp.stat().st_mtime >= newest


def tests(name: str, python: Path, options: Sequence[str]) -> Outcome:
    """One pytest run, sharded by file; a few tests that failed are run again alone.

    Thousands of tests with real servers share two cores: a process that gets none for seconds
    is no fault of what it runs. As with CPython's ``regrtest --rerun``, a test that fails a
    second time, without neighbours, has failed, and one that does not is named all the same.
    """
    sharded = ["-n", str(WORKERS), "--dist", "loadfile", "--max-worker-restart=0", *options]
    outcome = pytest(name, python, sharded)
    if has_crashed(name):  # an interpreter that fell over took its neighbours' tests with it
        outcome = pytest(name, python, sharded)
    if not 0 < outcome.files <= AGAIN:
        return outcome
    again = pytest(
        name, python, ["-v", "--last-failed", "--last-failed-no-failures=none", *options]
    )
    if again.state == "failed" or again.passed < outcome.failed:
        return outcome
    return replace(
        outcome,
        state="passed",
        seconds=outcome.seconds + again.seconds,
        passed=outcome.passed + again.passed,
        failed=0,
        files=0,
        alone=again.passed,
    )


def pytest(name: str, python: Path, options: Sequence[str]) -> Outcome:
    """One pytest run; its numbers are read from its JUnit report."""
    report = BUILD / f"{name.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q"]
    command += ["-o", f"cache_dir={BUILD / 'cache' / name.replace(' ', '-')}"]
    started = time.monotonic()
    code = run([*command, f"--junitxml={report}", *options], name)
    seconds = time.monotonic() - started
    state = "failed" if code else "passed"
    if not report.is_file():
        return Outcome(name, "failed", seconds)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    bad = [
        case for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(bad) - skipped
    files = len({case.get("classname") for case in bad})
    return Outcome(name, state, seconds, passed, len(bad), skipped, files=files)


def has_crashed(name: str) -> bool:
    """Whether a worker of the last run of that name ended without a word."""
    report = BUILD / f"{name.replace(' ', '-')}.xml"
    return report.is_file() and "crashed while running" in report.read_text(errors="replace")


def run(command: Sequence[str], title: str) -> int:
    """Run a command in the project's root with its output shown; its exit status."""
    print(f"\n== {title}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Run a verb and print the summary; 0 when everything passed."""
    verbs = {"check": check, "test": test}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: suite.py {'|'.join(verbs)}", file=sys.stderr)
        return 2
    BUILD.mkdir(exist_ok=True)
    started = time.monotonic()
    outcomes = verbs[arguments[0]]()
    print(f"\n== summary of make {arguments[0]} ({time.monotonic() - started:.0f} s)")
    for outcome in outcomes:
        print(outcome)
    passed, failed, skipped = (
        sum(getattr(outcome, kind) for outcome in outcomes)
        for kind in ("passed", "failed", "skipped")
    )
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
