"""RLlib's face of the collector: an EnvRunner that hands over references to flat columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium as gym
import pyarrow as pa
import ray
import torch
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_errors import StepFailedRecreateEnvError
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils import force_list
from ray.rllib.utils import metrics as names
from ray.rllib.utils.checkpoints import Checkpointable

from distributed.collector import ActionMode, Collected, Collector, CutEpisode
from distributed.failure import errors_answered
from distributed.threads import granted_threads
from distributed.vector_env import EnvironmentFailed
from distributed.wire import to_arrow
from mnm.policy import load_numpy_weights, numpy_weights
from rllib_ext.environments import env_name, make_vector_env
from rllib_ext.episode_callbacks import EpisodeObserver, overridden_hooks
from rllib_ext.ray_session import first_line
from rllib_ext.sample_metrics import SampleMetrics

logger = logging.getLogger(__name__)

COLLECTOR_STATE = "collector"
ENV_FAILURES_IN_A_ROW = 3  # without a request between them that was answered: the runner raises
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class SampledSteps:
    """What RLlib's evaluation counts of a sample; our batches are no episodes."""

    steps: int

    def env_steps(self) -> int:
        """Environment steps."""
        return self.steps

    def agent_steps(self) -> int:
        """The same, for one agent."""
        return self.steps


