"""What every result has: a text, an HTML and sometimes a picture form, in one bundle."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmodel.display.card import Card, Note
from nbmodel.display.render_html import render_html
from nbmodel.display.render_text import render_text
from nbmodel.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import Self

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_DOCUMENTS = (".html", ".txt", ".json")


class Result:
    """Mixin for values that show themselves.

    A subclass says in ``card`` what there is to see, and in ``to_json`` what machines
    get; a core value that has ``to_json`` comes first among the bases.
    """

    notes: tuple[str, ...] = ()  # sentences about what else happened, shown below

    @abstractmethod
    def card(self) -> Card:
        """What there is to see, without how it looks."""
        raise NotImplementedError

    def to_json(self) -> Any:
        """All of it as JSON values."""
        raise NotImplementedError

    def picture(self) -> Image | None:
        """The result as a picture, or None when it is not a thing to look at."""
        return None

    def with_notes(self, notes: Iterable[str]) -> Self:
        """A copy that shows further sentences below."""
        return self._changed(notes=(*self.notes, *notes))

    def _changed(self, **attributes: Any) -> Self:
        changed = copy.copy(self)
        # A frozen value with slots copies its fields alone, not what a card has besides.
        changed.__dict__.update(vars(self))
        for name, value in attributes.items():
            object.__setattr__(changed, name, value)  # values are frozen; the copy is not out yet
        return changed

    def _whole_card(self) -> Card:
        card = self.card()
        notes = tuple(Note(note) for note in self.notes)
        return replace(card, blocks=(*card.blocks, *notes)) if notes else card

    def text(self) -> str:
        """Plain text, without control characters."""
        return render_text(self._whole_card())

    def html(self) -> str:
        """HTML that stands alone, escaped, for light and dark."""
        return render_html(self._whole_card())

    def image(self) -> bytes | None:
        """The picture as JPEG bytes, or None without one."""
        picture = self.picture()
        if picture is None:
            return None
        from nbmodel.vision.draw import encode_jpeg

        return encode_jpeg(picture)

    def save(self, path: str | Path) -> Path:
        """Write the result to a file; its suffix says in which form.

        ``.png``, ``.jpg`` and ``.webp`` write the picture, ``.html``, ``.txt`` and
        ``.json`` what their names say.

        Returns:
            The path written; an existing file is replaced.

        Raises:
            InputError: The suffix is none of these, or there is no picture.
        """
        file = Path(path).expanduser()
        suffix = file.suffix.lower()
        if suffix in _PICTURES:
            self._save_picture(file)
        elif suffix == ".html":
            page = f'<!DOCTYPE html><meta charset="utf-8"><title>nbmodel</title>{self.html()}\n'
            file.write_text(page, encoding="utf-8")
        elif suffix == ".txt":
            file.write_text(self.text() + "\n", encoding="utf-8")
        elif suffix == ".json":
            text = json.dumps(self.to_json(), indent=2, ensure_ascii=False)
            # A lone surrogate becomes its JSON escape.
            file.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        else:
            raise InputError(
                f"cannot save a result as {file.name!r}",
                hint=f"end the name in one of {', '.join((*_PICTURES, *_DOCUMENTS))}",
            )
        return file

    def _save_picture(self, file: Path) -> None:
        picture = self.picture()
        if picture is None:
            raise InputError(
                f"{type(self).__name__} has no picture to save as {file.name!r}",
                hint=f"end the name in one of {', '.join(_DOCUMENTS)}",
            )
        picture.save(file)

    def __str__(self) -> str:
        return self.text()

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Text and HTML in one bundle, as Jupyter asks for it."""
        bundle = {"text/plain": self.text(), "text/html": self.html()}
        return {
            kind: data
            for kind, data in bundle.items()
            if (include is None or kind in include) and (exclude is None or kind not in exclude)
        }
