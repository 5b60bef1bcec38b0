"""Properties of the bounds on thousands of random decision processes, drawn by hypothesis.

The processes are nasty on purpose: unreachable next states, rewards over eight orders of magnitude,
policies from deterministic to uniform, models from exact to wild, stop probabilities down to 0.001.
Some models and stop probabilities know the values: there the bounds are nearly tight, and a mistake
of a few percent in a formula would break them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnm.tabular import (
    finite_horizon_bound,
    finite_horizon_value,
    fixed_discount_bound,
    learned_stopping_bound,
    model_divergence,
    optimistic_dynamics,
    policy_value,
    tight_dynamics_and_stopping,
    tightest_fixed_dynamics,
    time_marginal_bound,
    vmbpo_objective,
)

Array = NDArray[np.float64]


@dataclass
class Case:
    """A random decision process with a policy, a model and stop probabilities."""

    p: Array
    q: Array
    policy: Array
    reward: Array
    stop: Array
    gamma: float
    start: Array
    generator: np.random.Generator

    @property
    def log_value(self) -> Array:
        log_value: Array = np.log(policy_value(self.p, self.policy, self.reward, self.gamma)[0])
        return log_value

    @property
    def fixed(self) -> tuple[Array, Array, Array, Array, float]:
        """Arguments shared by the bounds with a fixed discount."""
        return self.p, self.q, self.policy, self.reward, self.gamma


def slack(*values: Array | float) -> float:
    """Rounding error to allow for: the linear solves lose digits in proportion to the values."""
    return 1e-9 * max(1.0, *(float(np.abs(value).max()) for value in values))


@st.composite
def cases(draw: st.DrawFn, deterministic_policy: bool = False) -> Case:
    """Draw the shape and the kinds of things openly, their numbers from a drawn seed."""
    states = draw(st.integers(1, 6), label="states")
    actions = draw(st.integers(1, 4), label="actions")
    gamma = draw(st.floats(0.02, 0.99), label="gamma")
    sparse = draw(st.booleans(), label="some next states impossible")
    model_spread = draw(st.sampled_from([0.0, 0.3, 2.0, 8.0]), label="how wild the model is")
    knows_values = draw(st.booleans(), label="model and stopping know the values")
    drops = draw(st.booleans(), label="model drops some possible states")
    concentration = draw(st.sampled_from([0.0, 0.2, 1.0, 50.0]), label="policy concentration")
    reward_spread = draw(st.floats(0.0, 4.0), label="orders of magnitude of the reward")
    always_stops = draw(st.booleans(), label="certain to stop in some places")
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))

    p = generator.dirichlet(np.ones(states), size=(states, actions))
    if sparse:
        p = thinned(p, generator)
    reward = 10 ** generator.uniform(-reward_spread, reward_spread, size=(states, actions))
    if deterministic_policy or concentration == 0.0:
        policy = np.eye(actions)[generator.integers(actions, size=states)]
    else:
        policy = generator.dirichlet(np.full(actions, concentration), size=states)
    q = p * np.exp(generator.uniform(-model_spread, model_spread, size=p.shape))
    stop = np.exp(generator.uniform(math.log(1e-3), 0.0, size=(states, actions)))
    if knows_values:
        value, action_values = policy_value(p, policy, reward, gamma)
        q = p * (value / value.max()) ** generator.uniform(0.0, 1.2)
        stop = np.clip(reward / action_values, 1e-6, 1.0) ** generator.uniform(0.9, 1.1)
    q /= q.sum(axis=-1, keepdims=True)
    if drops:
        q = thinned(q, generator)
    if always_stops:
        stop[generator.random((states, actions)) < 0.3] = 1.0
    return Case(
        p=p,
        q=q,
        policy=policy,
        reward=reward,
        stop=stop,
        gamma=gamma,
        start=generator.dirichlet(np.ones(states)),
        generator=generator,
    )


def time_to_fade(gamma: float) -> int:
    """The number of steps after which gamma^t no longer counts (about 1e-18)."""
    return math.ceil(-42 / math.log(gamma))


def thinned(table: Array, generator: np.random.Generator) -> Array:
    """The table with about half its entries struck out, at least the largest of each row kept."""
    kept = generator.random(table.shape) < 0.5
    kept |= table == table.max(axis=-1, keepdims=True)
    kept_only: Array = np.where(kept, table, 0.0)
    kept_only /= kept_only.sum(axis=-1, keepdims=True)
    return kept_only


@settings(max_examples=1500, deadline=None)
@given(cases())
def test_fixed_bound_never_exceeds_the_log_return(case: Case) -> None:
    for weight in (1.0, case.gamma):
        bound = fixed_discount_bound(*case.fixed, log_ratio_weight=weight)
        assert (bound <= case.log_value + slack(bound, case.log_value)).all()


@settings(max_examples=1500, deadline=None)
@given(cases())
def test_learned_stopping_bound_never_exceeds_the_log_return(case: Case) -> None:
    bound = learned_stopping_bound(case.p, case.q, case.stop, case.policy, case.reward, case.gamma)
    assert (bound <= case.log_value + slack(bound, case.log_value)).all()


@settings(max_examples=800, deadline=None)
@given(cases(), st.integers(1, 40))
def test_time_marginal_bound_never_exceeds_the_log_return(case: Case, horizon: int) -> None:
    log_return = math.log(case.start @ np.exp(case.log_value))
    bound = time_marginal_bound(*case.fixed, case.start, horizon)
    longer = time_marginal_bound(*case.fixed, case.start, horizon + 1)
    assert bound <= log_return + slack(bound, log_return)
    assert bound <= longer + slack(bound)


@settings(max_examples=1500, deadline=None)
@given(cases())
def test_coefficient_gamma_is_never_looser_than_one(case: Case) -> None:
    with_one = fixed_discount_bound(*case.fixed)
    with_gamma = fixed_discount_bound(*case.fixed, log_ratio_weight=case.gamma)
    assert (with_gamma >= with_one - slack(with_one)).all()


@settings(max_examples=300, deadline=None)
@given(cases())
def test_what_coefficient_gamma_gains_is_the_mean_divergence(case: Case) -> None:
    gain = fixed_discount_bound(*case.fixed, log_ratio_weight=case.gamma)
    gain -= fixed_discount_bound(*case.fixed)
    # E_{pi,q}[ (1-gamma) sum_t gamma^t KL_t ] by summing powers of the transition matrix.
    divergence = (case.policy * model_divergence(case.q, case.p)).sum(axis=1)
    transition = np.einsum("sa,sat->st", case.policy, case.q)
    expected, weight = np.zeros_like(divergence), 1 - case.gamma
    for _ in range(time_to_fade(case.gamma)):
        expected, divergence, weight = (
            expected + weight * divergence,
            transition @ divergence,
            weight * case.gamma,
        )
    np.testing.assert_allclose(gain, expected, atol=1e-8, rtol=1e-8)


@settings(max_examples=400, deadline=None)
@given(cases())
def test_stopping_by_time_is_never_looser_than_the_fixed_bound(case: Case) -> None:
    fixed = case.start @ fixed_discount_bound(*case.fixed, log_ratio_weight=case.gamma)
    by_time = time_marginal_bound(*case.fixed, case.start, time_to_fade(case.gamma))
    assert by_time >= fixed - slack(fixed, by_time)


@settings(max_examples=400, deadline=None)
@given(cases())
def test_stopping_as_the_discount_does_gives_back_the_fixed_bound(case: Case) -> None:
    stop = np.full_like(case.stop, 1 - case.gamma)
    bound = learned_stopping_bound(case.p, case.q, stop, case.policy, case.reward, case.gamma)
    fixed = fixed_discount_bound(*case.fixed, log_ratio_weight=case.gamma)
    np.testing.assert_allclose(bound, fixed, atol=slack(fixed))


@settings(max_examples=1500, deadline=None)
@given(cases(deterministic_policy=True))
def test_tight_construction_equals_the_log_return_of_deterministic_policies(case: Case) -> None:
    q, stop = tight_dynamics_and_stopping(case.p, case.policy, case.reward, case.gamma)
    bound = learned_stopping_bound(case.p, q, stop, case.policy, case.reward, case.gamma)
    np.testing.assert_allclose(bound, case.log_value, rtol=0, atol=1e-9)


@settings(max_examples=300, deadline=None)
@given(cases(deterministic_policy=True))
def test_tight_construction_is_the_one_from_the_values(case: Case) -> None:
    value, action_values = policy_value(case.p, case.policy, case.reward, case.gamma)
    q, stop = tight_dynamics_and_stopping(case.p, case.policy, case.reward, case.gamma)
    expected = case.p * value
    np.testing.assert_allclose(q, expected / expected.sum(axis=-1, keepdims=True), atol=1e-9)
    np.testing.assert_allclose(stop, case.reward / action_values, atol=1e-9)


@settings(max_examples=500, deadline=None)
@given(cases())
def test_tight_construction_satisfies_its_fixed_point(case: Case) -> None:
    q, stop = tight_dynamics_and_stopping(case.p, case.policy, case.reward, case.gamma)
    bound = learned_stopping_bound(case.p, q, stop, case.policy, case.reward, case.gamma)
    growth = case.reward + case.gamma * case.p @ np.exp(bound)
    np.testing.assert_allclose((case.policy * np.log(growth)).sum(axis=1), bound, atol=1e-9)
    np.testing.assert_allclose(stop, case.reward / growth, rtol=1e-7)
    assert (bound <= case.log_value + slack(bound, case.log_value)).all()


@settings(max_examples=500, deadline=None)
@given(cases())
def test_no_other_model_and_stopping_beat_the_tight_construction(case: Case) -> None:
    best_q, best_stop = tight_dynamics_and_stopping(case.p, case.policy, case.reward, case.gamma)
    best = learned_stopping_bound(case.p, best_q, best_stop, case.policy, case.reward, case.gamma)
    value, action_values = policy_value(case.p, case.policy, case.reward, case.gamma)
    from_values = case.p * value / (case.p @ value)[..., None]
    rivals = (
        (case.q, case.stop),
        (from_values, np.minimum(case.reward / action_values, 1.0)),
        (0.9 * best_q + 0.1 * case.p, 0.9 * best_stop + 0.1 * case.stop),
    )
    for q, stop in rivals:
        rival = learned_stopping_bound(case.p, q, stop, case.policy, case.reward, case.gamma)
        assert (rival <= best + slack(rival, best)).all()


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_gap_is_a_relative_entropy_summed_along_the_model(case: Case) -> None:
    """log V - bound = expected KL of (pi, k, q) to the posterior (pi Q/V, r/Q, p V/E_p V)."""
    value, action_values = policy_value(case.p, case.policy, case.reward, case.gamma)
    bound = learned_stopping_bound(case.p, case.q, case.stop, case.policy, case.reward, case.gamma)
    tilted_p = case.p * value / (case.p @ value)[..., None]
    target_stop = case.reward / action_values
    # log of (pi / posterior policy), the policy's own part, which no model can remove.
    from_policy = np.log(value)[:, None] - np.log(action_values)
    go_on, target_go_on = 1 - case.stop, case.gamma * (case.p @ value) / action_values
    from_stop = case.stop * np.log(case.stop / target_stop)
    from_stop += go_on * np.log(np.where(go_on > 0, go_on, 1.0) / target_go_on)
    step = from_policy + from_stop + go_on * model_divergence(case.q, tilted_p)
    transition = np.einsum("sa,sat->st", case.policy * go_on, case.q)
    gap = np.linalg.solve(np.eye(len(value)) - transition, (case.policy * step).sum(axis=1))
    np.testing.assert_allclose(case.log_value - bound, gap, atol=slack(bound, case.log_value) * 10)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 7), st.floats(0.02, 0.99), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_all_bounds_are_tight_when_the_reward_is_a_martingale(
    states: int, gamma: float, horizon: int, seed: int
) -> None:
    """So gamma is the smallest coefficient of log p/q that always holds."""
    generator = np.random.default_rng(seed)
    # States lead to later ones, which end in two that last for ever; a state pays what the next
    # one pays on average.
    p, reward = np.zeros((states, 1, states)), np.empty((states, 1))
    reward[-2:, 0] = 10 ** generator.uniform(-2, 2, size=2)
    p[[-2, -1], 0, [-2, -1]] = 1.0
    for state in reversed(range(states - 2)):
        p[state, 0, state + 1 :] = generator.dirichlet(np.ones(states - state - 1))
        reward[state, 0] = p[state, 0] @ reward[:, 0]
    q = p * reward[:, 0]
    q /= q.sum(axis=-1, keepdims=True)
    world = (p, q, np.ones((states, 1)), reward, gamma)
    log_value = np.log(reward[:, 0] / (1 - gamma))
    fixed = fixed_discount_bound(*world, log_ratio_weight=gamma)
    np.testing.assert_allclose(fixed, log_value, atol=1e-9)
    stopping = learned_stopping_bound(p, q, np.full_like(reward, 1 - gamma), *world[2:])
    np.testing.assert_allclose(stopping, log_value, atol=1e-9)
    by_time = time_marginal_bound(*world, 0, time_to_fade(gamma))
    np.testing.assert_allclose(by_time, log_value[0], atol=1e-9)
    finite = finite_horizon_bound(*world, 0, horizon)
    log_return = math.log(finite_horizon_value(p, *world[2:], 0, horizon))
    np.testing.assert_allclose(finite, log_return, atol=1e-9)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_other_model_beats_the_best_one_for_the_fixed_bound(case: Case) -> None:
    for weight in (1.0, case.gamma):
        best_q = tightest_fixed_dynamics(case.p, case.policy, case.reward, case.gamma, weight)
        arguments = (case.policy, case.reward, case.gamma, weight)
        best = fixed_discount_bound(case.p, best_q, *arguments)
        for q in (case.p, case.q, 0.9 * best_q + 0.1 * case.q):
            rival = fixed_discount_bound(case.p, q, *arguments)
            assert (rival <= best + slack(rival, best)).all()
        # It is p exp(V~ / temperature) with temperature weight / gamma, as docs/theory.md derives.
        response = optimistic_dynamics(case.p, best, temperature=weight / case.gamma)
        np.testing.assert_allclose(best_q, response, atol=1e-8)


@settings(max_examples=1000, deadline=None)
@given(cases(), st.integers(1, 30))
def test_finite_horizon_bound_never_exceeds_the_log_return(case: Case, horizon: int) -> None:
    log_return = math.log(
        finite_horizon_value(case.p, case.policy, case.reward, case.gamma, case.start, horizon)
    )
    bound = finite_horizon_bound(*case.fixed, case.start, horizon)
    assert bound <= log_return + slack(bound, log_return)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_finite_horizon_bound_tends_to_the_fixed_bound_with_coefficient_gamma(case: Case) -> None:
    fixed = case.start @ fixed_discount_bound(*case.fixed, log_ratio_weight=case.gamma)
    long = finite_horizon_bound(*case.fixed, case.start, time_to_fade(case.gamma))
    np.testing.assert_allclose(long, fixed, atol=10 * slack(fixed, long))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_vmbpo_at_its_best_model_over_estimates_every_policy(case: Case) -> None:
    # Rewards in [0.01, 1] keep the exponential of the value within reach of the solver.
    reward = 0.01 + 0.99 * case.reward / case.reward.max()
    gamma = min(case.gamma, 0.9)
    q = case.p
    for _ in range(60):
        objective = vmbpo_objective(case.p, q, case.policy, reward, gamma)
        q = optimistic_dynamics(case.p, objective, temperature=1 / gamma)
    value = policy_value(case.p, case.policy, reward, gamma)[0]
    assert (objective >= value - slack(objective)).all()


@settings(max_examples=300, deadline=None)
@given(cases(), st.floats(0.0, 1.0))
def test_bounds_ignore_states_the_start_cannot_reach(case: Case, bad: float) -> None:
    """A second, unreachable copy of the world, however bad, changes nothing."""
    states = len(case.p)
    wide_p = np.zeros((2 * states, case.p.shape[1], 2 * states))
    wide_q = wide_p.copy()
    wide_p[:states, :, :states], wide_p[states:, :, states:] = case.p, case.p
    wide_q[:states, :, :states], wide_q[states:, :, states:] = case.q, case.p
    policy = np.concatenate([case.policy, case.policy])
    reward = np.concatenate([case.reward, case.reward * math.exp(-10 * bad)])
    wide = fixed_discount_bound(wide_p, wide_q, policy, reward, case.gamma)[:states]
    np.testing.assert_allclose(wide, fixed_discount_bound(*case.fixed), atol=slack(wide))
