"""Replay: sampling a batch and taking in collected rows, against RLlib's episode replay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

from benchmarks.learner_device import (
    ACTION_DIM,
    OBSERVATION_DIM,
    random_transitions,
    ready_agent,
)
from benchmarks.measure import Row, compare, milliseconds
from distributed.wire import from_arrow, to_arrow
from mnm import Settings

BATCH_SIZE = 256
STORED = 20_000
SHORT, LONG = 10, 1000  # rows a block; an episode's length
PEER_NAME = "RLlib's EpisodeReplayBuffer"


def episodes(count: int, length: int) -> Iterator[SingleAgentEpisode]:
    """Random episodes of RLlib's kind."""
    generator = np.random.default_rng(0)
    for number in range(count):
        yield SingleAgentEpisode(
            id_=f"{length}-{number}",
            observations=list(
                generator.standard_normal((length + 1, OBSERVATION_DIM), dtype=np.float32)
            ),
            actions=list(generator.uniform(-1, 1, (length, ACTION_DIM)).astype(np.float32)),
            rewards=generator.standard_normal(length).tolist(),
            terminated=False,
            truncated=True,
            len_lookback_buffer=0,
        )


def rows(quick: bool) -> list[Row]:
    """Sampling 256 rows, and ingesting blocks as collectors send them and large ones."""
    calls, peer_calls, repeats = (200, 5, 3) if quick else (2000, 20, 5)
    # A ring so small that all of its memory has been touched before it is timed.
    settings = Settings.preset("sac", num_random_steps=0, replay_capacity=STORED)
    agent = ready_agent(settings, "cpu")
    agent.ingest(random_transitions(STORED))
    peer = EpisodeReplayBuffer(capacity=2 * STORED)
    peer.add(list(episodes(STORED // LONG, LONG)))
    short = [to_arrow(random_transitions(SHORT))] * calls
    long = [to_arrow(random_transitions(10_000))] * max(1, calls // 100)
    # Every episode once: an id that the buffer knows would be appended to.
    fresh = episodes((repeats + 1) * peer_calls, SHORT)
    pages = iter([list(itertools.islice(fresh, peer_calls)) for _ in range(repeats + 1)])

    def sample() -> int:
        for _ in range(calls):
            agent.replay.sample(BATCH_SIZE, agent.generator)
        return calls

    def peer_sample() -> int:
        for _ in range(peer_calls):  # with the arguments of RLlib's SAC
            peer.sample(num_items=BATCH_SIZE, n_step=1, batch_length_T=0, sample_episodes=True)
        return peer_calls

    def ingest_short() -> int:
        for batch in short:
            agent.ingest(from_arrow(batch))
        return SHORT * len(short)

    def peer_ingest_short() -> int:
        page = next(pages)
        for episode in page:
            peer.add([episode])
        return SHORT * len(page)

    def ingest_long() -> int:
        for batch in long:
            agent.ingest(from_arrow(batch))
        return 10_000 * len(long)

    return [
        compare(
            f"replay: sample of {BATCH_SIZE} rows",
            "ms (less is better)",
            sample,
            peer_sample,
            f"{PEER_NAME}, before its connectors",
            repeats=repeats,
            figure=milliseconds,
        ),
        compare(
            f"replay: ingest of Arrow batches of {SHORT} rows",
            "rows/s",
            ingest_short,
            peer_ingest_short,
            PEER_NAME,
            repeats=repeats,
        ),
        compare(
            "replay: ingest of Arrow batches of 10,000 rows",
            "rows/s",
            ingest_long,
            repeats=repeats,
        ),
    ]
