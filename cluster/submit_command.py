"""`mnm submit -- train ...`: runs `mnm train` as a job of a cluster and follows it to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import requests
import typer
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from cluster.job_client import (
    ANSWER_TIMEOUT_S,
    JobClient,
    in_thread,
    is_too_large,
    told_line,
)
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's, in Ray's order
CONNECT_TIMEOUT_S = 10.0
TOKEN_PLACES = "to ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
POLL_S = 1.0  # between two looks at the job's status
MOST_LOST_LOGS = 30  # connections in a row that broke soon and without a new line
STEADY_S = 2 * ANSWER_TIMEOUT_S  # a connection that stood this long did not break soon
CHATTY_LOGGERS = (  # of Ray's client, which would stand between the lines of the job
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
# Ray kills a job this long after it asked it to stop; the 3 s of its default are too few to save.
STOP_WAIT_S = 30
EXIT_FAILED = 1
EXIT_STOPPED = 130

Answer = TypeVar("Answer")


def submit(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="-- train ...", help="The words of mnm train.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of the job API, as http://127.0.0.1:8265. Default: RAY_API_SERVER_ADDRESS, else "
            "RAY_ADDRESS.",
        ),
    ] = None,
    working_dir: Annotated[
        Path, typer.Option(help="Folder the job gets a copy of, but for what .gitignore names.")
    ] = Path("."),
    follow: Annotated[
        str | None,
        typer.Option(metavar="JOB", help="Follow this job, which was submitted before."),
    ] = None,
) -> None:
    """Run mnm train on a cluster and follow its log; Ctrl-C stops the job, which saves first.

    With --follow nothing is submitted, and Ctrl-C leaves the job alone.

    The token is read from where Ray has it: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, or
    ~/.ray/auth_token. Ends with the job's exit code; 130 where it was stopped.
    """
    if follow is not None:
        if words:
            raise UserError("--follow takes no words of mnm train: the job has them already.")
        job = Job(cluster_address(address))
        job.attach(follow)
        raise typer.Exit(job.follow())
    if not words or words[0] != "train":
        given = repr(words[0]) if words else "nothing"
        raise UserError(f"A job is `train` and its options after --, not {given}.")
    if not working_dir.is_dir():
        raise UserError(f"--working-dir {working_dir} is no folder.")
    job = Job(cluster_address(address))
    job.start(shlex.join(["python", "-m", "cluster.train", *words[1:]]), working_dir)
    try:
        code = job.follow()
    except KeyboardInterrupt:
        _say(f"asking job {job.name} to save and stop; Ctrl-C again leaves it alone")
        job.stop()
        code = job.follow()
    raise typer.Exit(code)


class Job:
    """One job of a cluster's job API.

    Args:
        address: `http://host:port`.

    Raises:
        UserError: nobody answers there, or not to this token; one sentence, as of every method.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = ""
        self._shown = 0  # characters of the log
        self._status: JobStatus | None = None
        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        parts = urlsplit(address)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            raise UserError(f"{self._nobody}: {first_line(error)}.") from error
        with _only_address(address):
            self._client = self._ask(
                lambda: JobClient(address, headers=authorization(), verify=True)
            )

    @property
    def _nobody(self) -> str:
        return (
            f"Nobody answers at {self.address}; is the cluster up, and `ray dashboard FILE` running"
        )

    def start(self, entrypoint: str, working_dir: Path) -> None:
        """Uploads the folder and submits the command."""
        _say(f"copying {working_dir.resolve()} to {self.address}")
        self.name = self._ask(
            lambda: self._client.submit_job(
                entrypoint=entrypoint,
                runtime_env={
                    "working_dir": str(working_dir),
                    "env_vars": {
                        "PYTHONUNBUFFERED": "1",
                        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
                    },
                },
            )
        )
        _say(f"job {self.name} is submitted")

    def attach(self, name: str) -> None:
        """Takes a job that is there already."""
        self.name = name
        self._look()

    def stop(self) -> None:
        """Asks the job to stop; `mnm train` saves first."""
        self._ask(lambda: self._client.stop_job(self.name))

    def follow(self) -> int:
        """Prints the rest of the log and changes of the status, to the end.

        Returns:
            The job's exit code, `EXIT_STOPPED` where it was stopped.
        """
        while True:
            asyncio.run(self._follow())
            if self._look().is_terminal():
                break
            time.sleep(POLL_S)
        details = self._ask(lambda: self._client.get_job_info(self.name))
        if details.status == JobStatus.SUCCEEDED:
            return 0
        if details.status == JobStatus.STOPPED:
            return EXIT_STOPPED
        if details.driver_exit_code is None and details.message:
            _say(f"job {self.name}: {' '.join(details.message.split())}")
        return details.driver_exit_code or EXIT_FAILED

    async def _follow(self) -> None:
        lost = 0
        while True:
            shown, begun = self._shown, time.monotonic()
            try:
                await self._connection()
                return
            except (RuntimeError, aiohttp.ClientError, OSError) as error:
                stood = self._shown > shown or time.monotonic() > begun + STEADY_S
                lost = 0 if stood else lost + 1
                if lost == MOST_LOST_LOGS:
                    raise UserError(
                        f"The log of job {self.name} broke off; it may go on: see "
                        f"ray job status {self.name}."
                    ) from error
                await asyncio.sleep(POLL_S)

    async def _connection(self) -> None:
        """One connection for the log, to its end or until nobody is heard of any more."""
        tasks = [asyncio.create_task(work()) for work in (self._print_log, self._watch)]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _print_log(self) -> None:
        """Prints what is new; each connection sends the log from its start."""
        seen = 0
        async for lines in self._client.tail_job_logs(self.name):
            new = lines[max(0, self._shown - seen) :]
            seen += len(lines)
            if new:
                print(new, end="", flush=True)
                self._shown = seen

    async def _watch(self) -> None:
        """Says what becomes of a job that does not say anything itself, as one that waits.

        Raises:
            ConnectionError: nobody answered, and nothing came of the log meanwhile.
        """
        while True:
            shown = self._shown
            try:
                self._note(await in_thread(self._ask_status))
            except UserError as error:
                if self._shown == shown and isinstance(error.__cause__, OSError):
                    raise ConnectionError(str(error)) from error
            await asyncio.sleep(POLL_S)

    def _look(self) -> JobStatus:
        return self._note(self._ask_status())

    def _ask_status(self) -> JobStatus:
        return self._ask(lambda: self._client.get_job_status(self.name))

    def _note(self, status: JobStatus) -> JobStatus:
        """Says the job's status, once for each change."""
        if status != self._status:
            self._status = status
            _say(f"job {self.name} is {status}")
        return status

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer of Ray's client, or its error as one sentence without any secret."""
        try:
            return question()
        except AuthenticationError as error:
            if "Authentication required" in error.message:
                raise UserError(
                    f"{self.address} asks for a token and none was found: bring the cluster's "
                    f"{TOKEN_PLACES}."
                ) from None
            raise UserError(
                f"{self.address} refuses the token of {token_source()}: bring the cluster's there."
            ) from None
        except requests.exceptions.ReadTimeout as error:
            raise UserError(
                f"{self.address} takes connections and does not answer: is the cluster's head "
                "well, and is it Ray's dashboard that listens there?"
            ) from error
        except (ConnectionError, requests.exceptions.ConnectionError) as error:
            raise UserError(f"{self._nobody}?") from error
        except (requests.exceptions.RequestException, KeyError, ValueError) as error:
            raise UserError(
                f"What answers at {self.address} is not Ray's job API: {first_line(error)}"
            ) from error
        except RuntimeError as error:
            if is_too_large(error):
                raise UserError(
                    f"{self.address} refuses the folder for its size: Ray takes at most 100 MiB, "
                    "compressed; leave out what the job does not need by .gitignore."
                ) from error
            raise UserError(f"{self.address} does not do it: {told_line(error)}") from error


