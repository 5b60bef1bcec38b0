"""What the coordinator asks of whom, how fast, and what it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.failure import Failed
from distributed.learner_core import TurnReport


class CollectorProtocol(Protocol):
    """What a collector answers, as an actor or in this process."""

    def collect(
        self, policy: list[ray.ObjectRef] | None, vector_steps: int, first_step: int
    ) -> tuple[list[ray.ObjectRef], int, Any] | Failed:
        """Steps with these weights, or uniformly at random with None.

        Args:
            policy: reference to the weights, in a list so that it stays a reference.
            vector_steps: steps of the vector environment.
            first_step: real steps begun in the run before this request.

        Returns:
            A reference to the record batch in a list, its rows, and the collector's metrics; or
            why there is none.
        """


class LearnerProtocol(Protocol):
    """What the learner answers, as an actor or in this process."""

    def turn(
        self,
        real: list[ray.ObjectRef],
        synthetic: list[ray.ObjectRef],
        rollout_parts: int | None = None,
    ) -> TurnReport:
        """See `LearnerCore.turn`."""


def collect(collector: CollectorProtocol, **arguments: Any) -> Any:
    """Has a collector collect; for Ray's actor manager.

    It would take the method's name as well, but make a function of it that is pickled whole in
    every request; one of a module goes by its name.
    """
    return collector.collect(**arguments)


def take_turn(learner: LearnerProtocol, **arguments: Any) -> TurnReport:
    """Has the learner make a turn; as `collect`."""
    return learner.turn(**arguments)


# Ray's manager has no public list of what is under way, and its own wait is for all of it. RLlib
# leaves answers of its own unfetched there, so we look for ours only.


def under_way(manager: FaultTolerantActorManager | None, tag: str) -> list[ray.ObjectRef]:
    """References to the answers of a manager's open requests under a tag."""
    if manager is None:
        return []
    requests = manager._in_flight_req_to_actor_id.items()
    return [reference for reference, (its_tag, _) in requests if its_tag == tag]


def is_under_way(manager: FaultTolerantActorManager, reference: ray.ObjectRef) -> bool:
    """Whether the manager still has this request."""
    return reference in manager._in_flight_req_to_actor_id


def newest_reference(manager: FaultTolerantActorManager) -> ray.ObjectRef | None:
    """To the answer of the request that went out last."""
    return next(reversed(manager._in_flight_req_to_actor_id), None)


def wait_for_any(references: list[ray.ObjectRef], timeout: float) -> list[ray.ObjectRef]:
    """All that are answered by now, so that one look over many serves many; else the first."""
    ready, _ = ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
    if not ready:
        ready, _ = ray.wait(references, num_returns=1, timeout=timeout, fetch_local=False)
    return ready


@dataclass(frozen=True)
class Pace:
    """How fast the wheel may turn.

    Attributes:
        vector_steps: steps of the vector environment per request.
        steps_per_request: real steps that a request may bring at the most.
        num_random_steps: real steps with uniformly random actions before learning starts.
        max_weight_lag: real steps; no weights older than this are used.
        request_timeout_s: seconds that the driver waits for a collector's answer to one request;
            one that takes longer hangs, and is restarted. None: it may take any time.
    """

    vector_steps: int
    steps_per_request: int
    num_random_steps: int
    max_weight_lag: int
    request_timeout_s: float | None = 60.0


@dataclass
class WaitingBatch:
    """A batch that the learner does not have yet."""

    collector: int
    reference: ray.ObjectRef
    steps: int
    metrics: Any


@dataclass
class FlowCounts:
    """What the driver knows of the flow: requested = returned + lost + those of open requests.

    Attributes:
        steps_requested: real steps asked of collectors; once answered, those really made.
        steps_returned: real steps that collectors have handed over and that are not lost.
        steps_lost: real steps of requests that failed, and of batches that died with their
            collector before the learner had them.
        weight_lag: largest age of any weights used in the last turn, in real steps.
        weight_lag_max: largest such age in the whole run.
        worker_failures: times that a collector failed or died.
        worker_restarts: collectors and rollout workers that came back into service.
        learner_idle_s: seconds in which the learner did nothing, by its own clock; evaluations and
            checkpoints are in, what is done on offline data is not.
        non_finite_statistics: figures of the learner that were infinite or no number, in all turns.
        waited_for_steps_s: seconds that the learner was at rest for want of real steps, by the
            driver's clock and without evaluations.
        waited_for_lag_s: seconds that it was at rest because the weight lag held collectors back.
    """

    steps_requested: int = 0
    steps_returned: int = 0
    steps_lost: int = 0
    weight_lag: int = 0
    weight_lag_max: int = 0
    worker_failures: int = 0
    worker_restarts: int = 0
    learner_idle_s: float = 0.0
    non_finite_statistics: int = 0
    waited_for_steps_s: float = 0.0
    waited_for_lag_s: float = 0.0

    def note_lag(self, published_at: int) -> None:
        """Notes the age of weights that were used, by the steps at which they were published."""
        lag = self.steps_returned - published_at
        self.weight_lag = max(self.weight_lag, lag)
        self.weight_lag_max = max(self.weight_lag_max, lag)

    def note_non_finite(self, statistics: Mapping[str, float]) -> None:
        """Counts the statistics of a turn that are infinite or no number."""
        self.non_finite_statistics += sum(not math.isfinite(value) for value in statistics.values())
