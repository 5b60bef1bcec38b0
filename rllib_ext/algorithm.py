"""MnM as an RLlib Algorithm: builds the actors, lets the coordinator turn, logs its reports."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EVALUATION_RESULTS,
)
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME as SAMPLED
from ray.tune.execution.placement_groups import PlacementGroupFactory

from distributed.coordinator import Coordinator
from distributed.failure import PROBE_EVERY_S, Seldom
from distributed.flow import Pace
from distributed.learner_core import TurnReport
from distributed.stop_request import StopAsked
from distributed.storage import resolve
from rllib_ext.actors import (
    build_pool,
    elastic_env_runners,
    end_hanging,
    warn_if_too_large,
)
from rllib_ext.bound_summary import NO_ESTIMATE, bound_summary, play_cut_episodes
from rllib_ext.checkpoint_files import (
    refuse_other_task,
    remove_task_file,
    write_task_file,
)
from rllib_ext.config import MnMConfig
from rllib_ext.environments import env_name, probe_spaces
from rllib_ext.learner_group import ask_learner, close_learner, raise_kept_error
from rllib_ext.placement import with_rollout_workers
from rllib_ext.plain_values import plain
from rllib_ext.reporting import Reporting
from rllib_ext.sample_metrics import SampleMetrics

logger = logging.getLogger(__name__)

FLOW_STATE = "flow"  # of a checkpoint: what the driver knows besides RLlib's own state


class MnM(Algorithm):
    """Joint model-policy optimization (Eysenbach et al. 2022), MBPO and SAC on Ray."""

    config: MnMConfig

    @classmethod
    def get_default_config(cls) -> MnMConfig:
        """A fresh config."""
        return MnMConfig()

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """RLlib's bundles and those of the rollout workers, so that Tune counts the pool."""
        if not isinstance(config, MnMConfig):
            config = cls.get_default_config().update_from_dict(config)
        return with_rollout_workers(super().default_resource_request(config), config)

    def setup(self, config: MnMConfig) -> None:
        """Builds the pool, then RLlib's runners and learner, and publishes the first weights."""
        spaces = probe_spaces(config)
        warn_if_too_large(config, self.default_resource_request(config))
        # Before RLlib's own actors: its learner takes any free bundle of the placement group.
        self.pool = build_pool(config, spaces)
        self._settings = config.settings()
        run = config.output_run or Path(self.logdir).name  # under Tune the trial's folder
        self._reporting = Reporting(self._settings, run, config.resolved_max_weight_lag())
        self._stop_asked = StopAsked()
        self._is_time_to_probe = Seldom(PROBE_EVERY_S)
        self._imagine_again = False
        super().setup(config)  # its callback on_algorithm_init may restore a checkpoint
        if config.output is not None:
            folder, rows = config.output, config.output_max_rows_per_file
            ask_learner(
                self.learner_group, lambda learner: learner.log_transitions(folder, run, rows)
            )
        if self.coordinator.latest is None:
            self._start_flow()
        if self.eval_env_runner_group is not None:
            # RLlib's own would ask the learner, and wait until its turn is over.
            self.eval_env_runner_group.sync_weights = self._send_published_policy
        self._offline_updates_per_iteration = int(
            (config.min_sample_timesteps_per_iteration or 0)
            * (self._settings.updates_to_data_ratio or 1.0)
        )

    @cached_property
    def coordinator(self) -> Coordinator:
        """Keeps the actors at work; RLlib's groups of them are there when it is first asked for."""
        config, runners, learners = self.config, self.env_runner_group, self.learner_group
        return Coordinator(
            collectors=runners._worker_manager,
            local_collector=runners.local_env_runner,
            learner=learners._worker_manager,
            local_learner=learners._learner if learners.is_local else None,
            pool=self.pool,
            pace=Pace(
                vector_steps=config.rollout_fragment_length,
                steps_per_request=config.rollout_fragment_length * config.num_envs_per_env_runner,
                num_random_steps=self._settings.num_random_steps,
                max_weight_lag=config.resolved_max_weight_lag(),
                request_timeout_s=config.sample_timeout_s,
            ),
            on_batches=lambda metrics: self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS),
            elastic=elastic_env_runners(runners, config.max_num_env_runners),
            should_stop=self._stop_asked,
        )

    def training_step(self) -> None:
        """One turn of the wheel: see `distributed.coordinator`; before it, what is offline."""
        if self._offline_is_due:
            self._train_offline()
        else:
            report = self.coordinator.turn()
            self.coordinator.adapt()
            self.coordinator.probe()
            if report is not None:
                self._log_report(report)
        self._reporting.export(self.coordinator)
        if self._stop_asked():
            self._end_iteration()

    def step(self) -> dict[str, Any]:
        """One iteration; with an evaluation it brings the live estimate of the bound.

        It ends at the first turn past a multiple of `min_sample_timesteps_per_iteration` real
        steps, so that what goes beyond does not add up; or once the run is asked to stop, and then
        there is no evaluation. While offline updates are to be made, an iteration makes as many as
        it would between real steps, and no step.
        """
        config = self.config
        self.config = _thawed(config)
        interval = config.min_sample_timesteps_per_iteration or 0
        if self._offline_is_due and config.offline_updates:
            self._end_iteration()
        elif interval:
            past = int(self.metrics.peek((ENV_RUNNER_RESULTS, SAMPLED), default=0)) % interval
            self.config.min_sample_timesteps_per_iteration = interval - past
        try:
            result = super().step()
        finally:
            self.config = config
        interval = self.config.evaluation_interval
        if interval and self._settings.has_classifier:
            due = (self.iteration + 1) % interval == 0 and not self._stop_asked()
            result["bound"] = self._estimate_bound() if due else dict(NO_ESTIMATE)
        self._reporting.complete(result, evaluates=bool(interval))
        return result

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """RLlib's; collectors that come back are counted.

        RLlib asks the dead ones before every turn, and waits for an answer: with one that stays
        away, a run would make few turns a second.
        """
        if env_runner_group is not self.env_runner_group:
            return super().restore_env_runners(env_runner_group)
        if not self._is_time_to_probe():
            return []
        restored = super().restore_env_runners(env_runner_group)
        self.coordinator.counts.worker_restarts += len(restored)
        return restored

    def _end_iteration(self) -> None:
        """Has the present iteration end after this turn."""
        self.config.min_sample_timesteps_per_iteration = 0
        self.config.min_train_timesteps_per_iteration = 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's evaluation; nothing where the run was asked to stop or no runner has played.

        Raises:
            ValueError: there is no environment to evaluate on in this process.
        """
        if self._stop_asked():
            return {}
        if self.eval_env_runner_group is None and self.env_runner.env is None:
            raise ValueError(
                "With remote environment runners an evaluation needs runners of its own: set "
                ".evaluation(evaluation_interval=1) in the config."
            )
        played = self._evaluated_steps()
        result = super().evaluate(*args, **kwargs)
        if self._evaluated_steps() > played or self.config.custom_evaluation_function:
            return result
        return {}  # RLlib's is once more that of the evaluation before

    def _evaluated_steps(self) -> float:
        """Environment steps of all evaluations so far."""
        path = (EVALUATION_RESULTS, ENV_RUNNER_RESULTS, SAMPLED)
        return self.metrics.peek(path, default=0)

    @property
    def _offline_is_due(self) -> bool:
        """Whether there are offline transitions or updates that the learner does not have yet."""
        if not self.config.offline_paths:
            return False
        report = self.coordinator.latest
        assert report is not None
        wanted = self.config.offline_updates
        return report.offline_transitions == 0 or report.offline_updates < wanted

    def _train_offline(self) -> None:
        """Has the learner read the files and make an iteration's offline updates."""
        report = self.coordinator.latest
        assert report is not None
        if report.offline_transitions == 0:
            paths = self.config.offline_paths
            for warning in ask_learner(
                self.learner_group, lambda learner: learner.core.ingest_offline(paths)
            ):
                logger.warning(warning)
        left = max(0, self.config.offline_updates - report.offline_updates)
        updates = min(left, self._offline_updates_per_iteration or left)
        statistics = ask_learner(
            self.learner_group, lambda learner: learner.core.train_offline(updates)
        )
        self._reporting.statistics.update(statistics)
        self.coordinator.counts.note_non_finite(statistics)
        report = self.coordinator.publish()
        self.coordinator.counts.learner_idle_s += report.idle_s
        self._log_report(report)

    def _estimate_bound(self) -> dict[str, float]:
        """The bound and the log return of the present policy.

        NaN while no model is fitted, and where no evaluation runner is there to play.
        """
        settings, group = self._settings, self.eval_env_runner_group
        published = self.coordinator.latest
        assert published is not None
        if (
            group is None
            or published.updates + published.offline_updates == 0
            or settings.bound_horizon == 0
        ):
            return dict(NO_ESTIMATE)
        self._send_published_policy()
        episodes = play_cut_episodes(group, settings.bound_horizon)
        if episodes is None:
            return dict(NO_ESTIMATE)
        # In a list, so that it stays a reference: the learner may be a version ahead.
        policy = [published.policy]
        samples = ask_learner(
            self.learner_group, lambda learner: learner.bound_samples(episodes, policy)
        )
        return bound_summary(samples, seed=published.env_steps)

    def _send_published_policy(self, *args: Any, **kwargs: Any) -> None:
        """Has the evaluation's runners act with the newest published weights.

        Takes the place of their group's `sync_weights`, whatever that is called with.
        """
        assert self.coordinator.latest is not None
        policy = [self.coordinator.latest.policy]
        self.eval_env_runner_group.foreach_env_runner(
            lambda runner: runner.load_policy(policy), local_env_runner=True
        )

    def get_module(self, module_id: str = DEFAULT_MODULE_ID) -> Any:
        """The RLModule with the learner's present weights."""
        if module_id == DEFAULT_MODULE_ID and self.env_runner is not None:
            components = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{DEFAULT_MODULE_ID}"
            state = self.learner_group.get_state(components=components, inference_only=True)
            modules = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE]
            self.env_runner.set_state({COMPONENT_RL_MODULE: modules})
        return super().get_module(module_id)

    def get_state(self, components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state; a whole one has the flow's counts and the latest statistics too, and is
        of a learner at rest."""
        if components is None:
            self._rest_learner()
        state = super().get_state(components, **kwargs)
        if components is None:
            here, runners = self._collects_here, self.coordinator.collectors.manager.num_actors()
            remote = runners * self.config.num_envs_per_env_runner
            state[FLOW_STATE] = {
                "counts": asdict(self.coordinator.counts),
                "statistics": dict(self._reporting.statistics),
                "imagines": self.coordinator.imagines,
                "collector_saved": here,
                "open_episodes": self.env_runner.collector.open_episodes if here else remote,
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned; where the learner's state is in it, as it is not in
        a checkpoint's, the flow goes on from there."""
        self._rest_learner()
        super().set_state(state)
        if FLOW_STATE in state:
            self._set_flow(state[FLOW_STATE])
        if COMPONENT_LEARNER_GROUP in state:
            self._start_flow()

    def _set_flow(self, flow: dict[str, Any]) -> None:
        """Takes over the flow's part of `get_state`."""
        self.coordinator.restore_counts(flow["counts"])
        self._imagine_again = flow.get("imagines", False)
        self._reporting.statistics.update(flow["statistics"])
        if not (flow["collector_saved"] and self._collects_here):
            # Else the collector itself resumes them, or counts those that it cannot.
            dropped = SampleMetrics(self.metrics.stats_cls_lookup, window=1)
            dropped.add_failures(episodes_dropped=flow["open_episodes"])
            self.metrics.aggregate([dropped.take()], key=ENV_RUNNER_RESULTS)

    def _start_flow(self) -> None:
        """Has the flow begin, or go on, from where the learner now stands."""
        if self._imagine_again:  # what the pool was at when the checkpoint was made
            ask_learner(self.learner_group, lambda learner: learner.core.agent.imagine_again())
            self._imagine_again = False
        self._reporting.env_steps = self.coordinator.start().env_steps

    @property
    def _collects_here(self) -> bool:
        """Whether the environments are stepped in this process."""
        return self.coordinator.collectors.manager.num_actors() == 0

    def save_to_path(self, path: Any = None, *, filesystem: Any = None, **kwargs: Any) -> str:
        """Saves a checkpoint, the replay with it; last of all `task.json`, the mark of a whole one.

        It says what the checkpoint is of and which files it has: see `rllib_ext.checkpoint_files`.

        Raises:
            CheckpointFailed: the learner could not write it.
        """
        self._rest_learner()
        if path is not None:
            filesystem, path = resolve(path, filesystem)
            remove_task_file(filesystem, path)
        path = super().save_to_path(path, filesystem=filesystem, **kwargs)
        raise_kept_error(self.learner_group)
        progress = {
            "training_iteration": self.iteration,
            "env_steps": self._reporting.env_steps,
            "time_total_s": self._time_total,
        }
        write_task_file(*resolve(path, filesystem), {**self._task(), **progress})
        return path

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restores a checkpoint and publishes its weights.

        Raises:
            ValueError: the checkpoint is of another task or algorithm, or not whole.
            CheckpointFailed: the learner could not read it.
            RuntimeError: the learner's process is gone; build the algorithm anew.
        """
        self._rest_learner()
        if kwargs.get("component") is None:
            refuse_other_task(*resolve(path, kwargs.get("filesystem")), self._task())
        try:
            super().restore_from_path(path, *args, **kwargs)
            raise_kept_error(self.learner_group)
        finally:  # whatever was restored
            self._start_flow()

    def cleanup(self) -> None:
        """Ends all actors."""
        learners = getattr(self, "learner_group", None)
        if learners is not None:
            close_learner(learners, self.config.output)
        coordinator = vars(self).get("coordinator")
        if coordinator is not None:
            coordinator.collectors.stop()
        pool = getattr(self, "pool", None)
        if pool is not None:
            pool.stop()
        for group in (getattr(self, "env_runner_group", None), self.eval_env_runner_group):
            if group is not None:
                end_hanging(group, self.config.sample_timeout_s)
        super().cleanup()

    def __repr__(self) -> str:
        """RLlib's; of one whose config was refused, which Ray prints with the error, the name."""
        return type(self).__name__ if self.config is None else super().__repr__()

    def _task(self) -> dict[str, Any]:
        """What a checkpoint of this algorithm is of."""
        task = {
            "env": env_name(self.config),
            "env_config": dict(self.config.env_config),
            "algo": self._settings.algo,
            **self._settings.network_sizes(),
        }
        return plain(task)

    def _rest_learner(self) -> None:
        """Waits for the turn that the learner is at, between two calls of `train` as a rule."""
        report = self.coordinator.finish_learning()
        if report is not None:
            self._log_report(report)

    def _log_report(self, report: TurnReport) -> None:
        self._reporting.log(report, self.coordinator, self.metrics)


def _thawed(config: MnMConfig) -> MnMConfig:
    """A shallow copy that can be set; RLlib's own copies all values, some milliseconds' work."""
    thawed = copy(config)
    object.__setattr__(thawed, "_is_frozen", False)
    return thawed
