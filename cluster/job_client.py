"""What the errors of Ray's job API say, in one line."""

from __future__ import annotations

TRACEBACK = "Traceback (most recent call last):"
# By Ray's DASHBOARD_CLIENT_MAX_SIZE, or by a server between.
TOO_LARGE = ("HTTPRequestEntityTooLarge", "status code 413")


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
