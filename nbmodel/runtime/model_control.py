"""Doing what clients ask by load and unload; the rules are in ``repository``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from nbmodel.core.machine import MachineConfig, Service
from nbmodel.errors import InputError, NbModelError
from nbmodel.runtime.board import Board
from nbmodel.runtime.repository import (
    LoadRequest,
    Overlay,
    OverrideFolder,
    check_name,
    failed_to_load,
    read_override,
)


class ModelControl:
    """The overlay over a runtime's machine config; for use from any thread.

    Args:
        folder: Where files that come with loads are kept while they are used.
        board: How the services stand.
        config: The machine config as it is now.
        follow: Has the reconciler follow config and overlay for a service, and waits until
            it did.
    """

    def __init__(
        self,
        folder: Path,
        *,
        board: Board,
        config: Callable[[], MachineConfig],
        follow: Callable[[str], None],
    ) -> None:
        self._files = OverrideFolder(folder)
        self._board = board
        self._config = config
        self._follow = follow
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()  # of the overlay alone, held for no time
        self._overlay = Overlay()

    @property
    def overlay(self) -> Overlay:
        """What differs from the machine config."""
        return self._overlay

    def served(self) -> tuple[Service, ...]:
        """Model services of config and overlay, unloaded ones included."""
        config = self._overlay.applied(self._config())
        return tuple(service for service in config.services if service.is_served)

    def config_changes(self, before: MachineConfig, config: MachineConfig) -> None:
        """Forget what a new machine config changes."""
        with self._lock:
            self._overlay = self._overlay.after(before, config)

    def load(self, name: str, request: LoadRequest) -> None:
        """Make a service run: again, or with other settings or files; wait until it does.

        A load that asks for nothing special lets the service follow the config again. A
        service that runs goes on until the new model is ready, and when that fails.

        Args:
            name: Of a service; a new one where the request brings files.
            request: How it shall run.

        Raises:
            InferenceError: There is no such service, and no files for one.
            FormatError: The request's configuration cannot be read.
            InputError: The model cannot be loaded; what ran before goes on.
            StorageUnavailableError: The request's files cannot be kept.
        """
        with self._one_at_a_time:
            if not request.files and all(one.name != name for one in self.served()):
                raise failed_to_load(name)
            check_name(name)
            folder = self._files.write(request.files) if request.files else None
            try:
                override = read_override(name, request, folder)
                before = self._change(name, lambda overlay: overlay.with_loaded(name, override))
                self._check(name, before, is_special=override is not None)
            except NbModelError:
                self._files.remove(folder)
                raise
            self._forget_files(before, name)

    def unload(self, name: str) -> None:
        """Make a service stop, and wait until it did; requests under way finish.

        A service that there is not is not running either: no error, as in Triton.
        """
        with self._one_at_a_time:
            config = self._config()
            before = self._change(name, lambda overlay: overlay.with_unloaded(name, config))
            self._forget_files(before, name)

    def close(self) -> None:
        """Forget all files; nothing runs from them any more."""
        self._files.clear()

    def _change(self, name: str, change: Callable[[Overlay], Overlay]) -> Overlay:
        """Follow another overlay, wait until that is done, and give the one before."""
        with self._lock:
            before = self._overlay
            self._overlay = change(before)
        self._follow(name)
        return before

    def _check(self, name: str, before: Overlay, *, is_special: bool) -> None:
        refusal = self._board.refusal(name)
        live = self._board.live(name)
        if live is not None and refusal is None:
            return
        if live is not None or is_special:
            former = before.overrides.get(name)
            stays_unloaded = name in before.unloaded
            config = self._config()
            self._change(
                name,
                lambda overlay: (
                    overlay.with_unloaded(name, config)
                    if stays_unloaded
                    else overlay.with_loaded(name, former)
                ),
            )
        why = "it takes too long to load" if refusal is None else str(refusal.error)
        version = "1" if live is None else live.version
        raise InputError(
            f"load failed for model {name!r}: version {version} is at UNAVAILABLE state: {why};",
            hint=None if refusal is None else refusal.error.hint,
        )

    def _forget_files(self, before: Overlay, name: str) -> None:
        former = before.overrides.get(name)
        if former is not None:
            self._files.remove(former.folder)
