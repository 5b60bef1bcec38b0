"""The driver's side of the wheel: who is asked for what and when, by references and counts only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.collector_watch import CollectorWatch
from distributed.elasticity import ElasticActors, Load, count_actors
from distributed.failure import FAILURES_IN_A_ROW, PROBE_EVERY_S, Failed, Seldom
from distributed.flow import (
    CollectorProtocol,
    FlowCounts,
    LearnerProtocol,
    Pace,
    WaitingBatch,
    collect,
    is_under_way,
    newest_reference,
    under_way,
    wait_for_any,
)
from distributed.learner_core import TurnReport
from distributed.learner_turns import LearnerTurns
from distributed.open_requests import OpenRequest, OpenRequests
from distributed.rollout_pool import Imagined, RolloutPool

COLLECT = "collect-"  # with the request's number: the tag of its answer
REQUESTS_PER_COLLECTOR = 2  # open at once, so that none waits for the driver between two
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
        self.collectors = collectors
        self.local_collector = local_collector
        self.learner = learner
        self.pool = pool
        self.pace = pace
        self.on_batches = on_batches
        self.elastic = elastic
        self.should_stop = should_stop
        self.counts = FlowCounts()
        self.latest: TurnReport | None = None
        self._open = OpenRequests()
        self._requests = 0
        self._watch = CollectorWatch(collectors)
        self._collected: list[WaitingBatch] = []
        self._imagined: list[Imagined] = []
        self._learning = LearnerTurns(learner, local_learner)
        self._load = Load()  # of the collectors, since they last were adapted to it
        self._held_by: str | None = None  # what keeps collectors without a request from having one
        self._failures_in_a_row = 0
        self._is_time_to_probe = Seldom(PROBE_EVERY_S)
        self._waited = (0, 0)  # batches, real and imagined, when the learner last came free
        self.handed_over: Counter[tuple[str, int]] = Counter()  # rows, by role and worker here

    def restore_counts(self, counts: dict[str, Any]) -> None:
        """Goes on counting from a checkpoint's counts, by their names; `start` balances them."""
        self.counts = FlowCounts(**counts)

    def start(self) -> TurnReport:
        """Begins with the learner's present weights, new or restored.

        Batches that still wait, and what the pool imagines, are dropped: they belong to what was
        there before a restore. Collectors' steps in between are real ones, and are taken.

        Raises:
            RuntimeError: the learner's process is gone.
        """
        self._collected, self._imagined = [], []
        self._open.forget_weights()  # their age counts from steps that are no longer these
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
        counts.steps_requested = report.env_steps + counts.steps_lost + self._steps_open()
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
                self._take_collected(self._wait_and_note(until))
                # Those whose answers were there are not at work any more, however late it is.
                self._watch.restart_hanging(self._open.collectors, self.pace.request_timeout_s)
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
            self._take_collected(self._wait(time.perf_counter() + LONGEST_WAIT_S))
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
        load, self._load = self._load, Load()
        if self.elastic is not None:
            batches = (*self._collected, *self._learning.real)
            batches_of = {batch.collector for batch in batches}
            self.elastic.adapt(load, self._open.collectors | batches_of)
        if self.pool is not None:
            answers = (*self._imagined, *self._learning.imagined)
            self.pool.adapt({answer.worker for answer in answers})
        # Who has left would stay among the workers that are shown, at no transitions a second.
        present = {("collector", number) for number in self.collectors.actor_ids() or [0]}
        if self.pool is not None:
            present |= {("rollout_worker", number) for number in self.pool.manager.actor_ids()}
        for gone in self.handed_over.keys() - present:
            del self.handed_over[gone]

    def actor_counts(self) -> dict[str, int]:
        """Actors that work now, and those that were asked for and do not run yet."""
        workers, elastic = (self.pool.manager, self.pool.elastic) if self.pool else (None, None)
        return {
            **count_actors("collectors", self.collectors, self.elastic),
            **count_actors("rollout_workers", workers, elastic),
        }

    def queue_lengths(self) -> dict[str, int]:
        """See `mnm_queue_length` in `distributed.telemetry`."""
        collected, imagined = self._waited
        return {
            "queue_collected": collected,
            "queue_imagined": imagined,
            "queue_collect_requests": len(self._open),
            "queue_rollout_requests": 0 if self.pool is None else len(self.pool.published_at),
        }

    # Collectors

    def _request_steps(self) -> None:
        self._held_by = None
        if self.collectors.num_actors() == 0:
            # In this process: one batch at a time, and none while the learner is at work.
            if not self._collected and not self._learning.at_work:
                assert self.local_collector is not None
                opened, arguments = self._next_request()
                if not self._within_lag(opened):
                    self._held_by = self._oldest_weights_user()
                    return
                answer = self.local_collector.collect(**arguments)
                if isinstance(answer, Failed):
                    raise answer.error
                (reference,), steps, metrics = answer
                self.counts.steps_requested += steps
                self._take_batch(opened, WaitingBatch(0, reference, steps, metrics))
            return
        healthy = self.collectors.healthy_actor_ids()
        if not healthy:
            self._watch.check_that_some_return(self.elastic)
        # Ray's manager drops the requests of a collector that it finds dead: no answer will come.
        for collector in self._open.collectors - set(healthy):
            self._give_up(collector)
        # A collector whose batch still waits for the learner is left: more would only grow old.
        waiting = {batch.collector for batch in self._collected}
        retiring = set() if self.elastic is None else self.elastic.retiring
        for place in range(REQUESTS_PER_COLLECTOR):  # a first request for each before a second
            for index in self._open.with_at_most(place, healthy):
                if index in waiting or index in retiring:
                    continue
                opened, arguments = self._next_request()
                opened.collector = index
                if not self._within_lag(opened):
                    if place == 0:
                        self._held_by = self._oldest_weights_user()
                    return
                tag = f"{COLLECT}{self._requests}"
                if self.collectors.foreach_actor_async(
                    collect, tag=tag, kwargs=arguments, remote_actor_ids=[index]
                ):
                    self._requests += 1
                    if index not in self._open.collectors:
                        self._watch.begins(index)
                    opened.reference = newest_reference(self.collectors)
                    self._open.add(tag, opened)
                    self.counts.steps_requested += opened.steps

    def _give_up(self, collector: int) -> None:
        """Counts a failure, and as lost what the collector still had to do."""
        self.counts.worker_failures += 1
        self.counts.steps_lost += sum(opened.steps for opened in self._open.pop_all_of(collector))

    def _next_request(self) -> tuple[OpenRequest, dict[str, Any]]:
        assert self.latest is not None
        steps = self.pace.steps_per_request
        begun = self.counts.steps_returned + self._steps_open()
        arguments: dict[str, Any] = {
            "vector_steps": self.pace.vector_steps,
            "first_step": begun,
        }
        if begun < self.pace.num_random_steps:
            return OpenRequest(None, steps), {**arguments, "policy": None}
        return OpenRequest(self.latest.env_steps, steps), {
            **arguments,
            "policy": [self.latest.policy],
        }

    def _within_lag(self, opened: OpenRequest) -> bool:
        """Whether every open request would still be within the lag if this one went out too."""
        published = [] if self.pool is None else self.pool.published_at
        in_use = (self._open.oldest_weights, opened.published_at)
        published += [published_at for published_at in in_use if published_at is not None]
        if not published:
            return True
        steps_then = self.counts.steps_returned + self._steps_open() + opened.steps
        return steps_then - min(published) <= self.pace.max_weight_lag

    def _oldest_weights_user(self) -> str:
        imagining = min(self.pool.published_at, default=None) if self.pool is not None else None
        collecting = self._open.oldest_weights
        if imagining is not None and (collecting is None or imagining < collecting):
            return "pool"
        return "collectors"

    def _steps_open(self) -> int:
        return self._open.steps

    def _take_collected(self, answered: set[str]) -> None:
        """Takes in the answers under these tags."""
        if not answered:
            return
        for result in self.collectors.fetch_ready_async_reqs(tags=list(answered)):
            if result.tag not in self._open:
                continue  # given up with its collector just now
            if not result.ok:
                self._give_up(result.actor_id)
                continue
            opened, answer = self._open.pop(result.tag), result.get()
            self._watch.begins(opened.collector)
            if isinstance(answer, Failed):  # the collector lives, and answers its other request
                self.counts.worker_failures += 1
                self.counts.steps_lost += opened.steps
                self._failures_in_a_row += 1
                if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                    raise answer.error
                continue
            (reference,), steps, metrics = answer
            self.counts.steps_requested -= opened.steps - steps
            self._take_batch(opened, WaitingBatch(result.actor_id, reference, steps, metrics))
            self._failures_in_a_row = 0
        for tag in answered:  # the manager has dropped it, and its collector is back already
            if tag in self._open and not is_under_way(self.collectors, self._open[tag].reference):
                self._give_up(self._open[tag].collector)

    def _take_batch(self, opened: OpenRequest, batch: WaitingBatch) -> None:
        self.counts.steps_returned += batch.steps
        if opened.published_at is not None:
            self._note_lag(opened.published_at)
        self._collected.append(batch)
        self.handed_over["collector", batch.collector] += batch.steps

    def _note_lag(self, published_at: int) -> None:
        lag = self.counts.steps_returned - published_at
        self.counts.weight_lag = max(self.counts.weight_lag, lag)
        self.counts.weight_lag_max = max(self.counts.weight_lag_max, lag)

    # Learner

    def _learn(self) -> TurnReport | None:
        """Gives the learner what has come in, if it is free; its report if it is in-process."""
        self._learning.check()
        if self._learning.at_work or not (self._collected or self._imagined):
            return None
        batches, imagined = self._collected, self._imagined
        self._collected, self._imagined = [], []
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
            self._note_lag(answer.published_at)
            self._imagined.append(answer)
            self.handed_over["rollout_worker", answer.worker] += answer.rows

    def _wait_and_note(self, deadline: float) -> set[str]:
        """Waits, and notes who was at work meanwhile and whom the learner waited for."""
        began = time.perf_counter()
        answered = self._wait(deadline)
        seconds = time.perf_counter() - began
        self._watch.note_waited(min(seconds, ASK_EVERY_S))  # the process itself may be stopped
        at_rest = not self._learning.at_work
        self._load.seconds += seconds
        self._load.busy_s += seconds * len(self._open.collectors)
        # Where the lag holds collectors back, more of them would only wait too.
        if at_rest and self._held_by is None:
            self._load.waited_s += seconds
            self.counts.waited_for_steps_s += seconds
        elif at_rest:
            self.counts.waited_for_lag_s += seconds
        if self.pool is not None:
            self.pool.load.seconds += seconds
            self.pool.load.busy_s += seconds * self.pool.num_busy
            if at_rest and self._held_by == "pool":
                self.pool.load.waited_s += seconds
        return answered

    def _wait(self, deadline: float) -> set[str]:
        """Until any request is answered.

        Returns:
            The tags of what collectors have answered.
        """
        # A collector answers in order, so its oldest request is the one to look at.
        tags = self._open.next_answers()
        references = [*tags, *self._learning.open_answers]
        if self.pool is not None:
            references += under_way(self.pool.manager, "imagine")
        timeout = max(0.0, deadline - time.perf_counter())
        if references:
            ready = wait_for_any(references, timeout)
            return {tags[reference] for reference in ready if reference in tags}
        time.sleep(min(0.1, timeout))  # whoever is to answer is down, and being restarted
        return set()
