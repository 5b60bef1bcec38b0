"""Tests of MnM as an RLlib Algorithm without actors, at tiny size on one small Ray."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from distributed.storage import Location
from mnm import DataRefused, Transitions
from rllib_ext import MnM, episode_callbacks
from rllib_ext.checkpoint_files import refuse_other_task
from rllib_ext.learner import AGENT_STATE, LOG_STATE
from rllib_ext.tune_run import restore
from tests.line_tasks import HIGH, LOW
from tests.mnm.small_cases import assert_same_rows, same_tensors
from tests.rllib_ext.small_checkpoints import AGENT, REPLAY
from tests.rllib_ext.small_configs import evaluating, tiny_config
from tests.rllib_ext.whole_algorithms import (
    ask_learner,
    built,
    check_result,
    never_set_up,
    replay_of,
    save_trained,
    steps_trained,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("local_ray")

POLICY = f"{COMPONENT_LEARNER_GROUP}/{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/default_policy"


# In this process


def test_another_seed_gives_another_run() -> None:
    def run(seed: int) -> Transitions:
        with built(tiny_config("sac", seed=seed)) as made:
            made.train()
            return replay_of(made)

    assert not np.array_equal(run(0).rewards[:10], run(1).rewards[:10])


def test_an_evaluation_that_nobody_played_brings_no_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when all evaluation runners are dead: RLlib's result is then that of the one before."""
    with built(tiny_config("sac").evaluation(evaluation_interval=1)) as algo:
        returns, nothing = [], (None, 0, 0, [])
        for nobody_plays in (False, True, False):
            with monkeypatch.context() as patched:
                if nobody_plays:
                    patched.setattr(algo, "_evaluate_on_local_env_runner", lambda _: nothing)
                result = algo.train()["evaluation"]["env_runners"]
            returns.append(result["episode_return_mean"])
    assert np.isfinite(returns).tolist() == [True, False, True]


def test_an_evaluation_by_steps_counts_where_no_episode_ends() -> None:
    config = tiny_config("sac", env_config={"length": 10**6, "limit": 1e9})
    config.evaluation(evaluation_duration=3, evaluation_duration_unit="timesteps")
    with built(config.evaluation(evaluation_interval=1)) as algo:
        played = algo.evaluate()["env_runners"]
    assert played["num_env_steps_sampled"] == 3


def test_an_evaluation_of_automatic_length_goes_on() -> None:
    """RLlib estimates its steps from the second one on, and asks for a fraction."""
    config = tiny_config("sac").evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
        evaluation_duration="auto",
        evaluation_auto_duration_min_env_steps_per_sample=20,
    )
    with built(config) as algo:
        for _ in range(3):
            assert algo.train()["evaluation"]["num_healthy_workers"] == 1


def test_values_that_are_not_numbers_stop_the_run_and_name_the_step() -> None:
    with built(tiny_config("sac", env_config={"nan_after": 25})) as algo:
        with pytest.raises(ValueError, match=r"not finite in .*observations at real step (2\d)\b"):
            algo.train()
        assert len(replay_of(algo)) <= 25


def test_a_reward_that_the_transform_refuses_names_value_and_setting() -> None:
    config = tiny_config("mnm", env_config={"reward": -1.5}, reward_transform="shift")
    with (
        built(config) as algo,
        pytest.raises(ValueError, match=r"reward -1\.5 .*set reward_shift above 1\.5"),
    ):
        algo.train()


def test_the_module_has_the_learners_weights_and_scale() -> None:
    with built(tiny_config("sac")) as algo:
        algo.train()
        module, weights = algo.get_module(), weights_of(algo)
        state = {f"policy.{name}": value for name, value in module.policy.state_dict().items()}
        own = {name: value for name, value in weights.items() if name.startswith("policy.")}
        assert same_tensors(state, own)
        actions = module.forward_inference({Columns.OBS: 100 * torch.randn(200, 3)})
        assert actions[Columns.ACTIONS].min() >= LOW
        assert actions[Columns.ACTIONS].max() <= HIGH
        assert algo.train()["training_iteration"] == 2


# Callbacks


class Book(RLlibCallback):
    """Notes which hooks are called; the test's own process calls them."""

    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - RLlib makes the objects

    def on_episode_start(self, **info: Any) -> None:
        self.calls.append(("start", info))

    def on_episode_step(self, **info: Any) -> None:
        self.calls.append(("step", info))

    def on_episode_end(self, **info: Any) -> None:
        self.calls.append(("end", info))


