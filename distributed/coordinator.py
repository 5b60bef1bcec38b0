"""The driver's side of the wheel: who is asked for what and when, by references and counts only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.collector_group import CollectorGroup
from distributed.elasticity import ElasticActors, count_actors
from distributed.failure import PROBE_EVERY_S, Seldom
from distributed.flow import (
    CollectorProtocol,
    FlowCounts,
    LearnerProtocol,
    Pace,
    under_way,
    wait_for_any,
)
from distributed.learner_core import TurnReport
from distributed.learner_turns import LearnerTurns
from distributed.rollout_pool import Imagined, RolloutPool

LONGEST_WAIT_S = 10.0  # of one turn without a report of the learner
ASK_EVERY_S = 1.0  # whether the run is to stop, while a turn waits


class Coordinator:
    """Keeps collectors, learner and pool busy within two invariants.

    The updates-to-data ratio is exact because the learner counts its own steps; nobody uses weights
    older than `max_weight_lag` because a request only goes out if even the slowest open one would
    still be within it.

    Args:
        collectors: the remote collectors; with none, `local_collector` steps in this process.
        local_collector: used if there are no remote ones.
        learner: manager of the remote learner, or None.
        local_learner: used if `learner` is None.
        pool: of rollout workers, or None.
        pace: see `Pace`.
        on_batches: is given the metrics of the batches that the learner had in a turn.
        elastic: the collectors beside those reserved; None: there are never any.
        should_stop: asked while a turn waits; on True the turn ends without a report.
    """

    def __init__(
        self,
        collectors: FaultTolerantActorManager,
        local_collector: CollectorProtocol | None,
        learner: FaultTolerantActorManager | None,
        local_learner: LearnerProtocol | None,
        pool: RolloutPool | None,
        pace: Pace,
        on_batches: Callable[[list[Any]], None],
        elastic: ElasticActors | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.counts = FlowCounts()
        self.collectors = CollectorGroup(collectors, local_collector, pace, self.counts, elastic)
        self.pool = pool
        self.on_batches = on_batches
        self.should_stop = should_stop
        self.latest: TurnReport | None = None
        self._imagined: list[Imagined] = []
        self._learning = LearnerTurns(learner, local_learner)
        self._is_time_to_probe = Seldom(PROBE_EVERY_S)
        self._waited = (0, 0)  # batches, real and imagined, when the learner last came free

    def restore_counts(self, counts: dict[str, Any]) -> None:
        """Goes on counting from a checkpoint's counts, by their names; `start` balances them."""
        vars(self.counts).update(vars(FlowCounts(**counts)))

    def start(self) -> TurnReport:
        """Begins with the learner's present weights, new or restored.

        Batches that still wait, and what the pool imagines, are dropped: they belong to what was
        there before a restore. Collectors' steps in between are real ones, and are taken.

        Raises:
            RuntimeError: the learner's process is gone.
        """
        self.collectors.begin_anew()
        self._imagined = []
        if self.pool is not None:
            self.pool.drop_all()
        return self.publish()

    def publish(self) -> TurnReport:
        """Has the learner, which is at rest, publish its present weights.

        Raises:
            RuntimeError: the learner's process is gone.
        """
        report = self._learning.publish()
        self.latest = report
        self._distribute(report)
        counts = self.counts
        counts.steps_returned = report.env_steps
        counts.steps_requested = report.env_steps + counts.steps_lost + self.collectors.steps_open
        return report

    def turn(self) -> TurnReport | None:
        """Runs the flow until the learner has reported once; None if it has not in a while, or the
        run is to stop.

        A learner of its own is at its next turn when this returns.

        Raises:
            RuntimeError: the learner's process is gone, or all collectors' or workers' for good.
            Exception: what the code of an actor raised; of collectors and workers, again and again.
        """
        deadline = time.perf_counter() + LONGEST_WAIT_S
        self.counts.weight_lag = 0
        while time.perf_counter() < deadline:
            self._take_imagined()  # an in-process learner's turn may be over without a wait
            self._request_steps()
            report = self._learn()
            if report is None:
                until = min(deadline, time.perf_counter() + ASK_EVERY_S)
                self.collectors.take(self._wait_and_note(until))
                self.collectors.restart_hanging()
                self._take_imagined()
                report = self._take_report()
            if report is not None:
                self._distribute(report)
                if self._learning.is_actor:
                    self._request_steps()
                    self._learn()
                return report
            if self.should_stop():
                return None
        return None

    @property
    def imagines(self) -> bool:
        """Whether rollouts were asked for that the learner does not have yet."""
        return bool(self._imagined) or (self.pool is not None and bool(self.pool.published_at))

    def finish_learning(self) -> TurnReport | None:
        """Waits for the turn that the learner is at, so that it can be saved at rest.

        Returns:
            That turn's report; None if the learner was at rest.

        Raises:
            RuntimeError: the learner's process is gone.
        """
        report = None
        self._learning.check()
        while self._learning.at_work:
            self.collectors.take(self._wait(time.perf_counter() + LONGEST_WAIT_S))
            report = self._take_report()
            if report is not None:
                self._distribute(report)
            self._learning.check()
        return report

    def probe(self) -> None:
        """Brings restarted rollout workers back, where it did not try just now; collectors are
        RLlib's own to bring back.

        Raises:
            RuntimeError: all rollout workers are dead for good.
        """
        if self.pool is not None and self._is_time_to_probe():
            self.counts.worker_restarts += self.pool.probe()

    def adapt(self) -> None:
        """Has collectors and rollout workers grow or shrink where they may."""
        self.collectors.adapt({batch.collector for batch in self._learning.real})
        if self.pool is not None:
            answers = (*self._imagined, *self._learning.imagined)
            self.pool.adapt({answer.worker for answer in answers})

    @property
    def handed_over(self) -> dict[tuple[str, int], int]:
        """Transitions of each worker that is here, by its role and number."""
        groups = {"collector": self.collectors.handed_over}
        if self.pool is not None:
            groups["rollout_worker"] = self.pool.handed_over
        return {
            (role, worker): transitions
            for role, group in groups.items()
            for worker, transitions in group.items()
        }

    def actor_counts(self) -> dict[str, int]:
        """Actors that work now, and those that were asked for and do not run yet."""
        workers, elastic = (self.pool.manager, self.pool.elastic) if self.pool else (None, None)
        return {
            **count_actors("collectors", self.collectors.manager, self.collectors.elastic),
            **count_actors("rollout_workers", workers, elastic),
        }

    def queue_lengths(self) -> dict[str, int]:
        """See `mnm_queue_length` in `distributed.telemetry`."""
        collected, imagined = self._waited
        return {
            "queue_collected": collected,
            "queue_imagined": imagined,
            "queue_collect_requests": self.collectors.num_open,
            "queue_rollout_requests": 0 if self.pool is None else len(self.pool.published_at),
        }

    def _request_steps(self) -> None:
        assert self.latest is not None
        imagining = [] if self.pool is None else self.pool.published_at
        self.collectors.request_steps(self.latest, imagining, self._learning.at_work)

    # Learner

    def _learn(self) -> TurnReport | None:
        """Gives the learner what has come in, if it is free; its report if it is in-process."""
        self._learning.check()
        if self._learning.at_work or not (self.collectors.waiting or self._imagined):
            return None
        batches = self.collectors.take_waiting()
        imagined, self._imagined = self._imagined, []
        self._waited = (len(batches), len(imagined))
        parts = None if self.pool is None else self.pool.size
        report = self._learning.begin(batches, imagined, parts)
        return None if report is None else self._finish(report)

    def _take_report(self) -> TurnReport | None:
        report = self._learning.take_report()
        return None if report is None else self._finish(report)

    def _finish(self, report: TurnReport) -> TurnReport:
        learned = dict(enumerate(self._learning.real))
        for position in report.lost_real:
            lost = learned.pop(position)
            self.counts.steps_returned -= lost.steps
            self.counts.steps_lost += lost.steps
        if learned:
            self.on_batches([batch.metrics for batch in learned.values()])
        self._learning.rest()
        self.counts.learner_idle_s += report.idle_s
        self.counts.note_non_finite(report.statistics)
        self.latest = report
        return report

    # Pool

    def _distribute(self, report: TurnReport) -> None:
        if report.rollout_requests:
            assert self.pool is not None
            assert report.model is not None
            self.pool.submit(
                report.rollout_requests, (report.policy, report.model), report.env_steps
            )

    def _take_imagined(self) -> None:
        if self.pool is None:
            return
        for answer in self.pool.take():
            self.counts.note_lag(answer.published_at)
            self._imagined.append(answer)

    # Waiting

    def _wait_and_note(self, deadline: float) -> set[str]:
        """Waits, and notes who was at work meanwhile and whom the learner waited for."""
        began = time.perf_counter()
        answered = self._wait(deadline)
        seconds = time.perf_counter() - began
        self.collectors.note_waited(seconds, at_most=ASK_EVERY_S)
        at_rest, held_by = not self._learning.at_work, self.collectors.held_by
        # Where the lag holds collectors back, more of them would only wait too.
        if at_rest and held_by is None:
            self.collectors.load.waited_s += seconds
            self.counts.waited_for_steps_s += seconds
        elif at_rest:
            self.counts.waited_for_lag_s += seconds
        if self.pool is not None:
            self.pool.load.seconds += seconds
            self.pool.load.busy_s += seconds * self.pool.num_busy
            if at_rest and held_by == "pool":
                self.pool.load.waited_s += seconds
        return answered

    def _wait(self, deadline: float) -> set[str]:
        """Until any request is answered.

        Returns:
            The tags of what collectors have answered.
        """
        # A collector answers in order, so its oldest request is the one to look at.
        tags = self.collectors.next_answers()
        references = [*tags, *self._learning.open_answers]
        if self.pool is not None:
            references += under_way(self.pool.manager, "imagine")
        timeout = max(0.0, deadline - time.perf_counter())
        if references:
            ready = wait_for_any(references, timeout)
            return {tags[reference] for reference in ready if reference in tags}
        time.sleep(min(0.1, timeout))  # whoever is to answer is down, and being restarted
        return set()