def cluster_address(address: str | None) -> str:
    """The job API to use: the option's, else that of Ray's variables.

    Raises:
        UserError: there is none, or it is no http address.
    """
    given = {"--address": address} | {name: os.environ.get(name) for name in ADDRESS_VARIABLES}
    source, found = next(((source, url) for source, url in given.items() if url), ("", None))
    if found is None:
        raise UserError(
            "No cluster is named: run `ray dashboard FILE` and give --address "
            "http://127.0.0.1:8265, or set RAY_API_SERVER_ADDRESS."
        )
    if urlsplit(found).scheme not in ("http", "https") or not urlsplit(found).hostname:
        raise UserError(
            f"{source} {found} is not of a job API: give --address, as http://127.0.0.1:8265."
        )
    return found.rstrip("/")


def authorization() -> dict[str, str]:
    """The header with the token, by Ray's rules of where it is; empty where there is none.

    Raises:
        UserError: the file that RAY_AUTH_TOKEN_PATH names cannot be read, or there is no token and
            RAY_AUTH_MODE wants one.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        try:
            token = Path(named or default_token_file()).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            if named:
                raise UserError(
                    f"The token file {named} of RAY_AUTH_TOKEN_PATH cannot be read."
                ) from error
    if mode == "token" and not token:
        raise UserError(f"RAY_AUTH_MODE is token and no token is found: bring one {TOKEN_PLACES}.")
    return {"Authorization": f"Bearer {token}"} if token else {}


def token_source() -> str:
    """Where the token comes from, for messages."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or str(default_token_file())


def default_token_file() -> Path:
    """Where `ray get-auth-token --generate` writes it."""
    return Path.home() / ".ray" / "auth_token"


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Keeps Ray's client from preferring its variables to the address it is given."""
    before = os.environ.get(ADDRESS_VARIABLES[0])
    os.environ[ADDRESS_VARIABLES[0]] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[ADDRESS_VARIABLES[0]]
        else:
            os.environ[ADDRESS_VARIABLES[0]] = before


def _say(sentence: Any) -> None:
    print(f"mnm: {sentence}", file=sys.stderr, flush=True)
