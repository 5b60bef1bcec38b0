"""The `mnm` command: puts the commands of all floors together."""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

from cluster.check_command import cluster_app
from cluster.dashboard_command import dashboard_app
from cluster.submit_command import submit
from mnm.tabular.commands import figures
from rllib_ext.errors import UserError
from rllib_ext.evaluate_command import evaluate
from rllib_ext.export_command import export
from rllib_ext.inspect_command import inspect
from rllib_ext.report_command import report
from rllib_ext.train_command import train

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="mnm",
    help="Model-based reinforcement learning with MnM on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (train, evaluate, report, inspect, export, figures, submit):
    app.command()(command)
app.add_typer(cluster_app)
app.add_typer(dashboard_app)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; bad input ends in one sentence and exit code 2.

    Args:
        arguments: words after `mnm`; None: the process's own.
    """
    # Tune's own banner and tables would stand between the lines of ours.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        code = app(arguments, prog_name="mnm", standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except TyperException as error:
        # The subclasses for usage errors say which option is meant; the base has no such method.
        message = " ".join(getattr(error, "format_message", error.__str__)().split())
        if not message:  # `mnm` alone: the help has been printed
            sys.exit(EXIT_USER_ERROR)
        _fail(f"{message} (mnm --help lists what there is)")
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except (typer.Abort, KeyboardInterrupt):
        print("mnm: stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"mnm: {message}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
