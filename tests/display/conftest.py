"""One of every result, with hostile text wherever a person or a file may put text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel import display
from nbmodel.core.benchmark import Benchmark, Level
from nbmodel.core.deployment import Deployment
from nbmodel.core.diff import Change, diff_versions
from nbmodel.core.event import Event
from nbmodel.core.golden import Golden
from nbmodel.core.graph import LineageGraph, Node
from nbmodel.core.job import Job
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.origin import Origin
from nbmodel.core.pin import Pin
from nbmodel.core.provenance import CodeCell, Fingerprint, Machine, Provenance, Source
from nbmodel.core.remote import Remote
from nbmodel.core.reproduction import Failed, Reproduction
from nbmodel.core.signature import Normalization, Quantization, Signature, Tensor
from nbmodel.core.version import AliasMove, Model, Version
from nbmodel.registry import Deleted, GcReport, Problem, VerifyReport
from nbmodel.registry.key_files import KeyFiles
from nbmodel.registry.remote.alias_tags import AliasTaken
from nbmodel.registry.remote.listing import RemoteModel, RemoteVersion
from nbmodel.registry.remote.numbering import Renumbered
from nbmodel.registry.remote.pull import PullReport
from nbmodel.registry.remote.push import PushedVersion, PushReport
from nbmodel.registry.remote.sync import SyncedModel, SyncReport
from nbmodel.registry.remote.uses import RemoteUse
from nbmodel.registry.signing import ClaimedSignature
from nbmodel.signing.check import SignedBy

# Markup, quotes, an escape sequence, a line break, a direction override, a lone surrogate.
HOSTILE = "<script>alert('1')</script>\"&\x1b[31m\n\u202e\ud800"
AT = "2026-02-28T13:36:51.250000Z"


def digest(char: str) -> str:
    return "sha256:" + char * 64


def moving_status() -> dict[str, Any]:
    """A runtime where something of everything goes on, with hostile text wherever it has any."""

    def conditions(*holds: str) -> list[dict[str, str]]:
        kinds = ("Fetched", "Unpacked", "Probed", "Live", "Committed", HOSTILE)
        return [
            {"type": kind, "status": holds_, "reason": HOSTILE, "message": HOSTILE, "since": AT}
            for kind, holds_ in zip(kinds, holds, strict=False)
        ]

    record = {"version": HOSTILE, "number": 3, "digest": HOSTILE}
    fetch = {
        "state": "fetching",
        "bytes": 3_100_000,
        "total": 7_400_000,
        "percent": 41.9,
        "reused": 1_000_000,
        "attempt": 2,
        "retry_in_s": None,
        "error": None,
        "terminal": False,
    }
    return {
        "runtime": HOSTILE,
        "settled": False,
        "warnings": [HOSTILE],
        "services": [
            {
                "name": "digits",
                "state": "ready",
                "phase": "provisional",
                "conditions": conditions("True", "True", "True", "True", "False"),
                "provisional": {**record, "since": AT, "remaining_s": 8.2},
                "rollback": record,
                "probe": {
                    "load_s": 0.3,
                    "latency_ms": 1.2,
                    "memory_bytes": 54_000_000,
                    "golden": HOSTILE,
                    "note": HOSTILE,
                    "slow": HOSTILE,
                },
                "deployment": {"confirm_s": 60.0, "windows": [HOSTILE]},
            },
            {
                "name": "fruit",
                "state": "ready",
                "phase": "fetching",
                "package": "fruit",
                "number": 3,
                "conditions": conditions("False", "Unknown", "Unknown", "False", HOSTILE),
            },
            {
                "name": HOSTILE,
                "state": "failed",
                "phase": "failed",
                "error": HOSTILE,
                "failed": {**record, "reason": "another", "at": AT},
                "conditions": conditions("True", "True", "False", "False", "False", "True"),
            },
            {"name": "new", "state": HOSTILE, "phase": HOSTILE, "conditions": HOSTILE},
        ],
        "packages": [
            {"name": "fruit", "package": "local/fruit", "registry": HOSTILE, "fetch": fetch},
            {
                "name": HOSTILE,
                "fetch": {"state": "failed", "error": HOSTILE, "terminal": True, "percent": "x"},
            },
        ],
    }


def _imported(version: Version) -> Version:
    """The same with an origin, hostile where it may be."""
    origin = Origin("url", f"https://host/{HOSTILE}", HOSTILE, digest("e"))
    lineage = replace(version.manifest.lineage, origin=origin)
    return replace(version, manifest=replace(version.manifest, lineage=lineage))


def _made_in_cells(version: Version) -> Version:
    """The same with all that can be known of how it was made, hostile where it may be."""
    cells = (
        CodeCell(1, f"%load_ext nbmodel\nx = 1  # {HOSTILE}"),
        CodeCell(2, "", is_private=True),
        CodeCell(4, f'y = """{HOSTILE}', is_cut=True),
    )
    made = Provenance(
        path=f"/home/{HOSTILE}",
        cell_id=HOSTILE,
        front_end="jupyter",
        machine=Machine(HOSTILE, 8, 16_000_000_000, (HOSTILE,), HOSTILE, HOSTILE),
        seed=7,
        data={HOSTILE: Fingerprint(digest("a"), HOSTILE)},
        packed=Source(cells, 3, f"--- a\n+++ b\n-{HOSTILE}\n+{HOSTILE}", True).pack(),
    )
    lineage = replace(version.manifest.lineage, provenance=made)
    return replace(version, manifest=replace(version.manifest, lineage=lineage))


