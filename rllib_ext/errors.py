"""The one error that commands show as a single sentence."""

from __future__ import annotations

from ray.exceptions import RayTaskError


class UserError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says what to do."""


class CheckpointFailed(RuntimeError):
    """The learner's state could not be saved or restored; another try may do."""


def root_cause(error: BaseException) -> BaseException:
    """The exception that an actor raised, out of Ray's and Tune's wrappings."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
            error = error.cause
        elif error.__cause__ is not None:
            error = error.__cause__
    return error
