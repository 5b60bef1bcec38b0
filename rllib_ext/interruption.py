"""Ctrl-C and SIGTERM: the run saves and ends within seconds; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from distributed.stop_request import ask_to_stop, forget_stop_request

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LEAVE_AFTER_S = 8.0  # from the signal on: what is not saved by then is left
GIVE_UP_S = 10.0  # that leaving it may take


class Interruption:
    """Catches the first signal after `begin`, and has the run stop at its next turn.

    Args:
        give_up: called where the run has not ended `LEAVE_AFTER_S` later; then the process ends.
    """

    def __init__(self, give_up: Callable[[], None]) -> None:
        self.received: signal.Signals | None = None
        self._give_up = give_up
        self._over = threading.Event()
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """As a shell has it for a process that a signal ended."""
        assert self.received is not None
        return 128 + self.received

    def __enter__(self) -> Interruption:
        """Nothing yet: see `begin`."""
        return self

    def __exit__(self, *error: object) -> None:
        """Gives the signals back."""
        self._over.set()
        self._restore_handlers()

    def begin(self) -> None:
        """Takes the signals over, where this is the main thread, once Ray runs.

        Not before: Ray takes SIGTERM as it starts. What an earlier run of this Ray job was asked is
        forgotten.
        """
        forget_stop_request()
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._take) for number in SIGNALS}

    def _take(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        if again:
            self._restore_handlers()
            raise SystemExit(self.exit_code)
        # In a thread: the signal may have come in the middle of one of Ray's own calls.
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        _begin(ask_to_stop)
        if not self._over.wait(LEAVE_AFTER_S):
            _begin(self._give_up).join(GIVE_UP_S)
            os._exit(self.exit_code)  # the main thread is stuck; Ray ends with its driver

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _begin(function: Callable[[], None]) -> threading.Thread:
    """Calls it in a thread: with Ray's head or a bucket out of reach it fails, or never returns."""

    def call() -> None:
        with suppress(Exception):
            function()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
