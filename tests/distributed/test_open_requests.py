"""The sums over open requests against a scan of them all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributed.open_requests import OpenRequest, OpenRequests

REQUESTS = st.builds(
    OpenRequest,
    published_at=st.none() | st.integers(0, 5),
    steps=st.integers(1, 9),
    collector=st.integers(1, 3),
)


@given(
    events=st.lists(
        REQUESTS | st.integers(0, 100) | st.sampled_from(["all of 1", "all of 2", "forget"])
    )
)
def test_every_sum_is_that_of_a_scan(events: list[OpenRequest | int | str]) -> None:
    book: dict[str, OpenRequest] = {}
    requests = OpenRequests()
    for number, event in enumerate(events):
        if isinstance(event, OpenRequest):
            event.reference = f"answer-{number}"
            requests.add(str(number), event)
            book[str(number)] = event
        elif event == "forget":
            requests.forget_weights()
            assert all(request.published_at is None for request in book.values())
        elif isinstance(event, str):
            collector = int(event[-1])
            gone = [tag for tag in book if book[tag].collector == collector]
            assert requests.pop_all_of(collector) == [book.pop(tag) for tag in gone]
        elif book:
            tag = list(book)[event % len(book)]
            assert requests[tag] is requests.pop(tag) is book.pop(tag)
        assert len(requests) == len(book)
        assert all(tag in requests for tag in book)
        assert requests.steps == sum(request.steps for request in book.values())
        published = [r.published_at for r in book.values() if r.published_at is not None]
        assert requests.oldest_weights == min(published, default=None)
        assert set(requests.collectors) == {request.collector for request in book.values()}
        oldest: dict[int, str] = {}
        for tag, request in book.items():
            oldest.setdefault(request.collector, tag)
        assert requests.next_answers() == {book[tag].reference: tag for tag in oldest.values()}
        for most in range(3):
            asked = [0, 3, 1]
            assert requests.with_at_most(most, asked) == [
                collector
                for collector in asked
                if sum(request.collector == collector for request in book.values()) <= most
            ]
