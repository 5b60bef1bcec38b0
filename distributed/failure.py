"""How the error of an actor's own code reaches the driver: as the answer to its request."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayError

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3  # of actors' own code, without an answer between them, end the run
PROBE_EVERY_S = 2.0  # dead actors are asked whether they are back, and that holds up the driver
PATIENCE_S = 0.2  # with an actor that is asked; one that Ray restarts does not answer until then


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
            return Failed(_portable(error))

    return answer


def _portable(error: Exception) -> Exception:
    """The error; where it cannot be taken to another process, one that says the same.

    Ray's manager would take one that fails to arrive for the actor's death.
    """
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def raise_if_none_returns(group: str, actors: Collection[Any]) -> None:
    """Says so where a run would wait for ever.

    Args:
        group: the actors in words.
        actors: of that group, all out of service.

    Raises:
        RuntimeError: all are dead, and Ray restarts none of them.
    """
    error = _what_all_died_of(actors)
    if error is not None:
        logger.error("The last of the %s died of: %s", group, error)
        raise RuntimeError(
            f"All {group} are dead and Ray restarts none of them: see the log for what they died "
            "of, allow more restarts with .fault_tolerance(restart_failed_env_runners=True, "
            "max_num_env_runner_restarts=...), and restore the last checkpoint."
        )


def _what_all_died_of(actors: Collection[Any]) -> ActorDiedError | None:
    """The last one's error; None if one is alive or may come back."""
    pings = [actor.ping.remote() for actor in actors]
    ready, _ = ray.wait(pings, num_returns=len(pings), timeout=PATIENCE_S)
    died = None
    for ping in ready:
        try:
            ray.get(ping)
        except ActorDiedError as error:  # another error is of one that Ray restarts
            died = error
        except RayError:
            return None
        else:
            return None
    return died if len(ready) == len(pings) else None
