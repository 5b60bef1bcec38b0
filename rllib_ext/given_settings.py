"""Settings by name as a user gives them: in a YAML or JSON file, or as NAME=VALUE words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line


def read_settings_file(file: Path) -> dict[str, Any]:
    """Settings by name from a YAML or JSON file.

    Raises:
        UserError: the file is missing or holds no table.
    """
    try:
        table = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"The settings file {file} cannot be read: {first_line(error)}.") from error
    if not isinstance(table, dict):
        raise UserError(f"The settings file {file} holds no table of NAME: VALUE.")
    return {name: _as_number(value) for name, value in table.items()}


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE words, the values read as YAML.

    Raises:
        UserError: a word has no name or no value.
    """
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise UserError(f"--set {assignment} is not valid: write NAME=VALUE.")
        try:
            settings[name] = _as_number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment} is not valid: {first_line(error)}.") from error
    return settings


def _as_number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for text; users mean the number, in a list too."""
    if isinstance(value, list):
        return [_as_number(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
