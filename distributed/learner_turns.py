"""The learner's turns, one at a time: what each is given, and its report or why there is none."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.flow import LearnerProtocol, WaitingBatch, take_turn, under_way
from distributed.learner_core import TurnReport
from distributed.rollout_pool import Imagined

LEARNER_GONE = "The learner's process is gone: restore the last checkpoint."
TURN = "turn"  # the tag of its answer


class LearnerTurns:
    """The learner as the coordinator sees it, an actor or in this process.

    Args:
        manager: of the remote learner, or None.
        local: used if `manager` is None.

    Attributes:
        at_work: whether it is at a turn.
        real: batches of real transitions of that turn.
        imagined: batches of imagined transitions of that turn.
    """

    def __init__(
        self, manager: FaultTolerantActorManager | None, local: LearnerProtocol | None
    ) -> None:
        self._manager = manager
        self._local = local
        self.rest()

    @property
    def is_actor(self) -> bool:
        """Whether it works beside this process."""
        return self._manager is not None

    @property
    def open_answers(self) -> list[ray.ObjectRef]:
        """The report of its turn, to be waited for."""
        return under_way(self._manager, TURN)

    def rest(self) -> None:
        """Notes that it is at no turn."""
        self.at_work = False
        self.real: list[WaitingBatch] = []
        self.imagined: list[Imagined] = []

    def check(self) -> None:
        """Whoever else asks the learner may find it dead first; the manager then drops its turn.

        Raises:
            RuntimeError: its process is gone.
        """
        if self._manager is not None and self._manager.num_healthy_actors() == 0:
            self.rest()
            raise RuntimeError(LEARNER_GONE)

    def publish(self) -> TurnReport:
        """Waits for a turn without batches, which publishes the present weights.

        Raises:
            RuntimeError: its process is gone.
        """
        nothing: dict[str, Any] = {"real": [], "synthetic": []}
        if self._manager is None:
            assert self._local is not None
            return self._local.turn(**nothing)
        self.check()
        (answer,) = self._manager.foreach_actor(take_turn, kwargs=nothing)
        return _report_of(answer)

    def begin(
        self, real: list[WaitingBatch], imagined: list[Imagined], rollout_parts: int | None
    ) -> TurnReport | None:
        """Gives it a turn, and waits for the report if it is in this process.

        Args:
            real: batches of real transitions.
            imagined: batches of imagined transitions.
            rollout_parts: see `distributed.learner_core.LearnerCore.turn`; None: not for a pool.
        """
        arguments: dict[str, Any] = {
            "real": [batch.reference for batch in real],
            "synthetic": [answer.reference for answer in imagined],
        }
        if rollout_parts is not None:
            arguments["rollout_parts"] = rollout_parts
        self.at_work, self.real, self.imagined = True, real, imagined
        if self._manager is None:
            assert self._local is not None
            try:
                return self._local.turn(**arguments)
            except Exception:
                self.rest()
                raise
        if not self._manager.foreach_actor_async(take_turn, tag=TURN, kwargs=arguments):
            self.rest()
            raise RuntimeError(LEARNER_GONE)
        return None

    def take_report(self) -> TurnReport | None:
        """The report of a remote learner's turn, if it has come in.

        Raises:
            RuntimeError: its process is gone.
            Exception: what its code raised.
        """
        if self._manager is None:
            return None
        for answer in self._manager.fetch_ready_async_reqs(tags=TURN):
            if not answer.ok:
                self.rest()
            return _report_of(answer)
        return None


def _report_of(answer: Any) -> TurnReport:
    """What the learner answered; if its process is gone, Ray's manager has logged why."""
    if answer.ok:
        return answer.get()
    error: Exception = answer.get()
    raise RuntimeError(LEARNER_GONE) if isinstance(error, RayActorError) else error
