"""What can be wrong with a run that goes on: one table of rules, read against its last results."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rllib_ext.config import MnMConfig

WINDOW = 10  # results that the rules look at
CALM = 5  # results in a row without a fault, after which it may be told anew
LEARNER = "learners/default_policy/"
# `ray logs` asks a dashboard, which a Ray started by `ray_session` does not have.
LOGS = "`ray logs` on a cluster, else `worker-*.err` of the newest session in `/tmp/ray`"
COUNTS = ("training_iteration", "iterations_since_restore")  # go back where a run is restored


@dataclass(frozen=True)
class Warned:
    """A fault that has begun.

    Attributes:
        name: of its rule.
        sentence: what is wrong, with figures.
        advice: what to try.
    """

    name: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}. Try: {self.advice}."


class Window:
    """The last results of a run, by the paths of their figures.

    Args:
        config: of the run.
    """

    def __init__(self, config: MnMConfig) -> None:
        self.config = config
        self.settings = config.settings()
        self._results: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self._known: set[str] = set()

    def add(self, result: dict[str, Any]) -> None:
        """Takes in a result; the first after a restore starts anew."""
        if self._results and any(
            number_at(result, count) <= number_at(self._results[-1], count) for count in COUNTS
        ):
            self._results.clear()
            self._known.clear()
        self._results.append(result)
        for name, value in self._statistics():
            if math.isfinite(value):
                self._known.add(name)

    def last(self, path: str, count: int = 1) -> list[float]:
        """The newest `count` values of a figure; empty where one of them is not there."""
        values = self.recent(path, count)
        return values if len(values) == count else []

    def recent(self, path: str, most: int) -> list[float]:
        """The values of a figure in the newest `most` results, where they are numbers."""
        values = [number_at(result, path) for result in self._results][-most:]
        return [value for value in values if math.isfinite(value)]

    def rises(self, path: str, count: int) -> list[float]:
        """By how much a figure rose from each of the newest results to the next, `count` times."""
        values = self.last(path, count + 1)
        return [later - earlier for earlier, later in pairwise(values)]

    def shares(self, path: str, count: int) -> list[float]:
        """The share of time that seconds counted under `path` took, in the last iterations in
        which updates were made; empty where there were none in one of them."""
        seconds, times = self.rises(path, count), self.rises("time_total_s", count)
        updates = self.rises("num_updates_lifetime", count)
        if not (seconds and times and updates) or min(times) <= 0 or min(updates) <= 0:
            return []
        return [second / time for second, time in zip(seconds, times, strict=True)]

    def lost(self) -> list[str]:
        """Statistics of the learner that were numbers once and are none now."""
        return [
            name
            for name, value in self._statistics()
            if name in self._known and not math.isfinite(value)
        ]

    def _statistics(self) -> list[tuple[str, float]]:
        learner = self._results[-1].get("learners", {}).get("default_policy", {})
        return [(name, value) for name, value in learner.items() if isinstance(value, int | float)]


Figures = dict[str, Any] | None
"""What a rule's sentence tells; None where there is nothing to tell."""


def _not_a_number(window: Window) -> Figures:
    lost = window.lost()
    return {"names": ", ".join(lost)} if lost else None


def _critics_diverge(window: Window) -> Figures:
    losses = window.recent(LEARNER + "critic_loss", 5)
    values = window.last(LEARNER + "q_value")
    if not losses or not values or losses[-1] < 100 * min(losses):
        return None
    error = math.sqrt(losses[-1] / 2)  # the loss is summed over both critics
    return {"error": error, "value": values[0]} if error > abs(values[0]) else None


def _model_says_nothing(window: Window) -> Figures:
    errors = window.last(LEARNER + "model_holdout_rmse", 3)
    return {"error": errors[-1]} if errors and min(errors) >= 1.0 else None


def _model_grows_worse(window: Window) -> Figures:
    errors = window.last(LEARNER + "model_holdout_rmse", 6)
    if not errors or min(errors[-3:]) < max(0.3, 1.5 * min(errors[:3])):
        return None
    return {"error": errors[-1], "least": min(errors[:3])}


def _classifier_saturated(window: Window) -> Figures:
    accuracies = window.last(LEARNER + "classifier_accuracy", 3)
    return {"accuracy": accuracies[-1]} if accuracies and min(accuracies) >= 0.95 else None


