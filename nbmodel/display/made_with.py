"""What a version was made with, as facts: path, machine, seed, data."""

from __future__ import annotations

from nbmodel.core.digest import short_digest
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import Machine
from nbmodel.display.card import Cell, Inline, Mono
from nbmodel.display.quantity import count, file_size


def made_facts(lineage: Lineage) -> list[tuple[str, Cell]]:
    """Names and what is known; nothing of what is not."""
    made = lineage.provenance
    if made is None:
        return []
    facts: list[tuple[str, Cell]] = []
    if made.path and made.path != lineage.notebook:
        facts.append(("notebook" if lineage.cell else "script", Mono(made.path)))
    if made.cell_id:
        facts.append(("cell id", Mono(made.cell_id)))
    machine = machine_line(made.machine)
    if machine:
        facts.append(("made on", machine))
    if made.seed is not None:
        facts.append(("seed", str(made.seed)))
    if made.data:
        cells: list[Inline] = []
        for name, one in sorted(made.data.items()):
            cells += [f"{name}: {one.what}", Mono(short_digest(one.digest), one.digest)]
        facts.append(("data", tuple(cells)))
    return facts


def machine_line(machine: Machine) -> str:
    """A machine in a line: system, Python, processor, memory, GPUs."""
    cores = count(machine.cores, "core") if machine.cores else ""
    parts = (
        machine.system,
        f"Python {machine.python}" if machine.python else "",
        f"{machine.cpu}, {cores}" if machine.cpu and cores else machine.cpu or cores,
        file_size(machine.memory) if machine.memory else "",
        *machine.gpus,
    )
    return " · ".join(filter(None, parts))
