"""What is pushed and uploaded in the background, here and by other processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbmodel.core.job import Job
from nbmodel.display.base import Result
from nbmodel.display.card import Bar, Block, Card, Cell, Chip, Mono, Note, Table, Tone
from nbmodel.display.quantity import count

_TONES: dict[str, Tone] = {
    "done": "good",
    "failed": "bad",
    "interrupted": "warn",
}


class TransferTable(list[Job], Result):
    """Transfers; a list that shows itself.

    Args:
        jobs: The transfers.
        worked_on: The ids of those that a process works on, or will when it is through with
            others.
    """

    def __init__(self, jobs: Iterable[Job] = (), worked_on: Iterable[str] = ()) -> None:
        super().__init__(jobs)
        self.worked_on = frozenset(worked_on)

    def state(self, job: Job) -> str:
        """``running``, ``waiting``, ``interrupted``, ``done``, ``failed`` or ``cancelled``."""
        if not job.is_open:
            return job.state
        if job.id not in self.worked_on:
            return "interrupted"
        return "waiting" if job.is_waiting else "running"

    def card(self) -> Card:
        """A row a transfer, and how to go on with those that were interrupted."""
        rows = [
            (
                Mono(job.id),
                Chip(self.state(job), _TONES.get(self.state(job), "calm")),
                self._share(job),
                job.what,
                job.to,
            )
            for job in self
        ]
        blocks: list[Block] = []
        if rows:
            blocks.append(Table(("id", "", "done", "transfer", "to"), rows).filled())
            # In a row of a table they would be cut.
            blocks += [Note(f"{job.id} {line}") for job in self if (line := self._line(job))]
        else:
            blocks.append(Note("none: `push` and `upload` of a notebook take --background"))
        if any(self.state(job) == "interrupted" for job in self):
            blocks.append(Note("`transfers --resume` goes on with what was interrupted"))
        return Card(count(len(self), "transfer"), blocks=blocks, kind="table of")

    def to_json(self) -> list[dict[str, Any]]:
        """Every transfer, with whether a process works on it."""
        return [job.to_json() | {"state": self.state(job)} for job in self]

    def _line(self, job: Job) -> str:
        """What is to be said of it: figures of one that nobody works on are old."""
        state = self.state(job)
        if state == "interrupted":
            return job.why or f"{job.what}: {state}, its process ended"
        return "" if state == "waiting" else job.line

    def _share(self, job: Job) -> Cell:
        if job.share is None or self.state(job) != "running":
            return ""
        return Bar(job.share), f"{job.share:.0%}"

    __repr__ = Result.__str__
