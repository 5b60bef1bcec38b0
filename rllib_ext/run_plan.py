"""What one run of `mnm train` is to do: as its config, and as `run.json` in the run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from distributed.offline_data import LOG_FOLDER, OfflineData
from distributed.storage import Location, without_key
from rllib_ext.config import MnMConfig
from rllib_ext.environments import probe_spaces, task_spaces
from rllib_ext.errors import UserError, warn
from rllib_ext.placement import place
from rllib_ext.ray_session import first_line
from rllib_ext.setting_names import OWN_NAMES, SETTING_NAMES, unknown_setting

PLAN_FILE = "run.json"
FINAL_EPISODES = 10
# What may change when a run goes on; all else would make it another run.
RESUMABLE = (
    "steps",
    "num_env_runners",
    "num_rollout_workers",
    "max_env_runners",
    "max_rollout_workers",
    "num_gpus",
    "num_gpus_per_rollout_worker",
    "placement",
    "stop_return",
)


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides what a run does, in plain values.

    Attributes:
        env: Gymnasium id.
        algo: one of the four.
        settings: of the algorithm, by the names of `MnMConfig.training`.
        steps: real environment steps in all.
        num_env_runners: actors that collect.
        num_rollout_workers: actors that imagine.
        max_env_runners: that there may be; None: always `num_env_runners`.
        max_rollout_workers: that there may be; None: always `num_rollout_workers`.
        num_gpus: of the learner.
        num_gpus_per_rollout_worker: of each actor that imagines.
        placement: of the actors on the nodes; see `rllib_ext.placement.place`.
        seed: of everything.
        evaluation_interval: real steps between two evaluations.
        stop_return: two evaluations in a row of at least this end the run; None: none do.
        log_transitions: whether every real step is logged in the run's folder.
        offline_data: paths of transitions to start with.
        offline_updates: joint updates on them before the first real step.
        wandb: project of Weights & Biases; None: not sent there.
        mlflow: experiment of MLflow; None: not sent there.
    """

    env: str
    algo: str
    settings: dict[str, Any]
    steps: int
    num_env_runners: int
    num_rollout_workers: int
    max_env_runners: int | None = None
    max_rollout_workers: int | None = None
    num_gpus: float = 0.0
    num_gpus_per_rollout_worker: float = 0.0
    placement: str = "pack"
    seed: int = 0
    evaluation_interval: int = 250
    stop_return: float | None = None
    log_transitions: bool = False
    offline_data: list[str] = field(default_factory=list)
    offline_updates: int = 0
    wandb: str | None = None
    mlflow: str | None = None

    @property
    def title(self) -> str:
        """For displays and figures."""
        return f"{self.algo} on {self.env}, seed {self.seed}"

    def save(self, folder: Location) -> None:
        """Writes `run.json`, whole or not at all, without the keys that URIs may have.

        A run that goes on needs none: its checkpoint has the offline data.
        """
        content = json.dumps(asdict(self._without_keys()), indent=1) + "\n"
        (folder / PLAN_FILE).write(content.encode())

    @staticmethod
    def load(folder: Location) -> RunPlan:
        """What `save` wrote.

        Raises:
            UserError: the folder holds no run, or its `run.json` is damaged.
        """
        file = folder / PLAN_FILE
        try:
            table = json.loads(file.read())
            plan = RunPlan(**{name: table[name] for name in table if name in NAMES})
            return plan._without_keys()  # older files have them
        except FileNotFoundError as error:
            raise UserError(f"{folder} is not a run's folder: it has no {PLAN_FILE}.") from error
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file} cannot be read: {first_line(error)}.") from error

    def resumed(self, given: dict[str, Any]) -> RunPlan:
        """This plan with what was given anew.

        Raises:
            UserError: something was given that a run cannot change.
        """
        if given.get("offline_data"):
            given = {**given, "offline_data": list(map(without_key, given["offline_data"]))}
        for name, value in given.items():
            if name not in RESUMABLE and value != getattr(self, name, None):
                raise UserError(
                    f"{_option(name)} cannot change when a run is resumed; only "
                    f"{', '.join(map(_option, RESUMABLE))} can."
                )
        return replace(self, **given)

    def _without_keys(self) -> RunPlan:
        return replace(self, offline_data=list(map(without_key, self.offline_data)))

    def config(self, folder: Location, resumes: bool = False) -> MnMConfig:
        """The config, checked down to the environment's spaces and the offline data's columns.

        Args:
            folder: of the run.
            resumes: from a checkpoint, which has the offline data: they are not looked at.

        Raises:
            UserError: something in it is wrong; one sentence.
        """
        unknown = sorted(set(self.settings) - set(SETTING_NAMES) - set(OWN_NAMES))
        if unknown:
            raise UserError(unknown_setting(unknown[0]))
        local = self.num_env_runners == 0 and self.num_rollout_workers == 0
        try:
            config = (
                MnMConfig()
                .environment(self.env)
                .env_runners(
                    num_env_runners=self.num_env_runners,
                    max_num_env_runners=self.max_env_runners,
                )
                .learners(num_learners=0 if local else 1, num_gpus_per_learner=self.num_gpus)
                .training(
                    **{
                        **self.settings,
                        "algo": self.algo,
                        "num_rollout_workers": self.num_rollout_workers,
                        "max_num_rollout_workers": self.max_rollout_workers,
                        "num_gpus_per_rollout_worker": self.num_gpus_per_rollout_worker,
                    }
                )
                .evaluation(evaluation_interval=1, evaluation_duration=FINAL_EPISODES)
                .reporting(min_sample_timesteps_per_iteration=self.evaluation_interval)
                .debugging(seed=self.seed)
                .offline_data(
                    input_=self.offline_data,
                    offline_updates=self.offline_updates,
                    output=(folder / LOG_FOLDER).full_name if self.log_transitions else None,
                    output_run=folder.last,
                )
            )
            place(config, self.placement)
            config.validate()
            spaces = probe_spaces(config)
            if self.offline_data and not resumes:
                for warning in OfflineData(self.offline_data, task_spaces(*spaces)).warnings:
                    warn(warning)
        except ValueError as error:
            raise UserError(first_line(error)) from error
        return config.environment(observation_space=spaces[0], action_space=spaces[1])


def _option(name: str) -> str:
    return "--" + name.strip("_").replace("_", "-")


NAMES = tuple(field.name for field in fields(RunPlan))
