"""The pool of rollout workers: sends requests out, brings references back, redoes lost work."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from distributed.elasticity import ElasticActors, Load, forget_gone
from distributed.failure import FAILURES_IN_A_ROW, Failed, raise_if_none_returns
from distributed.rollout_worker import RolloutWorker
from mnm import Settings, TaskSpaces
from mnm.terminations import TerminationFunction

LONGEST_REQUEST_S = 600.0  # a worker that takes longer hangs, and is restarted


@dataclass(frozen=True)
class Imagined:
    """One answered request.

    Attributes:
        reference: to a record batch of imagined transitions.
        rows: in it.
        published_at: real steps the learner had ingested when it published the weights used.
        worker: that answered, in whose memory the batch lies.
    """

    reference: ray.ObjectRef
    rows: int
    published_at: int
    worker: int


@dataclass
class _Job:
    weights: tuple[ray.ObjectRef, ray.ObjectRef]
    request: ray.ObjectRef
    published_at: int
    sent_at: float = 0.0
    is_dropped: bool = False


def imagine(worker: RolloutWorker, **arguments: Any) -> Any:
    """Has a worker imagine; see `distributed.flow.collect`."""
    return worker.imagine(**arguments)


class RolloutPool:
    """`RolloutWorker` actors under Ray's fault-tolerant manager.

    Args:
        config: RLlib's algorithm config, handed to the workers; they are restarted as often as it
            allows an environment runner to be.
        size: number of workers that are reserved.
        spaces: of the task.
        settings: of the algorithm.
        termination: known termination of the task, or None.
        resources: of each worker, by Ray's names; with a GPU it imagines there. None: one CPU.
        bundles: of the current placement group, one for each reserved worker; None: there is none.
        max_size: number of workers that there may be; None: as many as are reserved.
    """

    def __init__(
        self,
        config: Any,
        size: int,
        spaces: TaskSpaces,
        settings: Settings,
        termination: TerminationFunction | None,
        resources: Mapping[str, float] | None = None,
        bundles: Sequence[int] | None = None,
        max_size: int | None = None,
    ) -> None:
        custom = {"CPU": 1.0} if resources is None else dict(resources)
        num_cpus, num_gpus = custom.pop("CPU", 0), custom.pop("GPU", 0)
        restarts = config.max_num_env_runner_restarts if config.restart_failed_env_runners else 0
        actor = ray.remote(
            num_cpus=num_cpus, num_gpus=num_gpus, resources=custom, max_restarts=restarts
        )(RolloutWorker)
        arguments = (config, spaces, settings, termination, "cuda" if num_gpus else "cpu")
        self.manager = FaultTolerantActorManager(
            [
                actor.options(placement_group_bundle_index=bundle).remote(*arguments)
                for bundle in ([-1] * size if bundles is None else bundles)
            ],
            max_remote_requests_in_flight_per_actor=1,
        )
        outside = actor.options(scheduling_strategy="DEFAULT", max_restarts=0)
        self.elastic = (
            ElasticActors(self.manager, lambda number: outside.remote(*arguments), max_size)
            if max_size is not None
            else None
        )
        self.load = Load()  # since the pool last adapted to it
        self.handed_over: Counter[int] = Counter()  # transitions, by worker that is here
        self._waiting: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}
        self._failures_in_a_row = 0
        self._deaths_in_a_row = 0

    @property
    def size(self) -> int:
        """Workers that requests are cut for."""
        return self.manager.num_actors() if self.elastic is None else self.elastic.num_serving

    @property
    def num_busy(self) -> int:
        """Workers with a request."""
        return len(self._running)

    @property
    def published_at(self) -> list[int]:
        """For every open request, the real steps at which its weights were published."""
        jobs = (*self._waiting, *self._running.values())
        return [job.published_at for job in jobs if not job.is_dropped]

    def submit(
        self,
        requests: list[ray.ObjectRef],
        weights: tuple[ray.ObjectRef, ray.ObjectRef],
        published_at: int,
    ) -> None:
        """Queues requests for the next free workers.

        Requests still waiting from before are dropped: the newer ones ask for the same thing with
        newer weights.
        """
        self.load.asked += len(requests)
        self.load.dropped += len(self._waiting)
        self._waiting = deque(_Job(weights, request, published_at) for request in requests)
        self.dispatch()

    def drop_all(self) -> None:
        """Drops all requests; the answers of those under way are ignored when they come."""
        self._waiting.clear()
        for job in self._running.values():
            job.is_dropped = True

    def dispatch(self) -> None:
        """Gives waiting requests to the workers that are free and healthy."""
        for index in self.manager.healthy_actor_ids():
            if not self._waiting:
                return
            if index in self._running or (self.elastic and index in self.elastic.retiring):
                continue
            job = self._waiting.popleft()
            sent = self.manager.foreach_actor_async(
                imagine,
                tag="imagine",
                kwargs={"weights": job.weights, "request": [job.request]},
                remote_actor_ids=[index],
            )
            if sent:
                job.sent_at = time.perf_counter()
                self._running[index] = job
            else:
                self._waiting.appendleft(job)

    def take(self) -> list[Imagined]:
        """The answers that have come in; a request whose worker died goes out again.

        Raises:
            RuntimeError: workers died again and again, with a request and without an answer.
            Exception: what the workers' own code raised again and again.
        """
        answers = []
        for result in self.manager.fetch_ready_async_reqs(tags="imagine"):
            job = self._running.pop(result.actor_id, None)
            if job is None or job.is_dropped:
                continue
            answer = result.get()
            if result.ok and not isinstance(answer, Failed):
                (reference,), rows = answer
                answers.append(Imagined(reference, rows, job.published_at, result.actor_id))
                self.handed_over[result.actor_id] += rows
                self._failures_in_a_row = self._deaths_in_a_row = 0
                continue
            self._waiting.appendleft(job)
            if isinstance(answer, Failed):
                self._failures_in_a_row += 1
                if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                    raise answer.error
            else:
                self._note_death()
        self.dispatch()
        return answers

    def _note_death(self) -> None:
        # One may die with every other at once, as when their node is lost: that is no row yet.
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= FAILURES_IN_A_ROW * self.manager.num_actors():
            raise RuntimeError(
                f"Rollout workers died {self._deaths_in_a_row} times without an answer between: "
                "see the log for what they died of, give them more memory or set "
                "num_rollout_workers=0 so that the learner imagines, and restore the last "
                "checkpoint."
            )

    def probe(self) -> int:
        """Brings restarted workers back into service; returns how many came back.

        Workers that hang are ended first: Ray starts them again, and their request goes out anew.

        Raises:
            RuntimeError: all are dead, and Ray restarts none of them.
        """
        now = time.perf_counter()
        for index, job in self._running.items():
            if now - job.sent_at > LONGEST_REQUEST_S:
                job.sent_at = now
                ray.kill(self.manager.actors()[index], no_restart=False)
        back = self.manager.probe_unhealthy_actors(timeout_seconds=0.1, mark_healthy=True)
        if not self.manager.num_healthy_actors() and not (self.elastic and self.elastic.may_grow):
            raise_if_none_returns("rollout workers", self.manager.actors().values())
        return len(back)

    def adapt(self, undelivered: set[int]) -> None:
        """Grows or shrinks as the load asks for.

        Args:
            undelivered: workers whose answers the learner does not have yet.
        """
        load, self.load = self.load, Load()
        if self.elastic is None:
            return
        self.elastic.adapt(load, undelivered | self._running.keys())
        for index in self._running.keys() - set(self.manager.actor_ids()):
            job = self._running.pop(index)
            if not job.is_dropped:
                self._waiting.appendleft(job)
        forget_gone(self.handed_over, self.manager)
        self.dispatch()

    def stop(self) -> None:
        """Ends the workers."""
        if self.elastic is not None:
            self.elastic.stop()
        self.manager.clear()
