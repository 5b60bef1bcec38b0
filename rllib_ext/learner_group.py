"""What is asked of RLlib's learner group, whose one learner is in this process or an actor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError
from ray.rllib.core.learner.learner_group import LearnerGroup

from distributed.learner_turns import LEARNER_GONE
from distributed.storage import KeyedUri
from rllib_ext.errors import CheckpointFailed

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 5.0  # seconds that the learner may take to end its log and temporary files


def ask_learner(group: LearnerGroup, question: Callable[[Any], Any]) -> Any:
    """The learner's answer.

    Raises:
        ValueError: what the learner raised.
        RuntimeError: its process is gone.
    """
    for result in group.foreach_learner(question):
        if not result.ok:
            raise result.get()
        return result.get()
    raise RuntimeError(LEARNER_GONE)


def raise_kept_error(group: LearnerGroup) -> None:
    """RLlib drops what a remote learner raises while it saves or restores; we do not.

    Raises:
        CheckpointFailed: the learner raised it.
        RuntimeError: its process is gone.
    """
    error = ask_learner(group, lambda learner: learner.pop_error())
    if error is not None:
        raise CheckpointFailed(error)


def close_learner(group: LearnerGroup, output: str | KeyedUri | None) -> None:
    """Ends the log and removes temporary files; a learner that hangs is not waited for.

    Args:
        group: of the learner.
        output: folder of the log of transitions; None: there is none.
    """
    try:
        results = list(
            group.foreach_learner(  # one that has raised is alive, but not healthy to Ray's manager
                lambda learner: learner.close(), healthy_only=False, timeout_seconds=CLOSE_TIMEOUT
            )
        )
        for result in results:
            if not result.ok:
                raise result.get()
    except (ValueError, OSError, RayError) as error:  # the end of a failed run goes on
        logger.warning("The last transitions were not logged: %s", error)
        return
    if output is not None and not results:
        logger.warning(
            "The learner did not end its log within %g seconds, so the last rows may be "
            "missing in %s: save a checkpoint before stop(), which writes them all.",
            CLOSE_TIMEOUT,
            output,
        )
