"""The version is the same wherever it is written."""

from __future__ import annotations

import re
from pathlib import Path

import nbmodel


def test_versions_agree(project_root: Path) -> None:
    project = (project_root / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r'(?m)^version = "([^"]+)"$', project)
    changelog = (project_root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"(?m)^## \[?(\d[^\]\s]*)", changelog)
    assert declared is not None
    assert newest is not None, "CHANGELOG.md has no '## <version>' heading"
    assert (nbmodel.__version__, newest[1]) == (declared[1], declared[1])
