"""The runs of an experiment: their plans, and digests that tell settings from others."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learning.experiments import EXPERIMENTS, SOLVED
from mnm import Settings
from mnm.settings import ALGORITHMS
from rllib_ext.run_plan import RunPlan
from rllib_ext.setting_names import SETTING_NAMES
from rllib_ext.tuned import tuned_settings

DIGEST_LENGTH = 8
# Of each setting when it was added: what digests are told against, so no value here ever changes.
DEFAULTS = json.loads((Path(__file__).parent / "defaults.json").read_text())
# How the names of settings begin that sac, which has no model, does not read.
OF_THE_MODEL = (
    "classifier_",
    "dynamics_",
    "ensemble_",
    "log_ratio_",
    "logit_clip",
    "num_elites",
    "real_ratio",
    "rollout",
    "synthetic_",
)


@dataclass(frozen=True)
class Run:
    """One run of an experiment: what tells it from the others, and its plan.

    Attributes:
        experiment: name.
        variant: name.
        plan: of the run.
    """

    experiment: str
    variant: str
    plan: RunPlan

    @property
    def digest(self) -> str:
        """Of every setting that is read and not as in `DEFAULTS`, so that a setting which is added
        later, with its default there, changes no digest, and a default that is changed does.

        Only for sac what is not read is left out: it shares its tasks' sections with the others.
        """
        given = self.plan.settings
        settings = Settings.preset(self.plan.algo, **_of_agent(given))
        changed = {name: value for name, value in given.items() if name not in DEFAULTS} | {
            name: value
            for name, value in json.loads(json.dumps(settings.to_dict())).items()
            if value != DEFAULTS[name] and (settings.has_model or not name.startswith(OF_THE_MODEL))
        }
        told = json.dumps([changed, self.plan.evaluation_interval], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:DIGEST_LENGTH]

    @property
    def name(self) -> str:
        """Of its folder: other settings, another folder."""
        plan = self.plan
        words = f"{plan.env}-{plan.algo}-{self.variant}-seed{plan.seed}-{self.digest}"
        return re.sub(r"[^\w.-]", "_", words)

    def folder(self, root: Path) -> Path:
        """The run's folder below the folder of all runs."""
        return root / self.experiment / self.name


def _of_agent(settings: dict[str, Any]) -> dict[str, Any]:
    """Without those of `MnMConfig.training` that are not the learner's, such as `termination`."""
    return {name: value for name, value in settings.items() if name in SETTING_NAMES}


def runs_of(name: str, seeds: tuple[int, ...] | None = None, only: str = "") -> list[Run]:
    """The runs of an experiment, the seeds outermost, so that all algorithms get their first early.

    Args:
        name: of the experiment.
        seeds: instead of its own.
        only: text that "env/algo/variant" must contain.
    """
    experiment = EXPERIMENTS[name]
    runs = []
    for seed in seeds or experiment.seeds:
        for env in experiment.envs:
            for algo in experiment.algos:
                tuned = tuned_settings(experiment.tuned_as or env, algo)
                tuned |= experiment.settings.get("all", {}) | experiment.settings.get(algo, {})
                preset = Settings.preset(algo, **_of_agent(tuned)).to_dict()
                for variant, changes in experiment.variants.items():
                    changes = changes.get(env, changes)
                    if of_algorithms := changes.keys() & set(ALGORITHMS):
                        if algo not in of_algorithms:
                            continue
                        changes = changes[algo]
                    if only not in f"{env}/{algo}/{variant}":
                        continue
                    if changes and all(preset[key] == value for key, value in changes.items()):
                        continue  # it is what the task is tuned to
                    plan = RunPlan(
                        env=env,
                        algo=algo,
                        settings={**tuned, **changes},
                        steps=experiment.steps,
                        num_env_runners=0,
                        num_rollout_workers=0,
                        seed=seed,
                        evaluation_interval=experiment.evaluation_interval,
                        stop_return=SOLVED[env] if experiment.stop_when_solved else None,
                    )
                    runs.append(Run(name, variant, plan))
    return runs
