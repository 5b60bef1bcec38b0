"""Tests of `mnm submit` against a server that behaves as Ray's job API, and of the job's script."""

from __future__ import annotations

import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from ray.dashboard.modules import dashboard_sdk

from cluster import job_client, submit_command
from cluster.job_client import told_line
from tests.cluster.commands import ROOT, Done, Mnm, assert_one_sentence
from tests.cluster.job_server import JOB, JobServer

TOKEN = "a-token-of-this-test"


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the tester's token nor cluster, and no waiting.

    The process of `mnm submit` has not started Ray. This one may have, and Ray's client would send
    the token that Ray keeps from then.
    """
    monkeypatch.setattr(dashboard_sdk, "get_auth_headers_if_auth_enabled", lambda headers: {})
    for name in (
        *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
        *("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"),
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(submit_command, "POLL_S", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What goes to the cluster."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "code.py").write_text("answer = 42\n")
    (folder / ".gitignore").write_text("runs/\n")
    (folder / "runs").mkdir()
    (folder / "runs" / "large").write_text("results")
    return folder


def submit(mnm: Mnm, folder: Path, server: JobServer, *words: str) -> Done:
    words = words or ("--env", "Hopper-v5")
    return mnm("submit", "--address", server.url, "--working-dir", folder, "--", "train", *words)


def test_a_job_is_submitted_followed_and_ends_with_its_code(mnm: Mnm, folder: Path) -> None:
    words = ("--env", "a task", "--set", "hidden_sizes=[64,64]")
    with JobServer() as server:
        done = submit(mnm, folder, server, *words)
    assert (done.code, done.out) == (0, "first\nsecond\n")
    assert f"mnm: copying {folder} to {server.url}" in done.err
    assert f"mnm: job {JOB} is submitted" in done.err
    assert all(line.startswith("mnm: ") for line in done.err.splitlines())
    assert done.err.splitlines()[-1] == f"mnm: job {JOB} is SUCCEEDED"
    entrypoint = ["python", "-m", "cluster.train", *words]
    assert shlex.split(server.submitted["entrypoint"]) == entrypoint
    variables = server.submitted["runtime_env"]["env_vars"]
    assert int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) > 10  # else Ray kills it while it saves
    with zipfile.ZipFile(io.BytesIO(server.package)) as package:
        names = set(package.namelist())
    assert any(name.endswith("code.py") for name in names)
    assert not any("large" in name for name in names)


@pytest.mark.parametrize(
    ("exit_code", "code", "message"), [(2, 2, None), (None, 1, "the node died")]
)
def test_a_job_that_fails_gives_its_code(
    exit_code: int | None, code: int, message: str | None, mnm: Mnm, folder: Path
) -> None:
    with JobServer(status="FAILED", exit_code=exit_code, message=message) as server:
        done = submit(mnm, folder, server)
    assert done.code == code
    assert "is FAILED" in done.err
    assert message is None or message in done.err


@pytest.fixture
def _sigint_as_in_a_terminal() -> Iterator[None]:
    """A shell ignores it in what it starts in the background, and so would the tests there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint_as_in_a_terminal")
def test_ctrl_c_stops_the_job_and_follows_it_to_its_end(mnm: Mnm, folder: Path) -> None:
    with JobServer(on_log=lambda: os.kill(os.getpid(), signal.SIGINT)) as server:
        done = submit(mnm, folder, server)
    assert server.stops == 1
    assert done.code == 130
    assert done.out == "first\nsecond\nsaved\n"  # nothing twice
    assert "save and stop" in done.err
    assert done.err.splitlines()[-1] == f"mnm: job {JOB} is STOPPED"


def test_a_job_that_was_submitted_before_can_be_followed(mnm: Mnm) -> None:
    with JobServer(exit_code=3, status="FAILED") as server:
        done = mnm("submit", "--address", server.url, "--follow", JOB)
        assert (done.code, done.out) == (3, "first\nsecond\n")
        assert server.submitted == {}
        assert server.stops == 0
        assert_one_sentence(mnm("submit", "--address", server.url, "--follow", "raysubmit_other"))
        done = mnm("submit", "--address", server.url, "--follow", JOB, "--", "train")
        assert_one_sentence(done)
        assert "takes no words" in done.err


