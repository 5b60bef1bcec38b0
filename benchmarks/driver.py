"""What the driver costs with many collectors: real flow and learner, collectors that only wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
from ray.rllib.utils.actor_manager import FaultTolerantActorManager
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune.registry import register_env

from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import REPEATS, Row, summarise
from benchmarks.waiting import ENV, make_waiting
from distributed.collector import Collected
from distributed.wire import to_arrow
from mnm import Transitions
from rllib_ext.config import ROUNDS_OF_LAG
from rllib_ext.sample_metrics import SampleMetrics

COUNTS = (8, 32, 128, 256, 512)
PROCESSES = 4  # that the collectors are packed in
REQUESTS_PER_S = 40.0  # of all collectors together: what then grows, grows with their number
STEPS = 10  # of a request
ITERATION = 500  # real steps of a call of `train()`
DRIVER, PYTHON, LEARNER, RAYLET = "driver", "driver's Python thread", "learner", "raylet"
PROCESS_NAMES = {"ray::_WrappedExecutable": LEARNER, "raylet": RAYLET}


class WaitingCollector:
    """Answers as a collector does whose environment takes a while: rows, metrics, no stepping.

    Args:
        first_s: seconds of the first request.
        request_s: of every other.
    """

    def __init__(self, first_s: float, request_s: float) -> None:
        self._next_s = first_s
        self._request_s = request_s
        self._at_work = asyncio.Lock()  # one request after the other
        self._metrics = SampleMetrics(MetricsLogger(root=False).stats_cls_lookup, window=1)
        self._collected = Collected(transitions(STEPS), [0.0], [STEPS])
        self._batch: pa.RecordBatch = to_arrow(self._collected.transitions)

    async def collect(
        self, policy: list[ray.ObjectRef], vector_steps: int, first_step: int
    ) -> tuple[list[ray.ObjectRef], int, Any]:
        """See `distributed.flow.CollectorProtocol`."""
        async with self._at_work:
            await policy[0]
            await asyncio.sleep(self._next_s)
            self._next_s = self._request_s
            self._metrics.add(self._collected)
            return [ray.put(self._batch)], STEPS, self._metrics.take()


class PackedCollectors:
    """Many collectors in one process."""

    def begin(self, delays: list[float], request_s: float) -> None:
        """Has as many of them as there are delays, and forgets those before.

        Args:
            delays: seconds of each one's first request.
            request_s: seconds of every other request.
        """
        self._collectors = [WaitingCollector(delay, request_s) for delay in delays]

    async def apply(self, place: int, func: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """What Ray's actor manager asks of an actor, for one of those packed here."""
        return await func(self._collectors[place], **arguments)


@dataclass(frozen=True)
class PackedHandle:
    """In the place of the handle of one collector's actor."""

    process: Any
    place: int

    @property
    def apply(self) -> PackedHandle:
        """Has `remote`, as a handle's method has."""
        return self

    def remote(self, func: Callable[..., Any], **arguments: Any) -> ray.ObjectRef:
        """Calls `func` with the collector."""
        return self.process.apply.remote(self.place, func, arguments)


@dataclass(frozen=True)
class Usage:
    """What was used and done until now.

    Attributes:
        seconds: processor time by part of the system.
        turns: of the learner.
        requests: answered by collectors.
    """

    seconds: Counter[str]
    turns: int
    requests: float

    @classmethod
    def now(cls, live: Live) -> Usage:
        """Of this process and its children."""
        seconds = Counter({DRIVER: time.process_time(), PYTHON: time.thread_time()})
        for process in psutil.Process().children(recursive=True):
            part = PROCESS_NAMES.get(process.name())
            if part is not None:
                times = process.cpu_times()
                seconds[part] += times.user + times.system
        report = live.algorithm.coordinator.latest
        assert report is not None
        return cls(seconds, report.version, report.env_steps / STEPS)


def transitions(rows: int) -> Transitions:
    """Of the task of `benchmarks.waiting`."""
    zeros = np.zeros((rows, 4), np.float32)
    never = np.zeros(rows, bool)
    return Transitions(
        observations=zeros,
        actions=np.zeros((rows, 1), np.float32),
        rewards=np.zeros(rows, np.float32),
        next_observations=zeros,
        terminateds=never,
        truncateds=never,
        episode_ids=np.zeros(rows, np.int64),
        steps=np.arange(rows),
    )