def test_episode_hooks_are_called_with_proper_episodes() -> None:
    Book.calls.clear()
    config = tiny_config("sac", env_config={"length": 4, "limit": 1e9}).callbacks(Book)
    with built(config) as algo:
        result = algo.train()
        kinds = [kind for kind, _ in Book.calls]
        ended = [info for kind, info in Book.calls if kind == "end"]
        assert len(ended) == result["env_runners"]["num_episodes_lifetime"] > 5
        assert kinds.count("step") == result["num_env_steps_sampled_lifetime"]
        assert kinds[:6] == ["start", "step", "step", "step", "step", "end"]
        returns = [info["episode"].get_return() for info in ended]
        assert np.mean(returns) == pytest.approx(result["env_runners"]["episode_return_mean"])
        info = ended[0]
        episode = info["episode"]
        assert isinstance(episode, SingleAgentEpisode)
        assert len(episode) == 4
        assert episode.is_truncated
        assert not episode.is_terminated
        assert [observation[1] for observation in episode.get_observations()] == [0, 1, 2, 3, 4]
        assert info["env_runner"] is algo.env_runner
        assert info["rl_module"] is algo.env_runner.module
        assert info["env_index"] == 0
        assert info["env"].envs[0].unwrapped.length == 4


def test_a_callback_function_can_log_its_own_metric() -> None:
    def log_length(episode: Any, metrics_logger: Any, **info: Any) -> None:
        metrics_logger.log_value("longest", len(episode), reduce="max", window=100)

    config = tiny_config("sac", env_config={"length": 6, "limit": 1e9})
    with built(config.callbacks(on_episode_end=log_length)) as algo:
        assert algo.train()["env_runners"]["longest"] == 6


def test_without_an_episode_hook_no_episode_object_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("an episode object was built")

    monkeypatch.setattr(episode_callbacks, "SingleAgentEpisode", refuse)
    seen: list[int] = []
    config = tiny_config("sac").callbacks(
        on_train_result=lambda result, **info: seen.append(result["training_iteration"])
    )
    with built(config) as algo:
        algo.train()
        assert seen == [1]
    with (
        built(tiny_config("sac").callbacks(on_episode_end=lambda **info: None)) as algo,
        pytest.raises(AssertionError, match="an episode object was built"),
    ):
        algo.train()


# State and checkpoints


def test_a_state_goes_from_one_algorithm_to_another() -> None:
    with built(tiny_config("mnm", seed=1)) as first, built(tiny_config("mnm", seed=2)) as second:
        for _ in range(3):
            first.train()
        state = first.get_state()
        weights = weights_of(first)
        first.train()  # the state is a copy
        second.set_state(state)
        assert same_tensors(weights_of(second), weights)
        # What the flow waits for is what it has: else it would wait for ever.
        published = second.coordinator.latest
        assert published is not None
        assert published.env_steps == second.coordinator.counts.steps_returned >= 120
        assert second.train()["num_env_steps_sampled_lifetime"] >= 160


