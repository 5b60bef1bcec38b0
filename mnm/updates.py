"""The joint update: classifier, model, critics, policy and temperature of all four algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mnm.agent_networks import Networks
from mnm.classifier import TransitionClassifier
from mnm.dynamics import DynamicsEnsemble, given_end
from mnm.replay import Batch, ReplayBuffer
from mnm.rewards import RewardTransform
from mnm.running_means import RunningMeans
from mnm.settings import Settings

ASK_EVERY = 16  # updates: a fraction of a second
# Of "auto", which a logit that stays off its target would drive on without end.
CLASSIFIER_REWARD_WEIGHT_RANGE = (1e-4, 100.0)
# The model's is there at every update, for its clipping.
NORMS_NOTED = ("critics", "policy", "classifier", "stopping")


class JointUpdate:
    """Makes updates on batches from the replay and the imagined transitions.

    Gradients are taken for exactly the parameters a step moves; statistics are summed on the device
    and read once per call.

    Args:
        networks: what is trained, in place.
        settings: of the algorithm.
        rewards: the transform of `mnm`.
        replay: real transitions.
        synthetic: imagined transitions; for `mnm` only their states and actions are used.
        generator: on the networks' device.
    """

    def __init__(
        self,
        networks: Networks,
        settings: Settings,
        rewards: RewardTransform,
        replay: ReplayBuffer,
        synthetic: ReplayBuffer | None,
        generator: torch.Generator,
    ) -> None:
        self.networks = networks
        self.settings = settings
        self.rewards = rewards
        self.replay = replay
        self.synthetic = synthetic
        self.generator = generator
        self.action_dim = networks.policy.action_center.numel()
        auto = settings.target_entropy == "auto"
        self.target_entropy = -self.action_dim if auto else float(settings.target_entropy)
        self._means = RunningMeans()
        self._notes_norms = False  # of gradients: at the last update of a call, as each costs time
        self._critic_parameters: list[Tensor] = list(networks.critics.parameters())
        self._target_parameters: list[Tensor] = list(networks.target_critics.parameters())
        self.optimizers = {
            "critics": self._adam(self._critic_parameters, settings.critic_lr),
            "policy": self._adam(list(networks.policy.parameters()), settings.actor_lr),
            "alpha": self._adam([networks.log_alpha], settings.alpha_lr),
        }
        if networks.classifier is not None:
            parameters = list(networks.classifier.parameters())
            self.optimizers["classifier"] = self._adam(parameters, settings.classifier_lr)
        if settings.algo == "mnm":
            assert networks.dynamics is not None
            parameters = list(networks.dynamics.networks.parameters())
            self.optimizers["model"] = self._adam(parameters, settings.model_lr)
        if networks.stopping is not None:
            parameters = list(networks.stopping.parameters())
            self.optimizers["stopping"] = self._adam(parameters, settings.stop_lr)
        if settings.algo == "mnm-approx" and settings.classifier_reward_weight == "auto":
            self.optimizers["classifier_reward_weight"] = self._adam(
                [networks.log_classifier_reward_weight], settings.classifier_reward_weight_lr
            )

    def run(self, count: int) -> dict[str, float]:
        """Makes `count` joint updates and returns the means of their statistics by name."""
        self.make(count)
        return self.read_statistics()

    def make(self, count: int, should_stop: Callable[[], bool] | None = None) -> int:
        """Makes joint updates and returns how many.

        Args:
            count: to make.
            should_stop: asked after every `ASK_EVERY` of them, and on True no more are made.
        """
        step = {
            "sac": self._update_sac,
            "mbpo": self._update_mbpo,
            "mnm-approx": self._update_mnm_approx,
            "mnm": self._update_mnm,
        }[self.settings.algo]
        for made in range(count):
            if should_stop is not None and made and made % ASK_EVERY == 0 and should_stop():
                return made
            self._notes_norms = made == count - 1
            step()
        return count

    # One update of each algorithm

    def _update_sac(self) -> None:
        batch = self.replay.sample(self.settings.batch_size, self.generator)
        self._update_actor_critic(batch, self._reward_target(batch, batch.rewards))

    def _update_mbpo(self) -> None:
        batch, _ = self._mixed_batch()
        self._update_actor_critic(batch, self._reward_target(batch, batch.rewards))

    def _update_mnm_approx(self) -> None:
        classifier, dynamics = self._classifier(), self._dynamics()
        real = self.replay.sample_training(self.settings.batch_size, self.generator)
        start = self._from_pool(len(real.rewards)) if self._judges_pool else real
        self._update_classifier(
            classifier.inputs(
                dynamics.normaliser, real.observations, real.actions, real.next_observations
            ),
            self._imagined_inputs(start, dynamics.elites),
        )
        batch, number_real = self._mixed_batch()
        with torch.no_grad():
            rows = slice(number_real, None)
            logit = classifier(
                classifier.inputs(
                    dynamics.normaliser,
                    batch.observations[rows],
                    batch.actions[rows],
                    batch.next_observations[rows],
                )
            ).clamp(-self.settings.logit_clip, self.settings.logit_clip)
            weight = self._classifier_reward_weight()
            rewards = batch.rewards.clone()
            rewards[rows] += weight * logit
        self._means.add(classifier_reward_weight=weight)
        if "classifier_reward_weight" in self.optimizers and len(logit):
            self._update_classifier_reward_weight(logit)
        self._update_actor_critic(batch, self._reward_target(batch, rewards))

    def _update_mnm(self) -> None:
        self._update_classifier_and_model()
        batch, number_real = self._mixed_batch()
        self._update_actor_critic(batch, self._bound_target(batch, number_real))

    # Critics and policy

    def _update_actor_critic(self, batch: Batch, target: Tensor) -> None:
        """SAC's critics on `target` [N], its policy, temperature and target critics."""
        networks = self.networks
        values = networks.critics(batch.observations, batch.actions)
        critic_loss = (values - target).square().mean(1).sum()
        self._step("critics", critic_loss)

        alpha = networks.log_alpha.detach().exp()
        actions, log_probability = networks.policy.sample(
            batch.observations, self._noise(len(batch.observations))
        )
        value = networks.critics.smaller(batch.observations, actions)
        self._step("policy", (alpha * log_probability - value).mean())

        entropy = -log_probability.detach().mean()
        # Of the loss log_alpha * (entropy - target), which is linear.
        self._apply("alpha", [entropy - self.target_entropy])
        with torch.no_grad():  # else every target would keep the graph of all updates before
            torch._foreach_lerp_(
                self._target_parameters, self._critic_parameters, self.settings.tau
            )
        self._means.add(
            critic_loss=critic_loss,
            q_value=values.mean(),
            q_target=target.mean(),
            policy_entropy=entropy,
            alpha=alpha,
        )

    @torch.no_grad()
    def _next_value(self, next_observations: Tensor) -> Tensor:
        """Soft value [N] of the target critics: SAC, Haarnoja et al. 2018, equation 3.

        Under learned stopping without the entropy: a head that hardly stops would collect its
        bonus for ever, instead of the reward.
        """
        networks = self.networks
        actions, log_probability = networks.policy.sample(
            next_observations, self._noise(len(next_observations))
        )
        value = networks.target_critics.smaller(next_observations, actions)
        if networks.stopping is not None:
            return value
        return value - networks.log_alpha.exp() * log_probability

    @torch.no_grad()
    def _reward_target(self, batch: Batch, rewards: Tensor) -> Tensor:
        """r + gamma (1 - d) V(s') [N]."""
        following = (1 - batch.terminateds) * self._next_value(batch.next_observations)
        return rewards + self.settings.gamma * following

    def _largest_value(self) -> Tensor:
        """What no value of `mnm` exceeds: `RewardTransform.largest_value`, of the largest real or
        terminal reward paid for ever, and, where values are soft, the temperature's bonus for the
        widest policy, which is uniform."""
        gamma = self.settings.gamma
        soft = self.networks.stopping is None
        bonus = self.action_dim * math.log(2) * gamma / (1 - gamma) if soft else 0.0
        return self.rewards.largest_value + bonus * self.networks.log_alpha.detach().exp()

    def _bound_target(self, batch: Batch, number_real: int) -> Tensor:
        """The critics' target [N] under the bound, s' drawn from the current model.

        "fixed": (1-gamma) log r' + w logit C(s,a,s') - (1-gamma) log(1-gamma) + gamma V(s'), the
        paper's bound with fixed discount as a reward. "learned-stopping": see `StoppingHead`. In
        both, logit C is held to +-`logit_clip`, and a terminal s' is worth
        log(terminal_reward / (1-gamma)). No target is above `_largest_value`: critics that are
        optimistic outside the data would have the model lead there, and each would drive the other
        on without end.
        """
        settings, dynamics, classifier = self.settings, self._dynamics(), self._classifier()
        observations, actions = batch.observations, batch.actions
        with torch.no_grad():
            imagined, predicted_rewards = dynamics.sample(observations, actions, self.generator)
            ended = dynamics.termination(observations, actions, imagined)
            log_rewards, floored = self.rewards.log_predicted(predicted_rewards)
            log_reward = given_end(log_rewards, ended)
            log_reward[:number_real] = self.rewards.log(batch.rewards[:number_real])
            logit = classifier(
                classifier.inputs(dynamics.normaliser, observations, actions, imagined)
            ).clamp(-settings.logit_clip, settings.logit_clip)
            following = torch.lerp(
                self._next_value(imagined),
                torch.full_like(ended, self.rewards.terminal_value),
                ended,
            )
        self._means.add(
            rewards_floored=given_end(floored[number_real:].float(), ended[number_real:]).sum(),
            log_reward=log_reward.mean(),
            log_ratio=logit.mean(),
        )
        weighted_logit = settings.log_ratio_weight * logit
        stopping = self.networks.stopping
        if stopping is None:
            stop = 1 - settings.gamma
            target = stop * log_reward + weighted_logit - stop * math.log(stop)
            return torch.minimum(target + settings.gamma * following, self._largest_value())
        stop_probability = stopping(dynamics.normaliser, observations, actions)
        value = stopping.value(
            stop_probability, log_reward, weighted_logit + following, settings.gamma
        )
        self._step("stopping", -value.mean())
        self._means.add(stop_probability=stop_probability.mean())
        return torch.minimum(value.detach(), self._largest_value())

    # Classifier and model

    def _update_classifier(self, real: Tensor, imagined: Tensor) -> None:
        loss, cross_entropy, real_logits, imagined_logits = self._classifier().loss(
            real, imagined, self.generator
        )
        self._step("classifier", loss)
        correct = (real_logits > 0).float().mean() + (imagined_logits <= 0).float().mean()
        self._means.add(
            classifier_loss=cross_entropy,
            classifier_train_accuracy=correct / 2,
            classifier_train_logit_real=real_logits.mean(),
            classifier_train_logit_imagined=imagined_logits.mean(),
        )

    @property
    def _judges_pool(self) -> bool:
        """Whether the classifier's imagined half has the (s, a) of the rollout pool."""
        pairs, synthetic = self.settings.classifier_pairs, self.synthetic
        return pairs == "pool" and synthetic is not None and len(synthetic) > 0

    def _from_pool(self, rows: int) -> Batch:
        assert self.synthetic is not None
        return self.synthetic.sample(rows, self.generator)

    @torch.no_grad()
    def _imagined_inputs(self, batch: Batch, members: Tensor | None = None) -> Tensor:
        """The classifier's inputs [N] at a batch's (s, a), s' from the present model."""
        dynamics = self._dynamics()
        imagined, _ = dynamics.sample(batch.observations, batch.actions, self.generator, members)
        return self._classifier().inputs(
            dynamics.normaliser, batch.observations, batch.actions, imagined
        )

    def _update_classifier_and_model(self) -> None:
        """The adversarial pair: one draw from the model serves both losses ("matched" pairs).

        The model maximises E[w logit C(s,a,s') + gamma ((1-d) V(s') + d log(terminal / (1-gamma)))]
        through a reparameterised s', with a likelihood term beside it; under learned stopping
        E[(1-k) (w logit C(s,a,s') + (1-d) V(s') + d log(terminal / (1-gamma)))]. The logit is not
        clipped, and V is of the present critics, without the entropy. The reward head is trained by
        likelihood alone.
        """
        settings, dynamics, classifier = self.settings, self._dynamics(), self._classifier()
        members = dynamics.networks.members
        rows = -(-settings.batch_size // members) * members
        real = self.replay.sample_training(rows, self.generator)
        prediction = dynamics.predict(
            dynamics.split(real.observations, members), dynamics.split(real.actions, members)
        )
        noise = torch.randn(
            rows, dynamics.observation_dim, generator=self.generator, device=self.replay.device
        )
        imagined, _ = dynamics.decode(real.observations, prediction, noise)
        normaliser = dynamics.normaliser
        imagined_inputs = classifier.inputs(normaliser, real.observations, real.actions, imagined)
        self._update_classifier(
            classifier.inputs(normaliser, real.observations, real.actions, real.next_observations),
            self._imagined_inputs(self._from_pool(rows))
            if self._judges_pool
            else imagined_inputs.detach(),
        )

        ended = dynamics.termination(real.observations, real.actions, imagined)
        next_actions, _ = self.networks.policy.sample(imagined, self._noise(rows))
        value = self.networks.critics.smaller(imagined, next_actions)
        value = torch.minimum(value, self._largest_value())
        following = (1 - ended) * value + ended * self.rewards.terminal_value
        following = settings.model_value_weight * following
        weighted_logit = settings.log_ratio_weight * classifier(imagined_inputs)
        stopping = self.networks.stopping
        if stopping is None:
            objective = weighted_logit + settings.gamma * following
        else:
            going_on = 1 - stopping(normaliser, real.observations, real.actions).detach()
            objective = going_on * (weighted_logit + following)
        targets = dynamics.split(normaliser.targets(real), members)
        change_loss = prediction.change_loss(targets)
        terminateds = dynamics.split(real.terminateds, members)
        reward_nll = prediction.reward_nll(targets, terminateds).mean()
        # Summed over the dimensions: log q of the whole s', as logit C and V are of the whole s'.
        likelihood_loss = settings.likelihood_weight * change_loss.sum(-1).mean()
        loss = likelihood_loss + reward_nll - objective.mean()
        self._step("model", loss, max_norm=settings.model_grad_clip)
        self._means.add(model_objective=objective.mean(), model_nll=change_loss.mean())

    def _update_classifier_reward_weight(self, logit: Tensor) -> None:
        """Dual update: the weight grows while the mean clipped logit is below its target."""
        log_weight = self.networks.log_classifier_reward_weight
        excess = logit.mean() - self.settings.log_ratio_target
        self._step("classifier_reward_weight", log_weight * excess)
        with torch.no_grad():
            log_weight.clamp_(*map(math.log, CLASSIFIER_REWARD_WEIGHT_RANGE))

    def _classifier_reward_weight(self) -> Tensor:
        weight = self.settings.classifier_reward_weight
        if weight == "auto":
            return self.networks.log_classifier_reward_weight.detach().exp()
        return torch.full((), float(weight), device=self.replay.device)

    # Shared pieces

    def _mixed_batch(self) -> tuple[Batch, int]:
        """A batch with `real_ratio` real rows first, and their number; all real while none is
        imagined yet."""
        size = self.settings.batch_size
        if self.synthetic is None or len(self.synthetic) == 0:
            return self.replay.sample(size, self.generator), size
        number_real = round(self.settings.real_ratio * size)
        real = self.replay.sample(number_real, self.generator)
        imagined = self.synthetic.sample(size - number_real, self.generator)
        joined = (
            torch.cat([getattr(real, name), getattr(imagined, name)])
            for name in Batch.__dataclass_fields__
        )
        return Batch(*joined), number_real

    def _noise(self, rows: int) -> Tensor:
        return torch.randn(
            rows, self.action_dim, generator=self.generator, device=self.replay.device
        )

    @staticmethod
    def _adam(parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=lr, fused=True)

    def _step(self, name: str, loss: Tensor, max_norm: float | None = None) -> None:
        """One optimizer step; only the gradients of that optimizer's parameters are computed."""
        parameters = self.optimizers[name].param_groups[0]["params"]
        self._apply(name, torch.autograd.grad(loss, parameters), max_norm)

    def _apply(self, name: str, gradients: Sequence[Tensor], max_norm: float | None = None) -> None:
        optimizer = self.optimizers[name]
        parameters: list[Tensor] = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if max_norm is not None:
            norm = nn.utils.clip_grad_norm_(parameters, max_norm)
            self._means.add(**{f"{name}_gradient_norm": norm})
        elif self._notes_norms and name in NORMS_NOTED:
            self._means.add(**{f"{name}_gradient_norm": nn.utils.get_total_norm(gradients)})
        optimizer.step()

    def read_statistics(self) -> dict[str, float]:
        """Means since the last call; the only place where an update's figures leave the device."""
        return self._means.read()

    def _dynamics(self) -> DynamicsEnsemble:
        assert self.networks.dynamics is not None
        return self.networks.dynamics

    def _classifier(self) -> TransitionClassifier:
        assert self.networks.classifier is not None
        return self.networks.classifier