def _classifier_at_chance(window: Window) -> Figures:
    accuracies = window.last(LEARNER + "classifier_accuracy", 5)
    errors = window.last(LEARNER + "model_holdout_rmse")
    if not accuracies or not errors or errors[0] < 0.3:
        return None
    mean = sum(accuracies) / len(accuracies)
    return {"accuracy": mean, "error": errors[0]} if abs(mean - 0.5) < 0.05 else None


def _bound_above_return(window: Window) -> Figures:
    lows, highs = window.last("bound/estimate_low", 3), window.last("bound/log_return_high", 3)
    if not lows or not highs or any(low <= high for low, high in zip(lows, highs, strict=True)):
        return None
    return {
        "estimate": window.last("bound/estimate")[0],
        "log_return": window.last("bound/log_return")[0],
    }


def _no_episode(window: Window) -> Figures:
    episodes = window.last("env_runners/num_episodes_lifetime")
    steps = window.last("num_env_steps_sampled_lifetime")
    config = window.config
    environments = max(1, config.num_env_runners) * config.num_envs_per_env_runner
    if not episodes or not steps or episodes[0] > 0 or steps[0] < 3000 * environments:
        return None
    return {"steps": steps[0]}


def _waits_for_steps(window: Window) -> Figures:
    shares = window.shares("waited_for_steps_s", 3)
    return {"share": shares[-1]} if shares and min(shares) > 0.25 else None


def _held_by_lag(window: Window) -> Figures:
    shares = window.shares("waited_for_lag_s", 3)
    if not shares or min(shares) <= 0.25:
        return None
    return {"share": shares[-1], "lag": window.config.resolved_max_weight_lag()}


def _collectors_lost(window: Window) -> Figures:
    return _lost_actors(window, "collectors", window.config.num_env_runners)


def _rollout_workers_lost(window: Window) -> Figures:
    return _lost_actors(window, "rollout_workers", window.config.num_rollout_workers)


def _lost_actors(window: Window, kind: str, wanted: int) -> Figures:
    healthy = window.last(f"num_healthy_{kind}", 2)
    return {"left": healthy[-1], "wanted": wanted} if healthy and max(healthy) < wanted else None


def _collectors_fail(window: Window) -> Figures:
    rises = window.rises("worker_failures", 3)
    return {"count": window.last("worker_failures")[0]} if rises and min(rises) > 0 else None


