"""Tests that an environment's arguments read alike in every process, also those no JSON holds."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs

from mnm import DataRefused
from rllib_ext.checkpoint_files import refuse_other_task, write_task_file
from rllib_ext.errors import UserError
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.plain_values import NAMED, figures_as_json, is_same, name_within, plain
from tests.line_tasks import Line
from tests.rllib_ext.small_checkpoints import TASKS, write_checkpoint

HERE = __name__


def pays_nothing(observation: Any) -> float:
    return 0.0


def pays_more(observation: Any) -> float:
    return 1.0


CASES: dict[str, tuple[Any, Any]] = {
    "plain values": (
        {"a": [1, 2.5, None], "b": {"c": True}},
        {"a": [1, 2.5, None], "b": {"c": True}},
    ),
    "tuple": ((1, (2,)), [1, [2]]),
    "set": ({"b", "a", "c"}, ["a", "b", "c"]),
    "numbers of NumPy": ([np.float32(0.5), np.int64(3), np.bool_(True)], [0.5, 3, True]),
    "array": (np.ones((2, 1)), [[1.0], [1.0]]),
    "path": (Path("/data/map"), "/data/map"),
    "keys": ({(1, 2): "x"}, {"[1, 2]": "x"}),
    "function": (pays_nothing, {NAMED: f"{HERE}.pays_nothing"}),
    "class": ({"make": [Line]}, {"make": [{NAMED: f"{TASKS}.Line"}]}),
    "object": (functools.partial(pays_nothing), {NAMED: "functools.partial()"}),
    "number that is none in JSON": (np.longdouble(1), {NAMED: "numpy.longdouble()"}),
}


# `repr(pays_nothing)`, the same in every process, as the tests' names have it.
OF_BEFORE = "<function pays_nothing at 0x7f1816bdfe20>"


@pytest.mark.parametrize("indent", [None, 2])
def test_figures_that_are_no_numbers_become_null(indent: int | None) -> None:
    figures = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float64(1.5), "e": 2, "f": "x"}

    def refuse(word: str) -> None:
        raise AssertionError(word)

    read = json.loads(figures_as_json(figures, indent), parse_constant=refuse)
    assert read == {"a": None, "b": None, "c": None, "d": 1.5, "e": 2, "f": "x"}


@pytest.mark.parametrize("case", CASES)
def test_what_json_cannot_hold_is_named_without_an_address(case: str) -> None:
    value, expected = CASES[case]
    assert plain(value) == expected
    json.dumps(plain(value))
    assert is_same(plain(value), plain(value))


def test_another_process_writes_the_same() -> None:
    program = (
        "import functools, json, operator; from rllib_ext.plain_values import plain; "
        "print(json.dumps(plain({'one': {'b', 'a', 'c', operator.add}, 'two': object()})))"
    )

    def written(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert written("1") == written("2")
    assert "0x" not in written("1")


@pytest.mark.parametrize(
    ("saved", "own", "same"),
    [
        (plain(pays_nothing), plain(pays_more), False),
        (plain(pays_nothing), plain(functools.partial(pays_nothing)), False),
        ({NAMED: "pays_nothing"}, plain(pays_nothing), True),  # its module was run as a program
        ({NAMED: "s_nothing"}, plain(pays_nothing), False),
        (OF_BEFORE, plain(pays_nothing), True),  # of a checkpoint from before
        (plain(pays_nothing), "text", False),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": math.nan}, {"a": math.nan}, True),
        (20, 20.0, True),
        ("20", 20, False),
        (None, {}, False),
    ],
)
def test_only_what_can_be_compared_is(saved: Any, own: Any, same: bool) -> None:
    assert is_same(saved, own) is same


def test_a_checkpoint_made_with_a_function_is_that_of_a_config_with_it(tmp_path: Path) -> None:
    def task(reward: Any) -> dict[str, Any]:
        return plain({"env": "Line-v0", "env_config": {"reward": reward}, "algo": "sac"})

    progress = {"training_iteration": 1, "env_steps": 10, "time_total_s": 1.0}
    files = fs.LocalFileSystem()
    write_task_file(files, str(tmp_path), {**task(pays_nothing), **progress})
    refuse_other_task(files, str(tmp_path), task(pays_nothing))
    with pytest.raises(
        DataRefused, match=r"made with env_config=.*pays_nothing.*pays_more"
    ) as told:
        refuse_other_task(files, str(tmp_path), task(pays_more))
    assert "0x" not in str(told.value)


@pytest.mark.parametrize("value", [plain({"of": [pays_nothing]}), OF_BEFORE])
def test_the_evaluation_asks_for_what_a_checkpoint_cannot_hold(value: Any, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", length=4, reward=value)
    assert "pays_nothing" in (name_within(value) or "")
    with pytest.raises(UserError, match=r"Line-v0 was made with reward=.*pays_nothing.* --env\.$"):
        evaluate_policy(checkpoint, 1)
    evaluation = evaluate_policy(checkpoint, 1, env=f"{TASKS}:Line-v0")
    assert evaluation.length_mean <= 4, "the other arguments are taken"
