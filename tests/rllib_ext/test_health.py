"""Tests of what is warned of: each rule on scripted results, and its advice on real settings."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from rllib_ext import MnMConfig
from rllib_ext.health import CALM, RULES, Health
from rllib_ext.setting_names import OWN_NAMES, SETTING_NAMES
from rllib_ext.train_command import train
from tests.rllib_ext.scripted_results import result

Script = Callable[[int], dict[str, float]]
"""The figures of an iteration that differ from a healthy one's."""


def config() -> MnMConfig:
    return (
        MnMConfig()
        .environment("Pendulum-v1")
        .env_runners(num_env_runners=2)
        .training(num_rollout_workers=1)
    )


def warnings_of(script: Script, iterations: int = 12) -> list[str]:
    """The names of all warnings, in their order."""
    health = Health(config())
    return [
        warning.name
        for i in range(1, iterations + 1)
        for warning in health.take(result(i, **script(i)))
    ]


# By the rule's name: a script that meets it, and the nearest one that does not.
CASES: dict[str, tuple[Script, Script]] = {
    "not a number": (
        lambda i: {"q_value": math.nan if i > 4 else 1.0},
        lambda i: {"q_value": math.nan if i < 4 else 1.0},
    ),
    "critics diverge": (
        lambda i: {"critic_loss": 10.0**i, "q_value": 2.0**i},
        lambda i: {"critic_loss": 3.0**i, "q_value": 2.0**i},
    ),
    "model says nothing": (
        lambda i: {"model_holdout_rmse": 1.01},
        lambda i: {"model_holdout_rmse": 0.9 if i % 3 == 0 else 1.01},
    ),
    "model grows worse": (
        lambda i: {"model_holdout_rmse": 0.15 if i < 6 else 0.35},
        lambda i: {"model_holdout_rmse": 0.01 if i < 6 else 0.29},
    ),
    "classifier saturated": (
        lambda i: {"classifier_accuracy": 0.96},
        lambda i: {"classifier_accuracy": 0.94 if i % 3 == 0 else 1.0},
    ),
    "classifier at chance": (
        lambda i: {"classifier_accuracy": 0.4 + 0.2 * (i % 2), "model_holdout_rmse": 0.5},
        lambda i: {"classifier_accuracy": 0.5, "model_holdout_rmse": 0.01},
    ),
    "bound above the return": (
        lambda i: {"bound__estimate_low": 5.6},
        lambda i: {"bound__estimate_low": 5.4},
    ),
    "no episode ended": (
        lambda i: {
            "num_env_steps_sampled_lifetime": 1000.0 * i,
            "env_runners__num_episodes_lifetime": 0,
        },
        lambda i: {
            "num_env_steps_sampled_lifetime": 400.0 * i,
            "env_runners__num_episodes_lifetime": 0,
        },
    ),
    "learner waits": (
        lambda i: {"waited_for_steps_s": 2.6 * i},
        lambda i: {"waited_for_steps_s": 2.6 * i, "num_updates_lifetime": 0},
    ),
    "weights too old": (
        lambda i: {"waited_for_lag_s": 2.6 * i},
        lambda i: {"waited_for_lag_s": 2.4 * i},
    ),
    "collectors lost": (
        lambda i: {"num_healthy_collectors": 1},
        lambda i: {"num_healthy_collectors": 2 - i % 2},
    ),
    "rollout workers lost": (
        lambda i: {"num_healthy_rollout_workers": 0},
        lambda i: {"num_healthy_rollout_workers": i % 2},
    ),
    "collectors fail": (
        lambda i: {"worker_failures": i},
        lambda i: {"worker_failures": i // 2},
    ),
    "environments raise": (
        lambda i: {"env_runners__num_env_restarts_lifetime": i},
        lambda i: {"env_runners__num_env_restarts_lifetime": 7},
    ),
}


def test_every_rule_has_a_case() -> None:
    assert [rule.name for rule in RULES] == list(CASES)


def test_a_healthy_run_is_warned_of_nothing() -> None:
    assert warnings_of(lambda i: {}) == []


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_told_once_and_its_neighbour_not_at_all(name: str) -> None:
    meets, misses = CASES[name]
    assert warnings_of(meets) == [name]
    assert warnings_of(misses) == []


def test_what_is_not_known_meets_no_rule() -> None:
    health = Health(config())
    for i in range(12):
        bare: dict[str, Any] = {"num_env_steps_sampled_lifetime": 10.0 * i, "training_iteration": i}
        assert health.take(bare) == []
        assert health.faults == []


def test_the_sentence_has_the_figures_and_the_advice() -> None:
    health = Health(config())
    warned = [w for i in (1, 2, 3) for w in health.take(result(i, classifier_accuracy=0.98))]
    (text,) = map(str, warned)
    assert text.startswith("classifier saturated: it tells 98% of real and imagined")
    assert "the model is far from real" in text
    assert "Try: more model fitting (dynamics_max_fit_steps" in text


def test_a_fault_that_flickers_is_told_anew_only_after_some_calm() -> None:
    health, told = Health(config()), []
    accuracies = [0.99] * 3 + [0.9] + [0.99] * 3 + [0.7] * CALM + [0.99] * 3
    for i, accuracy in enumerate(accuracies, start=1):
        warned = health.take(result(i, classifier_accuracy=accuracy))
        told += [i for _ in warned]
        assert ("classifier saturated" in health.faults) == (i in (3, 7, len(accuracies)))
    assert told == [3, len(accuracies)]


def test_iterations_made_again_from_a_checkpoint_count_once() -> None:
    """Counters go back with the checkpoint: no rise, and nothing from before it, is read."""
    health = Health(config())
    for i in (1, 2, 3, 2, 3, 4):
        assert health.take(result(i, worker_failures=1)) == []
    names = [w.name for i in (5, 6, 7) for w in health.take(result(i, worker_failures=i))]
    assert names == ["collectors fail"]


def test_after_a_restore_statistics_may_be_unknown_again() -> None:
    health = Health(config())
    for i, since_restore in ((1, 1), (2, 2), (3, 1)):
        again = result(i, model_holdout_rmse=math.nan if i == 3 else 0.1)
        assert health.take({**again, "iterations_since_restore": since_restore}) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_advice_names_only_what_there_is(rule: Any) -> None:
    text = f"{rule.sentence} {rule.advice}"
    options = {"--" + name.replace("_", "-") for name in inspect.signature(train).parameters}
    assert set(re.findall(r"--[a-z-]+", text)) <= options
    without_figures = re.sub(r"\{\w+", "{", text)
    known = {*SETTING_NAMES, *OWN_NAMES, "max_episode_steps"}  # the last is Gymnasium's
    assert set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", without_figures)) <= known
