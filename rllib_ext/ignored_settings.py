"""RLlib's own settings that MnM's fast path would ignore, and what is said of each."""

from __future__ import annotations

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from distributed.collector_group import REQUESTS_PER_COLLECTOR

# Those of RLlib's learner, and what to use instead.
REPLACED_SETTINGS = {
    "lr": "actor_lr, critic_lr, alpha_lr, dynamics_lr, classifier_lr and model_lr",
    "grad_clip": "model_grad_clip",
    "train_batch_size": "batch_size",
    "train_batch_size_per_learner": "batch_size",
    "num_epochs": "updates_to_data_ratio",
    "minibatch_size": "batch_size",
}
# Hooks of RLlib's slower path, which flat transitions do not pass.
REFUSED_HOOKS = (
    "_env_to_module_connector",
    "_module_to_env_connector",
    "_learner_connector",
)
SIZES = "use hidden_sizes, dynamics_hidden_sizes and classifier_hidden_sizes in training()"
# Wherever they are set.
IGNORED_SETTINGS = {
    "_model_config": SIZES,
    "model": SIZES,
    "learner_config_dict": "set what MnM's learner reads by its name in training()",
    "num_gpus": "give the learner one by learners(num_gpus_per_learner=1)",
    "observation_filter": "set normalise_observations in training()",
    "clip_rewards": "use a Gymnasium wrapper in the environment",
    "policies_to_train": "it learns one policy",
    "num_aggregator_actors_per_learner": "batches go from the runners to the learner",
}
# Of the runners that collect; for those of the evaluation RLlib sets the first two itself.
IGNORED_IN_COLLECTING = {
    "explore": "collectors always sample the policy; set it in "
    "evaluation(evaluation_config={'explore': ...})",
    "batch_mode": "a request ends after rollout_fragment_length steps; set that",
    "max_requests_in_flight_per_env_runner": f"a runner always has up to {REQUESTS_PER_COLLECTOR} "
    "requests open; bound the age of their weights by max_weight_lag in training()",
}


def replaced_setting(name: str) -> str:
    """The sentence that refuses one of `REPLACED_SETTINGS`."""
    return f"{name} has no effect on MnM: use {REPLACED_SETTINGS[name]} in training()."


def refuse_ignored_settings(config: AlgorithmConfig) -> None:
    """Refuses whatever has another value than its default and would be ignored.

    Raises:
        ValueError: names the first such setting and what to use instead.
    """
    plain = AlgorithmConfig()
    plain.max_requests_in_flight_per_env_runner = REQUESTS_PER_COLLECTOR
    for name in REPLACED_SETTINGS:
        if getattr(config, name) != getattr(plain, name):
            raise ValueError(replaced_setting(name))
    ignored = {**IGNORED_SETTINGS, **({} if config.in_evaluation else IGNORED_IN_COLLECTING)}
    for name, instead in ignored.items():
        value = getattr(config, name)
        if value != getattr(plain, name):
            # A dictionary, as "model", has all of RLlib's defaults.
            given = "" if isinstance(value, dict) else f"={value!r}"
            raise ValueError(f"{name.strip('_')}{given} has no effect on MnM: {instead}.")
    for name in REFUSED_HOOKS:
        if getattr(config, name) is not None:
            raise ValueError(
                f"{name.strip('_')} is not supported: MnM's data passes no connectors; "
                "use a Gymnasium wrapper in the environment."
            )