@pytest.fixture
def hostile() -> str:
    return HOSTILE


@pytest.fixture
def signature() -> Signature:
    return Signature(
        (
            Tensor(
                "x",
                "FP32",
                (-1, 64),
                description=HOSTILE,
                profile="image",
                normalization=Normalization((127.5,), (127.5,)),
                quantization=Quantization((0.5,), (0,)),
                score_threshold=0.25,
            ),
            Tensor(
                "colour",
                "BYTES",
                (-1, 1),
                labels=("red", HOSTILE),
                label_kind="value",
                profile="categorical",
            ),
        ),
        (
            Tensor("label", "INT64", (-1,)),
            Tensor("probabilities", "FP32", (-1, 3), labels=("nought", HOSTILE, "two")),
        ),
    )


@pytest.fixture
def version(signature: Signature) -> Version:
    manifest = Manifest(
        "digits",
        AT,
        (
            FileEntry("model.onnx", 14_234_567, digest("a")),
            FileEntry("golden.npz", 512, digest("b")),
        ),
        "onnx",
        "classification",
        signature,
        metadata={"note": HOSTILE, "layers": [64, 32]},
        metrics={"accuracy": 0.9871, "loss": 1.5e-5},
        lineage=Lineage(
            parents=(digest("d"),),
            notebook=HOSTILE,
            cell=4,
            code=f"model.fit(x)\n# {HOSTILE}",
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=True,
            user=HOSTILE,
            packages={"scikit-learn": "1.9.1"},
        ),
        golden=Golden(),
        conversion=Conversion("sklearn.svm.SVC", "skl2onnx 1.20.0", 3.2e-7, 1e-5, 16),
    )
    return Version(
        "digits",
        3,
        "2026-02-28T13-36-51",
        digest("e"),
        manifest,
        description=HOSTILE,
        tags={"fruit": HOSTILE, "seasonal": ""},
        aliases=("champion", "latest"),
        pinned=True,
        published=True,
        archived=True,
        deprecated=HOSTILE,
    )


@pytest.fixture
def model() -> Model:
    return Model("digits", HOSTILE, AT, 3, 3, {"latest": 3, "champion": 1}, 1, deprecated=HOSTILE)


@pytest.fixture
def status() -> dict[str, Any]:
    """As a runtime gives it."""
    return {
        "runtime": "pi",
        "version": "0.1.0",
        "started": AT,
        "settled": False,
        "config": digest("f"),
        "services": [
            {
                "name": "digits",
                "state": "ready",
                "backend": "nbmodel:mlmodel:onnx_cpu",
                "package": "digits",
                "model": "digits",
                "version": "2026-02-28T13-36-51",
                "number": 3,
                "digest": digest("e"),
                "follows": "latest",
                "error": HOSTILE,
                "hint": "ask again",
                "since": AT,
                "inferences": 12,
            },
            {"name": "cat", "state": "failed", "error": None, "number": None},
        ],
        "vision": [
            {
                "name": "eye",
                "state": "failed",
                "mlmodel_name": HOSTILE,
                "error": HOSTILE,
                "hint": "ask again",
                "inferences": 0,
                "since": None,
            },
            {
                "name": "ear",
                "state": "ready",
                "mlmodel_name": "digits",
                "classifications": False,
                "detections": True,
                "error": None,
                "inferences": 7,
                "since": AT,
            },
        ],
        "packages": [
            {
                "name": "digits",
                "package": "local/digits",
                "wanted": "latest",
                "version": "2026-02-28T13-36-51",
                "bytes": 14_235_079,
                "state": "ready",
                "error": HOSTILE,
            }
        ],
        "not_served": [{"name": "camera", "api": "rdk:component:camera"}],
    }


