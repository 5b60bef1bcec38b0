"""The agent: owns networks, replay and model, and knows what is due after each real step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnm.agent_networks import TaskSpaces, build_networks
from mnm.bound_estimate import BoundSamples, bound_samples
from mnm.classifier import judge
from mnm.model_fit import FitReport, ModelFitter
from mnm.policy import load_numpy_weights
from mnm.replay import HOLDOUT_PERIOD, ReplayBuffer, allocate
from mnm.rewards import RewardTransform
from mnm.rollouts import RolloutRequest, answer_rollout_request
from mnm.saved_states import load_generator, load_optimizer
from mnm.settings import Settings
from mnm.terminations import TerminationFunction
from mnm.transitions import Transitions, check_finite
from mnm.updates import JointUpdate


class Agent:
    """SAC, MBPO, MnM-approx or MnM, as its settings say; no Ray, no Gymnasium.

    `ingest` real transitions, then `learn`: whatever is due by the number of real steps is done,
    model fit, imagined rollouts and joint updates. `docs/notebook_example.py` trains with this
    class alone.

    Args:
        spaces: of the task.
        settings: of the algorithm.
        termination: known termination of the task (`mnm.terminations.known_termination`); None: a
            head is learned.
        device: of networks, replay and updates.
        seed: of weights and all random numbers; None: from the operating system.
    """

    def __init__(
        self,
        spaces: TaskSpaces,
        settings: Settings,
        termination: TerminationFunction | None = None,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> None:
        self.spaces = spaces
        self.settings = settings
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        seed = self.generator.seed() if seed is None else seed
        self.generator.manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = build_networks(spaces, settings, termination).to(self.device)
        self.rewards = RewardTransform(settings)
        room = (spaces.observation_dim, spaces.action_dim, self.device)
        self.replay = allocate(settings.replay_capacity, *room, "replay_capacity")
        self.synthetic: ReplayBuffer | None = None
        self.fitter: ModelFitter | None = None
        if self.networks.dynamics is not None:
            capacity = self._synthetic_rows(max(settings.rollout_schedule[2:]))
            of = "rollouts_per_step, synthetic_retention or the lengths of rollout_schedule"
            self.synthetic = allocate(capacity, *room, of)
            self.fitter = ModelFitter(self.networks.dynamics, settings)
        self.joint_update = JointUpdate(
            self.networks, settings, self.rewards, self.replay, self.synthetic, self.generator
        )
        self.env_steps = 0
        self.updates = 0
        self.offline_transitions = 0
        self.offline_updates = 0
        self.synthetic_transitions = 0
        # Of a ratio or number of random steps that was another before a restore.
        self._updates_before = 0
        self._next_fit = self._next_rollout = settings.num_random_steps
        self._critics_biased = False

    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions [N, act] in the environment's units for observations [N, obs]."""
        with torch.no_grad():
            inputs = torch.as_tensor(observations, dtype=torch.float32, device=self.device)
            if deterministic:
                return self.networks.policy.deterministic(inputs).cpu().numpy()
            return self.networks.policy.explore(inputs, self.generator).cpu().numpy()

    def ingest(self, transitions: Transitions) -> None:
        """Takes in real transitions.

        Raises:
            DataRefused: a value is not finite, or the reward transform refuses a reward; nothing of
                the batch is kept.
        """
        if len(transitions) == 0:
            return
        check_finite(transitions, self.env_steps)
        if self.settings.reads_log_rewards:
            self.rewards.check(transitions.rewards, transitions.terminateds, self.env_steps)
        self._keep(transitions)
        self.env_steps += len(transitions)

    def check_offline(self, transitions: Transitions, first_row: int = 0) -> None:
        """Raises the DataRefused that `ingest_offline` would; `first_row` numbers row 0 in it."""
        if self.settings.reads_log_rewards and len(transitions):
            self.rewards.check(transitions.rewards, transitions.terminateds, first_row, "row")

    def ingest_offline(self, transitions: Transitions) -> None:
        """Takes in real transitions that are no steps of this run, as from a log.

        Neither the updates-to-data ratio nor a schedule counts them; see `mnm.offline_training`.

        Raises:
            DataRefused: the reward transform refuses a reward; nothing of the batch is kept.
        """
        if len(transitions) == 0:
            return
        self.check_offline(transitions, self.offline_transitions)
        self._keep(transitions)
        self.offline_transitions += len(transitions)

    def _keep(self, transitions: Transitions) -> None:
        self.rewards.remember(transitions.rewards)
        self.replay.append(transitions)

    def learn(self) -> dict[str, float]:
        """Does all that is due: fit, imagine, update. Returns the statistics of what was done."""
        statistics = self.fit_if_due()
        request = self.rollout_request()
        if request is not None:
            self.ingest_synthetic(self.imagine(request))
        return {**statistics, **self.update_if_due()}

    def fit_if_due(self) -> dict[str, float]:
        """`fit` if `dynamics_fit_interval` steps have passed."""
        if self.env_steps < self._next_fit or not self.has_holdout:
            return {}
        self._next_fit = self.env_steps + self.settings.dynamics_fit_interval
        return self.fit()

    def fit(self) -> dict[str, float]:
        """Scales what is read by the replay, and fits the ensemble by maximum likelihood if there
        is one; where `has_holdout`."""
        networks = self.networks
        if networks.policy.normaliser is not None:
            networks.policy.normaliser.refresh(self.replay.all_rows().observations)
            for critics in (networks.critics, networks.target_critics):
                assert critics.normaliser is not None
                critics.normaliser.load_state_dict(networks.policy.normaliser.state_dict())
        if self.fitter is None:
            return {}
        report: FitReport = self.fitter.fit(self.replay, self.generator)
        if self.settings.algo == "mnm" and not self._critics_biased:
            self._bias_critics()
        return {
            "model_fit_steps": report.steps,
            "model_holdout_nll": report.holdout_nll,
            "model_holdout_rmse": report.holdout_rmse,
        }

    def rollout_request(self) -> RolloutRequest | None:
        """What to imagine now, if `rollout_interval` steps have passed and a model is fitted.

        It is for all steps that passed, of which one turn may bring many, but for no more than the
        pool keeps.
        """
        late = self.env_steps - self._next_rollout
        if late < 0 or not self.can_fit:
            return None
        settings = self.settings
        self._next_rollout = self.env_steps + settings.rollout_interval
        return self.draw_rollout_request(
            min(late + settings.rollout_interval, settings.synthetic_retention)
        )

    def imagine_again(self) -> None:
        """Has the next `rollout_request` make up for one whose answer will not come."""
        lost = self._next_rollout - self.settings.rollout_interval  # when it was asked for
        self._next_rollout = min(lost, self.env_steps)

    def draw_rollout_request(self, steps: int) -> RolloutRequest:
        """What to imagine for so many real steps, from start states of the replay."""
        count = self.settings.rollouts_per_step * steps
        starts = self.replay.sample(count, self.generator).observations
        seed = torch.randint(2**62, (), generator=self.generator, device=self.device)
        return RolloutRequest(
            starts.cpu().numpy(), self.settings.rollout_length(self.env_steps), int(seed)
        )

    def imagine(self, request: RolloutRequest) -> Transitions:
        """Answers a request on the agent's own device, as a rollout worker does on its own."""
        assert self.networks.dynamics is not None
        return answer_rollout_request(
            request, self.networks.policy, self.networks.dynamics, self.settings, self.device
        )

    def ingest_synthetic(self, transitions: Transitions) -> None:
        """Takes in imagined transitions."""
        assert self.synthetic is not None
        self.synthetic.append(transitions)
        self.synthetic_transitions += len(transitions)
        # The pool holds as many of the longest rollouts, so more of shorter ones.
        self.synthetic.newest = self._synthetic_rows(self.settings.rollout_length(self.env_steps))

    def _synthetic_rows(self, length: int) -> int:
        """Rows that the retention's steps bring of rollouts of a length, of which none ends early
        (MBPO: Janner et al. 2019, whose pool has this size)."""
        return self.settings.rollouts_per_step * self.settings.synthetic_retention * length

    def update_if_due(self, should_stop: Callable[[], bool] | None = None) -> dict[str, float]:
        """Makes the joint updates that the updates-to-data ratio allows by now, in one call.

        Args:
            should_stop: asked now and then; on True the rest stays due, and the next call makes it
                as if there had been one.
        """
        due = self._updates_allowed() - self.updates
        if due <= 0 or not self.has_holdout:  # nothing is fitted or scaled yet
            return {}
        made = self.joint_update.make(due, should_stop)
        self.updates += made
        statistics = self.joint_update.read_statistics()
        return {**statistics, **self.judge_classifier()} if made == due else statistics

    def judge_classifier(self) -> dict[str, float]:
        """Accuracy and mean logits on held-out transitions, and at the pool's states."""
        networks = self.networks
        if networks.classifier is None or networks.dynamics is None or not self.has_holdout:
            return {}
        return judge(
            networks.classifier,
            networks.dynamics,
            self.replay,
            self.synthetic,
            self.generator,
            self._members(),
        )

    def bound_samples(
        self,
        start_observations: np.ndarray,
        episode_rewards: Sequence[np.ndarray],
        terminateds: Sequence[bool],
        policy_weights: Mapping[str, np.ndarray] | None = None,
    ) -> BoundSamples:
        """Samples of both sides of the bound; see `mnm.bound_estimate`.

        Args:
            start_observations: [N, obs] first observations of the policy's real episodes.
            episode_rewards: [<= bound_horizon] rewards of each.
            terminateds: whether each terminated within those steps.
            policy_weights: of the policy that played them (`numpy_weights`); None: the present one.

        Returns:
            `bound_rollouts` imagined trajectories and the N real episodes, over the horizon that
            the shortest episode which did not terminate allows.
        """
        networks = self.networks
        assert networks.dynamics is not None
        assert networks.classifier is not None
        policy = networks.policy
        if policy_weights is not None:
            policy = copy.deepcopy(policy)
            load_numpy_weights(policy, policy_weights)
        return bound_samples(
            policy,
            networks.dynamics,
            networks.classifier,
            self.rewards,
            self.settings,
            torch.as_tensor(start_observations, dtype=torch.float32, device=self.device),
            episode_rewards,
            terminateds,
            self.generator,
            self._members(),
        )

    @property
    def has_holdout(self) -> bool:
        """Whether there are rows enough to learn from: one is held out."""
        return len(self.replay) >= HOLDOUT_PERIOD

    @property
    def can_fit(self) -> bool:
        """Whether there is a model, and rows enough to fit it."""
        return self.fitter is not None and self.has_holdout

    def _members(self) -> Tensor | None:
        """The members that imagine: all for mnm, the elites for mbpo and mnm-approx."""
        assert self.networks.dynamics is not None
        return None if self.settings.algo == "mnm" else self.networks.dynamics.elites

    def state_dict(self) -> dict[str, Any]:
        """Everything but the replays, as tensors and plain values.

        With `replay` and `synthetic` as they were, the agent goes on from it bit for bit, on the
        same kind of device.
        """
        return {
            "task": self._task(),
            "networks": self.networks.state_dict(),
            "optimizers": {
                name: optimizer.state_dict()
                for name, optimizer in self.joint_update.optimizers.items()
            },
            "fit_optimizer": self.fitter.optimizer.state_dict() if self.fitter else None,
            "generator": self.generator.get_state(),
            "counters": {
                "env_steps": self.env_steps,
                "updates": self.updates,
                "offline_transitions": self.offline_transitions,
                "offline_updates": self.offline_updates,
                "updates_allowed": self._updates_allowed(),
                "synthetic_transitions": self.synthetic_transitions,
                "next_fit": self._next_fit,
                "next_rollout": self._next_rollout,
                "synthetic_newest": self.synthetic.newest if self.synthetic is not None else 0,
                "fits": self.fitter.fits if self.fitter is not None else 0,
                "critics_biased": self._critics_biased,
                "smallest_reward": self.rewards.smallest,
                "largest_reward": self.rewards.largest,
            },
        }

    def check_state(self, state: dict[str, Any]) -> None:
        """Refuses a state that `load_state_dict` could not go on from, before anything is changed.

        Raises:
            ValueError: it is of another task or algorithm, or of rewards that this agent's
                transform refuses.
        """
        saved, own = state["task"], self._task()
        for name, value in own.items():
            if saved[name] != value:
                raise ValueError(
                    f"The checkpoint was made with {name}={saved[name]}, this agent has {value}: "
                    "restore into the task and algorithm that it was made with."
                )
        if self.settings.reads_log_rewards:
            self.rewards.check_smallest(state["counters"]["smallest_reward"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` of an agent of the same task and algorithm returned.

        Raises:
            ValueError: the state is of another network size, or refused by `check_state`.
        """
        self.check_state(state)
        try:
            self.networks.load_state_dict(state["networks"])
        except RuntimeError as error:
            raise ValueError(
                "The checkpoint's networks do not fit this task, algorithm or layer sizes: "
                "restore with the settings it was made with."
            ) from error
        for name, optimizer in self.joint_update.optimizers.items():
            if name in state["optimizers"]:  # else it has just become "auto"
                load_optimizer(optimizer, state["optimizers"][name])
        if self.fitter is not None:
            load_optimizer(self.fitter.optimizer, state["fit_optimizer"])
            self.fitter.fits = state["counters"]["fits"]
        load_generator(self.generator, state["generator"].cpu())
        counters = state["counters"]
        self.env_steps = counters["env_steps"]
        self.updates = counters["updates"]
        self.offline_transitions = counters["offline_transitions"]
        self.offline_updates = counters["offline_updates"]
        allowed_now = self.settings.updates_due(self.env_steps)
        self._updates_before = counters["updates_allowed"] - allowed_now
        self.synthetic_transitions = counters["synthetic_transitions"]
        if self.synthetic is not None:
            length = self.settings.rollout_length(self.env_steps)  # older checkpoints go by it
            newest = counters.get("synthetic_newest", self._synthetic_rows(length))
            self.synthetic.newest = newest
        self._next_fit = counters["next_fit"]
        self._next_rollout = counters["next_rollout"]
        self._critics_biased = counters["critics_biased"]
        self.rewards.smallest = counters["smallest_reward"]
        self.rewards.largest = counters["largest_reward"]

    def _updates_allowed(self) -> int:
        """Joint updates that the real steps so far allow, each at the ratio of its time."""
        return self._updates_before + self.settings.updates_due(self.env_steps)

    def _task(self) -> dict[str, Any]:
        """What a state belongs to."""
        return {
            "algo": self.settings.algo,
            "observation_dim": self.spaces.observation_dim,
            "action_low": self.spaces.action_low.tolist(),
            "action_high": self.spaces.action_high.tolist(),
        }

    def _bias_critics(self) -> None:
        """Starts the critics at log r - log(1-gamma), the value of a constant reward r: the mean
        of the first r', or that of their logarithms; see `Settings.initial_critic_value`."""
        log_rewards = self.rewards.log(self.replay.all_rows().rewards)
        if self.settings.initial_critic_value == "log-mean":
            log_reward = float(torch.logsumexp(log_rewards, 0)) - math.log(len(log_rewards))
        else:
            log_reward = float(log_rewards.mean())
        value = log_reward - math.log1p(-self.settings.gamma)
        self.networks.critics.set_output_bias(value)
        self.networks.target_critics.set_output_bias(value)
        self._critics_biased = True
