"""How the error of an actor's own code reaches the driver: as the answer to its request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

FAILURES_IN_A_ROW = 3  # of actors' own code, without an answer between them, end the run


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