def live() -> Live:
    """sac with tiny networks and hardly an update, and one collector that is then not used."""
    return Live(
        live_config(
            ENV,
            Actors(collectors=1, learner=True),
            iteration=ITERATION,
            fragment=STEPS,
            algo="sac",
            hidden_sizes=(16, 16),
            batch_size=16,
            updates_to_data_ratio=0.01,
            num_random_steps=0,
            max_weight_lag=ROUNDS_OF_LAG * STEPS * COUNTS[-1],
        )
    )


def collect_by(live: Live, processes: list[Any], count: int, requests_per_s: float) -> None:
    """Has the algorithm collect by that many collectors, packed in these processes.

    Their answers come evenly spread over time.
    """
    handles = []
    for first, process in enumerate(processes):
        numbers = range(first, count, len(processes))
        delays = [(number + 1) / requests_per_s for number in numbers]
        ray.get(process.begin.remote(delays, count / requests_per_s))
        handles += [PackedHandle(process, place) for place in range(len(delays))]
    algorithm = live.algorithm
    algorithm.env_runner_group._worker_manager = FaultTolerantActorManager(
        handles, max_remote_requests_in_flight_per_actor=2, init_id=1
    )
    del algorithm.coordinator  # is made anew, with these collectors
    algorithm.coordinator.start()


@dataclass(frozen=True)
class Cost:
    """Of one window of training.

    Attributes:
        per_request: milliseconds of processor time by part.
        per_turn: milliseconds of the driver's.
        requests_per_s: answered.
    """

    per_request: dict[str, float]
    per_turn: float
    requests_per_s: float


def cost(live: Live, seconds: float) -> Cost:
    """Trains for about that long."""
    before = Usage.now(live)
    window = live.train_seconds(seconds)
    after = Usage.now(live)
    used = {part: 1000 * (after.seconds[part] - before.seconds[part]) for part in after.seconds}
    requests, turns = after.requests - before.requests, after.turns - before.turns
    return Cost(
        {part: milliseconds / requests for part, milliseconds in used.items()},
        used[DRIVER] / turns,
        requests / window.seconds,
    )


def request_row(name: str, figures: list[Cost], part: str) -> Row:
    """Of a part's processor time a request."""
    return summarise(
        f"{name}, processor time a request: {part}",
        "ms (less is better)",
        [figure.per_request[part] for figure in figures],
    )


def rows(quick: bool) -> list[Row]:
    """The driver's processor time by the number of collectors."""
    seconds, repeats = (1.0, 3) if quick else (2.0, REPEATS)
    counts = COUNTS[: 1 if quick else None]
    results = []
    with local_ray(num_cpus=4):
        register_env(ENV, make_waiting)  # in this Ray
        algorithm = live()
        actor = ray.remote(num_cpus=0, max_concurrency=8 * COUNTS[-1])(PackedCollectors)
        processes = [actor.remote() for _ in range(PROCESSES)]

        def costs(count: int, requests_per_s: float) -> list[Cost]:
            collect_by(algorithm, processes, count, requests_per_s)
            algorithm.train_steps(ITERATION)
            return [cost(algorithm, seconds) for _ in range(repeats)]

        for count in counts:
            figures = costs(count, REQUESTS_PER_S)
            name = f"driver: {count} collectors, {REQUESTS_PER_S:.0f} requests/s"
            results.append(request_row(name, figures, DRIVER))
            results.append(
                summarise(
                    f"{name}, processor time a turn: {DRIVER}",
                    "ms (less is better)",
                    [figure.per_turn for figure in figures],
                )
            )
            if count in (counts[0], counts[-1]):
                results += [request_row(name, figures, part) for part in (PYTHON, LEARNER, RAYLET)]
        for count in sorted({counts[0], counts[-1]}):
            figures = costs(count, math.inf)
            name = f"driver: {count} collectors, answered at once"
            results.append(
                summarise(name, "requests/s", [figure.requests_per_s for figure in figures])
            )
            results += [request_row(name, figures, part) for part in (DRIVER, PYTHON, LEARNER)]
    return results
