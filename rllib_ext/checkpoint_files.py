"""The files of a checkpoint, and `task.json`, which is written last and lists them."""

from __future__ import annotations

import json
from typing import Any

from pyarrow import fs

from distributed.storage import file_sizes, read_file, write_file
from mnm import DataRefused, Settings
from rllib_ext.plain_values import is_same

# {"env", "env_config", "algo", sizes of networks, "training_iteration", "env_steps",
#  "time_total_s", "files": {path: bytes}}
TASK_FILE = "task.json"
TASK_NAMES = (
    "env",
    "env_config",
    "algo",
    "training_iteration",
    "env_steps",
    "time_total_s",
    "files",
)
BEFORE = {"predicted_rewards": 1}  # what held where a task file does not say so yet
LEARNER_FOLDER = "learner_group/learner"
AGENT_FILE = "agent.pt"  # of the learner: tensors and plain values, loads with weights_only=True
REPLAY_FOLDER = "replay"  # of the learner: Parquet parts and their manifest


def write_task_file(filesystem: fs.FileSystem, folder: str, task: dict[str, Any]) -> None:
    """Marks the checkpoint in `folder` as whole: all of it is there by now.

    Args:
        filesystem: that `folder` is on.
        folder: of the checkpoint.
        task: what it is of, in plain values.
    """
    content = {**task, "files": file_sizes(filesystem, folder)}
    write_file(filesystem, f"{folder}/{TASK_FILE}", json.dumps(content, indent=1).encode())


def remove_task_file(filesystem: fs.FileSystem, folder: str) -> None:
    """Takes the mark away from a checkpoint that is about to be overwritten, if there is one."""
    file = f"{folder}/{TASK_FILE}"
    if filesystem.get_file_info(file).is_file:
        filesystem.delete_file(file)


def read_task_file(filesystem: fs.FileSystem, folder: str) -> dict[str, Any]:
    """What `write_task_file` wrote.

    Raises:
        FileNotFoundError: there is no `task.json`.
        ValueError: it cannot be read.
    """
    try:
        task = json.loads(read_file(filesystem, f"{folder}/{TASK_FILE}"))
        return {**task, **{name: task[name] for name in TASK_NAMES}}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The checkpoint {folder} is damaged: {TASK_FILE} cannot be read ({error!r})."
        ) from error


def checkpoint_fault(filesystem: fs.FileSystem, folder: str) -> str | None:
    """One sentence on the first thing that a checkpoint lacks; None where it is whole.

    Every file that `task.json` lists must be there with its length: a copy that was cut off, a
    deletion that was, and a checkpoint whose writer died are all seen. Files may have been added.
    """
    try:
        expected = read_task_file(filesystem, folder)["files"]
    except FileNotFoundError:
        return f"{folder} is not a whole checkpoint of mnm: {TASK_FILE} is missing."
    except ValueError as error:
        return str(error)
    found = file_sizes(filesystem, folder)
    for name, size in expected.items():
        if name not in found:
            return f"The checkpoint {folder} is not whole: {name} is missing."
        if found[name] != size:
            return (
                f"The checkpoint {folder} is not whole: {name} has {found[name]} bytes instead of "
                f"{size}."
            )
    return None


def refuse_other_task(filesystem: fs.FileSystem, folder: str, own: dict[str, Any]) -> None:
    """Checks that a checkpoint is whole, and of the task that is to be restored.

    A setting that came after the checkpoint was made had its default's effect in it.

    Args:
        filesystem: that `folder` is on.
        folder: of the checkpoint.
        own: what `task.json` must say, as `plain` gives it.

    Raises:
        DataRefused: it is of another task.
        ValueError: it is not whole.
    """
    fault = checkpoint_fault(filesystem, folder)
    if fault is not None:
        raise ValueError(fault)
    saved = {**Settings().to_dict(), **BEFORE, **read_task_file(filesystem, folder)}
    for name, value in own.items():
        if not is_same(saved.get(name), value):
            raise DataRefused(
                f"The checkpoint {folder} was made with {name}={saved.get(name)!r}, this "
                f"algorithm has {name}={value!r}: restore with the settings, and the version, "
                "it was made with."
            )
