"""What the tests with Debian's packages share; `make test-system` installs them."""

from __future__ import annotations

from tests.cluster.conftest import tiny

__all__ = ["tiny"]
