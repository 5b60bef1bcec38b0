"""The one error that commands show as a single sentence, warnings, and what Ray wraps errors in."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ray.exceptions import ActorDiedError, RayTaskError


class UserError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says what to do."""


class CheckpointFailed(RuntimeError):
    """The learner's state could not be saved or restored; another try may do."""


def warn(sentence: str) -> None:
    """Says on standard error what does not end the command."""
    print(f"mnm: {sentence}", file=sys.stderr, flush=True)


def root_cause(error: BaseException) -> BaseException:
    """The exception that an actor raised, out of Ray's and Tune's wrappings."""
    *_, error = _unwrapped(error)
    return error


def is_of_setup(error: BaseException) -> bool:
    """Whether an actor raised it while it was made, so that it never was at work."""
    return any(isinstance(e, ActorDiedError) and e.actor_init_failed for e in _unwrapped(error))


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it wraps, what that wraps, to the last one."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        of_setup = error.args[0] if isinstance(error, ActorDiedError) and error.args else None
        if isinstance(of_setup, RayTaskError):
            error = of_setup
        elif isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
            error = error.cause
        elif error.__cause__ is not None:
            error = error.__cause__
