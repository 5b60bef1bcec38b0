"""What `mnm train` shows while it trains: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import Any

from ray import tune
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table


class ProgressDisplay(tune.Callback):
    """Shows steps, returns, rates, model and classifier of a run, iteration by iteration.

    Args:
        title: of the run.
        total_steps: real steps of the whole run.
    """

    def __init__(self, title: str, total_steps: int) -> None:
        self.title = title
        self.total_steps = total_steps
        self._started = time.monotonic()
        self._last: tuple[float, float] | None = None
        self._console: Console | None = None
        self._live: Live | None = None

    def setup(self, **info: Any) -> None:
        """Starts the panel, on a terminal."""
        self._console = Console()
        if not self._console.is_terminal:
            self._console.print(f"{self.title}: {self.total_steps} steps", highlight=False)
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(self.title, total=self.total_steps)
        self._live = Live(self._progress, console=self._console, refresh_per_second=4)
        self._live.start()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows one iteration."""
        figures = self._figures(result)
        if self._live is None:
            line = "  ".join(f"{name} {value}" for name, value in figures.items())
            if self._console is not None:
                self._console.print(line, highlight=False, soft_wrap=True)
            return
        self._progress.update(self._task, completed=result["num_env_steps_sampled_lifetime"])
        table = Table.grid(padding=(0, 2))
        for name, value in figures.items():
            table.add_row(name, value)
        self._live.update(Group(self._progress, table))

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ends the panel."""
        self.stop()

    def stop(self) -> None:
        """Ends the panel, if it is on."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _figures(self, result: dict[str, Any]) -> dict[str, str]:
        steps = result["num_env_steps_sampled_lifetime"]
        offline_updates = result.get("num_offline_updates") or 0
        updates = (result.get("num_updates_lifetime") or 0) + offline_updates
        now = time.monotonic()
        rate = math.nan
        # After a failure the run goes on from a checkpoint, with fewer updates than before.
        if self._last is not None and now > self._last[0] and updates >= self._last[1]:
            rate = (updates - self._last[1]) / (now - self._last[0])
        self._last = (now, updates)
        learner = result.get("learners", {}).get("default_policy", {})
        evaluation = result.get("evaluation", {}).get("env_runners", {})
        elapsed = now - self._started
        # Nothing tells how long real steps will take before the first.
        left = elapsed / steps * max(self.total_steps - steps, 0) if steps else math.nan
        figures = {
            "steps": f"{steps:.0f}",
            "offline updates": _number(offline_updates or math.nan, ".0f"),
            "return": _number(evaluation.get("episode_return_mean"), ".1f"),
            "training return": _number(
                result.get("env_runners", {}).get("episode_return_mean"), ".1f"
            ),
            "updates/s": _number(rate, ".0f"),
            "model error": _number(learner.get("model_holdout_rmse"), ".3f"),
            "classifier accuracy": _number(learner.get("classifier_accuracy"), ".2f"),
            "weight lag": _number(result.get("weight_lag_max"), ".0f"),
            "time left": "" if math.isnan(left) else f"{left / 60:.1f} min",
        }
        return {name: value for name, value in figures.items() if value}


def _number(value: float | None, form: str) -> str:
    """A figure as text; empty where there is none."""
    return "" if value is None or math.isnan(value) else format(value, form)
