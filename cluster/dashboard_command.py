"""`mnm dashboard`: puts dashboards and alerts into a Grafana or files, and removes them."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from rllib_ext.errors import UserError
from rllib_ext.grafana_connection import (
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Grafana,
    read_token,
    web_address,
)

LOCAL_PROMETHEUS = "http://localhost:9090"

dashboard_app = typer.Typer(
    name="dashboard", help="Look after the dashboards in Grafana.", no_args_is_help=True
)

GrafanaUrl = Annotated[
    str,
    typer.Option(
        "--grafana-url", metavar="URL", envvar=URL_VARIABLE, help="Of Grafana's home page."
    ),
]
TokenVariable = Annotated[
    str,
    typer.Option(
        "--token-env", metavar="NAME", help="Environment variable with a service account's token."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="File with the token, in place of it."),
]


@dashboard_app.command()
def push(
    grafana_url: GrafanaUrl,
    token_env: TokenVariable = TOKEN_VARIABLE,
    token_file: TokenFile = None,
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="At which Grafana reaches Prometheus. Default: a Prometheus that it has already.",
        ),
    ] = None,
) -> None:
    """Create or update folder, data source, dashboards and alert rules.

    Pushing again changes nothing. The token is that of a service account with the role Admin.
    """
    _require_builders()
    from cluster.grafana import push as pushing

    if prometheus_url is not None:
        web_address("--prometheus-url", prometheus_url)
    grafana = Grafana(grafana_url, read_token(token_env, token_file))
    for line in pushing.push(grafana, prometheus_url):
        print(line, flush=True)


@dashboard_app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into.")],
    prometheus_url: Annotated[
        str, typer.Option(metavar="URL", help="At which Grafana reaches Prometheus.")
    ] = LOCAL_PROMETHEUS,
    provisioning_path: Annotated[
        str, typer.Option(help="Where the content of DIR will lie on Grafana's machine.")
    ] = "/etc/grafana/provisioning",
) -> None:
    """Write the same as files, for Grafana's provisioning folder or for its import page."""
    _require_builders()
    from cluster.grafana import provisioning

    web_address("--prometheus-url", prometheus_url)
    for path in provisioning.export(folder, prometheus_url, PurePosixPath(provisioning_path)):
        print(path)


@dashboard_app.command()
def remove(
    grafana_url: GrafanaUrl,
    token_env: TokenVariable = TOKEN_VARIABLE,
    token_file: TokenFile = None,
) -> None:
    """Remove all that push has made; the folder only where nothing else is in it."""
    _require_builders()
    from cluster.grafana import push as pushing

    for line in pushing.remove(Grafana(grafana_url, read_token(token_env, token_file))):
        print(line, flush=True)


def _require_builders() -> None:
    """Grafana's builders, and with them all of `cluster.grafana`, need a newer Python than we."""
    if sys.version_info < (3, 11):
        version = ".".join(map(str, sys.version_info[:2]))
        raise UserError(f"mnm dashboard needs Python 3.11 or newer, and this is {version}.")
