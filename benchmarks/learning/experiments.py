"""The experiments: one question each, with its tasks, algorithms, seeds, steps and budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mnm.settings import ALGORITHMS

AS_TUNED = "tuned"  # the variant that changes nothing
SPARSE_PENDULUM = "benchmarks.learning.tasks:SparsePendulum-v0"
HELD_MOUNTAIN_CAR = "benchmarks.learning.tasks:HeldMountainCar-v0"
META_WORLD_REACH = "benchmarks.learning.tasks:MetaWorldReach-v0"
META_WORLD_DRAWER = "benchmarks.learning.tasks:MetaWorldDrawerClose-v0"
# Evaluation returns that count as solved, by Gymnasium id.
SOLVED = {
    "InvertedPendulum-v5": 950.0,
    "InvertedDoublePendulum-v5": 9000.0,
    "Pendulum-v1": -200.0,
    "MountainCarContinuous-v0": 90.0,  # Gymnasium's own
    HELD_MOUNTAIN_CAR: 90.0,
    META_WORLD_REACH: 90.0,  # of ten episodes nine
    META_WORLD_DRAWER: 90.0,
    SPARSE_PENDULUM: 100.0,  # of 200 steps, some 50 of them for the swing-up
    "Hopper-v5": 1700.0,
    "HalfCheetah-v5": 4000.0,
}
# Beside the usual sac, on Hopper and HalfCheetah, one with what the model-based three have there.
EQUAL_UPDATES: dict[str, dict[str, Any]] = {
    "updates and critics of mbpo": {
        "sac": {
            "updates_to_data_ratio": 10,
            "hidden_sizes": (128, 128),
            "normalise_observations": True,
            "critic_layer_norm": True,
            "tau": 0.01,
        }
    }
}


@dataclass(frozen=True)
class Experiment:
    """One question, and the runs that answer it.

    Attributes:
        question: in one sentence.
        envs: Gymnasium ids.
        algos: of the four.
        seeds: of each algorithm and variant.
        steps: real environment steps of a run.
        evaluation_interval: real steps between two deterministic evaluations of ten episodes.
        hours: stated budget of all runs on one core of an ordinary machine.
        asked_within: real steps within which the task is asked to be solved; None: not asked.
        stop_when_solved: whether two evaluations in a row at the return of `SOLVED` end a run.
        variants: settings that differ from the task's tuned ones, by the variant's name; where they
            are not the same for all tasks, by Gymnasium id below it; where they are not of all
            algorithms, by those that have the variant.
        tuned_as: Gymnasium id whose tuned settings hold for a task that has none.
        settings: on top of the tuned ones, by algorithm, or for "all", by the names of
            `MnMConfig.training`.
        references: experiments of the same tasks, with the same interval and end, whose tuned runs
            are shown beside these, up to their steps, without being made again.
    """

    question: str
    envs: tuple[str, ...]
    algos: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    evaluation_interval: int
    hours: float
    asked_within: int | None = None
    stop_when_solved: bool = False
    variants: dict[str, dict[str, Any]] = field(default_factory=lambda: {AS_TUNED: {}})
    tuned_as: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: tuple[str, ...] = ()


EXPERIMENTS: dict[str, Experiment] = {
    "inverted-pendulum": Experiment(
        question="How many steps until the pole is balanced for a whole episode?",
        envs=("InvertedPendulum-v5",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=3000,
        evaluation_interval=250,
        hours=3.0,
        asked_within=2000,
        stop_when_solved=True,
    ),
    "double-pendulum": Experiment(
        question="How many steps until two poles are balanced for a whole episode?",
        envs=("InvertedDoublePendulum-v5",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=4000,
        evaluation_interval=250,
        hours=4.0,
        asked_within=4000,
        stop_when_solved=True,
    ),
    "pendulum": Experiment(
        question="How many steps until the pendulum is swung up and held?",
        envs=("Pendulum-v1",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=4000,
        evaluation_interval=250,
        hours=4.0,
        asked_within=4000,
        stop_when_solved=True,
    ),
    "reacher": Experiment(
        question="Which algorithm reaches its targets in few steps?",
        envs=("Reacher-v5",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=5000,
        evaluation_interval=500,
        hours=4.0,
    ),
    "sparse-pendulum": Experiment(
        question="Which algorithm swings up a pendulum that pays at the top alone?",
        envs=(SPARSE_PENDULUM,),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=2000,
        evaluation_interval=250,
        hours=2.0,
        asked_within=2000,
        tuned_as="Pendulum-v1",
        settings={"mnm": {"reward_beta": 100.0}},
    ),
    "mountain-car": Experiment(
        question="Which algorithm finds a reward that only the goal pays?",
        envs=("MountainCarContinuous-v0",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=5000,
        evaluation_interval=1000,
        hours=1.5,
        asked_within=5000,
    ),
    "held-mountain-car": Experiment(
        question="And which one where random actions get to the goal now and then?",
        envs=(HELD_MOUNTAIN_CAR,),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=5000,
        evaluation_interval=500,
        hours=1.5,
        asked_within=5000,
        stop_when_solved=True,
        tuned_as="MountainCarContinuous-v0",
        settings={
            "all": {
                "termination": "mnm.terminations:mountain_car_continuous",
                "target_entropy": 0.3,  # of 0.69 at the most: the goal goes on to be met by chance
            }
        },
    ),
    "meta-world": Experiment(
        question="Which algorithm does manipulation that pays for nothing but success?",
        envs=(META_WORLD_REACH, META_WORLD_DRAWER),
        algos=ALGORITHMS,
        seeds=(0, 1, 2, 3, 4),
        steps=3000,
        evaluation_interval=500,
        hours=3.5,
        asked_within=3000,
        settings={
            "all": {
                "num_random_steps": 500,
                "updates_to_data_ratio": 10,
                "hidden_sizes": (128, 128),
                "normalise_observations": True,  # places vary by centimetres
                # Without it values grew to twice the largest return, and policies that did the
                # task in every episode were lost again.
                "critic_layer_norm": True,
                "ensemble_size": 5,
                "num_elites": 3,
                "dynamics_hidden_sizes": (128, 128, 128),
                "dynamics_weight_decay": (0.0, 0.0, 0.0, 0.0),
                "rollouts_per_step": 40,
            },
            # As of the mountain car, whose goal pays as much.
            "mnm": {
                "reward_transform": "exp",
                "reward_beta": 2.0,
                "initial_critic_value": "mean-log",
                "rollout_schedule": (0, 1, 3, 3),
            },
        },
    ),
    "ablations": Experiment(
        question="What does each part of the joint objective contribute?",
        envs=("InvertedPendulum-v5", "Pendulum-v1"),
        algos=("mnm",),
        seeds=(0, 1, 2),
        steps=3000,
        evaluation_interval=250,
        hours=6.0,
        stop_when_solved=True,
        variants={
            "no classifier term": {"log_ratio_weight": 0.0},
            "no value in the model": {"model_value_weight": 0.0},
            "little likelihood": {"likelihood_weight": 0.01},
            # exp makes the logarithm cancel; with shift it is that of the paper.
            "log of a shifted reward": {
                "InvertedPendulum-v5": {"reward_transform": "shift", "reward_shift": 0.01},
                "Pendulum-v1": {"reward_transform": "shift", "reward_shift": 16.5},
            },
            "weight 1": {"log_ratio_weight": 1.0},
            "weight gamma": {"log_ratio_weight": 0.99},
            "learned stopping": {"bound": "learned-stopping"},
            "no label smoothing": {"classifier_label_smoothing": 0.0},
            "classifier of pools": {"classifier_pairs": "pool"},
            "no rollouts": {"real_ratio": 1.0},
            "one-step rollouts": {"rollout_schedule": (0, 1, 1, 1)},
        },
        references=("inverted-pendulum", "pendulum"),
    ),
    "lambda": Experiment(
        question="How much of the classifier's reward does mnm-approx bear?",
        envs=("InvertedPendulum-v5", "Pendulum-v1"),
        algos=("mnm-approx",),
        seeds=(0, 1, 2),
        steps=3000,
        evaluation_interval=250,
        hours=2.0,
        stop_when_solved=True,
        variants={
            "lambda 0.01": {"classifier_reward_weight": 0.01},
            "lambda 1": {"classifier_reward_weight": 1.0},
            "lambda auto": {"classifier_reward_weight": "auto"},
        },
        references=("inverted-pendulum", "pendulum"),
    ),
    "hopper": Experiment(
        question="What return does Hopper reach with few steps, against the published ones?",
        envs=("Hopper-v5",),
        algos=("mbpo", "sac"),
        seeds=(0, 1, 2),
        steps=50_000,
        evaluation_interval=1000,
        hours=9.0,
        asked_within=50_000,
    ),
    # Apart, as a step of mnm takes three times the seconds of one of mbpo.
    "hopper-30k": Experiment(
        question="And the others, in fewer steps?",
        envs=("Hopper-v5",),
        algos=("mnm-approx", "mnm", "sac"),
        seeds=(0, 1, 2),
        steps=30_000,
        evaluation_interval=1000,
        hours=11.0,
        variants={AS_TUNED: {"mnm-approx": {}, "mnm": {}}} | EQUAL_UPDATES,
        references=("hopper",),
    ),
    "half-cheetah": Experiment(
        question="What return does HalfCheetah reach with few steps, against the published ones?",
        envs=("HalfCheetah-v5",),
        algos=ALGORITHMS,
        seeds=(0, 1, 2),
        steps=20_000,
        evaluation_interval=1000,
        hours=13.0,
        variants={AS_TUNED: {}} | EQUAL_UPDATES,
        asked_within=20_000,
    ),
    "half-cheetah-parts": Experiment(
        question="Which part of mnm puts it ahead of mbpo on HalfCheetah?",
        envs=("HalfCheetah-v5",),
        algos=("mnm", "mbpo"),
        seeds=(0, 1, 2),
        steps=6000,
        evaluation_interval=1000,
        hours=7.5,
        variants={
            "no classifier term": {"mnm": {"log_ratio_weight": 0.0}},
            "no value in the model": {"mnm": {"model_value_weight": 0.0}},
            "neither": {"mnm": {"log_ratio_weight": 0.0, "model_value_weight": 0.0}},
            # Rates of 1e-9 move nothing.
            "neither, model by its fits alone": {
                "mnm": {"log_ratio_weight": 0.0, "model_value_weight": 0.0, "model_lr": 1e-9}
            },
            "critics start low": {"mnm": {"initial_critic_value": "mean-log"}},
            "batches and rollouts of mnm": {
                "mbpo": {"real_ratio": 0.5, "rollout_schedule": (0, 1, 2, 2)}
            },
        },
        references=("half-cheetah",),
    ),
}


def short_name(env: str) -> str:
    """A Gymnasium id without the module that registers it."""
    return env.rpartition(":")[2]
