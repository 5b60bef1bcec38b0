"""Tests of MnMConfig: its settings, what it refuses and in which words."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from mnm import Settings
from mnm.settings import ALGORITHMS, PRESETS
from rllib_ext import MnM, MnMConfig
from rllib_ext.rl_modules import PolicyModule
from rllib_ext.setting_names import OWN_NAMES
from tests.rllib_ext.small_configs import LINE, MOST, plain, tiny_config

SETTINGS = [field.name for field in fields(Settings)]


def keywords_of_training() -> list[inspect.Parameter]:
    parameters = list(inspect.signature(MnMConfig.training).parameters.values())
    assert parameters[0].name == "self"
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    return parameters[1:-1]


def test_training_takes_exactly_the_settings_and_its_own() -> None:
    assert [parameter.name for parameter in keywords_of_training()] == [*SETTINGS, *OWN_NAMES]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in keywords_of_training())


@pytest.mark.parametrize("name", [parameter.name for parameter in keywords_of_training()])
def test_training_documents_each_setting(name: str) -> None:
    documented = inspect.getdoc(MnMConfig.training) or ""
    assert re.search(rf"^ +{name}: \S.{{10,}}", documented, re.MULTILINE)


def test_training_sets_what_it_is_given_and_nothing_else() -> None:
    config = MnMConfig().training(gamma=0.9, hidden_sizes=[8, 8]).training(batch_size=32)
    settings = config.settings()
    assert (settings.gamma, settings.hidden_sizes, settings.batch_size) == (0.9, (8, 8), 32)
    assert settings.replace(gamma=0.99, hidden_sizes=(256, 256), batch_size=256) == (
        Settings.preset("mnm")
    )


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_what_is_left_alone_is_the_algorithms_preset(algo: Any) -> None:
    settings = MnMConfig().training(algo=algo).settings()
    assert settings == Settings.preset(algo)
    assert settings.algo == algo
    for name, value in PRESETS[algo].items():
        assert getattr(settings, name) == value


def test_none_goes_back_to_the_preset() -> None:
    config = MnMConfig().training(gamma=0.9).training(gamma=None)
    assert config.settings().gamma == Settings().gamma


def test_an_unknown_setting_is_refused_by_python_itself() -> None:
    with pytest.raises(TypeError, match="no_such_setting"):
        MnMConfig().training(no_such_setting=1)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_plain_config_is_valid(algo: Any) -> None:
    MnMConfig().environment("Hopper-v5").training(algo=algo).validate()


def test_the_config_of_the_documentation_is_valid() -> None:
    config = (
        MnMConfig()
        .environment("Hopper-v5")
        .env_runners(num_env_runners=2)
        .training(algo="mnm", num_rollout_workers=1)
    )
    config.validate()
    assert config.algo_class is MnM


REFUSALS: dict[str, tuple[Any, str]] = {
    "no environment": (lambda: MnMConfig(), r"No environment is set: call \.environment"),
    "env-to-module connector": (
        lambda: plain().env_runners(env_to_module_connector=lambda *args, **kwargs: None),
        "env_to_module_connector is not supported: .* Gymnasium wrapper",
    ),
    "module-to-env connector": (
        lambda: plain().env_runners(module_to_env_connector=lambda *args, **kwargs: None),
        "module_to_env_connector is not supported",
    ),
    "learner connector": (
        lambda: plain().training(learner_connector=lambda *args, **kwargs: None),
        "learner_connector is not supported",
    ),
    "no local runner": (
        lambda: plain().env_runners(num_env_runners=1, create_local_env_runner=False),
        "create_local_env_runner=False is not supported with remote runners",
    ),
    "observation filter": (
        lambda: plain().env_runners(observation_filter="MeanStdFilter"),
        "observation_filter='MeanStdFilter' has no effect on MnM: set normalise_observations",
    ),
    "clipped rewards": (
        lambda: plain().environment(clip_rewards=True),
        "clip_rewards=True has no effect on MnM: use a Gymnasium wrapper",
    ),
    "GPUs of the driver": (
        lambda: plain().resources(num_gpus=1),
        r"num_gpus=1 has no effect on MnM: .* learners\(num_gpus_per_learner=1\)",
    ),
    "a policy that is not trained": (
        lambda: plain().multi_agent(policies_to_train=[]),
        r"policies_to_train=\[\] has no effect on MnM",
    ),
    "aggregators": (
        lambda: plain().learners(num_aggregator_actors_per_learner=2),
        "num_aggregator_actors_per_learner=2 has no effect on MnM",
    ),
    "multi-agent": (
        lambda: plain().multi_agent(
            policies={"one", "other"}, policy_mapping_fn=lambda *args, **kwargs: "one"
        ),
        "Multi-agent environments are not supported",
    ),
    "two learners": (
        lambda: plain().learners(num_learners=2),
        "num_learners=2 is not supported: .* use 0 .* or 1",
    ),
    "lr": (lambda: plain().training(lr=3e-4), "lr has no effect on MnM: use actor_lr"),
    "grad_clip": (
        lambda: plain().training(grad_clip=1.0),
        "grad_clip has no effect on MnM: use model_grad_clip",
    ),
    "train_batch_size_per_learner": (
        lambda: plain().training(train_batch_size_per_learner=64),
        "train_batch_size_per_learner has no effect on MnM: use batch_size",
    ),
    "num_epochs": (
        lambda: plain().training(num_epochs=3),
        "num_epochs has no effect on MnM: use updates_to_data_ratio",
    ),
    "minibatch_size": (
        lambda: plain().training(minibatch_size=3),
        "minibatch_size has no effect on MnM: use batch_size",
    ),
    "model_config": (
        lambda: plain().rl_module(model_config={"fcnet_hiddens": [64, 64]}),
        r"^model_config has no effect on MnM: use hidden_sizes, .* in training\(\)\.$",
    ),
    "model_config as a dataclass": (
        lambda: plain().rl_module(model_config=DefaultModelConfig()),
        r"^model_config=.* has no effect on MnM: use hidden_sizes",
    ),
    "model": (
        lambda: plain().training(model={"fcnet_hiddens": [64, 64]}),
        "^model has no effect on MnM: use hidden_sizes",
    ),
    "learner_config_dict": (
        lambda: plain().training(learner_config_dict={"actor_lr": 1e-3}),
        r"^learner_config_dict has no effect on MnM: set .* by its name in training\(\)",
    ),
    "learner_config_dict of learners": (
        lambda: plain().learners(learner_config_dict={"actor_lr": 1e-3}),
        "^learner_config_dict has no effect on MnM",
    ),
    "explore": (
        lambda: plain().env_runners(explore=False),
        "^explore=False has no effect on MnM: collectors always sample .*evaluation_config",
    ),
    "batch_mode": (
        lambda: plain().env_runners(batch_mode="complete_episodes"),
        "^batch_mode='complete_episodes' has no effect on MnM: .* rollout_fragment_length",
    ),
    "max_requests_in_flight_per_env_runner": (
        lambda: plain().env_runners(max_requests_in_flight_per_env_runner=1),
        "^max_requests_in_flight_per_env_runner=1 has no effect on MnM: .* max_weight_lag",
    ),
    "own rl_module_spec": (
        lambda: plain().rl_module(rl_module_spec=RLModuleSpec(module_class=PolicyModule)),
        "A custom rl_module_spec is not supported",
    ),
    "old API stack": (
        lambda: plain().api_stack(
            enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False
        ),
        "new API stack",
    ),
    "sac with rollout workers": (
        lambda: plain().training(algo="sac", num_rollout_workers=1),
        "'sac' has no model to imagine with: set num_rollout_workers=0",
    ),
    "negative rollout workers": (
        lambda: plain().training(num_rollout_workers=-1),
        "num_rollout_workers=-1 is not valid: use 0 or more",
    ),
    "fewer runners at the most than reserved": (
        lambda: plain().learners(num_learners=1).env_runners(num_env_runners=2, **{MOST: 1}),
        "max_num_env_runners=1 is not valid: use num_env_runners=2 or more",
    ),
    "half a runner at the most": (
        lambda: plain().learners(num_learners=1).env_runners(num_env_runners=1, **{MOST: 1.5}),
        "max_num_env_runners=1.5 is not valid",
    ),
    "runners beside none": (
        lambda: plain().learners(num_learners=1).env_runners(num_env_runners=0, **{MOST: 2}),
        "max_num_env_runners=2 needs an actor to grow from: set num_env_runners=1",
    ),
    "more runners without a learner of its own": (
        lambda: plain().env_runners(num_env_runners=1, **{MOST: 2}),
        r"max_num_env_runners=2 needs a learner of its own.* \.learners\(num_learners=1\)",
    ),
    "fewer rollout workers at the most than reserved": (
        lambda: plain().training(num_rollout_workers=2, max_num_rollout_workers=1),
        "max_num_rollout_workers=1 is not valid: use num_rollout_workers=2 or more",
    ),
    "half a rollout worker": (
        lambda: plain().training(num_rollout_workers=0.5),
        "num_rollout_workers=0.5 is not valid",
    ),
    "negative share of a GPU": (
        lambda: plain().training(num_gpus_per_rollout_worker=-0.5),
        "num_gpus_per_rollout_worker=-0.5 is not valid",
    ),
    "one and a half GPUs": (
        lambda: plain().training(num_gpus_per_rollout_worker=1.5),
        "num_gpus_per_rollout_worker=1.5 is not valid: use a part of one GPU, or a whole number",
    ),
    "negative CPUs of a rollout worker": (
        lambda: plain().training(num_cpus_per_rollout_worker=-1),
        "num_cpus_per_rollout_worker=-1 is not valid",
    ),
    "a rollout worker of nothing": (
        lambda: plain().training(num_rollout_workers=1, num_cpus_per_rollout_worker=0),
        "asks for nothing cannot be placed: set num_cpus_per_rollout_worker=1",
    ),
    "custom resources that are none": (
        lambda: plain().training(custom_resources_per_rollout_worker={"tpu": "many"}),
        "custom_resources_per_rollout_worker={'tpu': 'many'} is not valid",
    ),
    "GPUs among the custom resources": (
        lambda: plain().training(custom_resources_per_rollout_worker={"GPU": 1}),
        "custom_resources_per_rollout_worker has 'GPU': use num_gpus_per_rollout_worker",
    ),
    "rollout_fragment_length": (
        lambda: plain().env_runners(rollout_fragment_length="auto"),
        "rollout_fragment_length='auto' is not valid",
    ),
    "unknown algorithm": (
        lambda: plain().training(algo="ppo"),
        "Unknown algorithm 'ppo': choose one of sac, mbpo, mnm-approx, mnm",
    ),
    "setting out of range": (lambda: plain().training(gamma=1.0), "gamma=1.0 is not valid"),
    "setting of another type": (
        lambda: plain().training(rollout_schedule=5),
        "rollout_schedule=5 is not valid",
    ),
    "no number": (
        lambda: plain().training(terminal_reward="much"),
        "terminal_reward='much' is not valid",
    ),
    "lag below a round": (
        lambda: (
            plain()
            .env_runners(num_env_runners=3, rollout_fragment_length=10, num_envs_per_env_runner=2)
            .training(max_weight_lag=59)
        ),
        "max_weight_lag=59 is less than the 60 steps",
    ),
    "lag in words": (
        lambda: plain().training(max_weight_lag="short"),
        "max_weight_lag='short' is not valid",
    ),
    "no time to answer": (
        lambda: plain().env_runners(sample_timeout_s=0),
        "sample_timeout_s=0 is not valid: use the seconds .* above 0, or None for never",
    ),
    "less than no time to answer": (
        lambda: plain().env_runners(sample_timeout_s=-1.0),
        "sample_timeout_s=-1.0 is not valid",
    ),
    "time to answer in words": (
        lambda: plain().env_runners(sample_timeout_s="long"),
        "sample_timeout_s='long' is not valid",
    ),
    "termination path without a function": (
        lambda: plain().training(termination="tests.line_tasks:nothing"),
        "termination='tests.line_tasks:nothing' cannot be imported",
    ),
    "termination in no module": (
        lambda: plain().training(termination="no.such.module:f"),
        "termination='no.such.module:f' cannot be imported",
    ),
    "termination without a module": (
        lambda: plain().training(termination="fallen"),
        "termination='fallen' cannot be imported",
    ),
    "termination that is no function": (
        lambda: plain().training(termination="tests.line_tasks:LOW"),
        "termination='tests.line_tasks:LOW' is not a function",
    ),
    "termination of another type": (
        lambda: plain().training(termination=5),
        "termination=5 is not valid",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_validate_refuses_in_one_sentence(case: str) -> None:
    make, sentence = REFUSALS[case]
    with pytest.raises(ValueError, match=sentence) as caught:
        make().validate()
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", ["episodes", "timesteps"])
@pytest.mark.parametrize("explore", [False, True])
def test_what_collecting_ignores_the_evaluation_may_have(unit: str, explore: bool) -> None:
    """RLlib itself sets some of it there."""
    config = plain().evaluation(
        evaluation_interval=1,
        evaluation_duration_unit=unit,
        evaluation_config={
            "explore": explore,
            "batch_mode": "complete_episodes",
            "max_requests_in_flight_per_env_runner": 1,
        },
    )
    config.validate()
    of_evaluation = config.get_evaluation_config_object()
    of_evaluation.validate()
    assert of_evaluation.explore is explore


def test_an_evaluation_acts_by_the_policys_mode() -> None:
    config = plain().evaluation(evaluation_interval=1)
    assert config.get_evaluation_config_object().explore is False
    assert config.explore is True


def test_a_lag_of_one_round_is_enough() -> None:
    config = plain().env_runners(num_env_runners=3, rollout_fragment_length=10)
    config.training(max_weight_lag=30).validate()
    assert config.resolved_max_weight_lag() == 30


@pytest.mark.parametrize(
    ("runners", "envs", "fragment", "lag"), [(0, 1, 10, 250), (2, 1, 10, 250), (8, 4, 10, 1920)]
)
def test_the_automatic_lag_gives_all_runners_six_rounds(
    runners: int, envs: int, fragment: int, lag: int
) -> None:
    config = plain().env_runners(
        num_env_runners=runners, num_envs_per_env_runner=envs, rollout_fragment_length=fragment
    )
    assert config.resolved_max_weight_lag() == lag


def test_the_automatic_lag_counts_the_runners_that_may_come() -> None:
    config = plain().learners(num_learners=1).env_runners(num_env_runners=1, **{MOST: 12})
    assert config.resolved_max_weight_lag() == 720
    with pytest.raises(ValueError, match="less than the 120 steps"):
        config.copy().training(max_weight_lag=60).validate()


def test_the_lag_is_of_collecting_alone() -> None:
    """RLlib sets an evaluation's fragments and runners by what it is to play."""
    config = plain().training(max_weight_lag=250)
    config.evaluation(
        evaluation_interval=1, evaluation_duration=2000, evaluation_duration_unit="timesteps"
    )
    config.validate()
    config.get_evaluation_config_object().validate()


