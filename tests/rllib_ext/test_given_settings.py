"""Tests of settings as a user gives them: words and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_ext.errors import UserError
from rllib_ext.given_settings import parse_assignments, read_settings_file


def test_assignments_are_read_as_yaml_and_numbers() -> None:
    words = [
        "gamma=0.9",
        "batch_size=32",
        "actor_lr=1e-3",
        "hidden_sizes=[8, 8]",
        "dynamics_weight_decay=[1e-4, 0.5]",
        "classifier_reward_weight=auto",
        "terminal_reward=null",
        "termination=my_module:my_function",
    ]
    assert parse_assignments(words) == {
        "gamma": 0.9,
        "batch_size": 32,
        "actor_lr": 1e-3,
        "hidden_sizes": [8, 8],
        "dynamics_weight_decay": [1e-4, 0.5],
        "classifier_reward_weight": "auto",
        "terminal_reward": None,
        "termination": "my_module:my_function",
    }


@pytest.mark.parametrize("word", ["gamma", "=0.9", "gamma=", "hidden_sizes=[8, 8"])
def test_what_is_no_assignment_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="is not valid") as caught:
        parse_assignments([word])
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_settings_file_may_be_yaml_or_json(tmp_path: Path, suffix: str) -> None:
    table = {"actor_lr": 1e-4, "hidden_sizes": [8, 8], "dynamics_weight_decay": [1e-4, 0.5]}
    file = tmp_path / f"settings.{suffix}"
    words = "actor_lr: 1e-4\nhidden_sizes: [8, 8]\ndynamics_weight_decay: [1e-4, 0.5]"
    file.write_text(json.dumps(table) if suffix == "json" else words)
    assert read_settings_file(file) == table


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: .*No such file"),
        (b"\xff\xfe\x00\x01", "cannot be read"),
        (b"gamma: [", "cannot be read"),
        (b"- gamma", "holds no table of NAME: VALUE"),
        (b"", "holds no table of NAME: VALUE"),
    ],
)
def test_a_bad_settings_file_gets_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read_settings_file(file)
    assert "\n" not in str(caught.value)
