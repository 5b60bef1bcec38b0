"""How a command of `mnm` ended, and what bad input must lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def assert_one_sentence(done: Done) -> None:
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("mnm: ")
    assert len(lines[0]) > len("mnm: ") + 10
    assert "Traceback" not in done.out
