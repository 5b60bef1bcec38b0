"""Model fit: rows a second of the ensemble's fit against the arithmetic limit."""

from __future__ import annotations

from itertools import pairwise

from benchmarks.learner import arithmetic_rate
from benchmarks.learner_device import ACTION_DIM, OBSERVATION_DIM, ready_agent
from benchmarks.measure import Row, compare
from mnm import Settings


def fit_flops(settings: Settings) -> float:
    """Floating-point operations of the fit per row and member, matrix products only.

    Forward, gradients of the weights and, behind the first layer, of the inputs: 2 operations a
    weight each.
    """
    widths = [
        OBSERVATION_DIM + ACTION_DIM,
        *settings.dynamics_hidden_sizes,
        2 * OBSERVATION_DIM + 2,
    ]
    layers = [fan_in * fan_out for fan_in, fan_out in pairwise(widths)]
    return 6 * sum(layers) - 2 * layers[0]


def rows(quick: bool) -> list[Row]:
    """One row: the default ensemble, batches of 256 rows a member."""
    steps, repeats = (10, 3) if quick else (100, 5)
    settings = Settings.preset(
        "mbpo",
        num_random_steps=0,
        dynamics_max_fit_steps=steps,
        dynamics_fit_patience=steps,  # epochs: no fit stops early
    )
    agent = ready_agent(settings, "cpu")
    assert agent.fitter is not None
    fitter = agent.fitter
    rows_a_step = settings.ensemble_size * settings.dynamics_batch_size

    def fit() -> int:
        return fitter.fit(agent.replay, agent.generator).steps * rows_a_step

    return [
        compare(
            "fit: ensemble of 7, 4 layers of 200, 17 observations, 6 actions",
            "rows x members/s",
            fit,
            limit=arithmetic_rate() / fit_flops(settings),
            repeats=repeats,
        )
    ]
