"""Ray's client of the job API, with an end to every wait, and what its errors say in one line."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import requests
from ray.job_submission import JobSubmissionClient

ANSWER_TIMEOUT_S = 60.0  # without a byte of the answer
UPLOAD_TIMEOUT_S = 600.0  # the same, after a package: a tunnel sends on for minutes what it has
TRACEBACK = "Traceback (most recent call last):"
# By Ray's DASHBOARD_CLIENT_MAX_SIZE, or by a server between.
TOO_LARGE = ("HTTPRequestEntityTooLarge", "status code 413")

Answer = TypeVar("Answer")


class JobClient(JobSubmissionClient):
    """Ray's, which would wait for ever for a server that takes the connection and stays silent."""

    def _do_request(
        self,
        method: str,
        endpoint: str,
        *,
        data: bytes | None = None,
        json_data: dict[str, Any] | None = None,
        **options: Any,
    ) -> requests.Response:
        # A file goes out in blocks, each with the timeout for itself; bytes have one for all.
        body = None if data is None else io.BytesIO(data)
        timeout = ANSWER_TIMEOUT_S if data is None else UPLOAD_TIMEOUT_S
        return super()._do_request(
            method, endpoint, data=body, json_data=json_data, timeout=timeout, **options
        )


def is_too_large(error: BaseException) -> bool:
    """Whether an upload was refused for its size."""
    return any(sign in str(error) for sign in TOO_LARGE)


def told_line(error: BaseException) -> str:
    """The line of an error that says what is wrong; the job API answers with whole tracebacks."""
    _, found, text = str(error).rpartition(TRACEBACK)
    lines = [line.rstrip() for line in text.splitlines() if line.strip(" .")]
    if found:  # frames are indented, the error's own lines are not
        lines = [line for line in lines if not line.startswith(" ")] or lines[-1:]
    return lines[0].strip() if lines else type(error).__name__


async def in_thread(question: Callable[[], Answer]) -> Answer:
    """The answer to what blocks, from a thread that nobody waits for: neither does Ctrl-C."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def settle(settle_it: Callable[[Any], None], value: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if answer.done() else settle_it(value))

    def ask() -> None:
        try:
            settle(answer.set_result, question())
        except Exception as error:
            settle(answer.set_exception, error)

    threading.Thread(target=ask, daemon=True).start()
    return await answer
