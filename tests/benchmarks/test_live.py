"""Windows of live algorithms: what each counts is its own."""

from __future__ import annotations

import pytest

from benchmarks.live import Actors, Live, live_config
from distributed.coordinator import Coordinator
from tests.rllib_ext.small_configs import LINE, TINY


@pytest.mark.parametrize(
    ("actors", "text"),
    [
        (Actors(), "all in one process"),
        (Actors(learner=True), "learner as an actor"),
        (Actors(collectors=1, learner=True), "learner and 1 collector as actors"),
        (Actors(2, 1, True), "learner, 2 collectors and 1 rollout worker as actors"),
    ],
)
def test_actors_in_words(actors, text):
    assert str(actors) == text


@pytest.fixture
def live(local_ray):
    live = Live(live_config(LINE, Actors(), iteration=10, **{**TINY, "algo": "mbpo"}))
    yield live
    live.stop()


def test_a_window_counts_its_own_steps_updates_and_parts(live):
    first = live.train_steps(40)
    second = live.train_steps(20)
    assert first.env_steps >= 40
    assert second.env_steps >= 20
    assert first.updates == first.env_steps - TINY["num_random_steps"]
    assert second.updates == second.env_steps
    for window in (first, second):
        assert set(window.parts) == {"ingest", "fit", "imagine", "update", "publish"}
        assert 0 < sum(window.parts.values()) < window.seconds
        assert 0 <= window.idle_seconds < window.seconds
    total = live.algorithm.learner_seconds["update"]
    assert first.parts["update"] + second.parts["update"] == pytest.approx(total)


def test_a_window_has_the_learners_every_turn_where_it_is_an_actor(local_ray, monkeypatch):
    """The turn that it is at when the last result comes is awaited, and is of the window."""
    spent = []
    finish = Coordinator._finish

    def note(coordinator, report):
        spent.append(sum(report.seconds.values()))
        return finish(coordinator, report)

    monkeypatch.setattr(Coordinator, "_finish", note)
    actors = Actors(collectors=1, learner=True)
    live = Live(live_config(LINE, actors, iteration=40, **{**TINY, "algo": "sac"}))
    try:
        windows = [live.train_steps(80) for _ in range(2)]
    finally:
        live.stop()
    of_windows = sum(sum(window.parts.values()) for window in windows)
    assert of_windows == pytest.approx(sum(spent))


def test_a_window_of_no_time_trains_nothing(live):
    window = live.train_seconds(0.0)
    assert (window.env_steps, window.updates) == (0, 0)
