"""Sets the metrics of `distributed.telemetry` for Ray's exporter."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

from ray.util.metrics import Gauge

from distributed.learner_core import TurnReport
from distributed.telemetry import METRICS, TIME_PARTS

INTERVAL_S = 1.0  # metrics are set at most this often; Ray exports them every ten seconds
# Shares of the learner's time are over at least this long. What a scrape does not see must still be
# in the next: nothing is set during an evaluation or a checkpoint, and the first turn after it
# reports all of it as idle.
TIME_WINDOW_S = 60.0


class Telemetry:
    """Holds the latest figures of one run, and sets them again and again.

    A metric whose figure is not known yet, or is no number, is not set.

    Args:
        run: value of the tag `run`.
        clock: seconds.
    """

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = run
        self._clock = clock
        self._set_at = -math.inf
        self._reported_at: float | None = None
        self._figures: dict[str, float] = {}
        self._seconds = dict.fromkeys(TIME_PARTS, 0.0)  # of the learner, since last set
        self._spans: deque[dict[str, float]] = deque()  # the same, each time that it was set before
        self._series: list[tuple[str, Gauge, dict[str, str]]] = []
        self._workers: dict[str, Gauge] = {}  # by role
        for metric in METRICS:
            gauge = Gauge(metric.name, metric.meaning, metric.labels)
            for figure, tags in metric.series.items():
                if metric.per_worker:
                    self._workers[tags["role"]] = gauge
                    continue
                # Of one name and set of tag keys for all: Ray wants every key with a value.
                every_tag = {**dict.fromkeys(metric.labels, ""), **tags, "run": run}
                self._series.append((figure, gauge, every_tag))

    def note(self, figures: Mapping[str, float]) -> None:
        """Takes the newest figures, by the names in the table's `series`; others are ignored."""
        self._figures.update(figures)

    def note_turn(self, report: TurnReport) -> None:
        """Takes what the table has of a turn's report alone."""
        self._reported_at = self._clock()
        for part, seconds in (*report.seconds.items(), ("idle", report.idle_s)):
            self._seconds[part] += seconds
        self.note({"env_steps": report.env_steps, **report.figures})

    def set(self, handed_over: Mapping[tuple[str, int], int]) -> None:
        """Sets all metrics, unless that was done less than a second ago.

        Args:
            handed_over: transitions of each worker, by its role and number.
        """
        now = self._clock()
        if now < self._set_at + INTERVAL_S:
            return
        self._set_at = now
        if self._reported_at is not None:
            self._figures["weights_age_seconds"] = now - self._reported_at
        if any(self._seconds.values()):
            self._note_time_shares()
        for figure, gauge, tags in self._series:
            value = self._figures.get(figure)
            if value is not None and math.isfinite(value):
                gauge.set(value, tags)
        for (role, worker), transitions in handed_over.items():
            tags = {"run": self.run, "role": role, "worker": str(worker)}
            self._workers[role].set(transitions, tags)

    def _note_time_shares(self) -> None:
        """Takes what the learner's last minute went into; the oldest span is in as a whole."""
        self._spans.append(self._seconds)
        self._seconds = dict.fromkeys(TIME_PARTS, 0.0)
        whole = sum(sum(span.values()) for span in self._spans)
        while (rest := whole - sum(self._spans[0].values())) >= TIME_WINDOW_S:
            self._spans.popleft()
            whole = rest
        for part in TIME_PARTS:
            self._figures[f"time_{part}"] = sum(span[part] for span in self._spans) / whole
