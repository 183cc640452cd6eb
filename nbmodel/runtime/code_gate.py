"""Whether models that are code of their own may run on this machine. Rules only, no I/O.

That is said where the runtime is started, as with a trust policy, and never in the machine
config: whoever may send a config, or holds the token, would otherwise run what they like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nbmodel.backends import load_backend
from nbmodel.core.machine import MachineConfig, Service
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.errors import PluginError, UntrustedModelError

OPTION = "--allow-code"
_HINT = f"start the runtime with {OPTION} if whoever may deploy to it may run code on its machine"


def check_code(name: str, model: str) -> None:
    """Pass when a service runs no code of a model's own.

    Args:
        name: Of the service.
        model: What implements it.

    Raises:
        UntrustedModelError: It does.
        PluginError: There is no such backend.
    """
    if load_backend(model).runs_code:
        raise UntrustedModelError(
            f"the model of {name!r} is code, which this runtime does not run", hint=_HINT
        )


def code_problems(config: MachineConfig) -> Iterator[str]:
    """A sentence for each service of a config that runs code of a model's own."""
    for service in config.services:
        if _runs_code(service):
            yield (
                f"service {service.name!r}: its model is code, which this runtime does not run; "
                f"{_HINT}"
            )


def without_code(config: MachineConfig) -> MachineConfig:
    """A config without the packages that only services use which run code: to fetch none."""
    packages = {package.name: package for package in config.packages}

    def used(service: Service) -> tuple[str, ...]:
        return tuple(
            replace_placeholders(
                dict(service.attributes), packages, folder=lambda _: "", environment={}
            ).packages
        )

    code = {name for one in config.services if _runs_code(one) for name in used(one)}
    others = {name for one in config.services if not _runs_code(one) for name in used(one)}
    left = tuple(one for one in config.packages if one.name not in code - others)
    return replace(config, packages=left)


def _runs_code(service: Service) -> bool:
    try:
        return service.is_served and load_backend(service.model).runs_code
    except PluginError:  # which is told where it is looked for
        return False
