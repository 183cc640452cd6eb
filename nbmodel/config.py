"""Settings: argument, then environment, then project file, then user file, then default.

Everything is read when asked, nothing at import. The project file is the nearest
``pyproject.toml`` upwards with a ``[tool.nbmodel]`` table, the user file
``config.toml`` in the platform's configuration folder.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nbmodel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: Key in the files; ``NBMODEL_<NAME>`` in the environment.
        help: One sentence.
    """

    name: str
    help: str

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"NBMODEL_{self.name.upper()}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("home", "folder that holds the registry and the list of runtimes"),
        Setting("registry", "folder of the registry, when it is not <home>/registry"),
        Setting("remote", "registry that versions are pushed to and pulled from: host[/namespace]"),
        Setting("record", "what versions tell of the code they come from: all, facts or nothing"),
    )
}


def setting(name: str, given: str | os.PathLike[str] | None = None) -> str | None:
    """The value of a setting, or None when nobody set it.

    Raises:
        ConfigError: A settings file cannot be read or has an unknown key.
    """
    if given is not None:
        return os.fspath(given)
    from_environment = os.environ.get(SETTINGS[name].variable)
    if from_environment:
        return from_environment
    for values in (_project_settings(), _user_settings()):
        if name in values:
            return str(values[name])
    return None


def home(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds everything of this user: ``~/.local/share/nbmodel`` on Linux."""
    value = setting("home", given)
    if value is not None:
        return Path(value).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("nbmodel", appauthor=False)


def registry_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the local registry: ``<home>/registry`` unless set otherwise."""
    value = setting("registry", given)
    return Path(value).expanduser().absolute() if value is not None else home() / "registry"


def _project_settings() -> dict[str, Any]:
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # somebody removed it under our feet
        return {}
    for candidate in (folder, *folder.parents):
        file = candidate / "pyproject.toml"
        if file.is_file():
            table = _read_toml(file).get("tool", {}).get("nbmodel")
            if table is not None:
                return _checked(table, file)
    return {}


def _user_settings() -> dict[str, Any]:
    from platformdirs import user_config_path

    file = user_config_path("nbmodel", appauthor=False) / "config.toml"
    return _checked(_read_toml(file), file) if file.is_file() else {}


def _read_toml(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read settings from {file}: {exc}") from exc
    return table


def _checked(table: dict[str, Any], file: Path) -> dict[str, Any]:
    for key in table:
        if key not in SETTINGS:
            near = get_close_matches(key, SETTINGS, n=1)
            raise ConfigError(
                f"unknown setting {key!r} in {file}",
                hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(SETTINGS)}",
            )
    return table
