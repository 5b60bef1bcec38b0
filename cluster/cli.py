"""The `mnm` command: puts the commands of all floors together."""

from __future__ import annotations

import sys

import click
import typer

from rllib_ext.errors import UserError
from rllib_ext.evaluate_command import evaluate
from rllib_ext.train_command import train

EXIT_USER_ERROR = 2

app = typer.Typer(
    name="mnm",
    help="Model-based reinforcement learning with MnM on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(evaluate)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; bad input ends in one sentence and exit code 2."""
    try:
        code = app(arguments, standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "mnm"
        _fail(f"{error.format_message()} See {command} --help.")
    except (click.Abort, KeyboardInterrupt):
        print("mnm: stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"mnm: {message}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
