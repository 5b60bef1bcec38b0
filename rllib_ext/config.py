"""The configuration of MnM in RLlib's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from distributed.collector_group import REQUESTS_PER_COLLECTOR
from mnm import Settings
from mnm.settings import (
    Algorithm,
    Bound,
    ClassifierPairs,
    InitialCriticValue,
    RewardTransformName,
)
from rllib_ext.elastic import ElasticConfig
from rllib_ext.env_runner import MnMEnvRunner
from rllib_ext.environments import resolve_termination
from rllib_ext.ignored_settings import (
    REPLACED_SETTINGS,
    refuse_ignored_settings,
    replaced_setting,
)
from rllib_ext.learner import MnMLearner
from rllib_ext.offline_config import OfflineDataConfig
from rllib_ext.pace_checks import check_pace
from rllib_ext.placement import check_rollout_workers
from rllib_ext.rl_modules import WORLD_MODULE_ID, PolicyModule, WorldModule
from rllib_ext.setting_names import OWN_NAMES, SETTING_NAMES, unknown_setting

# Of all runners, in max_weight_lag="auto". A request waits for one round, runs for another, while
# two more are sent; the rest is for the learner's own turn.
ROUNDS_OF_LAG = 6
CONFIG_CLASS = "class"  # what RLlib adds to a config that it turns into a dict
TUNE_PREFIX = "__"  # of what Tune adds for itself to the dict of a trial


class MnMConfig(OfflineDataConfig, ElasticConfig):
    """Configures MnM, MnM-approx, MBPO or SAC, one learner with four settings.

    Example:
        ```python
        config = (
            MnMConfig()
            .environment("Hopper-v5")
            .env_runners(num_env_runners=2)
            .training(algo="mnm", num_rollout_workers=1)
        )
        algo = config.build_algo()
        print(algo.train()["env_runners"]["episode_return_mean"])
        ```

    Every setting of `training` that is left alone takes the preset of its algorithm
    (`mnm.Settings.preset`). `settings()` gives the resolved ones. For the values tuned to a task
    see `rllib_ext.tuned.tuned_config`.

    As in RLlib the learner runs in the driver unless `.learners(num_learners=1)` makes it an actor,
    as `mnm train` does; only then does collecting overlap with learning, and no row passes through
    the driver.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        if algo_class is None:
            from rllib_ext.algorithm import MnM  # the two name each other

            algo_class = MnM
        super().__init__(algo_class=algo_class)
        for name in SETTING_NAMES:
            setattr(self, name, None)  # None: the algorithm's preset
        self.num_cpus_per_rollout_worker: float = 1
        self.num_gpus_per_rollout_worker: float = 0
        self.custom_resources_per_rollout_worker: dict[str, float] = {}
        self.max_weight_lag: int | str = "auto"
        self.termination: Callable[..., Any] | str = "auto"
        self.env_runner_cls = MnMEnvRunner
        self.rollout_fragment_length = 10
        self.max_requests_in_flight_per_env_runner = REQUESTS_PER_COLLECTOR
        self.min_sample_timesteps_per_iteration = 250
        self.min_time_s_per_iteration = None
        # Weights travel with each request: RLlib need not push them or merge the runners' states.
        self.merge_env_runner_states = False
        self._dont_auto_sync_env_runner_states = True
        self.delay_between_env_runner_restarts_s = 0.0
        self.env_runner_health_probe_timeout_s = 0.2
        self.env_runner_restore_timeout_s = 10.0
        self.restart_failed_sub_environments = True
        self.log_sys_usage = False
        self.evaluation(evaluation_config=AlgorithmConfig.overrides(explore=False))

    def training(
        self,
        *,
        algo: Algorithm = NotProvided,
        gamma: float = NotProvided,
        tau: float = NotProvided,
        actor_lr: float = NotProvided,
        critic_lr: float = NotProvided,
        alpha_lr: float = NotProvided,
        initial_alpha: float = NotProvided,
        target_entropy: float | str = NotProvided,
        hidden_sizes: Sequence[int] = NotProvided,
        critic_layer_norm: bool = NotProvided,
        normalise_observations: bool = NotProvided,
        batch_size: int = NotProvided,
        updates_to_data_ratio: float = NotProvided,
        num_random_steps: int = NotProvided,
        replay_capacity: int = NotProvided,
        ensemble_size: int = NotProvided,
        num_elites: int = NotProvided,
        dynamics_hidden_sizes: Sequence[int] = NotProvided,
        dynamics_lr: float = NotProvided,
        dynamics_weight_decay: Sequence[float] = NotProvided,
        dynamics_batch_size: int = NotProvided,
        dynamics_fit_interval: int = NotProvided,
        dynamics_nll_beta: float = NotProvided,
        dynamics_fit_patience: int = NotProvided,
        dynamics_fit_min_delta: float = NotProvided,
        dynamics_max_fit_steps: int = NotProvided,
        rollout_schedule: Sequence[int] = NotProvided,
        rollouts_per_step: int = NotProvided,
        rollout_interval: int = NotProvided,
        synthetic_retention: int = NotProvided,
        real_ratio: float = NotProvided,
        classifier_pairs: ClassifierPairs = NotProvided,
        classifier_hidden_sizes: Sequence[int] = NotProvided,
        classifier_ensemble_size: int = NotProvided,
        classifier_lr: float = NotProvided,
        classifier_label_smoothing: float = NotProvided,
        classifier_input_noise: float = NotProvided,
        classifier_gradient_penalty: float = NotProvided,
        logit_clip: float = NotProvided,
        classifier_reward_weight: float | str = NotProvided,
        log_ratio_target: float = NotProvided,
        classifier_reward_weight_lr: float = NotProvided,
        reward_transform: RewardTransformName = NotProvided,
        reward_shift: float = NotProvided,
        reward_beta: float = NotProvided,
        terminal_reward: float | None = NotProvided,
        initial_critic_value: InitialCriticValue = NotProvided,
        bound: Bound = NotProvided,
        stop_probability_min: float = NotProvided,
        stop_lr: float = NotProvided,
        log_ratio_weight: float = NotProvided,
        model_value_weight: float = NotProvided,
        likelihood_weight: float = NotProvided,
        model_lr: float = NotProvided,
        model_grad_clip: float = NotProvided,
        bound_horizon: int = NotProvided,
        bound_rollouts: int = NotProvided,
        num_rollout_workers: int = NotProvided,
        max_num_rollout_workers: int | None = NotProvided,
        num_cpus_per_rollout_worker: float = NotProvided,
        num_gpus_per_rollout_worker: float = NotProvided,
        custom_resources_per_rollout_worker: dict[str, float] = NotProvided,
        max_weight_lag: int | str = NotProvided,
        termination: Callable[..., Any] | str = NotProvided,
        **kwargs: Any,
    ) -> MnMConfig:
        """Sets the algorithm's own settings; None takes the preset of `algo`.

        Args:
            algo: "mnm" (the full joint objective), "mnm-approx" (MBPO with the log-ratio of the
                classifier in the reward), "mbpo" or "sac"; decides the defaults of all others.
            gamma: Discount factor, below 1.
            tau: Step of the target critics towards the critics, per update.
            actor_lr: Learning rate of the policy.
            critic_lr: Learning rate of the critics.
            alpha_lr: Learning rate of the entropy temperature; 0 keeps it at `initial_alpha`.
            initial_alpha: Entropy temperature at the start.
            target_entropy: Nats the policy's entropy is held at, measured with actions scaled to
                (-1, 1); "auto": minus the width of the action.
            hidden_sizes: Widths of the hidden layers of the policy and of each critic.
            critic_layer_norm: Normalises the critics' hidden layers, which keeps them from
                over-estimating actions that were not tried.
            normalise_observations: Scales the observations that policy and critics read by the
                replay's means and deviations, refreshed every `dynamics_fit_interval` steps.
            batch_size: Rows per update of critics and policy.
            updates_to_data_ratio: Joint updates per real step after the random ones; kept
                exactly.
            num_random_steps: Real steps with uniformly random actions before learning starts.
            replay_capacity: Real transitions kept.
            ensemble_size: Members of the dynamics ensemble.
            num_elites: Members that mbpo and mnm-approx imagine with, best first on held-out
                transitions.
            dynamics_hidden_sizes: Widths of the hidden layers of each member.
            dynamics_lr: Learning rate of the maximum-likelihood fit.
            dynamics_weight_decay: Weight decay of the fit, one value a layer.
            dynamics_batch_size: Rows per member and gradient step of the fit.
            dynamics_fit_interval: Real steps between two fits.
            dynamics_nll_beta: Power of the predicted variance that weights the fit's likelihood
                (Seitzer et al. 2022): 0 is the likelihood itself; with 0.5 transitions that are
                hard to predict, such as impacts, are learned too.
            dynamics_fit_patience: Epochs without a better held-out loss after which a fit stops.
            dynamics_fit_min_delta: Nats per dimension by which a held-out loss must fall to be
                better: else the fit's parameters are not kept.
            dynamics_max_fit_steps: Gradient steps of a fit at the most; four times as many at the
                first.
            rollout_schedule: (first step, last step, length before, length after): the length of
                model rollouts grows linearly between two real steps.
            rollouts_per_step: Branched rollouts started per real step.
            rollout_interval: Real steps between two batches of rollouts.
            synthetic_retention: Imagined transitions that are drawn from, in real steps: as many of
                the newest as so many steps bring when no rollout ends early.
            real_ratio: Share of real rows in the batches of critics and policy.
            classifier_pairs: (s, a) of the classifier's imagined half: "matched", those of the real
                half; "pool", the rollout pool's.
            classifier_hidden_sizes: Widths of the hidden layers of the classifier.
            classifier_ensemble_size: Classifier networks whose logits are averaged.
            classifier_lr: Learning rate of the classifier.
            classifier_label_smoothing: Targets become s/2 and 1 - s/2.
            classifier_input_noise: Standard deviation of noise on the classifier's normalised
                inputs.
            classifier_gradient_penalty: Weight of the squared gradient of the logit on real rows.
            logit_clip: Bound on the magnitude of a logit where it enters a reward.
            classifier_reward_weight: mnm-approx: lambda in r + lambda clip(logit); "auto":
                learned so that the mean clipped logit stays at `log_ratio_target`, within 0.0001
                and 100.
            log_ratio_target: mnm-approx: what "auto" holds the mean clipped logit at, in nats.
            classifier_reward_weight_lr: mnm-approx: learning rate of "auto".
            reward_transform: mnm, and mnm-approx for `bound/*`, as the next three: "exp", exp(beta
                r), any reward; or "shift", r + c, which must stay positive.
            reward_shift: mnm: c of "shift".
            reward_beta: mnm: beta of "exp"; (1 - gamma) beta is the scale of the reward signal.
            terminal_reward: mnm: transformed reward a terminated episode is paid for ever; None:
                transform(0), what it earns in plain RL.
            initial_critic_value: mnm: value the critics start at, that of a constant reward:
                "log-mean", the log return of the first real rewards; or "mean-log", their bound,
                where "exp" is used and rewards are rare.
            bound: mnm: "fixed" discount or "learned-stopping", by a head that is trained with it.
            stop_probability_min: mnm: least stop probability of the head, and least distance from
                1; at most 0.25.
            stop_lr: mnm: learning rate of the stopping head.
            log_ratio_weight: mnm: weight w of the logit in the reward and in the model's
                objective; 1 is the paper's bound.
            model_value_weight: mnm: weight of the next state's value in the model's objective; 0:
                the model is only trained to look real.
            likelihood_weight: mnm: weight of the log-likelihood beside the model's adversarial
                and value terms.
            model_lr: mnm: learning rate of the joint model update.
            model_grad_clip: mnm: largest gradient norm of the joint model update.
            bound_horizon: Steps over which the live estimate of the bound and the log return are
                summed at every evaluation; 0: no estimate. It draws from the learner's random
                numbers: with another value a seed's run is another.
            bound_rollouts: Trajectories imagined for that estimate.
            num_rollout_workers: Ray actors that imagine; 0: the learner imagines inline, by the
                same function. Counted in the trial's resource request.
            max_num_rollout_workers: Those that there may be while they are too slow for the
                learner; the ones beyond `num_rollout_workers` are not reserved and come and go with
                the cluster. None: always `num_rollout_workers`.
            num_cpus_per_rollout_worker: CPUs of each.
            num_gpus_per_rollout_worker: GPU share of each; with any it imagines there. With a part
                of one it is on the node of the learner, if that is an actor.
            custom_resources_per_rollout_worker: Other resources of each, by name.
            max_weight_lag: Real steps; no weights older than this are acted or imagined with.
                "auto": 250, or six rounds of all runners if that is more.
            termination: When the task ends: "auto" (the known function of a Gymnasium task, else a
                learned head), "learned", a function of observations [N, obs], actions [N, act] and
                next observations [N, obs] giving bool [N] tensors, or "module:function".
            **kwargs: RLlib's own; those that MnM would ignore are refused by `validate`.

        Returns:
            This config.
        """
        given = dict(locals())
        for name in kwargs:
            if name in REPLACED_SETTINGS:
                _refuse(replaced_setting(name))
        super().training(**kwargs)
        for name in (*SETTING_NAMES, *OWN_NAMES):
            if given[name] is not NotProvided:
                setattr(self, name, given[name])
        return self

    def to_dict(self) -> dict[str, Any]:
        """What Tune searches over, without the settings that are left to the algorithm's preset.

        Tune's schedulers draw a first value of what they mutate only where there is none.
        """
        config, plain = super().to_dict(), AlgorithmConfig()
        left = dict.fromkeys(SETTING_NAMES)
        left |= {name: getattr(plain, name) for name in REPLACED_SETTINGS}
        for name, value in left.items():
            if name in config and config[name] == value:
                del config[name]
        return config

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> MnMConfig:
        """Takes over settings by name, as from Tune's `param_space` or another config.

        Raises:
            ValueError: a name is none of ours or RLlib's, or one that MnM would ignore.
        """
        names = config_dict.keys()  # a config is iterable by its keys alone
        for name in names:
            if name in REPLACED_SETTINGS:
                _refuse(replaced_setting(name))
            known = self._translate_special_keys(name, warn_deprecated=False) in vars(self)
            private = name == CONFIG_CLASS or name.startswith(TUNE_PREFIX)
            if not (known or private or name in OWN_NAMES):
                _refuse(unknown_setting(name))
        return super().update_from_dict(config_dict)

    def settings(self) -> Settings:
        """The settings of the algorithm: its preset and what was set here.

        Raises:
            ValueError: a setting is out of range.
        """
        given = {name: getattr(self, name) for name in SETTING_NAMES}
        algo = given.pop("algo") or "mnm"
        return Settings.preset(
            algo, **{name: value for name, value in given.items() if value is not None}
        )

    def resolved_max_weight_lag(self) -> int:
        """`max_weight_lag` in real steps."""
        if self.max_weight_lag == "auto":
            return max(250, ROUNDS_OF_LAG * self.steps_per_round())
        return int(self.max_weight_lag)

    def steps_per_round(self) -> int:
        """Real steps that all runners make in one request each, as many as there may be."""
        per_runner = int(self.rollout_fragment_length) * self.num_envs_per_env_runner
        return per_runner * max(1, self.num_env_runners, self.max_num_env_runners or 0)

    def validate(self) -> None:
        """Checks the whole config.

        Raises:
            ValueError: a setting is wrong, or one that MnM's fast path would ignore is set.
        """
        super().validate()
        if self.env is None:
            _refuse("No environment is set: call .environment('Hopper-v5').")
        try:
            settings = self.settings()
        except ValueError as error:
            _refuse(str(error))
        check_rollout_workers(self, settings.has_model)
        if self.num_learners > 1:
            _refuse(
                f"num_learners={self.num_learners} is not supported: the replay and the model live "
                "in one learner; use 0 (in the driver) or 1 (an actor)."
            )
        if self.is_multi_agent:
            _refuse("Multi-agent environments are not supported: MnM learns one policy.")
        if self._rl_module_spec is not None:
            _refuse(
                "A custom rl_module_spec is not supported: the learner updates its own networks; "
                "set their sizes with training(hidden_sizes=...)."
            )
        if not self.enable_rl_module_and_learner or not self.enable_env_runner_and_connector_v2:
            _refuse("MnM runs on RLlib's new API stack only: leave api_stack() alone.")
        if self.num_env_runners and not self.create_local_env_runner:
            _refuse(
                "create_local_env_runner=False is not supported with remote runners: get_module() "
                "and evaluate() use the one here, which steps no environment; leave it at True."
            )
        refuse_ignored_settings(self)
        self.check_offline_data()
        self.check_elastic()
        check_pace(self)
        try:
            resolve_termination(self)
        except ValueError as error:
            _refuse(str(error))

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The policy, which runners and users hold."""
        return RLModuleSpec(
            module_class=PolicyModule, model_config={"settings": self.settings().to_dict()}
        )

    def get_multi_rl_module_spec(self, *, inference_only: bool = False, **kwargs: Any) -> Any:
        """The policy and, in the learner, what only it holds."""
        spec = super().get_multi_rl_module_spec(inference_only=inference_only, **kwargs)
        if not inference_only and WORLD_MODULE_ID not in spec:
            policy = spec[DEFAULT_MODULE_ID]
            world = RLModuleSpec(
                module_class=WorldModule,
                observation_space=policy.observation_space,
                action_space=policy.action_space,
                learner_only=True,
                model_config={
                    "settings": self.settings().to_dict(),
                    "termination": resolve_termination(self),
                },
            )
            spec.add_modules({WORLD_MODULE_ID: world})
        return spec

    def get_default_learner_class(self) -> type:
        """The learner of all four algorithms."""
        return MnMLearner


def _refuse(message: str) -> None:
    # Not RLlib's own _value_error: it adds how to suppress the check, which would not help here.
    raise ValueError(message)
