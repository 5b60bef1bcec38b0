"""The versions of constraints.txt, and what in a cluster file does not match them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rllib_ext.errors import UserError

CONSTRAINTS_FILE = "constraints.txt"
DEFAULT_CONSTRAINTS = Path(__file__).resolve().parent.parent / CONSTRAINTS_FILE
PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([A-Za-z0-9.+!*]+)")
RAY_IMAGE = re.compile(r"(?:^|/)rayproject/ray(?:-ml)?(?::([^-@\s]+))?")


class PinnedVersions:
    """What constraints.txt allows.

    Args:
        file: the constraints; None: those of the clone that this is installed from or, where it is
            from a package, the versions that are installed here.

    Raises:
        UserError: the file is not there or is no list of `name==version`.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._allowed: dict[str, set[str]] = {}
        if file is None and not DEFAULT_CONSTRAINTS.is_file():
            self.source = "this installation"
            for distribution in metadata.distributions():
                if distribution.name:  # a removal that broke off leaves folders without one
                    name, version = canonicalize_name(distribution.name), distribution.version
                    # The first found is the one that is imported; 2.1+cpu is a build of 2.1.
                    self._allowed.setdefault(name, {version, Version(version).public})
            return
        self._read(file or DEFAULT_CONSTRAINTS)

    def _read(self, file: Path) -> None:
        self.source = file.name
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The versions in {file} cannot be read: name the file with --constraints."
            ) from error
        for number, line in enumerate(lines, 1):
            text = line.split("#")[0].strip()
            if not text:
                continue
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                raise UserError(f"{file}, line {number} is no name==version: {text}.") from error
            allowed = self._allowed.setdefault(canonicalize_name(requirement.name), set())
            allowed.update(part.version for part in requirement.specifier)

    @property
    def ray(self) -> str:
        """Ray's version.

        Raises:
            UserError: the file does not name it.
        """
        try:
            (version,) = self._allowed["ray"]
        except (KeyError, ValueError) as error:
            raise UserError(f"{self.source} does not pin ray to one version.") from error
        return version

    def mismatches(self, command: str) -> Iterator[str]:
        """A sentence for each `name==version` of a shell command that the constraints forbid."""
        for name, version in PINNED.findall(command):
            allowed = self._allowed.get(canonicalize_name(name))
            if allowed and version not in allowed:
                yield f"{name}=={version} does not match {name}=={' or '.join(sorted(allowed))}"

    def image_mismatch(self, image: str) -> str | None:
        """A sentence where an image is Ray's own of another version, else None."""
        match = RAY_IMAGE.search(image)
        if match is None or match[1] == self.ray:
            return None
        return f"image {image} does not match ray=={self.ray}"
