"""Tests of the settings: ranges, presets, and the two schedules that they define."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnm.settings import ALGORITHMS, PRESETS, Settings

NAMES = [field.name for field in dataclasses.fields(Settings)]
NAN, INFINITY = math.nan, math.inf
NOT_POSITIVE: list[Any] = [0, 0.0, -1.0, NAN, "1", None, True]
NEGATIVE: list[Any] = [-1, -1e-9, NAN, "1", None]
NOT_A_SHARE: list[Any] = [-0.01, 1.01, NAN, "1", None]
NOT_A_COUNT: list[Any] = [0, -1, 1.5, NAN, INFINITY, "1", None, True]
NOT_WIDTHS: list[Any] = [(), (0,), (8, -1), (8.0,), 8, "88", None, (True,)]

OUT_OF_RANGE: dict[str, list[Any]] = {
    "algo": ["dyna", "", None],
    "gamma": [-0.1, 1.0, 1.1, NAN, "0.9", None],
    "tau": NOT_A_SHARE,
    "actor_lr": NOT_POSITIVE,
    "critic_lr": NOT_POSITIVE,
    "alpha_lr": NEGATIVE,
    "initial_alpha": NOT_POSITIVE,
    "target_entropy": ["none", None, NAN, True],
    "hidden_sizes": NOT_WIDTHS,
    "batch_size": NOT_A_COUNT,
    "updates_to_data_ratio": [*NEGATIVE, INFINITY],
    "num_random_steps": [*NEGATIVE, 0.5, INFINITY],
    "replay_capacity": NOT_A_COUNT,
    "ensemble_size": NOT_A_COUNT,
    "num_elites": [*NOT_A_COUNT, 8],
    "dynamics_hidden_sizes": NOT_WIDTHS,
    "dynamics_lr": NOT_POSITIVE,
    "dynamics_weight_decay": [(), (0.0,), 1e-4, (-1.0,) * 5, (NAN,) * 5, ("1",) * 5, None],
    "dynamics_batch_size": NOT_A_COUNT,
    "dynamics_fit_interval": NOT_A_COUNT,
    "dynamics_nll_beta": NOT_A_SHARE,
    "dynamics_fit_patience": NOT_A_COUNT,
    "dynamics_fit_min_delta": NEGATIVE,
    "dynamics_max_fit_steps": NOT_A_COUNT,
    "rollout_schedule": [(), (1, 2, 3), (2, 1, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0.5), 1, None],
    "rollouts_per_step": NOT_A_COUNT,
    "rollout_interval": NOT_A_COUNT,
    "synthetic_retention": NOT_A_COUNT,
    "real_ratio": NOT_A_SHARE,
    "critic_layer_norm": [1, "yes", None],
    "normalise_observations": [0, "no", None],
    "classifier_pairs": ["same", None],
    "classifier_hidden_sizes": NOT_WIDTHS,
    "classifier_ensemble_size": NOT_A_COUNT,
    "classifier_lr": NOT_POSITIVE,
    "classifier_label_smoothing": NOT_A_SHARE,
    "classifier_input_noise": NEGATIVE,
    "classifier_gradient_penalty": NEGATIVE,
    "logit_clip": NOT_POSITIVE,
    "classifier_reward_weight": ["none", None, NAN, True],
    "log_ratio_target": [NAN, "auto", None],
    "classifier_reward_weight_lr": NOT_POSITIVE,
    "reward_transform": ["log", None],
    "initial_critic_value": ["mean", None],
    "reward_shift": [NAN, "auto", None],
    "reward_beta": NOT_POSITIVE,
    "terminal_reward": [0, -1.0, NAN, "auto", True],
    "bound": ["learned", None],
    "stop_probability_min": [0.0, -0.1, 0.26, NAN, "1", None],
    "stop_lr": NOT_POSITIVE,
    "bound_horizon": [-1, 0.5, NAN, INFINITY, "200", None],
    "bound_rollouts": NOT_A_COUNT,
    "log_ratio_weight": NEGATIVE,
    "model_value_weight": NEGATIVE,
    "likelihood_weight": NEGATIVE,
    "model_lr": NOT_POSITIVE,
    "model_grad_clip": NOT_POSITIVE,
}


def test_every_setting_has_values_that_it_refuses() -> None:
    assert sorted(OUT_OF_RANGE) == sorted(NAMES)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OUT_OF_RANGE.items() for value in values],
)
def test_out_of_range_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}=.* is not valid: use "):
        Settings(**{name: value})


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_presets_are_one_class_that_differs_only_in_values(algo: str) -> None:
    preset = Settings.preset(algo)
    assert type(preset) is Settings
    assert preset.algo == algo
    common = Settings().to_dict()
    changed = {name for name, value in preset.to_dict().items() if value != common[name]}
    assert changed <= {"algo", *PRESETS[algo], *PRESETS["mnm"]}
    for name, value in PRESETS[algo].items():
        assert getattr(preset, name) == value


def test_presets_name_settings_that_exist() -> None:
    assert set(PRESETS) == set(ALGORITHMS)
    for changes in PRESETS.values():
        assert set(changes) <= set(NAMES) - {"algo"}


def test_overrides_stand_on_top_of_a_preset() -> None:
    settings = Settings.preset("mnm", real_ratio=0.25, gamma=0.9)
    assert (settings.real_ratio, settings.gamma) == (0.25, 0.9)
    assert settings.logit_clip == PRESETS["mnm"]["logit_clip"]


def test_unknown_algorithm_names_the_four() -> None:
    with pytest.raises(ValueError, match="'dyna': choose one of sac, mbpo, mnm-approx, mnm"):
        Settings.preset("dyna")


def test_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"Unknown setting 'gama'.*'gamma'"):
        Settings.preset("sac", gama=0.9)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_settings_survive_plain_values(algo: str) -> None:
    settings = Settings.preset(algo, hidden_sizes=(8, 4))
    plain = settings.to_dict()
    # As a configuration file would hand them over: lists instead of tuples.
    listed = {
        name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()
    }
    assert Settings(**listed) == settings


def test_a_changed_copy_is_checked_too() -> None:
    assert Settings().replace(gamma=0.5).gamma == 0.5
    with pytest.raises(ValueError, match=r"^gamma="):
        Settings().replace(gamma=1.5)


def test_settings_cannot_be_assigned() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().gamma = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("algo", "has_model", "has_classifier"),
    [
        ("sac", False, False),
        ("mbpo", True, False),
        ("mnm-approx", True, True),
        ("mnm", True, True),
    ],
)
def test_parts_of_each_algorithm(algo: str, has_model: bool, has_classifier: bool) -> None:
    settings = Settings.preset(algo)
    assert (settings.has_model, settings.has_classifier) == (has_model, has_classifier)


def test_the_pool_must_keep_what_one_batch_of_rollouts_brings() -> None:
    Settings(rollout_interval=50, synthetic_retention=50)
    with pytest.raises(ValueError, match=r"rollout_interval=51 .* at most synthetic_retention=50"):
        Settings(rollout_interval=51, synthetic_retention=50)


@pytest.mark.parametrize(
    ("env_steps", "length"),
    [(0, 1), (20, 1), (44, 1), (45, 2), (60, 2), (70, 3), (119, 4), (120, 5), (9999, 5)],
)
def test_rollout_length_is_linear_between_the_ends(env_steps: int, length: int) -> None:
    assert Settings(rollout_schedule=(20, 120, 1, 5)).rollout_length(env_steps) == length


def test_rollout_length_may_change_at_once() -> None:
    settings = Settings(rollout_schedule=(100, 100, 1, 3))
    assert [settings.rollout_length(step) for step in (0, 100, 101)] == [1, 1, 3]


@example(hundredths=29, random_steps=0, env_steps=100)  # 0.29 * 100 < 29 in floating point
@given(
    hundredths=st.integers(0, 4000),
    random_steps=st.integers(0, 100),
    env_steps=st.integers(0, 10_000),
)
def test_updates_due_is_the_exact_ratio(hundredths: int, random_steps: int, env_steps: int) -> None:
    settings = Settings(updates_to_data_ratio=hundredths / 100, num_random_steps=random_steps)
    learning_steps = max(0, env_steps - random_steps)
    assert settings.updates_due(env_steps) == math.floor(Fraction(hundredths, 100) * learning_steps)
