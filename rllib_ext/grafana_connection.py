"""One Grafana server's HTTP API through `grafana-api`: every failure becomes one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from grafana_api.grafana_api import GrafanaException
from grafana_api.grafana_face import GrafanaFace

from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line

TOKEN_VARIABLE = "GRAFANA_TOKEN"
TOKEN_FILE_VARIABLE = "GRAFANA_TOKEN_FILE"
URL_VARIABLE = "GRAFANA_URL"
TIMEOUT_S = 10.0
LONGEST_MESSAGE = 200  # characters of what a server says

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Token:
    """The token of a service account.

    Attributes:
        value: what is sent; no repr, message or log has it.
        source: where it was found, for messages.
    """

    value: str = field(repr=False)
    source: str


def read_token(variable: str = TOKEN_VARIABLE, file: Path | None = None) -> Token:
    """The token in `file`, else in the environment's `variable`, else in GRAFANA_TOKEN_FILE's file.

    Raises:
        UserError: there is none, it cannot be read, or it is no token.
    """
    value, source = os.environ.get(variable, ""), variable
    if file is None and not value and os.environ.get(TOKEN_FILE_VARIABLE):
        file = Path(os.environ[TOKEN_FILE_VARIABLE])
    if file is None and not value:  # by no name: it may be the token itself, given by mistake
        raise UserError(
            "There is no Grafana token: make one under Administration > Service accounts and put "
            f"it in the environment as {TOKEN_VARIABLE}, or in a file that {TOKEN_FILE_VARIABLE} "
            "names."
        )
    if file is not None:
        source = str(file)
        try:
            value = file.read_text()
        except OSError as error:
            raise UserError(f"The token file {file} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"The token file {file} is not text.") from error
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise UserError(f"What {source} holds is no Grafana token: it must be one word.")
    return Token(value, source)


class Grafana:
    """A Grafana server.

    Args:
        url: of its home page, with its sub-path if it has one.
        token: of a service account.
        timeout_s: seconds to wait for each answer.

    Raises:
        UserError: the URL is none of a web page, or it has a user's name or password in it.
    """

    def __init__(self, url: str, token: Token, timeout_s: float = TIMEOUT_S) -> None:
        parts = web_address("The Grafana URL", url)
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        path = parts.path.strip("/")
        self._face = GrafanaFace(
            auth=token.value,
            host=parts.netloc,
            url_path_prefix=f"{path}/" if path else "",
            protocol=parts.scheme,
            timeout=timeout_s,
        )
        # A redirected POST becomes a GET, which would look like success.
        self._face.api.s.max_redirects = 0

    def check(self) -> None:
        """Makes sure that it is a Grafana.

        Raises:
            UserError: nobody answers there, or something else.
        """
        health = self.ask("tell its health", lambda grafana: grafana.api.GET("/health"))
        if not isinstance(health, dict) or "database" not in health:
            raise UserError(self._stranger)

    def ask(
        self,
        what: str,
        question: Callable[[GrafanaFace], Answer],
        role: str = "Admin",
        absent: bool = False,
    ) -> Answer | None:
        """The answer to a question.

        Args:
            what: is asked for, as a verb and its object, for messages.
            question: called with the API; returns the JSON of its answer.
            role: that the token's service account needs for it.
            absent: whether a 404 is an answer: None.

        Returns:
            The answer's JSON; None where it is empty.

        Raises:
            UserError: there is no answer, or it is a refusal.
        """
        try:
            return question(self._face)
        except GrafanaException as error:
            if absent and error.status_code == 404:
                return None
            raise UserError(self._refusal(what, role, error)) from None
        except requests.TooManyRedirects as error:
            place = error.response.headers.get("Location", "") if error.response is not None else ""
            raise UserError(
                f"{self.url} sends on to {_short(place) or 'another address'}: give the address "
                "that Grafana itself has."
            ) from None
        except requests.exceptions.JSONDecodeError as error:
            if not error.doc:  # as after an alert rule was deleted
                return None
            raise UserError(self._stranger) from None
        except requests.exceptions.SSLError as error:
            raise UserError(
                f"No TLS connection to {self.url} ({_short(_reason(error))}): name the file of "
                "its certificate authority in REQUESTS_CA_BUNDLE, or give http:// where it has no "
                "TLS."
            ) from None
        except requests.Timeout:
            raise UserError(
                f"No answer from {self.url} within {self._timeout_s:g} s: is that Grafana's "
                "address, and may this machine reach it?"
            ) from None
        except requests.ConnectionError:
            raise UserError(
                f"Nobody answers at {self.url}: is Grafana running there, and is it http or https?"
            ) from None
        except TypeError:  # grafana-api looks for a message in whatever a refusal holds
            raise UserError(self._stranger) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.url} cannot be asked: {_short(first_line(error))}.") from None

    @property
    def _stranger(self) -> str:
        return (
            f"What answers at {self.url} is not Grafana's API: give the address of Grafana's home "
            "page, with its sub-path if it has one."
        )

    def _refusal(self, what: str, role: str, error: GrafanaException) -> str:
        if error.status_code == 401:
            return (
                f"{self.url} refuses the token of {self._token.source}: it is wrong, expired or of "
                "another Grafana."
            )
        if error.status_code == 403:
            return (
                f"The token of {self._token.source} may not {what} at {self.url}: its service "
                f"account needs the role {role}."
            )
        if not isinstance(error.response, dict):
            if error.status_code < 500:
                return self._stranger
            return f"{self.url} could not {what}: HTTP {error.status_code}, not of Grafana itself."
        message = _short(str(error.response.get("message") or "no reason given"))
        return f"{self.url} could not {what}: HTTP {error.status_code}, {message.rstrip('.')}."


def web_address(name: str, url: str) -> Any:
    """The parts of an http or https address.

    Args:
        name: of the address, to begin a sentence with.
        url: the address.

    Raises:
        UserError: it is none, or it has a user's name or password in it.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{name} is not valid: use one like https://grafana.example.com.")
    if parts.username is not None or parts.query or parts.fragment:
        raise UserError(f"{name} must hold no user, password, query or fragment.")
    return parts


def _reason(error: requests.exceptions.SSLError) -> str:
    """What the TLS library says, out of the wrappings of urllib3."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."
