"""The learner: turns references into joint updates and publishes weights, whoever calls it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import ObjectLostError, OwnerDiedError

from distributed.gpu_use import GpuUse
from distributed.offline_data import OfflineData
from distributed.transition_log import TransitionLog
from distributed.wire import from_arrow
from mnm import Agent, DataRefused, RolloutRequest
from mnm.offline_training import train_offline
from mnm.policy import numpy_weights


@dataclass(frozen=True)
class TurnReport:
    """A few hundred bytes about one turn of the learner; the weights travel as references.

    Attributes:
        version: of the weights published, rising by one a turn.
        env_steps: real transitions ingested in all.
        updates: joint updates made in all.
        synthetic_transitions: imagined transitions ingested in all.
        offline_transitions: transitions taken from files in all.
        offline_updates: joint updates made beside the ratio in all.
        lost_real: positions in this turn's list of real batches that could not be fetched, their
            maker having died.
        policy: reference to the policy's weights.
        model: reference to the dynamics' weights; None where nobody has to imagine.
        rollout_requests: references to `RolloutRequest`s for the pool.
        statistics: means over this turn's updates, and of its model fit.
        seconds: spent on ingesting, fitting, imagining, updating and publishing; what was done on
            offline data since the turn before is in, all of their training as updating.
        idle_s: the other seconds between the end of the turn before and the start of this one.
        figures: sizes of the replays and use of the GPU, by their names in `distributed.telemetry`.
    """

    version: int
    env_steps: int
    updates: int
    synthetic_transitions: int
    lost_real: list[int]
    policy: ray.ObjectRef
    model: ray.ObjectRef | None
    rollout_requests: list[ray.ObjectRef]
    statistics: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    idle_s: float = 0.0
    offline_transitions: int = 0
    offline_updates: int = 0
    figures: dict[str, float] = field(default_factory=dict)


class LearnerCore:
    """Owns the agent; one call per turn does everything between ingesting and publishing.

    Args:
        agent: what learns.
        num_rollout_workers: into how many parts a rollout request is cut, unless a turn says
            otherwise; 0: imagine inline.
        should_stop: asked while updates are made; on True the turn ends with some still due, which
            the next one makes.
    """

    def __init__(
        self,
        agent: Agent,
        num_rollout_workers: int = 0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.agent = agent
        self.num_rollout_workers = num_rollout_workers
        self.should_stop = should_stop
        self.version = 0
        self._ended_at = time.perf_counter()
        self._idle_s = 0.0  # until work between turns, since the last one
        self._seconds_between: defaultdict[str, float] = defaultdict(float)  # of that work, by part
        self.log: TransitionLog | None = None
        self._gpu_use = GpuUse(agent.device)

    def log_transitions(self, folder: str, run: str, rows_per_part: int) -> None:
        """Logs every real transition from now on; see `TransitionLog`."""
        self.log = TransitionLog(folder, run, rows_per_part)

    def ingest_offline(self, paths: Sequence[str]) -> list[str]:
        """Takes in the transitions at these paths, or none of them if one file is bad.

        Returns:
            A sentence for each file that was passed over, and one if the replay is too small.

        Raises:
            DataRefused: see `distributed.offline_data`.
        """
        agent = self.agent
        try:
            with self._work_between_turns("ingest"):
                data = OfflineData(paths, agent.spaces)
                data.check(agent.check_offline)
                for batch in data.batches():
                    agent.ingest_offline(batch)
        except ValueError as error:  # read before a run's first step, so there is none to save
            raise DataRefused(str(error)) from None
        warnings = data.warnings
        if data.rows > agent.replay.capacity:
            warnings.append(
                f"The offline data hold {data.rows} transitions, of which replay_capacity keeps "
                f"the last {agent.replay.capacity}."
            )
        return warnings

    def train_offline(self, updates: int) -> dict[str, float]:
        """Makes joint updates on what the replay holds; see `mnm.offline_training`."""
        if not updates:
            return {}
        with self._work_between_turns("update"):
            return train_offline(self.agent, updates, self.should_stop)

    def resume_log(self, state: Mapping[str, str] | str | None) -> None:
        """Goes on with the log after a restore; `state` is that of the checkpoint's log."""
        if self.log is not None:
            self.log.resume(state, self.agent.env_steps)

    def flush_log(self) -> None:
        """Waits until all logged transitions are on the disk."""
        if self.log is not None:
            self.log.flush()

    def close_log(self) -> None:
        """Writes what is left and ends the log."""
        if self.log is not None:
            self.log.close()

    @property
    def log_partition(self) -> dict[str, str] | None:
        """The partition that is logged to and its run, once it has rows; see `TransitionLog`."""
        return self.log.state if self.log is not None else None

    def turn(
        self,
        real: list[ray.ObjectRef],
        synthetic: list[ray.ObjectRef],
        rollout_parts: int | None = None,
    ) -> TurnReport:
        """Ingests, fits and imagines what is due, makes the updates that are due, publishes.

        Args:
            real: references to record batches of real transitions.
            synthetic: references to record batches of imagined transitions.
            rollout_parts: into how many parts a rollout request is cut from now on.

        Raises:
            DataRefused: the environment gave values that cannot be learned from.
        """
        if rollout_parts is not None:
            self.num_rollout_workers = rollout_parts
        clock = _Clock()
        idle = self._idle_s + clock.start - self._ended_at
        agent = self.agent
        lost_real = self._ingest_real(real)
        # Of these, what died with its worker is not missed: there are new ones soon.
        _ingest(synthetic, lambda batch: agent.ingest_synthetic(from_arrow(batch)))
        clock.lap("ingest")
        statistics = agent.fit_if_due()
        clock.lap("fit")
        request = agent.rollout_request()
        requests: list[ray.ObjectRef] = []
        if request is not None:
            if self.num_rollout_workers:
                parts = cut_rollout_request(request, self.num_rollout_workers)
                requests = [ray.put(part) for part in parts]
            else:
                agent.ingest_synthetic(agent.imagine(request))
        clock.lap("imagine")
        statistics.update(agent.update_if_due(self.should_stop))
        clock.lap("update")
        report = self.publish(with_model=bool(requests))
        clock.lap("publish")
        between = self._seconds_between
        seconds = {part: between[part] + lap for part, lap in clock.laps.items()}
        self._ended_at, self._idle_s = time.perf_counter(), 0.0
        between.clear()
        return TurnReport(
            **{
                **report,
                "lost_real": lost_real,
                "rollout_requests": requests,
                "statistics": statistics,
                "seconds": seconds,
                "idle_s": idle,
                "figures": {**self._replay_sizes(), **self._gpu_use()},
            }
        )

    def publish(self, with_model: bool) -> dict[str, Any]:
        """Puts the weights into the object store, once, under the next version."""
        self.version += 1
        agent = self.agent
        model = None
        if with_model:
            assert agent.networks.dynamics is not None
            model = ray.put(numpy_weights(agent.networks.dynamics))
        return {
            "version": self.version,
            "env_steps": agent.env_steps,
            "updates": agent.updates,
            "synthetic_transitions": agent.synthetic_transitions,
            "offline_transitions": agent.offline_transitions,
            "offline_updates": agent.offline_updates,
            "policy": ray.put(numpy_weights(agent.networks.policy)),
            "model": model,
        }

    @contextmanager
    def _work_between_turns(self, part: str) -> Iterator[None]:
        """Counts what is done inside as this part of the next turn's seconds, not as idle."""
        began = time.perf_counter()
        self._idle_s += began - self._ended_at
        try:
            yield
        finally:
            self._ended_at = time.perf_counter()
            self._seconds_between[part] += self._ended_at - began

    def _replay_sizes(self) -> dict[str, float]:
        replays = {"replay_real": self.agent.replay, "replay_synthetic": self.agent.synthetic}
        return {name: len(replay) for name, replay in replays.items() if replay is not None}

    def _ingest_real(self, references: list[ray.ObjectRef]) -> list[int]:
        """Ingests and logs real batches; returns the positions of the lost ones."""

        def ingest(batch: pa.RecordBatch) -> None:
            self.agent.ingest(from_arrow(batch))
            if self.log is not None:
                self.log.append(batch)

        try:
            return _ingest(references, ingest)
        except DataRefused:
            self.flush_log()  # what came before the refused batch
            raise


def cut_rollout_request(request: RolloutRequest, parts: int) -> list[RolloutRequest]:
    """Cuts a request into at most `parts`, each with its own states and seed."""
    size = -(-len(request.start_observations) // parts)
    return [
        RolloutRequest(
            request.start_observations[part * size : (part + 1) * size],
            request.length,
            (request.seed + part) % 2**63,
        )
        for part in range(parts)
        if part * size < len(request.start_observations)
    ]


def _ingest(references: list[ray.ObjectRef], ingest: Callable[[pa.RecordBatch], None]) -> list[int]:
    """Ingests the batches behind references; returns the positions of those that died with their
    maker."""
    lost = []
    for position, reference in enumerate(references):
        try:
            batch: pa.RecordBatch = ray.get(reference)
        except (OwnerDiedError, ObjectLostError):
            lost.append(position)
        else:
            ingest(batch)
    return lost


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
