"""Makes the runs of an experiment: skips those that are done, goes on with those that are not."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.learning.runs import Run
from benchmarks.learning.tables import VERSION_FILE, version
from distributed.storage import Location
from rllib_ext.algorithm import MnM
from rllib_ext.errors import UserError
from rllib_ext.interruption import Interruption
from rllib_ext.ray_session import ray_session
from rllib_ext.run_folder import SUMMARY_FILE, newest_checkpoint, prepare_resume
from rllib_ext.run_plan import RunPlan
from rllib_ext.train_command import leave
from rllib_ext.tune_run import run as tune_run


def is_done(run: Run, root: Path) -> bool:
    """Whether a run has ended, by its steps or because it met its return."""
    folder = run.folder(root)
    # The summary is written at the end; a plan of fewer steps was another experiment's length.
    return (folder / SUMMARY_FILE).is_file() and RunPlan.load(
        Location.of(folder)
    ).steps >= run.plan.steps


def make(runs: Sequence[Run], root: Path, after: Callable[[Run], None]) -> bool:
    """Makes the runs one after another, each an experiment of Tune with one trial of one process.

    Several of these commands may share a folder: a run that another one holds is left to it.

    Args:
        runs: in their order.
        root: of all runs' folders.
        after: called after each run, one that a signal stopped too.

    Returns:
        Whether none was stopped by a signal.
    """
    waiting = [run for run in runs if not is_done(run, root)]
    if not waiting:
        return True
    folder = waiting[0].folder(root)
    request = MnM.default_resource_request(waiting[0].plan.config(Location.of(folder)))
    with (
        Interruption(lambda: leave(Location.of(folder))) as interruption,
        ray_session(request),
    ):
        interruption.begin()
        for run in waiting:
            folder = run.folder(root)
            with _held(folder) as held:
                if not held or is_done(run, root):
                    continue
                summary = _make_one(run, folder)
            after(run)
            if summary is None:
                return False
    return True


def _make_one(run: Run, folder: Path) -> dict[str, object] | None:
    """One run from where its folder has it; None where a signal stopped it."""
    title = f"{run.experiment}: {run.plan.title} ({run.variant})"
    resume_from, place = None, Location.of(folder)
    if newest_checkpoint(place) is not None:
        resume_from = prepare_resume(place)
        print(f"{title}: goes on", flush=True)
    else:
        print(f"{title}: begins", flush=True)
    run.plan.save(place)
    (folder / VERSION_FILE).write_text(version())
    (folder / SUMMARY_FILE).unlink(missing_ok=True)
    try:
        summary = tune_run(run.plan, run.plan.config(place), place, [], resume_from)
    except UserError as error:
        raise UserError(f"{title}: {error}") from error
    if summary is not None:
        print(
            f"{title}: return {summary['evaluation_return_mean']:.1f} after "
            f"{summary['env_steps']} steps, {summary['wall_seconds']:.0f} s",
            flush=True,
        )
    return summary


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Holds a run for this process while it lives; yields False where another one does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
