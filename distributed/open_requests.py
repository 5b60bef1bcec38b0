"""The requests that collectors have not answered, and sums over them that do not need a scan."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import KeysView
from dataclasses import dataclass
from typing import Any


@dataclass
class OpenRequest:
    """An open request; `published_at` is None where actions are random.

    Attributes:
        published_at: real steps the learner had ingested when it published the weights.
        steps: real steps that it may bring.
        collector: that was asked; 0 if it is local.
        reference: to the answer; None if it is local.
    """

    published_at: int | None
    steps: int
    collector: int = 0
    reference: Any = None


class OpenRequests:
    """Open requests by tag.

    With hundreds of collectors each new request asks for sums over all that are open: what these
    need is kept as requests come and go.

    Attributes:
        steps: that all of them together may bring.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._requests: dict[str, OpenRequest] = {}
        self._tags: dict[int, list[str]] = {}  # by collector, in the order they were sent
        self._weights: Counter[int] = Counter()  # requests by when their weights were published
        self._published: list[int] = []  # a heap of these times, with some that are gone

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, tag: str) -> bool:
        return tag in self._requests

    def __getitem__(self, tag: str) -> OpenRequest:
        return self._requests[tag]

    @property
    def collectors(self) -> KeysView[int]:
        """Those at work."""
        return self._tags.keys()

    @property
    def oldest_weights(self) -> int | None:
        """When the oldest weights in use were published; None if none are."""
        while self._published and not self._weights[self._published[0]]:
            del self._weights[heapq.heappop(self._published)]
        return self._published[0] if self._published else None

    def with_at_most(self, count: int, collectors: list[int]) -> list[int]:
        """Those of the collectors that have no more open requests."""
        tags, none = self._tags, ()
        return [collector for collector in collectors if len(tags.get(collector, none)) <= count]

    def next_answers(self) -> dict[Any, str]:
        """Tags by reference of the oldest request of each collector, which it answers first."""
        return {self._requests[tags[0]].reference: tags[0] for tags in self._tags.values()}

    def add(self, tag: str, request: OpenRequest) -> None:
        """Notes a request that went out."""
        self._requests[tag] = request
        self._tags.setdefault(request.collector, []).append(tag)
        self.steps += request.steps
        if request.published_at is not None:
            if request.published_at not in self._weights:
                heapq.heappush(self._published, request.published_at)
            self._weights[request.published_at] += 1

    def pop(self, tag: str) -> OpenRequest:
        """Takes out one that is answered or given up."""
        request = self._requests.pop(tag)
        tags = self._tags[request.collector]
        tags.remove(tag)
        if not tags:
            del self._tags[request.collector]
        self.steps -= request.steps
        if request.published_at is not None:
            self._weights[request.published_at] -= 1
        return request

    def forget_weights(self) -> None:
        """Treats all that are open as if they acted at random: nobody asks how old they become."""
        for request in self._requests.values():
            request.published_at = None
        self._weights.clear()
        self._published.clear()

    def pop_all_of(self, collector: int) -> list[OpenRequest]:
        """Takes out all of a collector."""
        return [self.pop(tag) for tag in list(self._tags.get(collector, ()))]