@pytest.fixture
def graph() -> LineageGraph:
    deployment = Deployment("pi", "digits", "digits", "latest", "digits", AT)
    nodes = (
        Node(digest("a"), "digits:3", ("latest",), AT, (deployment,)),
        Node(digest("b"), "digits:2", ("champion",), AT),
        Node(digest("c"), None),
        Node(digest("d"), "digits:4", (), AT),
    )
    edges = (
        (digest("b"), digest("a")),
        (digest("c"), digest("b")),
        (digest("c"), digest("a")),
        (digest("a"), digest("d")),
    )
    return LineageGraph(digest("a"), nodes, edges)


@pytest.fixture
def results(
    version: Version,
    model: Model,
    status: dict[str, Any],
    graph: LineageGraph,
    signature: Signature,
    tmp_path: Path,
) -> list[display.Result]:
    """One of every class that ``nbmodel.display`` has, and the variants that differ."""
    moved = Renumbered("digits", 3, 5, HOSTILE, AT)
    changed = replace(version.manifest, metrics={"accuracy": 0.99}, metadata={"note": 1})
    other = replace(version, number=4, manifest=changed)
    placement = SimpleNamespace(
        service="digits",
        package="local/digits",
        version="latest",
        backend="onnx_cpu",
        attributes={"num_threads": HOSTILE},
        deployment={"windows": [HOSTILE], "confirm_s": 10.0},
    )
    moving = moving_status()
    pin = Pin("digits", 3, None, AT, HOSTILE, HOSTILE)
    problem = Problem(HOSTILE, digest("a"), ("digits:3",), (HOSTILE,))
    outputs = {"label": np.array([1]), "probabilities": np.array([[0.1, 0.7, 0.2]], np.float32)}
    picture = Image.new("RGB", (40, 30), (200, 30, 30))
    boxes = {
        "location": np.array([[[0.1, 0.1, 0.9, 0.9]]]),
        "category": np.array([[1.0]]),
        "score": np.array([[0.9]]),
    }
    texts = {"text": np.array([HOSTILE.encode(errors="replace"), HOSTILE], object)}
    level = Level.of(1, 2.0, [1_000_000, 2_000_000], errors=1)
    benchmark = Benchmark(HOSTILE, HOSTILE, (HOSTILE,), False, 64, 64, (level, level), {HOSTILE: 2})
    inference = display.InferenceResult
    reproduction = Reproduction(
        "digits:3",
        diff_versions(version, other),
        (digest("a"), digest("b")),
        3,
        (HOSTILE, "loss"),
        (Failed(3, HOSTILE),),
        7,
        1,
        3.5,
        (Change(HOSTILE, "changed", HOSTILE, "2"), Change("numpy", "removed", "1", None)),
        (Change("gpus", "added", None, [HOSTILE]),),
        (Change("train", "changed", digest("c"), digest("d")),),
    )
    same = Reproduction(
        "digits:3", diff_versions(version, version), (digest("a"), digest("a")), 3, ("loss",)
    )
    return [
        display.VersionCard.of(version).with_notes([HOSTILE]),
        display.VersionCard.of(version).with_claims(
            (
                ClaimedSignature(digest("a"), AT, SignedBy("b" * 64)),
                ClaimedSignature(digest("b"), HOSTILE, SignedBy("", HOSTILE)),
                ClaimedSignature(digest("c"), "", None, HOSTILE),
            )
        ),
        display.VersionTable([version, other]),
        display.VersionTable(),
        display.VersionTable(query=HOSTILE),
        display.ModelCard.of(model).with_versions([version]),
        display.ModelTable([model]),
        display.ModelTable(),
        display.DiffCard.of(diff_versions(version, other)),
        display.DiffCard.of(diff_versions(version, version)),
        display.LineageCard.of(graph),
        display.SourceCard.of(_made_in_cells(version)),
        display.SourceCard.of(version),
        display.ReproductionCard.of(reproduction),
        display.ReproductionCard.of(replace(reproduction, diff=None, digests=(digest("a"), ""))),
        display.ReproductionCard.of(same),
        display.VersionCard.of(_made_in_cells(version)),
        display.AliasCard.of("digits", AliasMove("champion", AT, HOSTILE, 1, 3, HOSTILE)),
        display.AliasHistory("digits", [AliasMove("champion", AT, HOSTILE, 1, None, HOSTILE)]),
        display.PinCard.of(pin),
        display.PinCard.of(pin, removed=True),
        display.VerifyCard.of(VerifyReport(3, 7, 43_000_000, (problem,))),
        display.VerifyCard.of(VerifyReport(3, 7, 43_000_000)),
        display.VerifyCard.of(VerifyReport(3, 7, 43_000_000, rebuilt=3)),
        display.VerifyCard.of(VerifyReport(3, 7, 43_000_000, elsewhere=2)),
        display.VerifyCard.of(VerifyReport(3, 7, 43_000_000, elsewhere=2, rebuilt=3)),
        display.VerifyCard.of(VerifyReport(1, 2, 900, elsewhere=1)),
        display.BenchCard.of(benchmark),
        display.GcCard.of(GcReport(3, 1, 43_000_000, dry_run=True)),
        display.GcCard.of(GcReport(3, 1, 43_000_000, packed=180_000_000)),
        display.GcCard.of(GcReport(0, 0, 0, waiting=60_000_000, wait_s=3500.0)),
        display.DeletedCard.of(Deleted("digits", (3,), False, ("champion",), (HOSTILE,), 512)),
        display.DeletedCard.of(
            Deleted("digits", (3,), False, (), (), 512, left_on=("host/team/digits", HOSTILE))
        ),
        display.ExportCard("digits:3", "viam", HOSTILE, [tmp_path / "model.onnx"]),
        display.ExportCard("digits:3", "viam-upload", HOSTILE, []).with_notes([HOSTILE]),
        display.VersionCard.of(_imported(version)),
        display.PullCard("digits:3", [tmp_path / "model.onnx"]),
        display.PullCard(
            "digits:3",
            [],
            PullReport(HOSTILE, version, 3, 512, 24, (AliasTaken("champion", 2, 3),), (moved,)),
        ),
        display.PullCard("digits:3", [], PullReport("host/team", version, None, 0, 512)),
        display.PushCard.of(
            PushReport(
                HOSTILE,
                (
                    PushedVersion("digits:3", digest("a"), 3, was_there=False, sent=512, saved=7),
                    PushedVersion("digits:2", digest("b"), 2, was_there=True),
                ),
                ("digits:champion → 3",),
                (moved,),
                (HOSTILE,),
                1.5,
            )
        ),
        display.PushCard.of(
            PushReport("host", (PushedVersion("digits:2", digest("b"), 2, was_there=True),))
        ),
        display.PushCard.of(
            PushReport(
                "host",
                (PushedVersion("digits:2", digest("b"), 2, was_there=True, signatures=1),),
                removed=("digits:champion", HOSTILE),
            )
        ),
        display.SyncCard.of(
            SyncReport(
                HOSTILE,
                (
                    SyncedModel(
                        "digits",
                        3,
                        ("digits:2", "digits:3"),
                        1,
                        (AliasTaken("champion", None, 3),),
                        (moved,),
                        (HOSTILE,),
                    ),
                    SyncedModel("fruit", 7, signatures=2),
                ),
                0.1,
            )
        ),
        display.SyncCard.of(SyncReport("host/team", (), left_out=7, others=("image", HOSTILE))),
        display.RemoteTable(
            [
                RemoteUse(Remote("https://registry.example", "team"), 3, AT, is_default=True),
                RemoteUse(Remote("s3://bucket/models"), 0, "", is_default=False),
            ]
        ),
        display.RemoteTable([], Remote("https://registry.example")),
        display.RemoteTable([RemoteUse(Remote("http://host", "typo"), 0, "", is_default=True)]),
        display.RemoteModelTable(
            HOSTILE,
            [
                RemoteModel("digits", 3, 3, AT, ("champion", HOSTILE), 1),
                RemoteModel("image", 0, None, "", (), 0),
            ],
        ),
        display.RemoteModelTable("host/team", []),
        display.RemoteVersionTable(
            HOSTILE,
            "digits",
            [
                RemoteVersion("digits", 3, digest("a"), AT, ("champion",), "digits:3"),
                RemoteVersion("digits", None, digest("b"), "", (), None),
            ],
        ),
        display.TransferTable(
            [
                Job("0123abcd", "push", {"reference": HOSTILE}, HOSTILE, AT, share=0.25),
                Job("0123abce", "upload", {"name": "x"}, HOSTILE, AT, line=HOSTILE, share=0.5),
                Job("0123abcf", "push", {}, HOSTILE, AT, state="failed", line=HOSTILE),
            ],
            worked_on=["0123abcd"],
        ),
        display.TransferTable(
            [
                Job("0123abcd", "push", {"reference": "x", "remote": HOSTILE}, HOSTILE, AT),
                Job("0123abce", "push", {}, HOSTILE, AT, line="push: interrupted, away"),
                Job("0123abcf", "push", {}, HOSTILE, AT, line="push: waiting"),
            ],
            worked_on=["0123abcf"],
        ),
        display.TransferTable(),
        display.PackageCard.of({"name": "digits", "package": HOSTILE}),
        display.ConfigCard({"services": [{"name": HOSTILE}]}),
        display.ConfigPlan(
            {
                "changed": True,
                "steps": [
                    {"action": "start", "service": "fruit", "version": "3", "why": HOSTILE},
                    {"action": HOSTILE, "service": HOSTILE, "version": None, "why": ""},
                ],
            }
        ).of("pi", is_dry=True),
        display.ConfigPlan({"changed": False, "steps": []}),
        display.StatusCard(status).with_notes([HOSTILE]),
        display.StatusCard({"runtime": "new", "services": [], "packages": None}),
        display.StatusCard(moving).with_events([Event(1, AT, "info", None, "Note", HOSTILE)]),
        display.StatusCard(moving).away(HOSTILE),
        display.InstallCard("pi", HOSTILE, f"# {HOSTILE}\n", "http://x", HOSTILE, True),
        display.InstallCard("pi", HOSTILE, "x\n", "u", "h", True, state="running", lingers=False),
        display.InstallCard("pi", HOSTILE, "x\n", "u", "h", False, state="running"),
        display.InstallCard("pi", HOSTILE, "", "", "", False, state="removed"),
        display.SignatureCard(
            HOSTILE, digest("a"), (SignedBy("b" * 64),), is_checked=False, files=1, output=Path("x")
        ),
        display.SignatureCard(
            "digits:3",
            digest("a"),
            (SignedBy("b" * 64, HOSTILE), SignedBy("")),
            is_checked=True,
            files=3,
            bytes=5000,
            is_read=False,
            covers_version=False,
            unsigned=(HOSTILE,),
        ),
        display.KeyCard(KeyFiles(Path(HOSTILE), Path("x.pub.pem"), "b" * 64, "P-256", True)),
        display.ServingCard(
            root=HOSTILE,
            url=HOSTILE,
            url_for_others=HOSTILE,
            read_only=True,
            example=HOSTILE,
            new_token=HOSTILE,
            token_file=HOSTILE,
            end=lambda: None,
            alive=lambda: True,
        ),
        display.RuntimeTable(
            [
                {"name": "pi", "url": "http://127.0.0.1:1", "state": "ready", "services": ["a"]},
                {"name": "jetson", "state": "unreachable", "error": HOSTILE, "token": "s3cret"},
            ]
        ),
        display.RuntimeTable(
            [
                {
                    "name": "pi",
                    "url": "http://127.0.0.1:1",
                    "grpc": "127.0.0.1:2",
                    "state": "ready",
                    "services": ["a", "b"],
                    "failed": ["b"],
                    "asked": 2,
                    "home": HOSTILE,
                    "token_file": HOSTILE,
                    "reused": ["--server-name", HOSTILE],
                }
            ]
        ),
        display.RuntimeTable(),
        display.DeployCard("pi", "http://127.0.0.1:1", version, placement, seconds=0.42),
        display.DeployCard("pi", "http://127.0.0.1:1", version, placement, steps=[HOSTILE]),
        display.DeployCard(
            "pi",
            "http://127.0.0.1:1",
            version,
            placement,
            seconds=1.0,
            saved=13_000_000,
            registry=HOSTILE,
            status=moving["services"][0],
        ),
        display.DeployCard(
            "pi", "http://127.0.0.1:1", version, placement, seconds=1.0, held=HOSTILE
        ),
        display.LogLines([HOSTILE, "ready"]),
        display.LogLines(),
        inference(outputs, signature, HOSTILE, latency_ms=3.2),
        inference(outputs, signature, "digits@pi", images=[picture]),
        inference(
            {name: np.repeat(array, 3, axis=0) for name, array in outputs.items()},
            signature,
            images=[picture] * 3,
        ),
        inference({name: np.repeat(a, 3, axis=0) for name, a in outputs.items()}, signature),
        inference(boxes, signature, model_type="detection", images=[picture]),
        inference(outputs, signature, model_type="detection"),
        inference(texts, signature, model_type="text"),
    ]
