"""Actors that can be held in a phase of their work, so that a kill comes in that very phase."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from distributed import rollout_pool
from distributed.rollout_worker import RolloutWorker
from mnm import Transitions
from rllib_ext import MnM, MnMConfig
from rllib_ext.env_runner import MnMEnvRunner
from rllib_ext.learner import MnMLearner

PHASES = ("collecting", "rolling out", "updating", "publishing", "checkpointing")
COLLECTOR, WORKER, LEARNER = "collector 1", "rollout worker", "learner"
ACCOUNT_FILE = "account.json"  # in the learner's folder of a checkpoint
PATIENCE_S = 240.0  # a trial takes a minute to start again, more beside other work


@dataclass(frozen=True)
class Gates:
    """Files by which a test and the actors of its run find one another.

    An armed gate holds the first actor that comes to it until the test releases it or kills it.

    Attributes:
        folder: of these files.
    """

    folder: Path

    def arm(self, phase: str) -> None:
        (self.folder / f"{phase}.armed").touch()

    def hold(self, phase: str) -> None:
        """What an actor calls in the midst of a phase."""
        held = self.folder / f"{phase}.held"
        try:
            (self.folder / f"{phase}.armed").rename(held)
        except FileNotFoundError:
            return
        wait_until(lambda: not held.exists(), f"the gate of {phase} is released")

    def wait_for(self, phase: str) -> None:
        wait_until((self.folder / f"{phase}.held").exists, f"somebody is {phase}")

    def release(self, phase: str) -> None:
        (self.folder / f"{phase}.held").unlink()

    def enrol(self, actor: str) -> None:
        """What an actor calls when it starts."""
        file = self.folder / f"{actor}.{os.getpid()}"
        file.write_text(str(os.getpid()))
        file.replace(self.folder / f"{actor}.pid")

    def process(self, actor: str) -> psutil.Process | None:
        """The actor's present process; None while it has none that is whole."""
        try:
            return psutil.Process(int((self.folder / f"{actor}.pid").read_text()))
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def kill(self, actor: str) -> None:
        """SIGKILL; returns once the process is gone."""
        process = self.process(actor)
        assert process is not None, f"{actor} does not run"
        process.kill()
        process.wait(PATIENCE_S)

    def kill_in(self, phase: str, actor: str) -> None:
        """Kills the actor while the phase is held."""
        self.arm(phase)
        self.wait_for(phase)
        self.kill(actor)
        self.release(phase)

    def note_restored(self, found: dict[str, Any]) -> None:
        """What a learner calls once it has restored a checkpoint, with its account."""
        with (self.folder / "restored.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")

    def restored(self) -> list[dict[str, Any]]:
        """The accounts of the learners that restored a checkpoint, in this order."""
        file = self.folder / "restored.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @contextmanager
    def killing_in(self, phase: str, actor: str) -> Iterator[Callable[[], bool]]:
        """Kills from a thread, while the block drives the run to that phase.

        Yields:
            A function that says whether the kill is done, and raises what went wrong with it.
        """
        with ThreadPoolExecutor(1) as thread:
            kill = thread.submit(self.kill_in, phase, actor)
            yield lambda: kill.done() and kill.result() is None
            kill.result()


class GatedConfig(MnMConfig):
    """A config of `GatedMnM`; `gates` reach every actor with it."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or GatedMnM)
        self.env_runner_cls = GatedEnvRunner
        self.gates: Gates | None = None

    def get_default_learner_class(self) -> type:
        return GatedLearner


class GatedEnvRunner(MnMEnvRunner):
    """A collector; the first one can be held with a batch that it has not handed over."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self.worker_index:
            config.gates.enrol(f"collector {self.worker_index}")

    def collect_batch(self, *arguments: Any) -> Any:
        batch = super().collect_batch(*arguments)
        if self.worker_index == 1:
            self.config.gates.hold("collecting")
        return batch


