"""The table of verbs, and the group that imports a verb when it is used.

A new verb is one file and one line here; help, completion and the reference page follow.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module

import click

#: Verb → (module of ``nbmodel.commands``, one line of help). The order is that of help.
VERBS: Mapping[str, tuple[str, str]] = {
    "log": ("log", "make a version of a live object, converted and checked"),
    "upload": ("upload", "make a version of a model file or folder"),
    "import": ("import_", "make a version of a model that is kept elsewhere"),
    "list": ("list", "all models, the versions of one, or what a query finds"),
    "show": ("show", "a model or a version"),
    "diff": ("diff", "what differs between two versions"),
    "lineage": ("lineage", "where a version comes from and where it went"),
    "reproduce": ("reproduce", "run the cells of a version again, and compare"),
    "alias": ("alias", "put a movable name on a version, or show where it was"),
    "pin": ("pin", "hold a model at a version"),
    "unpin": ("unpin", "let go of a pin"),
    "tag": ("tag", "set free words on a version"),
    "describe": ("describe", "set the description of a model or version"),
    "rename": ("rename", "give a model another name"),
    "publish": ("publish", "make a version read-only"),
    "deprecate": ("deprecate", "say why nobody should use it any more"),
    "archive": ("archive", "leave it out of lists"),
    "restore": ("restore", "take it out of the archive"),
    "delete": ("delete", "delete a version or model"),
    "package": ("package", "the package entry for a machine config"),
    "sign": ("sign", "sign a version, for those who check who made it"),
    "verify": ("verify", "check every byte against its digest, and who signed it"),
    "gc": ("gc", "free what no version needs"),
    "export": ("export", "write a version as another system keeps its models"),
    "push": ("push", "send versions to a registry"),
    "pull": ("pull", "bring a version from a registry, or its files into a folder"),
    "remote": ("remote", "the registries that were used, and which is the default"),
    "sync": ("sync", "know what a registry has, without the files"),
    "transfers": ("transfers", "what is pushed and uploaded in the background"),
    "deploy": ("deploy", "run a model on a runtime"),
    "undeploy": ("undeploy", "stop a service of a runtime"),
    "rollback": ("rollback", "bring back the version before"),
    "status": ("status", "what runs where"),
    "infer": ("infer", "run inputs through a model and see the answer"),
    "bench": ("bench", "measure latency and throughput of a model"),
    "do": ("do", "send a free-form command to a service"),
    "registry": ("registry", "serve: offer the registry to OCI clients, and end that"),
    "runtime": ("runtime", "start, install, stop, add, list, remove, config, logs"),
    "viam-module": ("viam_module", "serve models to a viam-server, as a module of it"),
}


class VerbGroup(click.Group):
    """All verbs; a verb's module is imported when the verb is used.

    Attributes:
        on_command_line: Whether help tells of ``--json``, which the command line has alone.
    """

    on_command_line = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the table's order."""
        del ctx
        return list(VERBS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        """The command of a verb, or None."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module, _ = VERBS[cmd_name]
        command: click.Command = import_module(f"nbmodel.commands.{module}").command
        return _with_json(command) if self.on_command_line else command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that ``args`` start with; an unknown one is told with the nearest."""
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-"):
            near = get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(VERBS)}"
            raise click.UsageError(f"unknown verb {verb!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        """The verbs with their line of help, without importing them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


def verbs(name: str) -> VerbGroup:
    """The group of all verbs, called ``name`` in help (``nbmodel`` or ``%mlmodel``)."""
    group = VerbGroup(
        name=name,
        help="From a notebook cell to an edge device and back: "
        "log, version, upload, pin, deploy, infer, see.",
        epilog=f"`{name} VERB --help` tells all about a verb.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.on_command_line = not name.startswith("%")
    if group.on_command_line:
        group.params = [_JSON, _VERSION]
    return group


# For help and completion: the command line reads both words itself, wherever they stand.
_JSON = click.Option(
    ["--json"], is_flag=True, expose_value=False, help="print for machines: results and errors"
)
_VERSION = click.Option(
    ["-V", "--version"], is_flag=True, expose_value=False, help="print the version of nbmodel"
)


def _with_json(command: click.Command) -> click.Command:
    """A copy whose help, and that of what is below it, tells of ``--json``."""
    told = copy.copy(command)
    told.params = [*command.params, _JSON]
    if isinstance(told, click.Group):
        told.commands = {name: _with_json(below) for name, below in told.commands.items()}
    return told
