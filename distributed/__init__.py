"""The Ray actors of MnM and what flows between them."""

from importlib import metadata


def _refuse_dask() -> None:
    """Dask's scheduler has the same import name; the two cannot share an environment."""
    try:
        metadata.distribution("distributed")
    except metadata.PackageNotFoundError:
        return
    raise ImportError(
        "Dask's package 'distributed' is installed in this environment and has the same name as "
        "MnM's folder: install mnm-rl in an environment of its own (`make install` builds .venv)."
    )


_refuse_dask()