def test_a_log_that_breaks_off_goes_on_where_it_was(mnm: Mnm, folder: Path) -> None:
    with JobServer(log=("a\n", "b\n", "c\n"), breaks_after=(1, 1, 2)) as server:
        done = submit(mnm, folder, server)
    assert (done.code, done.out) == (0, "a\nb\nc\n")


def test_a_log_that_breaks_off_for_good_gets_one_sentence(
    mnm: Mnm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_command, "MOST_LOST_LOGS", 3)
    with JobServer(breaks_after=(0,) * 5) as server:
        done = submit(mnm, folder, server)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"mnm: The log of job {JOB} broke off")


def test_a_server_that_stays_silent_gets_one_sentence(
    mnm: Mnm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_client, "ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = mnm("submit", "--address", url, "--working-dir", folder, "--", "train")
    assert_one_sentence(done)
    assert f"{url} takes connections and does not answer" in done.err


def test_a_connection_that_falls_silent_is_made_again(
    mnm: Mnm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through a tunnel whose other end has lost its network."""
    monkeypatch.setattr(job_client, "ANSWER_TIMEOUT_S", 2.0)
    with JobServer(log=("a\n", "b\n", "c\n"), hangs_after=1) as server:
        done = mnm("submit", "--address", server.url, "--follow", JOB)
    assert (done.code, done.out) == (0, "a\nb\nc\n")
    assert not server.hung_to_the_end


@pytest.mark.usefixtures("_sigint_as_in_a_terminal")
def test_ctrl_c_does_not_wait_for_an_answer(mnm: Mnm) -> None:
    with JobServer(hangs_after=1, on_hang=lambda: os.kill(os.getpid(), signal.SIGINT)) as server:
        done = mnm("submit", "--address", server.url, "--follow", JOB)
        assert not server.hung_to_the_end
    assert (done.code, done.out) == (130, "first\n")


def test_every_request_has_a_timeout_and_an_upload_a_longer_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: dict[str, Any] = {}
    request = requests.request

    def noted(method: str, url: str, **options: Any) -> requests.Response:
        timeouts[f"{method} {urlsplit(url).path.split('/')[2]}"] = options.get("timeout")
        return request(method, url, **options)

    monkeypatch.setattr(requests, "request", noted)
    with JobServer() as server:
        job = submit_command.Job(server.url)
        job.start("true", folder)
        job.stop()
    upload = timeouts.pop("PUT packages")
    assert timeouts.keys() == {"GET version", "GET packages", "POST jobs"}
    assert set(timeouts.values()) == {job_client.ANSWER_TIMEOUT_S}
    assert upload > job_client.ANSWER_TIMEOUT_S
    assert server.package  # in blocks, and whole


def give_token(source: str, token: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "token"
    if source == "RAY_AUTH_TOKEN":
        monkeypatch.setenv(source, token)
        return
    if source == "RAY_AUTH_TOKEN_PATH":
        monkeypatch.setenv(source, str(file))
    else:
        file = home / ".ray" / "auth_token"
        file.parent.mkdir()
    file.write_text(token + "\n")


SOURCES = ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "auth_token"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_token_is_found_and_not_shown(
    source: str, mnm: Mnm, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_token(source, TOKEN, tmp_path / "home", monkeypatch)
    with JobServer(token=TOKEN) as server:
        done = submit(mnm, folder, server)
    assert done.code == 0, done.err
    assert TOKEN not in done.out + done.err
    assert TOKEN not in str(server.submitted)


@pytest.mark.parametrize("source", SOURCES)
def test_a_wrong_token_is_refused_and_not_shown(
    source: str, mnm: Mnm, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_token(source, "wrong-" + TOKEN, tmp_path / "home", monkeypatch)
    with JobServer(token=TOKEN) as server:
        done = submit(mnm, folder, server)
    assert_one_sentence(done)
    assert f"{server.url} refuses the token of " in done.err
    assert source in done.err.split("refuses the token of ")[1] or "home/token" in done.err
    assert TOKEN not in done.out + done.err
    assert server.submitted == {}


def test_without_a_token_it_is_refused(mnm: Mnm, folder: Path) -> None:
    with JobServer(token=TOKEN) as server:
        done = submit(mnm, folder, server)
    assert_one_sentence(done)
    assert f"{server.url} asks for a token" in done.err


def test_a_token_that_is_wanted_and_not_there(
    mnm: Mnm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with JobServer(token=TOKEN) as server:
        done = submit(mnm, folder, server)
    assert_one_sentence(done)
    assert "RAY_AUTH_MODE is token and no token is found" in done.err


def test_no_token_is_sent_where_tokens_are_off(
    mnm: Mnm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with JobServer(token=TOKEN) as server:
        assert "asks for a token" in submit(mnm, folder, server).err


def test_the_option_goes_before_the_variables(
    mnm: Mnm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    with JobServer() as server:
        assert submit(mnm, folder, server).code == 0
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.url)
        assert mnm("submit", "--working-dir", folder, "--", "train").code == 0
    assert os.environ["RAY_API_SERVER_ADDRESS"] == server.url


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
@pytest.mark.parametrize("value", ["auto", "10.0.0.1:6379"])
def test_a_variable_that_names_no_job_api_is_named(
    variable: str, value: str, mnm: Mnm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    done = mnm("submit", "--", "train")
    assert_one_sentence(done)
    assert f"{variable} {value} is not of a job API: give --address" in done.err


def test_bad_input_gets_one_sentence(mnm: Mnm, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        for words, sentence in (
            (("--", "train"), "No cluster is named"),
            (("--address", "ray://127.0.0.1:10001", "--", "train"), "is not of a job API"),
            (("--address", "127.0.0.1:8265", "--", "train"), "--address 127.0.0.1:8265 is not of"),
            (("--address", nobody, "--", "train"), f"Nobody answers at {nobody}"),
            (("--address", nobody, "--", "evaluate"), "A job is `train`"),
            (("--address", nobody, "--working-dir", folder / "no", "--", "train"), "is no folder"),
            (("--address", nobody), "A job is `train`"),
        ):
            done = mnm("submit", *words)
            assert_one_sentence(done)
            assert sentence in done.err


def test_what_is_no_job_api_gets_one_sentence(mnm: Mnm, folder: Path) -> None:
    with JobServer() as server:
        server.url += "/elsewhere"
        done = submit(mnm, folder, server)
    assert_one_sentence(done)


def test_a_folder_that_is_too_large_is_told_with_the_limit(mnm: Mnm, folder: Path) -> None:
    with JobServer(most_bytes=10) as server:
        done = submit(mnm, folder, server)
    assert_one_sentence(without_progress(done))
    assert "at most 100 MiB" in done.err
    assert ".gitignore" in done.err


def without_progress(done: Done) -> Done:
    """`done` without the line on the copying, which had begun."""
    first, _, others = done.err.partition("\n")
    assert first.startswith("mnm: copying ")
    return replace(done, err=others)


def raise_deeply() -> None:
    raise ValueError("Package size (612.30MiB) is wrong\nand more")


def test_the_line_of_a_traceback_that_says_what_is_wrong() -> None:
    try:
        raise_deeply()
    except ValueError:
        text = traceback.format_exc()
    answer = RuntimeError(f"Request failed with status code 500: {text}.")
    assert told_line(answer) == "ValueError: Package size (612.30MiB) is wrong"
    answer = RuntimeError("Request failed with status code 404: there is no such job\n.")
    assert told_line(answer) == "Request failed with status code 404: there is no such job"
    assert told_line(RuntimeError()) == "RuntimeError"


def test_a_token_file_that_is_not_there_gets_one_sentence(
    mnm: Mnm, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with JobServer(token=TOKEN) as server:
        done = submit(mnm, folder, server)
    assert_one_sentence(done)
    assert "RAY_AUTH_TOKEN_PATH cannot be read" in done.err


def test_the_script_of_a_job_takes_the_words_of_train() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.train", "--env", "Hopper-v5", "--algo", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mnm: Unknown algorithm 'none'")
