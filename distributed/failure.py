"""How the error of an actor's own code reaches the driver: as the answer to its request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

FAILURES_IN_A_ROW = 3  # of actors' own code, without an answer between them, end the run
PROBE_EVERY_S = 2.0  # dead actors are asked whether they are back, and that holds up the driver


class Seldom:
    """Says yes at most once in a while.

    Args:
        seconds: between two times.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = -math.inf

    def __call__(self) -> bool:
        """Whether it is time again."""
        now = time.monotonic()
        if now < self._last + self.seconds:
            return False
        self._last = now
        return True


@dataclass(frozen=True)
class Failed:
    """An answer that there is none.

    Attributes:
        error: what the actor's code raised.
    """

    error: Exception


def errors_answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Has a method return `Failed` where it would raise.

    Ray's fault handling ends the process of an actor that raises, and the driver would learn only
    that it died: a broken environment would be restarted for ever.
    """

    @wraps(method)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            return Failed(error)

    return answer
