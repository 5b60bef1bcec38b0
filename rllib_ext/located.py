"""Paths and URIs as commands are given them."""

from __future__ import annotations

from distributed.storage import Location, without_key
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line


def located(name: str) -> Location:
    """What a path or a URI names.

    Raises:
        UserError: pyarrow knows no filesystem of this URI, or cannot reach it.
    """
    try:
        return Location.of(name)
    except (ValueError, OSError) as error:
        raise UserError(f"{without_key(name)} cannot be used: {first_line(error)}.") from error
