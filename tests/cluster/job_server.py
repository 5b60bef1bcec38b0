"""A small HTTP server that behaves as the job API of Ray's dashboard does, for one job."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import WSMsgType, web

JOB = "raysubmit_test"
HANGS_S = 20.0


class JobServer:
    """The job API in a thread, at a free port of the loopback.

    Args:
        token: that requests must carry; None: none.
        log: what the job prints, in the pieces in which it is sent.
        status: of the job once its log has ended.
        exit_code: of the job's command.
        message: of a job that failed.
        breaks_after: pieces after which each of the first connections for the log breaks.
        on_log: called when all of the log has been sent; then the job runs until it is stopped.
        most_bytes: of a package; Ray takes 100 MiB.
        hangs_after: pieces after which the first connection for the log and all questions for the
            status get nothing any more, until there is a second connection or `HANGS_S` are over.
        on_hang: called when the first such question has come.
    """

    def __init__(
        self,
        token: str | None = None,
        log: tuple[str, ...] = ("first\n", "second\n"),
        status: str = "SUCCEEDED",
        exit_code: int | None = 0,
        message: str | None = None,
        breaks_after: tuple[int, ...] = (),
        on_log: Callable[[], None] | None = None,
        most_bytes: int = 2**20,
        hangs_after: int | None = None,
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        self.token, self.log, self.end_status = token, log, status
        self.exit_code, self.message, self.on_log = exit_code, message, on_log
        self.breaks_after = list(breaks_after)
        self.most_bytes = most_bytes
        self.hangs_after, self.on_hang = hangs_after, on_hang
        self.hung_to_the_end = False
        self._hangs = False
        self._heals = asyncio.Event()
        self.submitted: dict[str, Any] = {}
        self.package = b""
        self.stops = 0
        self.status = "PENDING"
        self._stopped = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> JobServer:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._authenticate], client_max_size=self.most_bytes)
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/packages/{protocol}/{name}", self._package_exists),
                web.put("/api/packages/{protocol}/{name}", self._upload),
                web.post("/api/jobs/", self._submit),
                web.get(f"/api/jobs/{JOB}", self._details),
                web.post(f"/api/jobs/{JOB}/stop", self._stop),
                web.get(f"/api/jobs/{JOB}/logs/tail", self._tail),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        if self.token is not None and given is None:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if self.token is not None and given != f"Bearer {self.token}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        response: web.StreamResponse = await handler(request)
        return response

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
        )

    async def _package_exists(self, request: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _upload(self, request: web.Request) -> web.Response:
        try:
            self.package = await request.read()
        except Exception:  # as Ray's has it
            return web.Response(status=500, text=traceback.format_exc())
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        self.submitted = await request.json()
        return web.json_response({"job_id": JOB, "submission_id": JOB})

    async def _hang(self) -> None:
        try:
            await asyncio.wait_for(self._heals.wait(), HANGS_S)
        except asyncio.TimeoutError:  # of Python 3.10 too
            self.hung_to_the_end = True

    async def _details(self, request: web.Request) -> web.Response:
        if self._hangs:
            on_hang, self.on_hang = self.on_hang, None
            if on_hang is not None:
                on_hang()
            await self._hang()
        over = self.status in ("SUCCEEDED", "FAILED", "STOPPED")
        details = {
            "type": "SUBMISSION",
            "submission_id": JOB,
            "status": self.status,
            "entrypoint": self.submitted.get("entrypoint", ""),
            "message": self.message if over else None,
            "driver_exit_code": self.exit_code if over else None,
        }
        return web.Response(text=json.dumps(details), content_type="application/json")

    async def _stop(self, request: web.Request) -> web.Response:
        self.stops += 1
        self._stopped.set()
        return web.json_response({"stopped": True})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        """From the log's start at each connection, as Ray does."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.status = "RUNNING"
        if self._hangs:
            self._hangs = False
            self._heals.set()
        elif self.hangs_after is not None:
            for text in self.log[: self.hangs_after]:
                await socket.send_str(text)
            self._hangs = True
            await self._hang()
            return socket
        pieces = self.breaks_after.pop(0) if self.breaks_after else None
        for text in self.log[:pieces]:
            await socket.send_str(text)
        if pieces is not None:
            assert request.transport is not None
            await asyncio.sleep(0.05)  # what was sent gets there
            request.transport.abort()
            return socket
        if self.on_log is not None and not self._stopped.is_set():
            self.on_log()
            closed = asyncio.ensure_future(socket.receive())
            stopped = asyncio.ensure_future(self._stopped.wait())
            await asyncio.wait({closed, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if closed.done() and closed.result().type in (WSMsgType.CLOSE, WSMsgType.CLOSED):
                return socket
            closed.cancel()
        if self._stopped.is_set():
            await socket.send_str("saved\n")
            self.status = "STOPPED"
        else:
            self.status = self.end_status
        return socket
