"""Results as people see them: text, HTML and pictures in one mime bundle.

Every class here is a value with a face. It needs no kernel, browser or widget, and reads
the same in JupyterLab, VS Code, nbviewer, on GitHub and in a terminal. What is
interactive is elsewhere. Importing this package loads nothing but this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbmodel.display.alias import AliasCard as AliasCard
    from nbmodel.display.alias import AliasHistory as AliasHistory
    from nbmodel.display.base import Result as Result
    from nbmodel.display.bench import BenchCard as BenchCard
    from nbmodel.display.config import ConfigCard as ConfigCard
    from nbmodel.display.config import ConfigPlan as ConfigPlan
    from nbmodel.display.deleted import DeletedCard as DeletedCard
    from nbmodel.display.deploy import DeployCard as DeployCard
    from nbmodel.display.diff import DiffCard as DiffCard
    from nbmodel.display.export import ExportCard as ExportCard
    from nbmodel.display.gc import GcCard as GcCard
    from nbmodel.display.inference import InferenceResult as InferenceResult
    from nbmodel.display.installation import InstallCard as InstallCard
    from nbmodel.display.lineage import LineageCard as LineageCard
    from nbmodel.display.logs import LogLines as LogLines
    from nbmodel.display.model import ModelCard as ModelCard
    from nbmodel.display.model import ModelTable as ModelTable
    from nbmodel.display.package import PackageCard as PackageCard
    from nbmodel.display.pin import PinCard as PinCard
    from nbmodel.display.progress import Progress as Progress
    from nbmodel.display.pull import PullCard as PullCard
    from nbmodel.display.push import PushCard as PushCard
    from nbmodel.display.remote import RemoteModelTable as RemoteModelTable
    from nbmodel.display.remote import RemoteTable as RemoteTable
    from nbmodel.display.remote import RemoteVersionTable as RemoteVersionTable
    from nbmodel.display.reproduction import ReproductionCard as ReproductionCard
    from nbmodel.display.runtimes import RuntimeTable as RuntimeTable
    from nbmodel.display.serving import ServingCard as ServingCard
    from nbmodel.display.signatures import KeyCard as KeyCard
    from nbmodel.display.signatures import SignatureCard as SignatureCard
    from nbmodel.display.source import SourceCard as SourceCard
    from nbmodel.display.status import StatusCard as StatusCard
    from nbmodel.display.sync import SyncCard as SyncCard
    from nbmodel.display.transfers import TransferTable as TransferTable
    from nbmodel.display.verify import VerifyCard as VerifyCard
    from nbmodel.display.version import VersionCard as VersionCard
    from nbmodel.display.version import VersionTable as VersionTable

_HOMES = {
    "AliasCard": "alias",
    "AliasHistory": "alias",
    "BenchCard": "bench",
    "ConfigCard": "config",
    "ConfigPlan": "config",
    "DeletedCard": "deleted",
    "DeployCard": "deploy",
    "DiffCard": "diff",
    "ExportCard": "export",
    "GcCard": "gc",
    "InferenceResult": "inference",
    "InstallCard": "installation",
    "KeyCard": "signatures",
    "LineageCard": "lineage",
    "LogLines": "logs",
    "ModelCard": "model",
    "ModelTable": "model",
    "PackageCard": "package",
    "PinCard": "pin",
    "Progress": "progress",
    "PullCard": "pull",
    "PushCard": "push",
    "RemoteModelTable": "remote",
    "RemoteTable": "remote",
    "RemoteVersionTable": "remote",
    "ReproductionCard": "reproduction",
    "Result": "base",
    "RuntimeTable": "runtimes",
    "ServingCard": "serving",
    "SignatureCard": "signatures",
    "SourceCard": "source",
    "StatusCard": "status",
    "SyncCard": "sync",
    "TransferTable": "transfers",
    "VerifyCard": "verify",
    "VersionCard": "version",
    "VersionTable": "version",
}

__all__ = [  # noqa: PLE0604 # the table above, once
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
