"""The `mnm` command in this process, and settings for tiny networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import cli
from tests.cluster.commands import Done, Mnm
from tests.rllib_ext.small_configs import TINY


@pytest.fixture
def mnm(capfd: pytest.CaptureFixture[str]) -> Mnm:
    """Runs the command in this process."""

    def run(*words: Any) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, out, err)

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file of tiny networks."""
    file = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in TINY.items()}
    file.write_text(yaml.safe_dump(plain))
    return file
