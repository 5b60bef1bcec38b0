"""Logging transitions: the learner's turns of SAC, whose steps are the fastest."""

from __future__ import annotations

import tempfile
from functools import partial

import ray

from benchmarks.learner_device import ACTION_DIM, OBSERVATION_DIM, SPACES, random_transitions
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, compare
from distributed.learner_core import LearnerCore
from distributed.wire import to_arrow
from mnm import Agent, Settings

ROWS = 10  # of a batch and of a turn
PART_ROWS = 1000  # a part is written ten times as often as by default


def learner() -> LearnerCore:
    """SAC at the defaults, learning from the first step."""
    return LearnerCore(Agent(SPACES, Settings.preset("sac", num_random_steps=0), seed=0))


def take_turns(core: LearnerCore, batches: list[ray.ObjectRef]) -> int:
    """A turn with each batch; returns their rows."""
    for batch in batches:
        core.turn([batch], [])
    return len(batches) * ROWS


def rows(quick: bool) -> list[Row]:
    """Real steps a second with a log, against those without."""
    turns, repeats = (5, 3) if quick else (20, 20)
    with local_ray(num_cpus=1), tempfile.TemporaryDirectory() as folder:
        batches = [ray.put(to_arrow(random_transitions(ROWS))) for _ in range(turns)]
        logging, plain = learner(), learner()
        logging.log_transitions(folder, "turns", PART_ROWS)
        name = f"transition_log: sac, {OBSERVATION_DIM} observations, {ACTION_DIM} actions"
        row = compare(
            name,
            "real steps/s",
            partial(take_turns, logging, batches),
            partial(take_turns, plain, batches),
            "without a log",
            repeats=repeats,
        )
        logging.close_log()
    return [row]