def _environments_raise(window: Window) -> Figures:
    path = "env_runners/num_env_restarts_lifetime"
    rises = window.rises(path, 3)
    return {"count": window.last(path)[0]} if rises and min(rises) > 0 else None


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        name: for people and programs.
        when: the condition in words.
        holds: the condition: the figures of the sentence, or None.
        sentence: what is wrong, to be filled with the figures.
        advice: what to try, by the names of settings and options.
    """

    name: str
    when: str
    holds: Callable[[Window], Figures]
    sentence: str
    advice: str


RULES = (
    Rule(
        "not a number",
        "a statistic of the learner was a number and is none any more",
        _not_a_number,
        "{names} can no longer be computed, so nothing is learned any more",
        "a new run with a smaller critic_lr, actor_lr or model_lr",
    ),
    Rule(
        "critics diverge",
        "the critics' loss is 100 times the smallest of the last 5 results, and their error is "
        "larger than their values",
        _critics_diverge,
        "the critics err by {error:.3g} where the values are {value:.3g}, and more with every "
        "iteration",
        "a smaller critic_lr, a smaller updates_to_data_ratio, shorter rollouts "
        "(rollout_schedule), or smaller rewards from the environment",
    ),
    Rule(
        "model says nothing",
        "the model's held-out error was at least 1 (what a guess of the mean has) in the last 3 "
        "results",
        _model_says_nothing,
        "the model's held-out error is {error:.2f}, and a guess of the mean change has 1",
        "more num_random_steps before learning, more dynamics_max_fit_steps, larger "
        "dynamics_hidden_sizes, or observations without columns that nothing can predict",
    ),
    Rule(
        "model grows worse",
        "the model's held-out error was above 0.3 and half as much again as before, in the last 3 "
        "results",
        _model_grows_worse,
        "the model's held-out error has grown from {least:.2f} to {error:.2f}",
        "more dynamics_max_fit_steps, a shorter dynamics_fit_interval, or shorter rollouts "
        "(rollout_schedule)",
    ),
    Rule(
        "classifier saturated",
        "the classifier was right in at least 95 % of held-out cases in the last 3 results",
        _classifier_saturated,
        "it tells {accuracy:.0%} of real and imagined transitions apart, so the model is far from "
        "real and the log-ratio says little more than that",
        "more model fitting (dynamics_max_fit_steps, dynamics_fit_interval), or a smoother "
        "classifier (classifier_input_noise, classifier_gradient_penalty)",
    ),
    Rule(
        "classifier at chance",
        "the classifier was right in 45 to 55 % of cases over the last 5 results, while the "
        "model's held-out error is above 0.3",
        _classifier_at_chance,
        "it is right in {accuracy:.0%} of cases, yet the model's held-out error is {error:.2f}; "
        "unless the task itself is that random, it has not learned to see the error",
        "a larger classifier_lr, larger classifier_hidden_sizes, less classifier_label_smoothing "
        "or classifier_input_noise",
    ),
    Rule(
        "bound above the return",
        "the interval of the bound's estimate lay above that of the log return in the last 3 "
        "results",
        _bound_above_return,
        "the estimate of the bound ({estimate:.3g} nats) lies above the log return "
        "({log_return:.3g}), which is the error of the model's rewards or of the classifier",
        "more model fitting (dynamics_max_fit_steps), a smoother classifier "
        "(classifier_gradient_penalty), or a shorter bound_horizon",
    ),
    Rule(
        "no episode ended",
        "no episode has ended after 3,000 steps in each environment",
        _no_episode,
        "none has in {steps:.0f} real steps, so there is no training return",
        "a time limit where the environment is registered (max_episode_steps)",
    ),
    Rule(
        "learner waits",
        "the learner waited for real steps for over 25 % of the time in each of the last 3 "
        "iterations",
        _waits_for_steps,
        "it waited for real steps for {share:.0%} of the time",
        "more --num-env-runners, or --max-env-runners to add some while it waits",
    ),
    Rule(
        "weights too old",
        "the limit on the weights' age held the collectors back for over 25 % of the time in each "
        "of the last 3 iterations",
        _held_by_lag,
        "max_weight_lag={lag} held the collectors back for {share:.0%} of the time, until a slow "
        "collector or rollout worker had finished with old weights",
        "more --num-rollout-workers, fewer rollouts_per_step, or a larger max_weight_lag",
    ),
    Rule(
        "collectors lost",
        "fewer collectors worked than --num-env-runners in the last 2 results",
        _collectors_lost,
        "{left:.0f} of {wanted} work, and the run goes on with them",
        "`ray status` for nodes that are gone",
    ),
    Rule(
        "rollout workers lost",
        "fewer rollout workers worked than --num-rollout-workers in the last 2 results",
        _rollout_workers_lost,
        "{left:.0f} of {wanted} work, and the run goes on with them",
        "`ray status` for nodes that are gone",
    ),
    Rule(
        "collectors fail",
        "requests to collectors failed in each of the last 3 iterations",
        _collectors_fail,
        "{count:.0f} requests to them have failed so far",
        f"{LOGS}, for what their processes said, and `ray status` for nodes that come and go",
    ),
    Rule(
        "environments raise",
        "environments were made anew after an error in each of the last 3 iterations",
        _environments_raise,
        "they were made anew after an error {count:.0f} times so far, each time without the "
        "episodes that were open",
        f"{LOGS}, for the errors, which the runners log with every restart",
    ),
)


class Health:
    """Reads results against the rules; each fault is told once, when it begins.

    Args:
        config: of the run.
    """

    def __init__(self, config: MnMConfig) -> None:
        self._window = Window(config)
        self._calm: dict[str, int] = {}  # results without the fault, by the names of those told
        self.faults: list[str] = []

    def take(self, result: dict[str, Any]) -> list[Warned]:
        """Takes in a result and returns what has begun with it; `faults` has all there is now.

        Args:
            result: of one iteration of `MnM`, as Tune hands it on.
        """
        self._window.add(result)
        self.faults, begun = [], []
        for rule in RULES:
            figures = rule.holds(self._window)
            if figures is None:
                if rule.name in self._calm:
                    self._calm[rule.name] += 1
                continue
            self.faults.append(rule.name)
            if self._calm.get(rule.name, CALM) >= CALM:
                begun.append(Warned(rule.name, rule.sentence.format(**figures), rule.advice))
            self._calm[rule.name] = 0
        return begun


def number_at(result: dict[str, Any], path: str) -> float:
    """The figure at a path like "env_runners/episode_return_mean"; NaN where there is none."""
    value: Any = result
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return math.nan if value is None else float(value)
