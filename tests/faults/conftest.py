"""The `mnm` command's fixtures, for what signals do to it."""

from tests.cluster.conftest import mnm, tiny

__all__ = ["mnm", "tiny"]