class GatedRolloutWorker(RolloutWorker):
    """A rollout worker that can be held with rows that it has not handed over."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        config.gates.enrol(WORKER)

    def imagine(self, *arguments: Any, **keywords: Any) -> Any:
        answer = super().imagine(*arguments, **keywords)
        self.config.gates.hold("rolling out")
        return answer


class GatedLearner(MnMLearner):
    """A learner that can be held in its phases, and gives account of what it saves and restores."""

    def build(self) -> None:
        super().build()
        gates = self.config.gates
        agent = self.core.agent
        # Made and not yet counted; put and not yet reported; half of the files there.
        agent.joint_update.make = before_return(agent.joint_update.make, gates, "updating")
        self.core.publish = before_return(self.core.publish, gates, "publishing")
        save = self._replay_files.save
        self._replay_files.save = before_return(save, gates, "checkpointing")
        gates.enrol(LEARNER)

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        path = super().save_to_path(path, **kwargs)
        (Path(path) / ACCOUNT_FILE).write_text(json.dumps(account(self)))
        return path

    def restore_from_path(self, path: Any, **kwargs: Any) -> None:
        super().restore_from_path(path, **kwargs)
        self.config.gates.note_restored(account(self))


class GatedMnM(MnM):
    """MnM with these actors."""

    @classmethod
    def get_default_config(cls) -> GatedConfig:
        return GatedConfig()

    def setup(self, config: MnMConfig) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollout_pool, "RolloutWorker", GatedRolloutWorker)
            super().setup(config)


def before_return(function: Callable[..., Any], gates: Gates, phase: str) -> Callable[..., Any]:
    """The function, held when it has done its work."""

    def held(*arguments: Any, **keywords: Any) -> Any:
        result = function(*arguments, **keywords)
        gates.hold(phase)
        return result

    return held


def wait_until(met: Callable[[], bool], what: str) -> None:
    """Waits, within reason, until a condition is met."""
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, f"Waited in vain until {what}."
        time.sleep(0.01)


def account(learner: MnMLearner) -> dict[str, Any]:
    """What a learner holds, in a few figures: equal ones mean equal contents."""
    agent = learner.core.agent
    rows = agent.replay.transitions()
    pairs = np.stack([rows.episode_ids, rows.steps], axis=1)
    digest = hashlib.sha256()
    for part in (agent.state_dict(), rows, agent.synthetic and agent.synthetic.transitions()):
        _digest(part, digest)
    return {
        "contents": digest.hexdigest(),
        "env_steps": agent.env_steps,
        "updates": agent.updates,
        "rows": len(rows),
        "twice": len(pairs) - len(np.unique(pairs, axis=0)),
    }


def _digest(part: Any, digest: Any) -> None:
    if isinstance(part, Transitions):
        part = vars(part)
    if isinstance(part, dict):
        for name in sorted(part, key=str):
            digest.update(str(name).encode())
            _digest(part[name], digest)
    elif isinstance(part, list | tuple):
        for item in part:
            _digest(item, digest)
    elif isinstance(part, torch.Tensor | np.ndarray):
        digest.update(np.ascontiguousarray(torch.as_tensor(part).cpu().numpy()).tobytes())
    else:
        digest.update(repr(part).encode())


def check_account(found: dict[str, Any], num_random_steps: int, ratio: float) -> None:
    """No transition twice or missing, and the updates-to-data ratio exact."""
    assert found["twice"] == 0
    assert found["rows"] == found["env_steps"]
    assert found["updates"] == int(ratio * (found["env_steps"] - num_random_steps))


def check_ledger(algo: MnM) -> None:
    """Every step requested was returned, was lost, or is still asked for; the learner has the rest.

    Leaves the learner at rest.
    """
    algo.coordinator.finish_learning()
    counts, coordinator = algo.coordinator.counts, algo.coordinator
    assert coordinator.latest is not None
    assert counts.steps_requested == (
        counts.steps_returned + counts.steps_lost + coordinator.collectors.steps_open
    )
    waiting = sum(batch.steps for batch in coordinator.collectors.waiting)
    assert coordinator.latest.env_steps == counts.steps_returned - waiting
