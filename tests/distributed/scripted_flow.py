"""Collectors, learner and pool without processes, whose answers come in an order that tests script.

They answer the few methods of Ray's `FaultTolerantActorManager` that the coordinator calls.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayActorError

from distributed.coordinator import Coordinator
from distributed.elasticity import Load
from distributed.flow import Pace
from distributed.learner_core import TurnReport
from distributed.rollout_pool import RolloutPool


class ScriptOver(Exception):
    """Nothing more is scripted to happen."""


@dataclass
class Answer:
    """What a manager hands over for one request; Ray's has the same members."""

    actor_id: int
    value: Any
    tag: str = ""

    @property
    def ok(self) -> bool:
        return not isinstance(self.value, Exception)

    def get(self) -> Any:
        return self.value


@dataclass
class Request:
    """One request to one fake actor."""

    actor_id: int
    function: str
    arguments: dict[str, Any]
    tag: str


class ScriptedManager:
    """Keeps requests open until a test completes, fails or drops them.

    Args:
        ids: of the actors.
        on_request: is told of each request that goes out.
    """

    def __init__(
        self, ids: list[int], on_request: Callable[[Request], None] = lambda request: None
    ) -> None:
        self.ids = ids
        self.unhealthy: set[int] = set()
        self.vanished: set[str] = set()
        self.open: list[Request] = []
        self.asked: list[Request] = []
        self.on_request = on_request
        self._answers: list[Answer] = []
        self._in_flight_req_to_actor_id: dict[Any, Any] = {}

    def num_actors(self) -> int:
        return len(self.ids)

    def num_healthy_actors(self) -> int:
        return len(self.healthy_actor_ids())

    def actor_ids(self) -> list[int]:
        return list(self.ids)

    def actors(self) -> dict[int, int]:
        """In the place of handles, the numbers."""
        return {index: index for index in self.ids}

    def add_actors(self, actors: list[Any]) -> None:
        self.ids.extend(max(self.ids) + 1 + place for place in range(len(actors)))

    def remove_actor(self, index: int) -> int:
        self.ids.remove(index)
        self.unhealthy.discard(index)
        self.open = [request for request in self.open if request.actor_id != index]
        self._answers = [answer for answer in self._answers if answer.actor_id != index]
        return index

    def healthy_actor_ids(self) -> list[int]:
        return [index for index in self.ids if index not in self.unhealthy]

    def is_actor_healthy(self, index: int) -> bool:
        return index not in self.unhealthy

    def foreach_actor_async(
        self,
        func: str,
        tag: str,
        *,
        kwargs: dict[str, Any],
        remote_actor_ids: list[int] | None = None,
    ) -> int:
        sent = 0
        for index in remote_actor_ids or self.ids:
            if index in self.unhealthy:
                continue
            request = Request(index, func, kwargs, tag)
            self.open.append(request)
            self.asked.append(request)
            self.on_request(request)
            sent += 1
        return sent

    def answered(self) -> set[str]:
        """Tags of the answers that nobody has fetched yet; a dropped one's is an error."""
        vanished, self.vanished = self.vanished, set()
        return vanished | {answer.tag for answer in self._answers}

    def fetch_ready_async_reqs(self, *, tags: str | list[str]) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def probe_unhealthy_actors(self, **options: Any) -> list[int]:
        back, self.unhealthy = sorted(self.unhealthy), set()
        return back

    def complete(self, request: Request, value: Any) -> None:
        """Answers an open request; an error takes the actor out of service, as Ray's does."""
        self.open.remove(request)
        self._answers.append(Answer(request.actor_id, value, request.tag))
        if isinstance(value, Exception):
            self.unhealthy.add(request.actor_id)

    def die(self, index: int) -> None:
        """The actor dies: its open requests end in an error."""
        for request in [open_one for open_one in self.open if open_one.actor_id == index]:
            self.complete(request, RayActorError())
        self.unhealthy.add(index)

    def drop(self, index: int) -> None:
        """Another caller notices the death first: the open requests vanish without an answer."""
        self.vanished |= {request.tag for request in self.open if request.actor_id == index}
        self.open = [request for request in self.open if request.actor_id != index]
        self.unhealthy.add(index)


class ScriptedRule:
    """In the place of `SizeRule`: says what a test wants."""

    def __init__(self) -> None:
        self.change = 0

    def forget(self) -> None:
        pass

    def decide(self, load: Load, serving: int, pending: int) -> int:
        change, self.change = self.change, 0
        if change > 0:
            return int(pending == 0 and serving < 3)
        return change if serving + pending > 1 else 0


