"""A registry that is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Code, Facts, Mono, Note

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, repr=False)
class ServingCard(Result):
    """A registry that this process serves; it ends with ``close``, or with the process.

    As a context manager it is closed at the end of the block.

    Attributes:
        root: The registry's folder.
        url: Where this machine reaches it.
        url_for_others: Where others reach it, or None.
        read_only: Whether nothing can be pushed.
        example: A model to pull, or None.
        new_token: What has to be shown to it, when that was made just now; or None.
        token_file: Where that is kept, or None without one.
        end: Ends it.
        alive: Tells whether it is served.
    """

    root: str
    url: str
    url_for_others: str | None
    read_only: bool
    example: str | None
    new_token: str | None
    token_file: str | None
    end: Callable[[], None]
    alive: Callable[[], bool]

    @property
    def is_running(self) -> bool:
        """Whether it is served still."""
        return self.alive()

    def close(self) -> None:
        """End it: what is under way is answered; nothing to do when it has ended."""
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def card(self) -> Card:
        """Where it is, who may enter, and how to pull from it."""
        url = self.url_for_others or self.url
        token: Cell = ""
        if self.new_token is not None:
            token = (Mono(self.new_token), "shown this once; kept in", Mono(self.token_file or ""))
        elif self.token_file is not None:
            token = ("in", Mono(self.token_file))
        facts = [
            ("address", Mono(self.url)),
            ("for others", Mono(self.url_for_others or "")),
            ("token", token),
            ("registry", Mono(self.root)),
        ]
        blocks: list[Block] = [Facts(facts)]
        if not self.is_running:
            blocks.append(Note("it has ended"))
        elif self.example is not None:
            host = url.partition("://")[2]
            is_plain = url.startswith("http:")
            verify = "--src-tls-verify=false " if is_plain else ""
            lines = (
                f"nbmodel pull {f'{url}/' if is_plain else f'{host}/'}{self.example}",
                f"skopeo copy {verify}docker://{host}/{self.example}:latest dir:model",
            )
            blocks.append(Code("\n".join(lines)))
        mode = Chip("read-only", "info") if self.read_only else Chip("read-write", "warn")
        state = Chip("serving", "good") if self.is_running else Chip("ended")
        return Card("registry", chips=[state, mode], blocks=blocks)

    def to_json(self) -> dict[str, Any]:
        """All of it but a token that was made before."""
        return {
            "root": self.root,
            "url": self.url,
            "url_for_others": self.url_for_others,
            "read_only": self.read_only,
            "running": self.is_running,
            "new_token": self.new_token,
            "token_file": self.token_file,
        }

    __repr__ = Result.__str__
