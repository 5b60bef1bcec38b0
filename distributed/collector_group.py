"""The collectors: sends requests out within the weight lag, takes batches in, counts the lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import KeysView, Sequence
from typing import Any

import ray
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.collector_watch import CollectorWatch
from distributed.elasticity import ElasticActors, Load, forget_gone
from distributed.failure import FAILURES_IN_A_ROW, Failed
from distributed.flow import (
    CollectorProtocol,
    FlowCounts,
    Pace,
    WaitingBatch,
    collect,
    is_under_way,
    newest_reference,
)
from distributed.learner_core import TurnReport
from distributed.open_requests import OpenRequest, OpenRequests

COLLECT = "collect-"  # with the request's number: the tag of its answer
REQUESTS_PER_COLLECTOR = 2  # open at once, so that none waits for the driver between two


class CollectorGroup:
    """The collectors as the coordinator sees them, actors or one in this process.

    Args:
        manager: of the remote collectors; with none, `local` steps in this process.
        local: used if there are no remote ones.
        pace: see `Pace`.
        counts: of the flow; requests, answers and what is lost are added to them.
        elastic: the collectors beside those reserved; None: there are never any.

    Attributes:
        waiting: batches that the learner does not have yet.
        held_by: whose old weights keep collectors without a request from having one, "collectors"
            or "pool"; None: nobody's.
        load: since the group last adapted to it.
        handed_over: real transitions, by collector that is here.
    """

    def __init__(
        self,
        manager: FaultTolerantActorManager,
        local: CollectorProtocol | None,
        pace: Pace,
        counts: FlowCounts,
        elastic: ElasticActors | None,
    ) -> None:
        self.manager = manager
        self.pace = pace
        self.elastic = elastic
        self.waiting: list[WaitingBatch] = []
        self.held_by: str | None = None
        self.load = Load()
        self.handed_over: Counter[int] = Counter()
        self._local = local
        self._counts = counts
        self._open = OpenRequests()
        self._requests = 0
        self._watch = CollectorWatch(manager)
        self._failures_in_a_row = 0

    @property
    def at_work(self) -> KeysView[int]:
        """Collectors with a request."""
        return self._open.collectors

    @property
    def num_open(self) -> int:
        """Requests that are not answered."""
        return len(self._open)

    @property
    def steps_open(self) -> int:
        """Real steps that these may bring."""
        return self._open.steps

    def next_answers(self) -> dict[ray.ObjectRef, str]:
        """What to wait for: of each collector at work the answer that comes first, with its tag."""
        return self._open.next_answers()

    def begin_anew(self) -> None:
        """Drops the batches that wait; the answers still open are taken, as of random actions."""
        self.waiting = []
        self._open.forget_weights()  # their age counts from steps that are no longer these

    def take_waiting(self) -> list[WaitingBatch]:
        """The batches for the learner, which wait no longer."""
        batches, self.waiting = self.waiting, []
        return batches

    def request_steps(
        self, published: TurnReport, imagining: Sequence[int], learner_is_at_work: bool
    ) -> None:
        """Asks whoever is free for steps, as far as the weight lag allows.

        Args:
            published: the learner's latest report, with the weights to act by.
            imagining: for every open request of the pool, the real steps at which its weights were
                published.
            learner_is_at_work: whether a collector in this process has to wait for it.

        Raises:
            RuntimeError: all collectors are dead for good.
            Exception: what the code of one in this process raised.
        """
        self.held_by = None
        if self.manager.num_actors() == 0:
            if not self.waiting and not learner_is_at_work:
                self._step_here(published, imagining)
            return
        healthy = self.manager.healthy_actor_ids()
        if not healthy:
            self._watch.check_that_some_return(self.elastic)
        # Ray's manager drops the requests of a collector that it finds dead: no answer will come.
        for collector in self._open.collectors - set(healthy):
            self._give_up(collector)
        # A collector whose batch still waits for the learner is left: more would only grow old.
        waiting = {batch.collector for batch in self.waiting}
        retiring = set() if self.elastic is None else self.elastic.retiring
        for place in range(REQUESTS_PER_COLLECTOR):  # a first request for each before a second
            for index in self._open.with_at_most(place, healthy):
                if index in waiting or index in retiring:
                    continue
                opened, arguments = self._next_request(published)
                opened.collector = index
                held_by = self._held_by(opened, imagining)
                if held_by is not None:
                    if place == 0:
                        self.held_by = held_by
                    return
                self._send(opened, arguments)

    def _step_here(self, published: TurnReport, imagining: Sequence[int]) -> None:
        """Makes the steps of one request in this process."""
        assert self._local is not None
        opened, arguments = self._next_request(published)
        self.held_by = self._held_by(opened, imagining)
        if self.held_by is not None:
            return
        answer = self._local.collect(**arguments)
        if isinstance(answer, Failed):
            raise answer.error
        (reference,), steps, metrics = answer
        self._counts.steps_requested += steps
        self._take_batch(opened, WaitingBatch(0, reference, steps, metrics))

    def _send(self, opened: OpenRequest, arguments: dict[str, Any]) -> None:
        tag, index = f"{COLLECT}{self._requests}", opened.collector
        if self.manager.foreach_actor_async(
            collect, tag=tag, kwargs=arguments, remote_actor_ids=[index]
        ):
            self._requests += 1
            if index not in self._open.collectors:
                self._watch.begins(index)
            opened.reference = newest_reference(self.manager)
            self._open.add(tag, opened)
            self._counts.steps_requested += opened.steps

    def _next_request(self, published: TurnReport) -> tuple[OpenRequest, dict[str, Any]]:
        steps = self.pace.steps_per_request
        begun = self._counts.steps_returned + self.steps_open
        arguments: dict[str, Any] = {
            "vector_steps": self.pace.vector_steps,
            "first_step": begun,
        }
        if begun < self.pace.num_random_steps:
            return OpenRequest(None, steps), {**arguments, "policy": None}
        return OpenRequest(published.env_steps, steps), {**arguments, "policy": [published.policy]}

    def _held_by(self, opened: OpenRequest, imagining: Sequence[int]) -> str | None:
        """Whose weights would exceed the lag if this request went out too; None: nobody's."""
        pool, collecting = min(imagining, default=None), self._open.oldest_weights
        oldest = [at for at in (pool, collecting, opened.published_at) if at is not None]
        steps_then = self._counts.steps_returned + self.steps_open + opened.steps
        if not oldest or steps_then - min(oldest) <= self.pace.max_weight_lag:
            return None
        is_pool = pool is not None and (collecting is None or pool < collecting)
        return "pool" if is_pool else "collectors"

    def take(self, answered: set[str]) -> None:
        """Takes in the answers under these tags.

        Raises:
            Exception: what the collectors' own code raised again and again.
        """
        if not answered:
            return
        for result in self.manager.fetch_ready_async_reqs(tags=list(answered)):
            if result.tag not in self._open:
                continue  # given up with its collector just now
            if not result.ok:
                self._give_up(result.actor_id)
                continue
            opened, answer = self._open.pop(result.tag), result.get()
            self._watch.begins(opened.collector)
            if isinstance(answer, Failed):  # the collector lives, and answers its other request
                self._counts.worker_failures += 1
                self._counts.steps_lost += opened.steps
                self._failures_in_a_row += 1
                if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                    raise answer.error
                continue
            (reference,), steps, metrics = answer
            self._counts.steps_requested -= opened.steps - steps
            self._take_batch(opened, WaitingBatch(result.actor_id, reference, steps, metrics))
            self._failures_in_a_row = 0
        for tag in answered:  # the manager has dropped it, and its collector is back already
            if tag in self._open and not is_under_way(self.manager, self._open[tag].reference):
                self._give_up(self._open[tag].collector)

    def _take_batch(self, opened: OpenRequest, batch: WaitingBatch) -> None:
        self._counts.steps_returned += batch.steps
        if opened.published_at is not None:
            self._counts.note_lag(opened.published_at)
        self.waiting.append(batch)
        self.handed_over[batch.collector] += batch.steps

    def _give_up(self, collector: int) -> None:
        """Counts a failure, and as lost what the collector still had to do."""
        self._counts.worker_failures += 1
        self._counts.steps_lost += sum(opened.steps for opened in self._open.pop_all_of(collector))

    def note_waited(self, seconds: float, at_most: float) -> None:
        """Notes that the driver waited for answers.

        Args:
            seconds: that it waited.
            at_most: of these as are held against a collector: the driver itself may be stopped.
        """
        self._watch.note_waited(min(seconds, at_most))
        self.load.seconds += seconds
        self.load.busy_s += seconds * len(self.at_work)

    def restart_hanging(self) -> None:
        """Ends those that take too long, once the answers that are there have been taken."""
        self._watch.restart_hanging(self.at_work, self.pace.request_timeout_s)

    def adapt(self, undelivered: set[int]) -> None:
        """Grows or shrinks as the load asks for.

        Args:
            undelivered: collectors whose batches the learner is at now.
        """
        load, self.load = self.load, Load()
        if self.elastic is not None:
            waiting = {batch.collector for batch in self.waiting}
            self.elastic.adapt(load, self.at_work | waiting | undelivered)
            forget_gone(self.handed_over, self.manager)

    def stop(self) -> None:
        """Ends those beside the reserved ones, which are RLlib's own to end."""
        if self.elastic is not None:
            self.elastic.stop()