@dataclass
class Flow:
    """A coordinator with scripted actors, and a book kept beside it.

    Args:
        num_collectors: of the collectors.
        num_workers: of the pool; 0: none.
        steps: real steps per request.
        num_random_steps: see `Pace`.
        max_weight_lag: see `Pace`.
        advance: is called with this flow whenever the coordinator waits; lets something happen.
        rollouts_every: real steps between two rollout requests.
    """

    num_collectors: int = 2
    num_workers: int = 0
    steps: int = 10
    num_random_steps: int = 0
    max_weight_lag: int = 100
    advance: Callable[[Flow], None] = lambda flow: None
    rollouts_every: int = 30
    rows: dict[str, int] = field(default_factory=dict)  # of each batch handed over
    returned: int = 0  # real steps of all requests answered
    ingested: int = 0  # real steps the learner has
    lost: int = 0  # batches the learner could not fetch
    lose: Callable[[str], bool] = lambda reference: False
    version: int = 0
    published: dict[str, int] = field(default_factory=dict)  # policy -> real steps it was made at
    batches_of_turns: list[list[str]] = field(default_factory=list)
    synthetic_of_turns: list[list[str]] = field(default_factory=list)
    metrics_seen: list[str] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)  # of all weights when their answer came in
    waits: int = 0
    longest_wait: float = 0.0  # seconds that a wait might have taken

    def __post_init__(self) -> None:
        self.collectors = ScriptedManager(list(range(1, self.num_collectors + 1)))
        self.learner = ScriptedManager([0])
        self.learner.foreach_actor = self._start  # type: ignore[attr-defined]
        self.workers = ScriptedManager(list(range(self.num_workers)))
        self._next_rollout = max(self.num_random_steps, 1)
        pace = Pace(self.steps, self.steps, self.num_random_steps, self.max_weight_lag)
        self.coordinator = ScriptedCoordinator(
            self.collectors,
            None,
            self.learner,
            None,
            ScriptedPool(self.workers) if self.num_workers else None,
            pace,
            self.metrics_seen.extend,
        )
        self.coordinator.flow = self
        self.coordinator.start()

    @property
    def steps_open(self) -> int:
        """Real steps that open requests may still bring."""
        return self.steps * len(self.collectors.open)

    def waiting(self) -> list[str]:
        """Batches that have come in and the learner has not been given."""
        given = {reference for turn in self.batches_of_turns for reference in turn}
        asked = {ref for request in self.learner.open for ref in request.arguments["real"]}
        return [reference for reference in self.rows if reference not in given | asked]

    def open_events(self) -> list[tuple[str, Request]]:
        """Everything that could come in next: an actor answers its requests in their order."""
        oldest: dict[int, Request] = {}
        for request in self.collectors.open:
            oldest.setdefault(request.actor_id, request)
        return [
            *(("collect", request) for request in oldest.values()),
            *(("turn", request) for request in self.learner.open),
            *(("imagine", request) for request in self.workers.open),
        ]

    def happen(self, kind: str, request: Request, steps: int | None = None) -> None:
        """Answers one open request as its actor would."""
        if kind == "collect":
            self.finish_collect(request, self.steps if steps is None else steps)
        elif kind == "turn":
            self.finish_turn(request)
        else:
            self.ages.append(self.returned + self.steps_open - request.arguments["weights"][2])
            self.workers.complete(request, ([f"imagined-{request.actor_id}-{len(self.ages)}"], 5))

    def finish_collect(self, request: Request, steps: int) -> None:
        policy = request.arguments["policy"]
        if policy is not None:
            self.ages.append(self.returned + self.steps_open - self.published[policy[0]])
        self.returned += steps
        reference = f"batch-{request.actor_id}-{len(self.rows)}"
        self.rows[reference] = steps
        self.collectors.complete(request, ([reference], steps, reference))

    def finish_turn(self, request: Request) -> None:
        self.learner.complete(request, self.report(**request.arguments))

    def report(
        self, real: list[str], synthetic: list[str], rollout_parts: int | None = None
    ) -> TurnReport:
        """What the learner says after a turn."""
        self.batches_of_turns.append(real)
        self.synthetic_of_turns.append(synthetic)
        lost = [position for position, reference in enumerate(real) if self.lose(reference)]
        kept = [reference for reference in real if not self.lose(reference)]
        self.lost += len(lost)
        self.ingested += sum(self.rows[reference] for reference in kept)
        self.version += 1
        policy = f"policy-{self.version}"
        self.published[policy] = self.ingested
        requests: list[Any] = []
        if self.num_workers and self.ingested >= self._next_rollout:
            self._next_rollout = self.ingested + self.rollouts_every
            parts = rollout_parts or self.num_workers
            requests = [f"request-{self.version}-{part}" for part in range(parts)]
        return TurnReport(
            version=self.version,
            env_steps=self.ingested,
            updates=self.ingested,
            synthetic_transitions=0,
            lost_real=lost,
            policy=policy,
            model=f"model-{self.version}" if requests else None,
            rollout_requests=requests,
            statistics={},
        )

    def run(self, turns: int) -> int:
        """Lets the coordinator turn; returns how many reports came before the script was over."""
        reports = 0
        try:
            for _ in range(turns):
                reports += self.coordinator.turn() is not None
                self.coordinator.adapt()
        except ScriptOver:
            pass
        return reports

    def _start(self, func: str, kwargs: dict[str, Any]) -> list[Answer]:
        return [Answer(0, self.report(**kwargs)) for _ in self.learner.healthy_actor_ids()]


class ScriptedPool(RolloutPool):
    """The pool itself, on a scripted manager."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.elastic = None
        self.load = Load()
        self.handed_over = Counter()
        self._waiting = deque()
        self._running = {}
        self._failures_in_a_row = 0
        self._deaths_in_a_row = 0

    def submit(self, requests: Any, weights: Any, published_at: int) -> None:
        # The book needs the age of the weights: it travels beside them.
        super().submit(requests, (*weights, published_at), published_at)


class ScriptedCoordinator(Coordinator):
    """A coordinator whose waiting lets the script go on."""

    flow: Flow

    def _wait(self, deadline: float) -> set[str]:
        self.flow.waits += 1
        self.flow.longest_wait = max(self.flow.longest_wait, deadline - time.perf_counter())
        self.flow.advance(self.flow)
        return self.flow.collectors.answered()


def everything_at_once(flow: Flow) -> None:
    """All open requests are answered at each wait."""
    for kind, request in flow.open_events():
        flow.happen(kind, request)


def slow_learner(turns_of_waiting: int) -> Any:
    """Collectors and workers answer at once, the learner only at every so many waits."""

    def advance(flow: Flow) -> None:
        for kind, request in flow.open_events():
            if kind != "turn" or flow.waits % turns_of_waiting == 0:
                flow.happen(kind, request)

    return advance
