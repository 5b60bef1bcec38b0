"""`mnm cluster check`: tells what is wrong with a cluster file before it costs anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cluster.kubernetes_checks import kubernetes_notes, kubernetes_problems
from cluster.launcher_checks import launcher_notes, launcher_problems
from cluster.pinned_versions import PinnedVersions
from rllib_ext.errors import UserError

EXIT_PROBLEMS = 1

cluster_app = typer.Typer(name="cluster", help="Look after cluster files.", no_args_is_help=True)


@cluster_app.callback()
def cluster() -> None:
    """Keeps `check` a word of its own while it is the only command."""


@cluster_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="YAML for ray up, or of a RayJob for Kubernetes.")],
    constraints: Annotated[
        Path | None,
        typer.Option(
            help="The versions that it must match.", show_default="those of this installation"
        ),
    ] = None,
) -> None:
    """Check a cluster file without any cluster: one line for each thing that is wrong.

    Exit code 0: nothing is wrong; 1: something is.
    """
    pins = PinnedVersions(constraints)
    documents = load_documents(file)
    if "provider" in documents[0]:
        if len(documents) > 1:
            raise UserError(f"{file} has {len(documents)} documents: ray up reads one.")
        problems = list(launcher_problems(documents[0], pins))
        notes = [] if problems else list(launcher_notes(documents[0]))
    elif all("kind" in document for document in documents):
        problems = list(kubernetes_problems(documents, pins))
        notes = [] if problems else list(kubernetes_notes(documents))
    else:
        raise UserError(f"{file} is no cluster file: it has neither a provider nor a kind.")
    for problem in problems:
        print(f"{file}: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)
    for note in notes:
        print(f"{file}: note: {note}")
    print(f"{file}: nothing is wrong")


def load_documents(file: Path) -> list[dict[str, Any]]:
    """The mappings in a YAML file, at least one.

    Raises:
        UserError: it cannot be read or is no YAML of mappings.
    """
    try:
        documents = [part for part in yaml.safe_load_all(file.read_text()) if part is not None]
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not text"
        raise UserError(f"{file}{place} is no YAML: {problem}.") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise UserError(f"{file} is no cluster file: it must hold names with values.")
    return documents
