"""Tests of exported policies: both formats give the checkpoint's actions, and no pickle is run."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from mnm.policy import TanhGaussianPolicy
from rllib_ext.errors import UserError
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.policy_export import FORMATS, export_policy
from rllib_ext.saved_policy import HEADER, load_policy
from tests.line_tasks import HIGH, LOW
from tests.rllib_ext.small_checkpoints import AGENT, TASKS, cut, overwrite, write_checkpoint

OBSERVATIONS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "normalising"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    return write_checkpoint(folder, bias=None, normalise=request.param, length=7)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each format; their names say nothing of what they are."""
    files = {name: tmp_path_factory.mktemp("exported") / "policy" for name in FORMATS}
    for name, file in files.items():
        export_policy(checkpoint, name, file)
    return files


def policy_of(checkpoint: Path) -> TanhGaussianPolicy:
    weights = torch.load(checkpoint / AGENT, weights_only=True)["networks"]
    box = (np.array([LOW], np.float32), np.array([HIGH], np.float32))
    prefix = "policy."
    own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
    policy = TanhGaussianPolicy(3, *box, (16, 16), normalise="normaliser.scale" in own)
    policy.load_state_dict(own)
    return policy


@pytest.mark.parametrize("source", ["checkpoint", *FORMATS])
def test_the_loaded_policy_acts_as_the_agents_does(
    source: str, checkpoint: Path, exported: dict[str, Path]
) -> None:
    saved = load_policy(checkpoint if source == "checkpoint" else exported[source])
    actions = saved.act(OBSERVATIONS, None)
    with torch.no_grad():
        expected = policy_of(checkpoint).deterministic(torch.from_numpy(OBSERVATIONS))
    np.testing.assert_allclose(actions, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert actions.std() > 0.01
    assert saved.header.env == f"{TASKS}:Line-v0"
    assert saved.header.env_config == {"length": 7}
    assert saved.header.algo == "mnm"
    assert saved.header.observation_dim == 3
    assert (saved.header.action_low, saved.header.action_high) == ([LOW], [HIGH])
    assert saved.header.hidden_sizes == [16, 16]


@pytest.mark.parametrize("name", FORMATS)
def test_an_exported_policy_is_evaluated_as_its_checkpoint(
    name: str, checkpoint: Path, exported: dict[str, Path]
) -> None:
    expected, found = (
        evaluate_policy(source, 4, seed=3) for source in (checkpoint, exported[name])
    )
    assert found.length_mean == expected.length_mean <= 7
    assert found.return_mean == pytest.approx(expected.return_mean, rel=1e-4)


def test_torch_means_weights_by_their_names(checkpoint: Path, exported: dict[str, Path]) -> None:
    weights = load_file(exported["torch"])
    expected = policy_of(checkpoint).state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_onnx_means_a_graph_for_any_number_of_rows(exported: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    for rows in (1, 50):
        (actions,) = session.run(["actions"], {"observations": OBSERVATIONS[:rows]})
        assert actions.shape == (rows, 1)
        assert actions.dtype == np.float32
    header = json.loads(session.get_modelmeta().custom_metadata_map[HEADER])
    assert header["env"] == f"{TASKS}:Line-v0"


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.file, "w"))


def test_no_pickle_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    sprung = tmp_path / "sprung"
    for name in ("algorithm_state.pkl", "learner_group/learner/state.pkl"):
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    evaluate_policy(folder, 1)
    agent = torch.load(folder / AGENT, weights_only=True)
    torch.save({**agent, "trap": Trap(sprung)}, folder / AGENT)
    with pytest.raises(UserError, match="is damaged: its networks cannot be read"):
        evaluate_policy(folder, 1)
    assert not sprung.exists()


def other_safetensors(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, file)


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("a policy"),
    "a pickle": lambda file: file.write_bytes(pickle.dumps(Trap(file.with_name("sprung")))),
    "agent.pt": lambda file: torch.save({"weight": torch.zeros(3)}, file),
    "zeros": lambda file: file.write_bytes(bytes(100)),
    "other safetensors": other_safetensors,
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_file_that_is_no_policy_gets_one_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "policy"
    BAD_FILES[content](file)
    with pytest.raises(UserError, match=r"is no policy: name a checkpoint folder or") as caught:
        load_policy(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("damage", [cut, overwrite])
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_gets_one_sentence(
    name: str, damage: Callable[[Path], None], exported: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "policy"
    file.write_bytes(exported[name].read_bytes())
    damage(file)
    with pytest.raises(UserError, match="is no policy"):
        load_policy(file)


def test_an_exported_policy_of_another_task_is_refused(exported: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="is of another task: its policy takes 3 observations"):
        evaluate_policy(exported["torch"], 1, env=f"{TASKS}:Plane-v0")


def test_a_task_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", env="Gone-v0")
    export_policy(folder, "torch", tmp_path / "policy")
    with pytest.raises(UserError, match=r"Cannot make the environment 'tests\.line_tasks:Gone-v0'"):
        evaluate_policy(tmp_path / "policy", 1)


@pytest.mark.parametrize("output", ["", "no/such/folder/policy"])
def test_a_place_that_cannot_be_written_is_refused(
    output: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="name a file in a folder that exists"):
        export_policy(checkpoint, "torch", tmp_path / output)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("old")
    export_policy(checkpoint, "torch", tmp_path / "policy")
    assert [file.name for file in tmp_path.iterdir()] == ["policy"]
    load_policy(tmp_path / "policy")


def test_missing_packages_are_named(
    checkpoint: Path, exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs .* onnxscript: pip install 'mnm-rl\[onnx\]'"):
        export_policy(checkpoint, "onnx", tmp_path / "policy")
    with pytest.raises(UserError, match=r"install onnxruntime: pip install 'mnm-rl\[onnx\]'"):
        load_policy(exported["onnx"])
    load_policy(exported["torch"])
