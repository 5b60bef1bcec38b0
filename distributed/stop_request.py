"""Asking the trials of a running Ray job to end within their turn, from the job's own driver."""

from __future__ import annotations

import time

import ray
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_initialized,
    _internal_kv_put,
)

LOOK_EVERY_S = 0.5


def ask_to_stop() -> None:
    """Asks every `MnM` of this Ray job to end its iteration, without an evaluation.

    By Ray's key-value store: the trial's actor and its learner are busy and answer no call until
    then.
    """
    _internal_kv_put(_key(), b"")


def forget_stop_request() -> None:
    """Takes the question back, so that the job's next trials run."""
    _internal_kv_del(_key())


def is_stop_asked() -> bool:
    """Whether this Ray job was asked to stop."""
    return _internal_kv_initialized() and _internal_kv_exists(_key())


class StopAsked:
    """`is_stop_asked` for those who ask all the time: it looks twice a second at the most."""

    def __init__(self) -> None:
        self._asked = False
        self._looked_at = -float("inf")

    def __call__(self) -> bool:
        """The answer of now."""
        now = time.monotonic()
        if not self._asked and now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            self._asked = is_stop_asked()
        return self._asked


def _key() -> bytes:
    return f"mnm-stop:{ray.get_runtime_context().get_job_id()}".encode()
