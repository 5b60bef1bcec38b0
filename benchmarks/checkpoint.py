"""Checkpoints: milliseconds and megabytes of a saved replay against its size."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.learner_device import ACTION_DIM, OBSERVATION_DIM, random_transitions
from benchmarks.measure import Row, summarise
from distributed.replay_files import ReplayFiles
from distributed.storage import file_sizes, resolve
from mnm.replay import ReplayBuffer

NEW_ROWS = 1000  # between two saves


def milliseconds(work: Callable[[], None]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def measure(size: int, repeats: int) -> list[Row]:
    """First save, a save after `NEW_ROWS` more rows, load, and megabytes, of a full ring."""
    buffer = ReplayBuffer(size, OBSERVATION_DIM, ACTION_DIM, "cpu")
    buffer.append(random_transitions(size))
    new = random_transitions(NEW_ROWS)
    first, following, load = [], [], []
    megabytes = 0.0
    with tempfile.TemporaryDirectory() as name:
        a, b = Path(name) / "a", Path(name) / "b"
        for _ in range(repeats + 1):  # one to warm up
            files = ReplayFiles()
            first.append(milliseconds(lambda: files.save({"real": buffer}, a)))  # noqa: B023
            buffer.append(new)
            following.append(milliseconds(lambda: files.save({"real": buffer}, b)))  # noqa: B023
            load.append(milliseconds(lambda: ReplayFiles().load({"real": buffer}, b)))
            megabytes = sum(file_sizes(*resolve(b)).values()) / 1e6
            files.close()
            for folder in (a, b):
                shutil.rmtree(folder)
    title = f"checkpoint: {size:,} rows, "
    return [
        summarise(f"{title}first save", "ms (less is better)", first[1:]),
        summarise(f"{title}save after {NEW_ROWS:,} new rows", "ms (less is better)", following[1:]),
        summarise(f"{title}load", "ms (less is better)", load[1:]),
        summarise(f"{title}size", "MB (less is better)", [megabytes]),
    ]


def rows(quick: bool) -> list[Row]:
    """Replays of 10,000, 100,000 and, unless quick, a million rows of HalfCheetah's widths."""
    sizes = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    return [line for size in sizes for line in measure(size, 3 if quick else 5)]
