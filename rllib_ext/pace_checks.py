"""Checks of the settings that the flow's pace is made of; see `distributed.flow.Pace`."""

from __future__ import annotations

from typing import Any


def check_pace(config: Any) -> None:
    """Checks how much a request to a runner is, how long it may take and how old weights may be.

    Args:
        config: an `MnMConfig`.

    Raises:
        ValueError: something is wrong; one sentence.
    """
    if config.in_evaluation:  # RLlib has set the fragment and the runners for its own purposes
        return
    fragment = config.rollout_fragment_length
    if not isinstance(fragment, int) or fragment < 1:
        raise ValueError(
            f"rollout_fragment_length={fragment!r} is not valid: use the steps per environment and "
            "request, at least 1."
        )
    timeout = config.sample_timeout_s
    if timeout is not None and not (_is_number(timeout) and timeout > 0):
        raise ValueError(
            f"sample_timeout_s={timeout!r} is not valid: use the seconds after which a runner that "
            "does not answer is restarted, above 0, or None for never."
        )
    lag = config.max_weight_lag
    if lag != "auto" and (not isinstance(lag, int) or isinstance(lag, bool)):
        raise ValueError(f"max_weight_lag={lag!r} is not valid: use 'auto' or a number of steps.")
    lag, least = config.resolved_max_weight_lag(), config.steps_per_round()
    if lag < least:
        raise ValueError(
            f"max_weight_lag={lag} is less than the {least} steps that all runners make in one "
            "request: raise it, or lower rollout_fragment_length, or leave it at 'auto'."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
