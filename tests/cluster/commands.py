"""How a command of `mnm` ended, and what bad input must lead to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TASKS = "tests.line_tasks"
LINE = f"{TASKS}:Line-v0"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Mnm = Callable[..., Done]


def without_retry(done: Done) -> Done:
    """`done` without its first line, which says that the run fails once more at the most."""
    first, _, others = done.err.partition("\n")
    assert re.fullmatch(r"The run failed \(.+\), which another try seldom mends: .*", first)
    return replace(done, err=others)


def assert_one_sentence(done: Done) -> None:
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("mnm: ")
    assert len(lines[0]) > len("mnm: ") + 10
    assert "Traceback" not in done.out