def test_a_termination_path_and_a_function_are_taken() -> None:
    from tests.line_tasks import far_from_origin

    for termination in ("tests.line_tasks:far_from_origin", far_from_origin, "learned", "auto"):
        plain().training(termination=termination).validate()


def test_a_config_survives_its_own_dictionary() -> None:
    config = tiny_config("mbpo", num_env_runners=2, num_rollout_workers=1)
    copy = MnMConfig().update_from_dict(config.to_dict())
    assert copy.settings() == config.settings()
    assert copy.num_rollout_workers == 1
    assert copy.num_env_runners == 2


# Under Ray Tune


def test_tune_sees_only_what_was_set() -> None:
    """Population Based Training draws a first value where the dictionary has none."""
    config = MnMConfig().environment(LINE).training(actor_lr=1e-3)
    table = config.to_dict()
    assert table["actor_lr"] == 1e-3
    assert not {"critic_lr", "algo", "gamma", "lr", "minibatch_size"} & set(table)
    # RLlib has a gamma of its own: set to the same value it is none the less set.
    assert config.copy().training(gamma=0.99).to_dict()["gamma"] == 0.99
    again = MnMConfig().update_from_dict({**table, "algo": "sac", "__stdout_file__": None})
    assert again.settings() == Settings.preset("sac", actor_lr=1e-3)
    again.validate()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"lr": 1e-3}, "lr has no effect on MnM: use actor_lr"),
        ({"train_batch_size_per_learner": 64}, "has no effect on MnM: use batch_size"),
        ({"actor_rl": 1e-3}, "Unknown setting 'actor_rl': .*did you mean actor_lr"),
    ],
)
def test_a_name_in_param_space_that_would_be_ignored_is_refused_by_the_driver(
    table: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        MnM.default_resource_request({"env": LINE, **table})


def test_a_refused_config_can_be_printed_by_ray() -> None:
    """An exception in `__repr__` would take the place of the sentence."""
    algo = MnM.__new__(MnM)
    algo.config = None
    assert repr(algo) == "MnM"