class MnMEnvRunner(EnvRunner, Checkpointable):
    """Holds the policy and a `Collector`; `collect` serves the learner, `sample` the evaluation."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self.worker_index:
            torch.set_num_threads(granted_threads())
        self.spaces = kwargs.get("spaces") or {}
        self._callbacks = [make() for make in force_list(self.config.callbacks_class)]
        self._hooks = overridden_hooks(self.config)
        self._weights_seq_no = 0
        self._loaded: ray.ObjectRef | None = None
        self._sample_metrics = SampleMetrics(
            self.metrics.stats_cls_lookup, self.config.metrics_num_episodes_for_smoothing
        )
        self._env_failures = 0  # since the last request that was answered
        self._env_failed = False
        self.env: gym.vector.VectorEnv | None = None
        self.collector: Collector | None = None
        local = self.worker_index == 0
        if not local or self.config.create_env_on_local_worker or not self.config.num_env_runners:
            self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Makes the vector environment, and its collector where there is none yet."""
        context = EnvContext(
            self.config.env_config, worker_index=self.worker_index, num_workers=self.num_workers
        )
        self.env = make_vector_env(self.config, context)
        if self.collector is None:
            observer = EpisodeObserver(self, self._hooks, self._callbacks) if self._hooks else None
            self.collector = Collector(self.env, self._seed, self.worker_index, observer)
        else:
            self.collector.use(self.env)
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": context,
            },
        )

    def make_module(self) -> None:
        """Builds the policy's RLModule and acts with it."""
        self.module = self.config.get_rl_module_spec(
            env=self.env, spaces=self.get_spaces(), inference_only=True
        ).build()
        self._act_with_module()

    def get_spaces(self) -> dict[str, Any]:
        """Spaces under the keys RLlib asks for."""
        if self.env is None:
            if self.spaces:
                return self.spaces
            spaces = (self.config.observation_space, self.config.action_space)
            vector_spaces = spaces
        else:
            spaces = (self.env.single_observation_space, self.env.single_action_space)
            vector_spaces = (self.env.observation_space, self.env.action_space)
        return {
            INPUT_ENV_SPACES: vector_spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    def assert_healthy(self) -> None:
        """Raises an error if the runner was not built whole."""
        assert self.module is not None

    @errors_answered
    def collect(
        self, policy: list[ray.ObjectRef] | None, vector_steps: int, first_step: int
    ) -> tuple[list[ray.ObjectRef], int, Any]:
        """See `distributed.coordinator.CollectorProtocol.collect`."""
        batch, rows, metrics = self.collect_batch(policy, vector_steps, first_step)
        return [ray.put(batch)], rows, metrics

    def collect_batch(
        self, policy: list[ray.ObjectRef] | None, vector_steps: int, first_step: int
    ) -> tuple[pa.RecordBatch, int, Any]:
        """As `collect`, with the record batch itself in place of a reference to it."""
        if policy is not None:
            self.load_policy(policy, into_module=bool(self._hooks))  # a hook may look at it
        action_mode: ActionMode = "random" if policy is None else "explore"
        collected = self._request(
            lambda collector: collector.collect(vector_steps, action_mode, first_step)
        )
        self._sampled(collected)
        transitions = collected.transitions
        return to_arrow(transitions), len(transitions), self.get_metrics()

    def load_policy(self, policy: list[ray.ObjectRef], into_module: bool = True) -> None:
        """Acts from now on with published weights; `policy` is one reference to them, in a list."""
        if policy[0] == self._loaded:
            return
        weights = ray.get(policy[0])
        if into_module:
            load_numpy_weights(self.module.policy, weights)
        if self.collector is not None:
            self.collector.load_policy(weights)
        self._loaded = policy[0]

    def sample(
        self,
        *,
        num_timesteps: float | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[SampledSteps]:
        """Steps for RLlib's evaluation, with the policy that `set_state` brought.

        Args:
            num_timesteps: environment steps to make at least; else `num_episodes`.
            num_episodes: episodes to play to their ends from fresh resets; None: one.
            explore: sample actions; the mode of the policy otherwise; None: as the config says.
            random_actions: draw uniformly from the action space instead.
            force_reset: drop the open episodes first.
        """
        explore = self.config.explore if explore is None else explore
        action_mode: ActionMode = (
            "random" if random_actions else "explore" if explore else "deterministic"
        )
        if num_timesteps is not None:
            if force_reset:
                self._collector().reset()
            # RLlib's evaluation_duration="auto" estimates them: it passes a fraction.
            steps = math.ceil(num_timesteps / self.config.num_envs_per_env_runner)
            collected = self._request(lambda collector: collector.collect(steps, action_mode))
        else:
            episodes = 1 if num_episodes is None else num_episodes
            collected = self._request(
                lambda collector: collector.run_episodes(episodes, action_mode)
            )
        return self._sampled(collected)

    def run_cut_episodes(self, episodes: int, longest: int) -> list[CutEpisode]:
        """See `Collector.run_cut_episodes`."""
        return self._request(lambda collector: collector.run_cut_episodes(episodes, longest))

    def get_metrics(self) -> Any:
        """RLlib's metrics since the last call, and what callbacks logged."""
        logged = self.metrics.reduce() if self.metrics.stats else {}
        return {**logged, **self._sample_metrics.take()}

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The policy's weights and the number of steps sampled."""
        state: dict[str, Any] = {
            names.NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(**kwargs)
            state[names.WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned, or the learner's newer weights."""
        if COMPONENT_RL_MODULE in state:
            version = state.get(names.WEIGHTS_SEQ_NO, 0)
            # Not "newer": a live restore of an earlier checkpoint goes back.
            if version == 0 or version != self._weights_seq_no:
                weights = state[COMPONENT_RL_MODULE]
                if isinstance(weights, ray.ObjectRef):
                    weights = ray.get(weights)
                self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
                self._weights_seq_no = version
                self._act_with_module()
        if names.NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[names.NUM_ENV_STEPS_SAMPLED_LIFETIME]
        if COLLECTOR_STATE in state and self.collector is not None:
            self.collector.set_state(state[COLLECTOR_STATE])

    def save_to_path(self, path: Any = None, *, state: Any = None, **kwargs: Any) -> str:
        """Saves the state and, in a checkpoint alone, the collector's: no other runner takes it."""
        state = self.get_state() if state is None else state
        if self.collector is not None:
            state = {**state, COLLECTOR_STATE: self.collector.get_state()}
        return super().save_to_path(path, state=state, **kwargs)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments to build this runner again."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        """The policy's RLModule."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def stop(self) -> None:
        """Closes the environment."""
        if self.env is not None:
            self.env.close()

    def _collector(self) -> Collector:
        if self.collector is None:
            raise RuntimeError("This runner has no environment: ask a remote one.")
        return self.collector

    def _request(self, request: Callable[[Collector], Answer]) -> Answer:
        """The collector's answer; where the environment raises, it is asked again with a new one.

        What the request had collected until then is dropped.

        Raises:
            EnvironmentFailed: it has failed `ENV_FAILURES_IN_A_ROW` times; one sentence.
        """
        while True:
            try:
                if self._env_failed:
                    self._restart_env()
                answer = request(self._collector())
            except EnvironmentFailed as failure:
                self._note_failure(failure)
            else:
                self._env_failures = 0
                return answer

    def _restart_env(self) -> None:
        assert self.env is not None
        with suppress(Exception):  # it is broken
            self.env.close()
        try:
            self.make_env()
        except Exception as error:
            raise EnvironmentFailed(f"{type(error).__name__}: {error}") from error
        self._env_failed = False
        self._sample_metrics.add_failures(env_restarts=1)

    def _note_failure(self, failure: EnvironmentFailed) -> None:
        """Decides whether to go on after a failure."""
        cause = failure.__cause__
        assert cause is not None
        self._env_failures += 1
        self._env_failed = True
        if not self.config.restart_failed_sub_environments:
            raise cause
        name, what = env_name(self.config), first_line(failure)
        if self._env_failures >= ENV_FAILURES_IN_A_ROW:
            # Without its cause, so that this sentence is what a command shows.
            raise EnvironmentFailed(
                f"The environment {name} failed {self._env_failures} times in a row, the last time "
                f"with {what}: mend it, or see docs/operations.md on environments that raise."
            ) from None
        if not isinstance(cause, StepFailedRecreateEnvError):
            logger.warning("The environment %s failed with %s: it is made anew.", name, what)

    def _act_with_module(self) -> None:
        if self.collector is not None:
            self.collector.load_policy(numpy_weights(self.module.policy))
            self._loaded = None

    def _sampled(self, collected: Collected) -> list[SampledSteps]:
        dropped = self._collector().take_episodes_dropped()
        self._sample_metrics.add_failures(episodes_dropped=dropped)
        self._sample_metrics.add(collected)
        self.num_env_steps_sampled_lifetime += len(collected.transitions)
        samples = [SampledSteps(len(collected.transitions))]
        make_callback(
            "on_sample_end",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_sample_end,
            kwargs={"env_runner": self, "metrics_logger": self.metrics, "samples": samples},
        )
        return samples