@pytest.fixture(scope="module")
def saved(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A checkpoint made without actors and what it was made of."""
    return save_trained(tmp_path_factory.mktemp("saved") / "checkpoint")


def test_a_restored_run_goes_on_where_it_stood(saved: dict[str, Any]) -> None:
    algo = MnM.from_checkpoint(str(saved["path"]))
    try:
        assert algo.iteration == 2
        assert same_tensors(weights_of(algo), saved["weights"])
        assert_same_rows(replay_of(algo), saved["rows"])
        state = ask_learner(algo, lambda learner: learner.core.agent.state_dict())
        assert state["counters"] == saved["state"]["counters"]
        assert torch.equal(state["generator"], saved["state"]["generator"])
        before, after = saved["result"], algo.train()
        assert after["training_iteration"] == 3
        for name in (
            "num_env_steps_sampled_lifetime",
            "num_updates_lifetime",
            "num_synthetic_transitions_lifetime",
            "weights_version",
        ):
            assert after[name] > before[name], name
        check_result(after, ratio=1.0)
        new = replay_of(algo)
        assert len(new) == steps_trained(after)
        assert_same_rows(new[: len(saved["rows"])], saved["rows"])
        old_episodes = set(saved["rows"].episode_ids.tolist())
        assert not old_episodes & set(new.episode_ids[len(saved["rows"]) :].tolist())
    finally:
        algo.stop()


def test_the_saved_policy_is_an_rl_module_of_the_right_scale(saved: dict[str, Any]) -> None:
    module = RLModule.from_checkpoint(str(saved["path"] / POLICY))
    state = {f"policy.{name}": value for name, value in module.policy.state_dict().items()}
    assert all(torch.equal(value, saved["weights"][name]) for name, value in state.items())
    actions = module.forward_inference({Columns.OBS: 100 * torch.randn(200, 3)})[Columns.ACTIONS]
    assert actions.min() >= LOW
    assert actions.max() <= HIGH
    assert actions.abs().max() > 1.0, "on the scale of -1 to 1"


def test_the_agents_file_loads_without_running_pickled_code(saved: dict[str, Any]) -> None:
    whole = torch.load(saved["path"] / AGENT, weights_only=True)
    assert same_tensors(dict(whole["networks"]), saved["weights"])


def test_the_agent_is_in_its_own_file_alone(saved: dict[str, Any]) -> None:
    """What RLlib pickles would not load without the GPU that it was saved on."""
    pickled = pickle.loads((saved["path"] / AGENT).with_name("state.pkl").read_bytes())
    assert AGENT_STATE not in pickled
    assert LOG_STATE in pickled


def test_a_checkpoint_of_a_resumed_run_needs_no_other(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(saved["path"], first)
    resume = partial(restore, Location.of(first))
    with built(tiny_config("mnm").callbacks(on_algorithm_init=resume)) as algo:
        assert algo.iteration == 2
        algo.save_to_path(tmp_path / "second")
    shutil.rmtree(first)
    again = MnM.from_checkpoint(str(tmp_path / "second"))
    try:
        assert same_tensors(weights_of(again), saved["weights"])
    finally:
        again.stop()


def test_the_replay_lies_beside_it_as_parquet(saved: dict[str, Any]) -> None:
    table = pq.read_table(saved["path"] / REPLAY / "real")
    assert table.num_rows == len(saved["rows"])
    np.testing.assert_array_equal(table["rewards"].to_numpy(), saved["rows"].rewards)
    manifest = json.loads((saved["path"] / REPLAY / "manifest.json").read_text())
    assert manifest.keys() == {"real", "synthetic"}
    assert manifest["real"]["size"] == len(saved["rows"])


def test_the_checkpoint_says_what_it_is_of(saved: dict[str, Any]) -> None:
    task = json.loads((saved["path"] / "task.json").read_text())
    assert task["env"] == "tests.line_tasks:Line-v0"
    assert task["algo"] == "mnm"
    files = {file for file in saved["path"].rglob("*") if file.is_file()}
    listed = {saved["path"] / name: size for name, size in task["files"].items()}
    assert files - {saved["path"] / "task.json"} == listed.keys()
    assert all(file.stat().st_size == size for file, size in listed.items())


@pytest.fixture(scope="module")
def other(local_ray: None) -> Iterator[MnM]:
    """An algorithm like the saved one, to restore into."""
    with built(evaluating(tiny_config("mnm"))) as algo:
        yield algo


def test_a_live_restore_goes_back_and_is_evaluated_as_such(
    other: MnM, saved: dict[str, Any]
) -> None:
    for _ in range(4):
        other.train()  # beyond the saved version of the weights, the evaluation's runner too
    other.restore_from_path(str(saved["path"]))
    assert same_tensors(weights_of(other), saved["weights"])
    other.evaluate()
    evaluated = other.eval_env_runner.module.policy.state_dict()
    assert all(torch.equal(v, saved["weights"][f"policy.{n}"]) for n, v in evaluated.items())
    result = other.train()
    assert result["num_env_steps_sampled_lifetime"] < (
        saved["result"]["num_env_steps_sampled_lifetime"] + 60
    )


def test_a_component_can_be_restored_alone(other: MnM, saved: dict[str, Any]) -> None:
    """RLlib's way of loading weights only."""
    other.train()
    steps = len(replay_of(other))
    other.restore_from_path(str(saved["path"] / POLICY), component=POLICY)
    weights = weights_of(other)
    policy = {n: v for n, v in saved["weights"].items() if n.startswith("policy.")}
    assert all(torch.equal(weights[name], value) for name, value in policy.items())
    assert len(replay_of(other)) == steps


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"algo": "mbpo"}, "algo='mnm', this algorithm has algo='mbpo'"),
        ({"algo": "mnm-approx"}, "algo='mnm', this algorithm has algo='mnm-approx'"),
        ({"env": "tests.line_tasks:Twin-v0"}, "made with env='tests.line_tasks:Line-v0'"),
        ({"env": "tests.line_tasks:Plane-v0"}, "made with env='tests.line_tasks:Line-v0'"),
        ({"env_config": {"length": 20}}, "made with env_config={}"),
        ({"hidden_sizes": (8, 8)}, "made with hidden_sizes="),
        ({"dynamics_hidden_sizes": (8, 8)}, "made with dynamics_hidden_sizes="),
        ({"ensemble_size": 4}, "made with ensemble_size="),
        ({"bound": "learned-stopping"}, "made with bound="),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    options: dict[str, Any], sentence: str, saved: dict[str, Any]
) -> None:
    config = tiny_config(**options)
    algo = never_set_up(config=config, _settings=config.settings())
    with pytest.raises(DataRefused, match=f"{sentence}.* restore with") as caught:
        refuse_other_task(fs.LocalFileSystem(), str(saved["path"]), algo._task())
    assert "\n" not in str(caught.value)


def test_a_restore_asks_whether_the_checkpoint_is_of_something_else(saved: dict[str, Any]) -> None:
    """As when Population Based Training mutates a size."""
    with (
        built(tiny_config(hidden_sizes=(8, 8))) as algo,
        pytest.raises(DataRefused, match=r"was made with hidden_sizes=.* restore with"),
    ):
        algo.restore_from_path(str(saved["path"]))


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not found"):
        MnM.from_checkpoint(str(tmp_path / "nothing"))
