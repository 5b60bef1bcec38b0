"""What `mnm train` shows while it trains: a live panel on a terminal, plain lines elsewhere, or
JSON."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rllib_ext.health import Health
from rllib_ext.plain_values import figures_as_json
from rllib_ext.run_figures import COUNTS, RunFigures

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 40


class ProgressDisplay(tune.Callback):
    """Shows steps, returns, rates, model and classifier of a run, iteration by iteration.

    Args:
        title: of the run.
        total_steps: real steps of the whole run.
        health: what is warned of, once when it begins.
        max_weight_lag: real steps; the limit that the lag is shown against.
        clock: seconds, for the time that has passed.
    """

    def __init__(
        self,
        title: str,
        total_steps: int,
        health: Health,
        max_weight_lag: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.total_steps = total_steps
        self.max_weight_lag = max_weight_lag
        self.clock = clock
        self.panel: RenderableType = ""
        self._health = health
        self._figures = RunFigures(total_steps)
        self._returns: list[float] = []
        self._console: Console | None = None
        self._live: Live | None = None

    def setup(self, console: Console | None = None, **info: Any) -> None:
        """Starts the panel, on a terminal; without a console on that of standard output."""
        self._console = console or Console()
        if not self._console.is_terminal:
            self._console.print(f"{self.title}: {self.total_steps} steps", highlight=False)
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeElapsedColumn(),
            get_time=self.clock,
        )
        self._task = self._progress.add_task(self.title, total=self.total_steps)
        waiting = Text("starting; the first figures come with the first evaluation", style="dim")
        self.panel = Group(self._progress, waiting)
        self._live = Live(self.panel, console=self._console, refresh_per_second=4)
        self._live.start()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows one iteration."""
        figures = self._figures.take(result)
        warned = self._health.take(result)
        if self._console is None:
            return
        if self._live is None:
            self._console.print(plain_line(figures), highlight=False, soft_wrap=True)
        else:
            self._progress.update(self._task, completed=figures["env_steps"])
            self.panel = Group(self._progress, self._table(figures))
            self._live.update(self.panel)
        for warning in warned:
            text = f"warning: {warning}"
            self._console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ends the panel."""
        self.stop()

    def stop(self) -> None:
        """Ends the panel, if it is on."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self, figures: dict[str, float]) -> RenderableType:
        if not math.isnan(figures["return"]):
            self._returns.append(figures["return"])
        assert self._console is not None
        curve = ""
        if self._returns and self._console.encoding.startswith("utf"):
            curve = sparkline(self._returns)
        rows = panel_rows(figures, curve, self.max_weight_lag)
        if self._health.faults:
            rows["warnings"] = ", ".join(self._health.faults)
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            style = "yellow" if name == "warnings" else ""
            table.add_row(Text(name, style="dim"), Text(value, style=style))
        return table


class JsonLines(tune.Callback):
    """Writes one JSON object a line to the process's standard output, for each iteration.

    Args:
        total_steps: real steps of the whole run.
        health: its faults are `faults`, and what begins in an iteration is in `warnings`.
    """

    def __init__(self, total_steps: int, health: Health) -> None:
        self._health = health
        self._figures = RunFigures(total_steps)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Writes one iteration."""
        figures = self._figures.take(result)
        warned = self._health.take(result)
        write_json_line(
            {
                "type": "iteration",
                **{name: _whole(name, value) for name, value in figures.items()},
                "faults": self._health.faults,
                "warnings": [vars(warning) for warning in warned],
            }
        )


def write_json_line(table: dict[str, Any]) -> None:
    """Writes one line to the process's own standard output; what is no number becomes null."""
    # `sys.stdout` is standard error meanwhile, so that nothing else comes between the lines.
    print(figures_as_json(table), file=sys.__stdout__, flush=True)


def plain_line(figures: dict[str, float]) -> str:
    """An iteration in one line, without what is not known."""
    parts = {
        "steps": _number(figures["env_steps"], ".0f"),
        "offline updates": _number(figures["offline_updates"] or math.nan, ".0f"),
        "return": _number(figures["return"], ".1f"),
        "training return": _number(figures["training_return"], ".1f"),
        "steps/s": _number(figures["env_steps_per_s"], ".1f"),
        "updates/s": _number(figures["updates_per_s"] or math.nan, ".0f"),
        "learner idle": _number(figures["learner_idle_share"], ".0%"),
        "model error": _number(figures["model_holdout_rmse"], ".3f"),
        "classifier accuracy": _number(figures["classifier_accuracy"], ".2f"),
        "weight lag": _number(figures["weight_lag"], ".0f"),
        "restarts": _number(figures["worker_restarts"] or math.nan, ".0f"),
        "time left": _minutes(figures["seconds_left"]),
    }
    return "  ".join(f"{name} {value}" for name, value in parts.items() if value)


def panel_rows(figures: dict[str, float], curve: str, max_weight_lag: int) -> dict[str, str]:
    """An iteration as the rows of the panel, by their names, without what is not known.

    Args:
        figures: of `RunFigures.take`.
        curve: of the returns so far.
        max_weight_lag: real steps.
    """

    def joined(*parts: tuple[str, str, str]) -> str:
        texts = [(before, _number(figures[name], form)) for name, before, form in parts]
        return ", ".join(before.format(text) for before, text in texts if text)

    rows = {
        "return": "  ".join(filter(None, (_number(figures["return"], ".1f"), curve))),
        "training return": _number(figures["training_return"], ".1f"),
        "rates": joined(
            ("env_steps_per_s", "{} real steps/s", ".1f"),
            ("updates_per_s", "{} updates/s", ".0f"),
            ("learner_idle_share", "learner idle {}", ".0%"),
        ),
        "weight lag": joined(("weight_lag", f"{{}} of {max_weight_lag} steps", ".0f")),
        "model": joined(
            ("model_holdout_rmse", "held-out error {}", ".3g"),
            ("model_holdout_nll", "{} nats per dimension", ".2f"),
        ),
        "classifier": joined(
            ("classifier_accuracy", "accuracy {}", ".2f"),
            ("classifier_logit_real", "logit {} real", "+.2f"),
            ("classifier_logit_imagined", "{} imagined", "+.2f"),
        ),
        "bound": joined(
            ("bound", "estimate {} nats", ".2f"), ("log_return", "log return {}", ".2f")
        ),
        "actors": joined(
            ("collectors", "{} collecting", ".0f"),
            ("rollout_workers", "{} imagining", ".0f"),
            ("worker_restarts", "{} restarts", ".0f"),
        ),
        "time left": _minutes(figures["seconds_left"]),
    }
    if not any(figures[name] > 0 for name in ("collectors", "rollout_workers", "worker_restarts")):
        rows["actors"] = ""  # a run in one process has none
    return {name: value for name, value in rows.items() if value}


def sparkline(values: Sequence[float], width: int = SPARKLINE_WIDTH) -> str:
    """The last `width` values as a row of blocks, from the lowest of them to the highest."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in shown)


def _whole(name: str, value: float) -> float | int:
    return int(value) if name in COUNTS and not math.isnan(value) else value


def _minutes(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds / 60:.1f} min"


def _number(value: float, form: str) -> str:
    """A figure as text; empty where there is none."""
    return "" if math.isnan(value) else format(value, form)
