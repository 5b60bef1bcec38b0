"""Faults of collectors that no answer tells of: those that hang, and that none is left."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import ray
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.elasticity import ElasticActors
from distributed.failure import PROBE_EVERY_S, Seldom, raise_if_none_returns

logger = logging.getLogger(__name__)


class CollectorWatch:
    """Restarts collectors that hang, and ends a run that has none left.

    A collector is judged by the time that the driver has waited for it. While the driver is
    elsewhere, at an evaluation, a checkpoint, a turn of its own learner or between two calls of
    `train`, it takes no answers, and others may keep the collector from its request.

    Args:
        collectors: their manager.
    """

    def __init__(self, collectors: FaultTolerantActorManager) -> None:
        self._collectors = collectors
        self._is_time_to_look = Seldom(PROBE_EVERY_S)
        self._waited_s = 0.0  # by the driver, in all
        self._begun_at: dict[int, float] = {}  # of that, when the oldest open request was begun

    def begins(self, collector: int) -> None:
        """Notes that the oldest open request of a collector is another from now on."""
        self._begun_at[collector] = self._waited_s

    def note_waited(self, seconds: float) -> None:
        """Notes that the driver waited for answers."""
        self._waited_s += seconds

    def restart_hanging(self, at_work: Iterable[int], timeout_s: float | None) -> None:
        """Ends collectors that take too long; Ray starts them again, their answer is an error.

        Args:
            at_work: collectors whose answers are not there.
            timeout_s: that one request may take; None: as long as it likes.
        """
        if timeout_s is None:
            return
        for index in at_work:
            if self._waited_s - self._begun_at[index] > timeout_s:
                logger.warning(
                    "Collector %d has not answered a request within sample_timeout_s=%g seconds "
                    "and is restarted: where requests may take that long, raise it with "
                    ".env_runners(sample_timeout_s=...).",
                    index,
                    timeout_s,
                )
                self.begins(index)
                ray.kill(self._collectors.actors()[index], no_restart=False)

    def check_that_some_return(self, elastic: ElasticActors | None) -> None:
        """What to call while no collector is in service.

        Args:
            elastic: the collectors beside those reserved; None: there are never any.

        Raises:
            RuntimeError: all are dead, and none will come back.
        """
        if elastic is not None and elastic.may_grow:
            return
        if self._is_time_to_look():
            raise_if_none_returns("collectors", self._collectors.actors().values())
