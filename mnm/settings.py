"""Every setting of the algorithm family in one dataclass, with the presets of its four members."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from math import floor, isfinite
from typing import Any, Literal, get_args

Algorithm = Literal["sac", "mbpo", "mnm-approx", "mnm"]
RewardTransformName = Literal["shift", "exp"]
Bound = Literal["fixed", "learned-stopping"]
ClassifierPairs = Literal["matched", "pool"]
InitialCriticValue = Literal["log-mean", "mean-log"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
REWARD_TRANSFORMS: tuple[str, ...] = get_args(RewardTransformName)
BOUNDS: tuple[str, ...] = get_args(Bound)
CLASSIFIER_PAIRS: tuple[str, ...] = get_args(ClassifierPairs)
INITIAL_CRITIC_VALUES: tuple[str, ...] = get_args(InitialCriticValue)


@dataclass(frozen=True)
class Settings:
    """Settings of one learner; `Settings.preset(algo)` gives each algorithm's defaults.

    Steps are real environment steps unless a comment says otherwise. The defaults of the
    actor-critic and of the ensemble are those of MBPO (Janner et al. 2019); those of the classifier
    and of the joint objective are our reconstruction.

    Raises:
        ValueError: a setting is out of its range; the message names it and says what is allowed.
    """

    algo: Algorithm = "mnm"

    # Actor-critic (SAC)
    gamma: float = 0.99  # discount
    tau: float = 0.005  # step of the target critics towards the critics, per update
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    alpha_lr: float = 3e-4  # of the entropy temperature
    initial_alpha: float = 0.1  # entropy temperature at the start
    target_entropy: float | Literal["auto"] = "auto"  # nats on the (-1, 1) scale; auto: -act
    hidden_sizes: tuple[int, ...] = (256, 256)  # of the policy and of each critic
    critic_layer_norm: bool = False  # of the critics' hidden layers: against over-estimation
    normalise_observations: bool = False  # that policy and critics read, by means and deviations
    # of the replay; those that model and classifier read always are
    batch_size: int = 256  # rows per update of the critics and the policy
    updates_to_data_ratio: float = 20.0  # joint updates per step after the random ones
    num_random_steps: int = 5000  # uniformly random steps before learning starts
    replay_capacity: int = 1_000_000  # real transitions kept

    # Dynamics ensemble
    ensemble_size: int = 7
    num_elites: int = 5  # members used by mbpo and mnm-approx, the best on held-out transitions
    dynamics_hidden_sizes: tuple[int, ...] = (200, 200, 200, 200)
    dynamics_lr: float = 1e-3  # of the maximum-likelihood fit
    dynamics_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # per layer
    dynamics_batch_size: int = 256  # rows per member and step of the fit
    dynamics_fit_interval: int = 250  # steps between two fits
    dynamics_nll_beta: float = 0.0  # power of the variance that weights the fit's likelihood; 0:
    # likelihood itself; 0.5: hard transitions such as impacts are learned too
    dynamics_fit_patience: int = 3  # epochs without a better held-out loss before a fit stops
    dynamics_fit_min_delta: float = 0.01  # nats per dimension that make a held-out loss better
    dynamics_max_fit_steps: int = 250  # gradient steps of a fit at the most; the first: 4 times

    # Model rollouts
    rollout_schedule: tuple[int, int, int, int] = (20_000, 150_000, 1, 1)  # from, to step; lengths
    rollouts_per_step: int = 400  # branched rollouts started per real step
    rollout_interval: int = 250  # steps between two batches of rollouts
    synthetic_retention: int = 1000  # steps' worth of imagined transitions that is drawn from
    real_ratio: float = 0.05  # share of real rows in the batches of critics and policy

    # Transition classifier
    classifier_pairs: ClassifierPairs = "matched"  # the imagined half's (s, a): those of the real
    # half, or of the rollout pool, which the logit then judges as well
    classifier_hidden_sizes: tuple[int, ...] = (128, 128)
    classifier_ensemble_size: int = 1  # networks whose logits are averaged
    classifier_lr: float = 3e-4
    classifier_label_smoothing: float = 0.1  # 0: none; targets become s/2 and 1 - s/2
    classifier_input_noise: float = 0.0  # standard deviation, in normalised units
    classifier_gradient_penalty: float = 0.0  # weight of |d logit / d input|^2 on real rows
    logit_clip: float = 5.0  # bound on |logit| where it enters a reward

    # mnm-approx: reward + classifier_reward_weight * clip(logit)
    classifier_reward_weight: float | Literal["auto"] = 0.1  # auto: holds the mean at the target
    log_ratio_target: float = -0.1  # nats per step; mean clipped logit that "auto" holds
    classifier_reward_weight_lr: float = 3e-4  # of the dual update of "auto"

    # mnm: the joint objective on transformed rewards, which mnm-approx reads for its bound alone
    reward_transform: RewardTransformName = "exp"  # shift: r + reward_shift; exp: exp(beta r)
    reward_shift: float = 0.0  # c of "shift"; r + c must stay positive
    reward_beta: float = 2.0  # beta of "exp"; (1 - gamma) beta scales the reward signal
    terminal_reward: float | None = None  # transformed, paid for ever after a termination; None:
    # transform(0), so that a terminated episode earns what it does in plain RL
    initial_critic_value: InitialCriticValue = "log-mean"  # of a constant reward: log-mean, the log
    # return of the first real rewards; mean-log, their bound: where they are rare and "exp" makes
    # the log return that of the largest one, which thousands of updates go into forgetting
    bound: Bound = "fixed"  # fixed: stops at the discount's rate; learned-stopping: by a head
    stop_probability_min: float = 1e-3  # least and, from 1, greatest that the stopping head says
    stop_lr: float = 3e-4  # of the stopping head
    log_ratio_weight: float = 0.1  # of logit C; 1: the paper's bound
    model_value_weight: float = 1.0  # of V(s') in the model's objective; 0: it only looks real
    likelihood_weight: float = 1.0  # of log q(s'|s,a) beside the adversarial and value terms
    model_lr: float = 3e-4  # of the joint model update
    model_grad_clip: float = 1.0  # largest gradient norm of the joint model update

    # The live estimate of the bound, at every evaluation (mnm, mnm-approx)
    bound_horizon: int = 200  # steps T that both sides are summed over; 0: no estimate
    bound_rollouts: int = 256  # trajectories imagined for it

    def __post_init__(self) -> None:
        # Configuration files and RLlib hand over lists where a tuple is meant.
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._check()

    @classmethod
    def preset(cls, algo: str, **overrides: Any) -> Settings:
        """The defaults of "sac", "mbpo", "mnm-approx" or "mnm", with `overrides` on top.

        Raises:
            ValueError: unknown algorithm or setting, or a value out of range.
        """
        if algo not in ALGORITHMS:
            raise ValueError(f"Unknown algorithm {algo!r}: choose one of {', '.join(ALGORITHMS)}.")
        known = {field.name for field in fields(cls)}
        for name in overrides:
            if name not in known:
                raise ValueError(f"Unknown setting {name!r}: the settings are {sorted(known)}.")
        return cls(**{**PRESETS[algo], "algo": algo, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, as plain Python values."""
        return asdict(self)

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed."""
        return replace(self, **changes)

    @property
    def has_model(self) -> bool:
        """Whether the algorithm learns a dynamics model (all but sac)."""
        return self.algo != "sac"

    @property
    def has_classifier(self) -> bool:
        """Whether the algorithm learns a transition classifier (mnm and mnm-approx)."""
        return self.algo in ("mnm", "mnm-approx")

    @property
    def reads_log_rewards(self) -> bool:
        """Whether rewards are transformed: by mnm, and by mnm-approx for its bound's estimate."""
        return self.algo == "mnm" or (self.has_classifier and self.bound_horizon > 0)

    @property
    def has_stopping(self) -> bool:
        """Whether a stopping head is learned (mnm under the learned-stopping bound)."""
        return self.algo == "mnm" and self.bound == "learned-stopping"

    def network_sizes(self) -> dict[str, Any]:
        """What the networks' shapes follow from: a saved state fits where all of it is equal."""
        names = ["hidden_sizes", "critic_layer_norm", "normalise_observations"]
        fixed = {}
        if self.has_model:
            names += ["ensemble_size", "num_elites", "dynamics_hidden_sizes"]
            fixed["predicted_rewards"] = 2  # for going on and for ending: `mnm.dynamics`
        if self.has_classifier:
            names += ["classifier_ensemble_size", "classifier_hidden_sizes"]
        if self.algo == "mnm":
            names.append("bound")
        return {name: getattr(self, name) for name in names} | fixed

    def rollout_length(self, env_steps: int) -> int:
        """Length of the branched rollouts at a real step: linear between the schedule's ends.

        MBPO (Janner et al. 2019), appendix C.
        """
        start, end, first, last = self.rollout_schedule
        progress = min(max((env_steps - start) / max(end - start, 1), 0.0), 1.0)
        return int(first + progress * (last - first))

    def updates_due(self, env_steps: int) -> int:
        """Joint updates that `env_steps` real steps allow in all: exact at any time."""
        # The ratio as it is written: 0.29 times 100 is 29, which floating point falls short of.
        ratio = Fraction(str(self.updates_to_data_ratio))
        return floor(ratio * max(0, env_steps - self.num_random_steps))

    def _check(self) -> None:
        def require(condition: bool, name: str, allowed: str) -> None:
            if not condition:
                raise ValueError(f"{name}={getattr(self, name)!r} is not valid: use {allowed}.")

        for name, choices in (
            ("algo", ALGORITHMS),
            ("reward_transform", REWARD_TRANSFORMS),
            ("initial_critic_value", INITIAL_CRITIC_VALUES),
            ("bound", BOUNDS),
            ("classifier_pairs", CLASSIFIER_PAIRS),
        ):
            require(getattr(self, name) in choices, name, f"one of {', '.join(choices)}")
        for name in ("critic_layer_norm", "normalise_observations"):
            require(isinstance(getattr(self, name), bool), name, "true or false")
        for name in ("target_entropy", "classifier_reward_weight"):
            value = getattr(self, name)
            require(value == "auto" or _is_number(value), name, 'a number or "auto"')
        weight = self.classifier_reward_weight
        require(
            weight == "auto" or weight >= 0,
            "classifier_reward_weight",
            'a number of at least 0 or "auto"',
        )
        for name, (low, high, allowed) in RANGES.items():
            value = getattr(self, name)
            require(_is_number(value) and low <= value <= high, name, allowed)
        for name, least in INTEGERS.items():
            value = getattr(self, name)
            require(_is_whole(value) and value >= least, name, f"a whole number, {least} or more")
        for name in ("hidden_sizes", "dynamics_hidden_sizes", "classifier_hidden_sizes"):
            sizes = getattr(self, name)
            require(
                isinstance(sizes, tuple)
                and len(sizes) > 0
                and all(_is_whole(size) and size >= 1 for size in sizes),
                name,
                "a sequence of at least one layer width, each at least 1",
            )
        require(self.gamma < 1.0, "gamma", "a discount below 1")
        require(self.num_elites <= self.ensemble_size, "num_elites", "at most ensemble_size")
        require(
            self.rollout_interval <= self.synthetic_retention,
            "rollout_interval",
            f"at most synthetic_retention={self.synthetic_retention}, which must keep what one "
            "batch of rollouts brings",
        )
        require(
            _are_numbers(self.dynamics_weight_decay)
            and min(self.dynamics_weight_decay, default=-1.0) >= 0
            and len(self.dynamics_weight_decay) == len(self.dynamics_hidden_sizes) + 1,
            "dynamics_weight_decay",
            "one value, 0 or more, for each layer of dynamics_hidden_sizes and one for the output",
        )
        require(
            isinstance(self.rollout_schedule, tuple)
            and all(_is_whole(item) for item in self.rollout_schedule)
            and len(self.rollout_schedule) == 4
            and self.rollout_schedule[0] <= self.rollout_schedule[1]
            and min(self.rollout_schedule[2:]) >= 1,
            "rollout_schedule",
            "(first step, last step, length before, length after), the lengths at least 1",
        )
        require(
            self.terminal_reward is None
            or (_is_number(self.terminal_reward) and self.terminal_reward > 0),
            "terminal_reward",
            "None or a positive number",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(_is_number(item) for item in value)


_INFINITY = float("inf")
_POSITIVE = (1e-12, _INFINITY, "a positive number")
_NOT_NEGATIVE = (0.0, _INFINITY, "zero or a positive number")
_SHARE = (0.0, 1.0, "a number from 0 to 1")

RANGES: dict[str, tuple[float, float, str]] = {
    "gamma": (1e-12, 1.0, "a discount above 0 and below 1"),
    "tau": _SHARE,
    "actor_lr": _POSITIVE,
    "critic_lr": _POSITIVE,
    "alpha_lr": _NOT_NEGATIVE,
    "initial_alpha": _POSITIVE,
    "updates_to_data_ratio": (0.0, 1e6, "a number from 0 to 1,000,000"),
    "dynamics_lr": _POSITIVE,
    "dynamics_nll_beta": _SHARE,
    "dynamics_fit_min_delta": _NOT_NEGATIVE,
    "real_ratio": _SHARE,
    "classifier_lr": _POSITIVE,
    "classifier_label_smoothing": _SHARE,
    "classifier_input_noise": _NOT_NEGATIVE,
    "classifier_gradient_penalty": _NOT_NEGATIVE,
    "logit_clip": _POSITIVE,
    "classifier_reward_weight_lr": _POSITIVE,
    "reward_beta": _POSITIVE,
    "reward_shift": (-_INFINITY, _INFINITY, "a number"),
    "log_ratio_target": (-_INFINITY, _INFINITY, "a number"),
    "log_ratio_weight": _NOT_NEGATIVE,
    "model_value_weight": _NOT_NEGATIVE,
    "likelihood_weight": _NOT_NEGATIVE,
    "stop_probability_min": (1e-8, 0.25, "a probability above 0 and at most 0.25"),
    "stop_lr": _POSITIVE,
    "model_lr": _POSITIVE,
    "model_grad_clip": _POSITIVE,
}
# Whole numbers and the least each may be.
INTEGERS: dict[str, int] = {
    "batch_size": 1,
    "num_random_steps": 0,
    "replay_capacity": 20,  # so that one is held out whatever the ring's oldest row is
    "ensemble_size": 1,
    "num_elites": 1,
    "dynamics_batch_size": 1,
    "dynamics_fit_interval": 1,
    "dynamics_fit_patience": 1,
    "dynamics_max_fit_steps": 1,
    "rollouts_per_step": 1,
    "rollout_interval": 1,
    "synthetic_retention": 1,
    "classifier_ensemble_size": 1,
    "bound_horizon": 0,
    "bound_rollouts": 1,
}

# What differs between the four; everything else is shared.
PRESETS: dict[str, dict[str, Any]] = {
    "sac": {"updates_to_data_ratio": 1.0, "initial_alpha": 1.0},
    "mbpo": {"initial_alpha": 1.0},
    "mnm-approx": {"initial_alpha": 1.0},
    # Its critics start at the value of a constant reward, which has to be forgotten soon.
    "mnm": {"real_ratio": 0.5, "logit_clip": 2.0, "tau": 0.02},
}
