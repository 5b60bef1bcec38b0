"""Marks a run's start, checkpoints and end on the graphs of a Grafana; never disturbs the run."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from ray import tune

from rllib_ext.errors import UserError, warn
from rllib_ext.grafana_connection import URL_VARIABLE, Grafana, read_token
from rllib_ext.run_folder import STEPS_COLUMN

TAG = "mnm"
TIMEOUT_S = 5.0  # of one mark, and of what is still under way when the run ends


def run_annotations(url: str | None, asked: bool, run: str, title: str) -> list[tune.Callback]:
    """The callback that marks a run, or none.

    Args:
        url: of Grafana; None: nothing is marked.
        asked: whether the user named it for this run; else it comes from the environment, and what
            is wrong with it is said and does not stop the run.
        run: value of the metrics' label `run`.
        title: of the run.

    Raises:
        UserError: it was asked for, and the URL is not valid or there is no token.
    """
    if url is None:
        return []
    try:
        return [RunAnnotations(Grafana(url, read_token(), TIMEOUT_S), run, title)]
    except UserError as error:
        if asked:
            raise
        warn(f"{URL_VARIABLE} is set and the run cannot be marked there: {error}")
        return []


class RunAnnotations(tune.Callback):
    """Posts an annotation for each event of the run, in a thread of its own and in their order.

    The first failure is said; what fails after it is not.

    Args:
        grafana: where to; not kept where Tune writes its callbacks to the run's folder, as it
            holds a token.
        run: value of the metrics' label `run`; a tag of the annotations.
        title: of the run.
    """

    def __init__(self, grafana: Grafana, run: str, title: str) -> None:
        self.grafana: Grafana | None = grafana
        self.run, self.title = run, title
        self._started = False
        self._warned = False
        self._thread: ThreadPoolExecutor | None = None
        self._posts: list[Future[None]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "grafana": None, "_thread": None, "_posts": []}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """At the start, and each time the run goes on after a failure."""
        self._post("start", "goes on after a failure" if self._started else "starts")
        self._started = True

    def on_checkpoint(
        self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any
    ) -> None:
        """After a checkpoint was written."""
        self._post("checkpoint", f"checkpoint at {_steps(trial)} real steps")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """After the run; waits a little for what is under way."""
        for trial in trials:
            how = "failed" if trial.status == "ERROR" else "ended"
            self._post("end", f"{how} at {_steps(trial)} real steps")
        wait(self._posts, TIMEOUT_S)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _post(self, event: str, text: str) -> None:
        if self.grafana is None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="grafana")
        milliseconds = int(time.time() * 1000)
        self._posts.append(
            self._thread.submit(self._send, event, f"{self.title}: {text}", milliseconds)
        )

    def _send(self, event: str, text: str, milliseconds: int) -> None:
        assert self.grafana is not None
        try:
            self.grafana.ask(
                "mark events of a run",
                lambda face: face.annotations.add_annotation(
                    time_from=milliseconds, tags=[TAG, event, self.run], text=text
                ),
                role="Editor",
            )
        except UserError as error:
            if not self._warned:
                self._warned = True
                warn(f"the run goes on, without its marks in Grafana: {error}")


def _steps(trial: Any) -> int:
    return int((trial.last_result or {}).get(STEPS_COLUMN, 0))
