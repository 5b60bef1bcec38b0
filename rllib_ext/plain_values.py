"""Values as JSON: figures that are no numbers, and an environment's arguments, of which what JSON
cannot hold is named, and compared by that name."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

NAMED = "not in JSON"  # the only key of what stands for a value that JSON cannot hold
ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # in the text that earlier checkpoints have for one


def figures_as_json(figures: Mapping[str, Any], indent: int | None = None) -> str:
    """Figures by name as strict JSON: NaN and infinity, which it has no words for, become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    return json.dumps(finite, indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """A value as JSON gives it back, alike in every process.

    Tuples, sets and arrays become lists, sets sorted, and paths text. A function or class becomes
    `{NAMED: "module.name"}`, any other object `{NAMED: "module.Type()"}`.
    """
    return json.loads(json.dumps(_plain(value)))


def is_same(saved: Any, own: Any) -> bool:
    """Whether two values of `plain` are the same, as far as can be told.

    Of what JSON cannot hold only the names are compared, and nothing where a checkpoint from before
    there were names has a text. A module that was run as a program had no name of its own.
    """
    if isinstance(saved, dict) and isinstance(own, dict):
        if NAMED in saved and NAMED in own:
            one, other = f".{saved[NAMED]}", f".{own[NAMED]}"
            return one.endswith(other) or other.endswith(one)
        if NAMED not in saved and NAMED not in own:
            return saved.keys() == own.keys() and all(is_same(saved[k], own[k]) for k in own)
        return False
    if isinstance(saved, list) and isinstance(own, list):
        return len(saved) == len(own) and all(map(is_same, saved, own))
    if isinstance(saved, str) and not isinstance(own, str):
        return isinstance(own, dict) and NAMED in own
    return saved == own or (saved != saved and own != own)  # NaN is not itself


def name_within(value: Any) -> str | None:
    """What `plain` wrote for the first thing in a value that JSON cannot hold; None: nothing."""
    if isinstance(value, str):
        return value if ADDRESS.search(value) else None
    if isinstance(value, dict):
        if NAMED in value:
            return value[NAMED]
        value = list(value.values())
    if not isinstance(value, list):
        return None
    return next((name for name in map(name_within, value) if name is not None), None)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=json.dumps)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()  # a few numbers of NumPy's stay what they are
        return {NAMED: _name(value)} if isinstance(value, np.generic) else _plain(value)
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value))
    return {NAMED: _name(value)}


def _key(key: Any) -> Any:
    """A key that JSON takes."""
    is_plain = key is None or isinstance(key, bool | int | float | str)
    return key if is_plain else json.dumps(_plain(key))


def _name(value: Any) -> str:
    """Module and name of a function or class, of any other object those of its type."""
    is_named = hasattr(value, "__qualname__") and hasattr(value, "__module__")
    named = value if is_named else type(value)
    module = "" if named.__module__ in ("__main__", None) else f"{named.__module__}."
    return f"{module}{named.__qualname__}{'' if is_named else '()'}"
