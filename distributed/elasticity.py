"""More actors where the learner waits for them, fewer where it does not, beside those reserved."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.utils.actor_manager import FaultTolerantActorManager

logger = logging.getLogger(__name__)

WINDOW_S = 30.0  # a decision is made at the end of each
SHORT = 0.1  # shortage in a window above which one more actor is asked for
CALM = 0.01  # shortage below which a window is calm
CALM_WINDOWS = 4  # in a row, after which one actor is released
FULL = 0.8  # share of their time that those left over may then be at work


@dataclass
class Load:
    """What was asked of a group of actors over some time.

    Attributes:
        seconds: how long.
        waited_s: of these, the learner had nothing to do and waited for the group.
        busy_s: seconds at work, of all actors of the group together.
        asked: pieces of work, where old ones give way to newer ones.
        dropped: of them, those that gave way before an actor was free.
    """

    seconds: float = 0.0
    waited_s: float = 0.0
    busy_s: float = 0.0
    asked: int = 0
    dropped: int = 0

    def add(self, other: Load) -> None:
        """Joins the time of `other` to this one."""
        self.seconds += other.seconds
        self.waited_s += other.waited_s
        self.busy_s += other.busy_s
        self.asked += other.asked
        self.dropped += other.dropped

    @property
    def shortage(self) -> float:
        """Share of the time that was waited, or of the work that was dropped if that is more."""
        waited = self.waited_s / self.seconds if self.seconds else 0.0
        return max(waited, self.dropped / self.asked if self.asked else 0.0)


class SizeRule:
    """Says when a group of actors should have one more or one fewer.

    One more after a window in which the group was short; one fewer after several windows in which
    it was not and one actor fewer would have done the same work with time to spare. The second
    cannot follow from the first alone: what n actors could not do, n actors cannot do with time
    to spare.

    Args:
        least: actors, those reserved.
        most: actors.
    """

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.forget()

    def forget(self) -> None:
        """Starts a new window: what was before a change says nothing about what is after it."""
        self._window = Load()
        self._calm = 0

    def decide(self, load: Load, serving: int, pending: int) -> int:
        """The change in the number of actors, 1, 0 or -1.

        Args:
            load: since the last call.
            serving: actors in the group.
            pending: actors asked for that do not run yet.
        """
        self._window.add(load)
        if self._window.seconds < WINDOW_S:
            return 0
        window, self._window = self._window, Load()
        if window.shortage > SHORT:
            self._calm = 0
            return int(pending == 0 and serving < self.most)
        spare = pending > 0 or window.busy_s <= FULL * window.seconds * (serving - 1)
        more_than_least = serving + pending > self.least
        self._calm = self._calm + 1 if spare and more_than_least and window.shortage < CALM else 0
        if self._calm < CALM_WINDOWS:
            return 0
        self._calm = 0
        return -1


class ElasticActors:
    """The actors that a manager has beside those reserved for it.

    One that does not run yet is not waited for: it joins the manager once it answers. One that is
    lost is not restarted: it leaves the manager, and the rule may ask for another.

    Args:
        manager: of the reserved actors, and of the others once they run.
        start: starts an actor outside any placement group, without restarts, and does not wait for
            it; is given its number, counted on from the reserved ones.
        most: actors, reserved ones and others together.
    """

    def __init__(
        self, manager: FaultTolerantActorManager, start: Callable[[int], Any], most: int
    ) -> None:
        self.manager = manager
        self.rule = SizeRule(manager.num_actors(), most)
        self.retiring: set[int] = set()  # are given no more work
        self._start = start
        self._most = most
        self._reserved = set(manager.actor_ids())
        self._started = manager.num_actors()
        self._pending: list[tuple[Any, ray.ObjectRef]] = []  # and the answer they owe

    @property
    def num_serving(self) -> int:
        """Actors that are given work, or will be when Ray has restarted them."""
        return self.manager.num_actors() - len(self.retiring)

    @property
    def num_pending(self) -> int:
        """Actors asked for that do not run yet."""
        return len(self._pending)

    @property
    def may_grow(self) -> bool:
        """Whether others may come if all that are reserved are lost."""
        return self._most > len(self._reserved)

    def adapt(self, load: Load, in_use: set[int]) -> None:
        """Takes in what has started, lets go what is lost or released, follows the rule.

        Args:
            load: of the group since the last call.
            in_use: actors that have work, or whose work the learner does not have yet: it lies in
                their memory.
        """
        self._take_in()
        for index in set(self.manager.actor_ids()) - self._reserved:
            lost = not self.manager.is_actor_healthy(index)
            if lost or (index in self.retiring and index not in in_use):
                self.retiring.discard(index)
                ray.kill(self.manager.remove_actor(index))
                self.rule.forget()
        change = self.rule.decide(load, self.num_serving, self.num_pending)
        if change > 0:
            self._grow()
        elif change < 0:
            self._shrink()

    def stop(self) -> None:
        """Ends the actors that the manager does not have yet."""
        while self._pending:
            ray.kill(self._pending.pop()[0])

    def _take_in(self) -> None:
        for started in list(self._pending):
            actor, answer = started
            if not ray.wait([answer], timeout=0)[0]:
                continue
            self._pending.remove(started)
            self.rule.forget()
            try:
                ray.get(answer)
            except RayError as error:
                logger.warning("An actor beside the reserved ones did not start: %s", error)
            else:
                self.manager.add_actors([actor])

    def _grow(self) -> None:
        if self.retiring:
            self.retiring.pop()
            return
        self._started += 1
        actor = self._start(self._started)
        self._pending.append((actor, actor.ping.remote()))

    def _shrink(self) -> None:
        if self._pending:
            ray.kill(self._pending.pop()[0])
            return
        others = set(self.manager.actor_ids()) - self._reserved - self.retiring
        if others:
            self.retiring.add(max(others))


def count_actors(
    name: str, manager: FaultTolerantActorManager | None, elastic: ElasticActors | None
) -> dict[str, int]:
    """A group's actors that work now, and those that were asked for and do not run yet."""
    return {
        f"num_healthy_{name}": 0 if manager is None else manager.num_healthy_actors(),
        f"num_pending_{name}": 0 if elastic is None else elastic.num_pending,
    }


def forget_gone(transitions: Counter[int], manager: FaultTolerantActorManager) -> None:
    """Drops the actors that have left from these counts: shown on, they would seem to idle."""
    for gone in transitions.keys() - set(manager.actor_ids()):
        del transitions[gone]
